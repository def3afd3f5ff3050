"""Panels that show one number for each series: gauge, bar gauge, stat."""

import math

from exporter.html import Markup, concatenate, tag
from tests.dashboards.preview.formatting import COLOURS, Field
from tests.dashboards.preview.panel_data import PanelData

START, TURN = 200.0, 220.0
"""Where the arc begins and how far it goes, in degrees."""


def draw_gauge(drawn: PanelData) -> Markup:
    """One arc for each series."""
    return tag("div", *(_dial(*each) for each in drawn.numbers()), class_="numbers")


def _dial(name: str, of: Field, value: float) -> Markup:
    share = of.share(value, 0, 100)
    steps = [step for step in of.thresholds if step["value"] is not None]
    rim = [
        _arc(of.share(step["value"], 0, 100), 1, 47, 3, of.colour(step["value"])) for step in steps
    ]
    return tag(
        "div",
        tag(
            "svg",
            _arc(0, 1, 38, 12, "#2b2d33"),
            _arc(0, share, 38, 12, of.colour(value)),
            *rim,
            tag("text", of.text(value), x=50, y=52, class_="dial", fill=COLOURS["text"]),
            viewBox="0 0 100 68",
        ),
        tag("span", name, class_="name"),
        class_="number",
    )


def _arc(start: float, end: float, radius: float, width: float, colour: str) -> Markup:
    if end <= start:
        return concatenate()
    (x1, y1), (x2, y2) = (_at(share, radius) for share in (start, end))
    large = int((end - start) * TURN > 180)
    path = f"M{x1:.1f} {y1:.1f}A{radius} {radius} 0 {large} 1 {x2:.1f} {y2:.1f}"
    return tag("path", d=path, stroke=colour, stroke_width=width, fill="none")


def _at(share: float, radius: float) -> tuple[float, float]:
    angle = math.radians(START - share * TURN)
    return 50 + radius * math.cos(angle), 50 - radius * math.sin(angle)


def draw_bargauge(drawn: PanelData) -> Markup:
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


LARGEST = 34.0
"""Height of a digit in pixels."""
ASPECT = 0.62
"""Width of a digit, in parts of its height."""


def draw_stat(drawn: PanelData) -> Markup:
    """Each series as its last value, with its name where there are several."""
    numbers = drawn.numbers()
    return _values(
        drawn,
        [
            (name if len(numbers) > 1 else "", of.text(value), of.colour(value, at))
            for at, (name, of, value) in enumerate(numbers)
        ],
    )


def _values(drawn: PanelData, shown: list[tuple[str, str, str]]) -> Markup:
    room = drawn.width / len(shown)
    longest = max(len(text) for _, text, _ in shown)
    size = min(drawn.height * 0.4, 0.86 * room / (ASPECT * max(longest, 2)), LARGEST)
    return tag("div", *(_value(*each, size) for each in shown), class_="numbers")


def _value(name: str, text: str, colour: str, size: float) -> Markup:
    return tag(
        "div",
        tag("span", name, class_="name"),
        tag("span", text, style=f"font-size:{size:.0f}px"),
        class_="number",
        style=f"color:{colour}",
    )
