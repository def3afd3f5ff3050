"""A number, or a few, as large as fits."""

from dashboards.preview.panels.drawn import Drawn
from exporter.markup import Markup, tag

LARGEST = 34.0
"""Height of a digit in pixels."""
ASPECT = 0.62
"""Width of a digit, in parts of its height."""


def draw(drawn: Drawn) -> Markup:
    """Each series as its last value, with its name where there are several."""
    numbers = drawn.numbers()
    return _all(
        drawn,
        [
            (name if len(numbers) > 1 else "", of.text(value), of.colour(value, at))
            for at, (name, of, value) in enumerate(numbers)
        ],
    )


def _all(drawn: Drawn, shown: list[tuple[str, str, str]]) -> Markup:
    room = drawn.width / len(shown)
    longest = max(len(text) for _, text, _ in shown)
    size = min(drawn.height * 0.4, 0.86 * room / (ASPECT * max(longest, 2)), LARGEST)
    return tag("div", *(_one(*each, size) for each in shown), class_="numbers")


def _one(name: str, text: str, colour: str, size: float) -> Markup:
    return tag(
        "div",
        tag("span", name, class_="name"),
        tag("span", text, style=f"font-size:{size:.0f}px"),
        class_="number",
        style=f"color:{colour}",
    )
