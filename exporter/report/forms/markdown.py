"""Record as an appendix in GitHub-flavored Markdown."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from exporter import formatting
from exporter.report.appendix import appendix
from exporter.report.document import Document, Section, Table

SPECIAL = re.compile(r"[\\`*_{}\[\]<>|~&$#]|(?<=[A-Za-z]):(?=//)|(?<=[Ww]{3})\.")
"""Characters that begin markup anywhere in a line, or turn an address into a link."""
LEADING = re.compile(r"^(\d*)([-+=.)])(?=[-=\s]|$)")
"""Markup for lists, headings and rules at the start of a line."""


def write(record: Mapping[str, Any]) -> str:
    """Render the appendix of a record."""
    return render(appendix(record))


def render(document: Document) -> str:
    """Render a document with headings of levels 2 and 3, lists and tables."""
    lines = [f"## {escape(document.title)}", "", escape(document.summary)]
    for section in document.sections:
        lines += ["", f"### {escape(section.title)}", "", *_section(section)]
    return "\n".join(lines)


def escape(text: str) -> str:
    r"""Escape a text to one line without markup: no link, tag, table column or formula."""
    special = SPECIAL.sub(r"\\\g<0>", formatting.printable(text).strip())
    return LEADING.sub(r"\1\\\2", special)


def _section(section: Section) -> Iterator[str]:
    parts = [
        [f"- **{escape(name)}**: {escape(text)}" for name, text in section.facts],
        _table(section.table) if section.table else [],
        [f"- {escape(note)}" for note in section.notes],
    ]
    nonempty = [part for part in parts if part]
    for index, part in enumerate(nonempty):
        yield from ["", *part] if index else part


def _table(table: Table) -> list[str]:
    rule = [
        " ---: " if column in table.numeric_columns else " --- "
        for column in range(len(table.head))
    ]
    return [_row(table.head), f"|{'|'.join(rule)}|", *map(_row, table.rows)]


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(map(escape, cells))} |"
