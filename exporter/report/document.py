"""Document model that the formats render: title, summary, and sections of facts and tables."""

from typing import NamedTuple


class Table(NamedTuple):
    """Table with a head; numeric columns are right-aligned."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric_columns: frozenset[int] = frozenset()
    """Indices of columns with amounts, from 0."""


class Section(NamedTuple):
    """Section with a heading; empty parts are omitted."""

    title: str
    facts: tuple[tuple[str, str], ...] = ()
    """Pairs of name and text."""
    table: Table | None = None
    notes: tuple[str, ...] = ()


class Document(NamedTuple):
    """Document of plain texts; each renderer escapes them for its format."""

    title: str
    summary: str
    sections: tuple[Section, ...]
