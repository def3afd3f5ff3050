"""Rows and columns."""

from dashboards.preview.fields import Field, field
from dashboards.preview.panels.drawn import Drawn
from dashboards.preview.rows import columns, frames, in_order, transformed
from exporter.markup import Markup, tag

LINE, NOTE = 36.0, 26.0
"""Height of a row in pixels, and of the line below that says how many are left."""


def draw(drawn: Drawn) -> Markup:
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
