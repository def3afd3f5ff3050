"""Layout of rows of panels on a grid of 24 columns."""

from collections.abc import Sequence
from itertools import count

from grafanalib import core

WIDTH = 24
HALF = 12
"""Narrower graphs have their legend below them."""


class Row:
    """A heading and lines of panels; the panels of a line have equal widths."""

    def __init__(self, title: str, *lines: tuple[int, Sequence[core.Panel]]) -> None:
        """Each line is its height in grid units, and its panels from left to right."""
        self.title = title
        self.lines = lines


def lay_out(rows: Sequence[Row]) -> list[core.Panel]:
    """Return all panels with positions and ids; a row without a title has no heading."""
    panels: list[core.Panel] = []
    ids = count(1)
    y = 0
    for row in rows:
        if row.title:
            panels.append(
                core.RowPanel(
                    title=row.title,
                    id=next(ids),
                    editable=False,
                    gridPos=core.GridPos(1, WIDTH, 0, y),
                )
            )
            y += 1
        for height, line in row.lines:
            edges = [round(WIDTH * place / len(line)) for place in range(len(line) + 1)]
            for panel, left, right in zip(line, edges, edges[1:], strict=False):
                panel.id = next(ids)
                panel.gridPos = core.GridPos(height, right - left, left, y)
                if isinstance(panel, core.TimeSeries) and right - left < HALF:
                    panel.legendPlacement, panel.legendDisplayMode = "bottom", "list"
                panels.append(panel)
            y += height
    return panels
