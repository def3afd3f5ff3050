"""A document for a terminal."""

from collections.abc import Iterator

from exporter import human
from exporter.report.document import Document, Section, Table


def render(document: Document) -> str:
    """Aligned facts and columns; the title is left out."""
    lines = [document.summary]
    for section in document.sections:
        lines += ["", section.title, *_section(section)]
    return "\n".join(human.printable(line) for line in lines)


def _section(section: Section) -> Iterator[str]:
    width = max((len(name) for name, _ in section.facts), default=0)
    for name, text in section.facts:
        yield f"  {name:<{width}}  {text}"
    if section.table:
        yield from _table(section.table)
    for note in section.notes:
        yield f"  {note}"


def _table(table: Table) -> Iterator[str]:
    lines = (table.head, *table.rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for cells in lines:
        aligned = [
            cell.rjust(width) if column in table.amounts else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        yield f"  {'  '.join(aligned)}".rstrip()
