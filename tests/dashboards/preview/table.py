"""Rows and columns."""

from collections.abc import Mapping, Sequence
from typing import Any

from exporter.html import Markup, tag
from tests.dashboards.preview.formatting import Field, field
from tests.dashboards.preview.panel_data import PanelData
from tests.dashboards.preview.prometheus import QueryError, Series

Row = dict[str, str | float | None]
"""Values by the name of their column; None where there is none."""


def frames(found: Sequence[Series], refs: Sequence[str]) -> list[list[Row]]:
    """The rows of each query: its labels, and its value under the name that Grafana gives it."""
    return [_frame([each for each in found if each.ref == ref], ref, len(refs)) for ref in refs]


def _frame(found: Sequence[Series], ref: str, queries: int) -> list[Row]:
    labels = dict.fromkeys((label for each in found for label in each.labels), "")
    value = f"Value #{ref}" if queries > 1 else "Value"
    return [
        {"Time": each.points[-1][0] * 1000, **labels, **each.labels, value: each.points[-1][1]}
        for each in found
        if each.points
    ]


def transformed(tables: list[list[Row]], steps: Sequence[Mapping[str, Any]]) -> list[Row]:
    """One table; raises Unanswered for a transformation that the preview does not know."""
    for step in steps:
        if step["id"] == "merge":
            tables = [_merged(tables)]
        elif step["id"] == "organize":
            tables = [_organized(table, step["options"]) for table in tables]
        else:
            raise QueryError(f"the preview does not know the transformation {step['id']}")
    return tables[0] if tables else []


def columns(table: Sequence[Row]) -> list[str]:
    """The names of all columns, in the order in which they appear."""
    return list(dict.fromkeys(name for row in table for name in row))


def _merged(tables: Sequence[Sequence[Row]]) -> list[Row]:
    """Rows that agree in the columns of all tables become one, unless they contradict."""
    filled = [table for table in tables if table]
    shared = set.intersection(*(set(columns(table)) for table in filled)) if filled else set()
    made: list[Row] = []
    for row in (row for table in filled for row in table):
        for other in made:
            agrees = all(other.get(name) == row.get(name) for name in shared)
            if agrees and all(other[name] == row[name] for name in other.keys() & row.keys()):
                other.update(row)
                break
        else:
            made.append(dict(row))
    return made


def _organized(table: Sequence[Row], options: Mapping[str, Any]) -> list[Row]:
    """Columns left out, put in order and renamed."""
    excluded, places, names = (
        options.get(name) or {} for name in ("excludeByName", "indexByName", "renameByName")
    )
    kept = [name for name in columns(table) if not excluded.get(name)]
    kept.sort(key=lambda name: places.get(name, len(places)))
    return [{names.get(name) or name: row.get(name) for name in kept} for row in table]


def in_order(table: Sequence[Row], by: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Sorted by columns, the first named counts most; rows without a value come last."""
    rows = list(table)
    for each in reversed(by):
        name = each["displayName"]
        there = [row for row in rows if row.get(name) is not None]
        there.sort(key=lambda row: (isinstance(row[name], str), row[name]), reverse=each["desc"])
        rows = there + [row for row in rows if row.get(name) is None]
    return rows


LINE, NOTE = 36.0, 26.0
"""Height of a row in pixels, and of the line below that says how many are left."""


def draw_table(drawn: PanelData) -> Markup:
    """As many rows as there is room for, and how many there are besides."""
    refs = [target["refId"] for target in drawn.panel["targets"]]
    rows = transformed(frames(drawn.series, refs), drawn.panel["transformations"])
    rows = in_order(rows, drawn.option("sortBy") or [])
    shown = {name: field(drawn.panel, name) for name in columns(rows)}
    numeric = {name for name in shown if any(isinstance(row[name], float) for row in rows)}
    fitting = int(drawn.height / LINE) - 1
    if len(rows) > fitting:
        fitting = max(int((drawn.height - NOTE) / LINE) - 1, 1)
    more = f"and {len(rows) - fitting} more" if len(rows) > fitting else ""
    heads = [tag("th", name, class_="right" if name in numeric else "") for name in shown]
    lines = [tag("tr", *(_cell(row[name], of) for name, of in shown.items())) for row in rows]
    return tag(
        "div",
        tag("table", tag("tr", *heads), *lines[:fitting], class_="rows"),
        tag("p", more, class_="more"),
    )


def _cell(value: str | float | None, of: Field) -> Markup:
    if isinstance(value, str):
        return tag("td", value, class_="link" if of["links"] else "")
    coloured = (of["custom.cellOptions"] or {}).get("type") == "color-text"
    style = f"color:{of.colour(value)}" if coloured else ""
    return tag("td", of.text(value), class_="right", style=style)
