"""Registry of the output formats of a record, by the name given to `--format`."""

import json
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from exporter.model.record import Document, Form


def _text(record: Mapping[str, Any]) -> str:
    from exporter.report.forms.text import receipt  # imported on use: a daemon rarely needs it

    return receipt(record)


def _markdown(record: Mapping[str, Any]) -> str:
    from exporter.report.forms.markdown import write

    return write(record)


def _latex(record: Mapping[str, Any]) -> str:
    from exporter.report.forms.latex import write

    return write(record)


def _html(record: Mapping[str, Any]) -> str:
    from exporter.report.forms.html import write

    return write(record)


def _json(record: Mapping[str, Any]) -> str:
    return json.dumps(record, indent=2)


def _model_card(record: Mapping[str, Any]) -> str:
    from exporter.report.card.merge import write_model_card

    return write_model_card(record)


def _codecarbon(record: Mapping[str, Any]) -> str:
    from exporter.report.forms.codecarbon import csv_document

    return csv_document(record)


def add_inner(record: Document, runs_inside: Callable[[Document], Iterable[Document]]) -> Document:
    """Return the record with the sums of its inner runs; see `inner.with_inner`."""
    from exporter.report.inner import with_inner

    return with_inner(record, runs_inside)


FORMS: Mapping[str, Form] = MappingProxyType(
    {
        "text": Form("text/plain; charset=utf-8", "txt", "text", _text),
        "json": Form("application/json", "json", "JSON, the complete record", _json),
        "markdown": Form("text/markdown; charset=utf-8", "md", "Markdown appendix", _markdown),
        "latex": Form("application/x-tex", "tex", "LaTeX appendix", _latex),
        "html": Form("text/html; charset=utf-8", "html", "HTML appendix", _html),
        "model-card": Form("text/markdown; charset=utf-8", "md", "Model card", _model_card),
        "codecarbon": Form(
            "text/csv; charset=utf-8", "csv", "CSV in CodeCarbon's format", _codecarbon
        ),
    }
)
"""Offered by `report --format` and the page of a run, in this order."""
