"""What every written form is made of: a title, a sentence, and sections of facts and tables."""

from typing import NamedTuple


class Table(NamedTuple):
    """Rows under heads; amounts stand at the right."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric_columns: frozenset[int] = frozenset()
    """Which columns hold amounts, counted from 0."""


class Section(NamedTuple):
    """A part with a heading; what it has none of is left out."""

    title: str
    facts: tuple[tuple[str, str], ...] = ()
    """Names, and what is said of them."""
    table: Table | None = None
    notes: tuple[str, ...] = ()


class Document(NamedTuple):
    """Plain texts, none of them escaped: that is each form's own business."""

    title: str
    summary: str
    sections: tuple[Section, ...]
