"""Where the names of points can stand so that none covers another, or a point. Pure; in pixels."""

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

LETTER = 7.0
"""Width of most letters; those of East Asia are nearly twice as wide."""
HEIGHT = 14.0
GAP = 4.0
MOST_LETTERS = 24


class Box(NamedTuple):
    """A piece of the drawing."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: "Box") -> bool:
        """Whether they share more than an edge."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def within(self, other: "Box") -> bool:
        """Whether it lies in another."""
        return (
            other.left <= self.left
            and self.right <= other.right
            and other.top <= self.top
            and self.bottom <= other.bottom
        )


class Point(NamedTuple):
    """A bubble, and what it is called."""

    x: float
    y: float
    radius: float
    name: str

    @property
    def box(self) -> Box:
        """The square around it."""
        x, y, radius = self.x, self.y, self.radius
        return Box(x - radius, y - radius, x + radius, y + radius)


def short(name: str) -> str:
    """A name that is not too long for a drawing."""
    return name if len(name) <= MOST_LETTERS else name[: MOST_LETTERS - 1] + "…"


def width(name: str) -> float:
    """About how wide a name is."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in name)
    return LETTER * (len(name) + 0.9 * wide)


def placed(points: Sequence[Point], frame: Box) -> list[Box | None]:
    """A place in the frame for each name, the first ones first; None where there is none left."""
    taken = [point.box for point in points]
    found: list[Box | None] = []
    for point in points:
        free = (
            box
            for box in _around(point)
            if box.within(frame) and not any(box.meets(other) for other in taken)
        )
        box = next(free, None)
        found.append(box)
        if box is not None:
            taken.append(box)
    return found


def _around(point: Point) -> list[Box]:
    """Right, left, above, below, the corners, then above and below but flush with the bubble."""
    wide, half = width(short(point.name)), HEIGHT / 2
    x, y, away = point.x, point.y, point.radius + GAP
    right, left, middle = x + away, x - away - wide, x - wide / 2
    above, below, level = y - away - HEIGHT, y + away, y - half
    near = 0.7 * away
    places = [(right, level), (left, level), (middle, above), (middle, below)]
    places += [(x + near, y - near - HEIGHT), (x + near, y + near)]
    places += [(x - near - wide, y - near - HEIGHT), (x - near - wide, y + near)]
    flush = (x - point.radius, x + point.radius - wide)
    places += [(start, top) for top in (below, above) for start in flush]
    return [Box(start, top, start + wide, top + HEIGHT) for start, top in places]
