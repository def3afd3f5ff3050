"""What stands beside a plot: names, colours and what the values come to."""

from collections.abc import Sequence

from dashboards.preview.fields import Field
from dashboards.preview.panels.drawn import Drawn
from dashboards.preview.series import CALCULATIONS, Series, reduced
from exporter.markup import Markup, tag, together

LINE = 20.0
"""Height of a row in pixels."""
BELOW = 2
"""Rows of a table below a plot, beyond which Grafana scrolls."""


def legend_is_right(drawn: Drawn) -> bool:
    """Whether it takes width from the plot, and not height."""
    mode = drawn.option("legend", "displayMode") or "hidden"
    return mode != "hidden" and drawn.option("legend", "placement") == "right"


def legend(drawn: Drawn, shown: Sequence[tuple[Series, Field, str]]) -> Markup:
    """A list, or a table with the calculations that the panel names."""
    mode = drawn.option("legend", "displayMode") or "hidden"
    if mode == "hidden" or drawn.option("legend", "showLegend") is False:
        return together()
    calculations = drawn.option("legend", "calcs") or []
    if mode == "list":
        items = [
            tag("span", _swatch(colour), each.name, *_said(each, of, calculations))
            for each, of, colour in shown
        ]
        return tag("div", *items, class_="key list")
    heads = ["Name", *(CALCULATIONS[name][0] for name in calculations)]
    fitting = int(drawn.height / LINE) - 2 if legend_is_right(drawn) else BELOW
    fitting = fitting if len(shown) <= fitting else fitting - 1
    rows = [
        tag(
            "tr",
            tag("td", _swatch(colour), series.name, class_="name"),
            *(tag("td", of.text(reduced(series, name))) for name in calculations),
        )
        for series, of, colour in shown[:fitting]
    ]
    if left := len(shown) - fitting if len(shown) > fitting else 0:
        rows.append(tag("tr", tag("td", f"and {left} more", class_="name")))
    return tag("table", tag("tr", *(tag("th", head) for head in heads)), *rows, class_="key")


def _said(series: Series, of: Field, calculations: Sequence[str]) -> list[Markup]:
    return [
        tag("span", f"{CALCULATIONS[name][0]}: {of.text(reduced(series, name))}")
        for name in calculations
    ]


def _swatch(colour: str) -> Markup:
    return tag("i", style=f"background:{colour}")
