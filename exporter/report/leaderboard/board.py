"""Runs against each other: the rows, their order, and what to know before comparing them."""

from collections.abc import Iterable
from typing import NamedTuple

from exporter.report.leaderboard.entry import Entry
from exporter.report.leaderboard.notes import notes
from exporter.report.leaderboard.ranking import Question, Row, rank


class Board(NamedTuple):
    """All runs, the best first."""

    question: Question
    rows: tuple[Row, ...]
    """The first of them, if no more are wanted."""
    of: int
    """How many there are."""
    notes: tuple[str, ...] = ()
    """About all of them."""


def board(
    entries: Iterable[Entry], asked: Question, top: int | None = None, *, reverse: bool = False
) -> Board:
    """The runs in order; ranks, marks and notes are those among all, shown or not.

    `reverse` begins with the last of those that can be compared; ranks stay.
    """
    rows = rank(entries, asked)
    if reverse:
        compared = [row for row in rows if row.rank is not None]
        rows = [*reversed(compared), *rows[len(compared) :]]
    return Board(asked, tuple(rows[:top]), len(rows), notes(rows, asked) if rows else ())
