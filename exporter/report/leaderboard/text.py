"""The board as a table for a terminal, and as Markdown."""

import re

from exporter import human
from exporter.report.leaderboard.board import Board
from exporter.report.leaderboard.words import NO_RUNS, Column, columns, title

SPECIAL = re.compile(r"([\\`*_{}\[\]<>|~&])")


def table(board: Board) -> str:
    """Aligned columns, and the notes under them."""
    if not board.rows:
        return "\n".join(board.notes or (NO_RUNS,))
    found = columns(board)
    widths = [max(map(len, (column.head, *column.cells))) for column in found]
    lines = [
        "  ".join(
            cell.rjust(width) if column.is_number else cell.ljust(width)
            for cell, column, width in zip(cells, found, widths, strict=True)
        ).rstrip()
        for cells in _lines(found, upper=True)
    ]
    said = (title(board), "", *lines, "", *board.notes)
    return "\n".join(human.printable(line) for line in said)


def markdown(board: Board) -> str:
    """A table of GitHub's Markdown, and the notes as a list."""
    if not board.rows:
        return "\n".join(board.notes or (NO_RUNS,))
    found = columns(board)
    head, *rows = (f"| {' | '.join(map(_escaped, cells))} |" for cells in _lines(found))
    rule = "|" + "|".join(" ---: " if column.is_number else " --- " for column in found) + "|"
    said = (f"{_escaped(title(board))}:", "", head, rule, *rows, "")
    return "\n".join((*said, *(f"- {_escaped(human.printable(note))}" for note in board.notes)))


def _lines(found: list[Column], *, upper: bool = False) -> list[tuple[str, ...]]:
    """The heads, then the rows."""
    heads = [human.printable(column.head) for column in found]
    return [
        tuple(head.upper() if upper else head for head in heads),
        *zip(*(column.cells for column in found), strict=True),
    ]


def _escaped(text: str) -> str:
    r"""No text of a run makes a link, a tag or a new column."""
    return SPECIAL.sub(r"\\\1", text)
