"""A record as an appendix in GitHub's Markdown."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from exporter import formatting
from exporter.report.appendix import appendix
from exporter.report.document import Document, Section, Table

SPECIAL = re.compile(r"[\\`*_{}\[\]<>|~&$#]|(?<=[A-Za-z]):(?=//)|(?<=[Ww]{3})\.")
"""What begins markup anywhere, and what makes an address a link."""
LEADING = re.compile(r"^(\d*)([-+=.)])(?=[-=\s]|$)")
"""What begins a list, a heading or a rule at the start of a line."""


def write(record: Mapping[str, Any]) -> str:
    """The appendix of a record."""
    return render(appendix(record))


def render(document: Document) -> str:
    """Headings of the second and third level, lists and tables."""
    lines = [f"## {escape(document.title)}", "", escape(document.summary)]
    for section in document.sections:
        lines += ["", f"### {escape(section.title)}", "", *_section(section)]
    return "\n".join(lines)


def escape(text: str) -> str:
    r"""One line that is nothing but text: no link, no tag, no new column, no formula."""
    special = SPECIAL.sub(r"\\\g<0>", formatting.printable(text).strip())
    return LEADING.sub(r"\1\\\2", special)


def _section(section: Section) -> Iterator[str]:
    parts = [
        [f"- **{escape(name)}**: {escape(text)}" for name, text in section.facts],
        _table(section.table) if section.table else [],
        [f"- {escape(note)}" for note in section.notes],
    ]
    said = [part for part in parts if part]
    for index, part in enumerate(said):
        yield from ["", *part] if index else part


def _table(table: Table) -> list[str]:
    rule = [
        " ---: " if column in table.numeric_columns else " --- "
        for column in range(len(table.head))
    ]
    return [_row(table.head), f"|{'|'.join(rule)}|", *map(_row, table.rows)]


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(map(escape, cells))} |"
