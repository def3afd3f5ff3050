"""A bar for each series, from the least to the most that the panel names."""

from dashboards.preview.fields import Field
from dashboards.preview.panels.drawn import Drawn
from exporter.markup import Markup, tag


def draw(drawn: Drawn) -> Markup:
    """The bars one below the other, each with its name and its value."""
    numbers = drawn.numbers()
    most = max((value for *_, value in numbers), default=0.0)
    return tag("table", *(_bar(*each, most) for each in numbers), class_="bars")


def _bar(name: str, of: Field, value: float, most: float) -> Markup:
    width = f"width:{100 * of.share(value, 0, most):.1f}%"
    return tag(
        "tr",
        tag("td", name, class_="name"),
        tag("td", tag("div", style=f"{width};background:{of.colour(value)}", class_="bar")),
        tag("td", of.text(value), class_="value", style=f"color:{of.colour(value)}"),
    )
