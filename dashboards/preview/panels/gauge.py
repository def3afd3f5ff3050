"""A number on an arc, with the thresholds around it."""

import math

from dashboards.preview.fields import COLOURS, Field
from dashboards.preview.panels.drawn import Drawn
from exporter.markup import Markup, tag, together

START, TURN = 200.0, 220.0
"""Where the arc begins and how far it goes, in degrees."""


def draw(drawn: Drawn) -> Markup:
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
        return together()
    (x1, y1), (x2, y2) = (_at(share, radius) for share in (start, end))
    large = int((end - start) * TURN > 180)
    path = f"M{x1:.1f} {y1:.1f}A{radius} {radius} 0 {large} 1 {x2:.1f} {y2:.1f}"
    return tag("path", d=path, stroke=colour, stroke_width=width, fill="none")


def _at(share: float, radius: float) -> tuple[float, float]:
    angle = math.radians(START - share * TURN)
    return 50 + radius * math.cos(angle), 50 - radius * math.sin(angle)
