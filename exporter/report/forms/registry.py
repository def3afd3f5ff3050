"""Registry of the output formats of a record, by the name given to `--format`."""

import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib import import_module
from types import MappingProxyType

from exporter.model.record import Document, Form


def _lazy(module: str, function: str = "write") -> Callable[[Document], str]:
    """Return a function of another module that imports it on use: a daemon rarely needs it."""

    def write(record: Document) -> str:
        text: str = getattr(import_module(module), function)(record)
        return text

    return write


def add_inner(record: Document, runs_inside: Callable[[Document], Iterable[Document]]) -> Document:
    """Return the record with the sums of its inner runs; see `inner.with_inner`."""
    from exporter.report.inner import with_inner

    return with_inner(record, runs_inside)


TEXT = "text/plain; charset=utf-8"
MARKDOWN = "text/markdown; charset=utf-8"
HERE = "exporter.report.forms"
FORMS: Mapping[str, Form] = MappingProxyType(
    {
        "text": Form(TEXT, "txt", "text", _lazy(f"{HERE}.text", "receipt")),
        "json": Form(
            "application/json", "json", "JSON, the complete record", partial(json.dumps, indent=2)
        ),
        "markdown": Form(MARKDOWN, "md", "Markdown appendix", _lazy(f"{HERE}.markdown")),
        "latex": Form("application/x-tex", "tex", "LaTeX appendix", _lazy(f"{HERE}.latex")),
        "html": Form("text/html; charset=utf-8", "html", "HTML appendix", _lazy(f"{HERE}.html")),
        "model-card": Form(
            MARKDOWN, "md", "Model card", _lazy("exporter.report.card.merge", "write_model_card")
        ),
        "codecarbon": Form(
            "text/csv; charset=utf-8",
            "csv",
            "CSV in CodeCarbon's format",
            _lazy(f"{HERE}.codecarbon", "csv_document"),
        ),
    }
)
"""Offered by `report --format` and the page of a run, in this order."""
