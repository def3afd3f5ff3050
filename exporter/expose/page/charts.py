"""Power over time as small drawings that stand on a zero and break where nothing is known."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import TypeAlias

from exporter import human
from exporter.markup import Markup, tag

WIDTH, HEIGHT = 120, 24
BROAD, TALL = 720, 120
MOST_POINTS = 240
"""More than this many are drawn as means of several."""

Watts: TypeAlias = tuple[float | None, ...]
"""One mean power for each step of time, the oldest first; None: not known."""


def chart(watts: Watts) -> Markup:
    """The last hour as a line; nothing where nothing is known."""
    known = [value for value in watts if value is not None]
    if not known:
        return Markup("")
    step = WIDTH / max(1, len(watts) - 1)
    drawn = "".join(
        _line([(first + place, value) for place, value in enumerate(run)], step, max(known))
        for first, run in _stretches(watts)
    )
    said = f"power over the last hour: at most {human.watts(max(known))}"
    return _drawing("chart", said, WIDTH, HEIGHT, [Markup(f'<path d="{drawn}"/>')])


def stacked(kinds: Mapping[str, Sequence[float]], said: str) -> Markup:
    """Areas on top of each other, each of a class named for its kind; `said` is what is seen."""
    thinned = {kind: _thinned(watts) for kind, watts in kinds.items()}
    rows = list(thinned.values())
    tops = list(accumulate(rows, lambda low, row: [a + b for a, b in zip(low, row, strict=True)]))
    most = max((max(top) for top in tops), default=0.0)
    areas = []
    floor = [0.0] * (len(tops[0]) if tops else 0)
    for kind, top in zip(thinned, tops, strict=True):
        edge = [*enumerate(top), *reversed(list(enumerate(floor)))]
        step = BROAD / max(1, len(top) - 1)
        spelled = " ".join(
            f"{place * step:.1f},{_height(value, most, TALL):.1f}" for place, value in edge
        )
        areas.append(tag("polygon", class_=kind, points=spelled))
        floor = top
    return _drawing("broad", said, BROAD, TALL, areas)


def _drawing(kind: str, said: str, width: int, height: int, shapes: Sequence[Markup]) -> Markup:
    return tag(
        "svg",
        tag("title", said),
        *shapes,
        class_=kind,
        role="img",
        aria_label=said,
        viewBox=f"0 0 {width} {height}",
        preserveAspectRatio="none",
    )


def _stretches(watts: Watts) -> Iterator[tuple[int, list[float]]]:
    """What is known without a gap, and where it begins."""
    first, found = 0, list[float]()
    for place, value in enumerate((*watts, None)):
        if value is not None:
            first = first if found else place
            found.append(value)
        elif found:
            yield first, found
            found = []


def _line(points: Sequence[tuple[int, float]], step: float, most: float) -> str:
    spelled = [f"{place * step:.0f},{_height(value, most, HEIGHT):.1f}" for place, value in points]
    return f"M{spelled[0]}h.1" if len(spelled) == 1 else "M" + "L".join(spelled)


def _height(value: float, most: float, height: int) -> float:
    """How far down a value is drawn, a pixel away from both edges."""
    return height - 1 - (value * (height - 2) / most if most else 0.0)


def _thinned(watts: Sequence[float]) -> list[float]:
    """Means of equally many neighbours, at most `MOST_POINTS` of them; one becomes two."""
    size = -(-len(watts) // MOST_POINTS)
    parts = [watts[place : place + size] for place in range(0, len(watts), size)] if watts else []
    means = [sum(part) / len(part) for part in parts]
    return means * 2 if len(means) == 1 else means
