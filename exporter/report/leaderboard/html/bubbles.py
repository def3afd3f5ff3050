"""The plot of results against grams: the area of a bubble is the size of the run's model."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from exporter import human
from exporter.markup import Markup, tag, together
from exporter.report.leaderboard import words
from exporter.report.leaderboard.html.labels import GAP, HEIGHT, Box, Point, placed, short
from exporter.report.leaderboard.html.scale import Scale, scale
from exporter.report.leaderboard.ranking import Question, Row

LARGEST, SMALLEST, UNSIZED = 26.0, 4.0, 6.0
"""Radii: of the largest size, of the smallest that can be pointed at, where there is no size."""
MOST = 1e300
"""No axis reaches further: the distance of two such numbers is none."""
TICK_PIXELS_X, TICK_PIXELS_Y = 70, 55
UNITS = ((1e6, "t"), (1e3, "kg"), (1.0, "g"), (1e-3, "mg"), (1e-6, "µg"), (0.0, "ng"))


class Canvas(NamedTuple):
    """How large the drawing is, and which windows it is for."""

    width: float
    height: float
    class_: str

    @property
    def frame(self) -> Box:
        """Where the points are."""
        return Box(62, 20, self.width - 8, self.height - 44)

    @property
    def room(self) -> Box:
        """Where their names may be."""
        return self.frame._replace(top=0, right=self.width)


WIDE, NARROW = Canvas(920, 440, "wide"), Canvas(360, 380, "narrow")


def plot(rows: Sequence[Row], asked: Question) -> Markup:
    """One for wide windows and one for narrow ones; nothing where there are not two to draw."""
    drawn = [
        row
        for row in rows
        if row.result is not None and abs(row.result) < MOST and row.entry.carbon_ng > 0
    ]
    if len(drawn) < 2:
        return Markup("")
    return together(*(_drawing(drawn, asked, canvas) for canvas in (WIDE, NARROW)))


def legend(rows: Sequence[Row], asked: Question) -> str:
    """What bubbles and lines mean."""
    sizes = [row.size for row in rows if row.size]
    area = f"The area is {asked.size}, at most {words.size(max(sizes))}. " if sizes else ""
    hollow = f"Without {asked.size}: a small ring. " if sizes and len(sizes) < len(rows) else ""
    return (
        f"{area}{hollow}Green, on the line: Pareto. Dashed: running, lost or grams incomplete. "
        "Names that have no room are shown when a bubble is pointed at."
    )


def _drawing(rows: Sequence[Row], asked: Question, canvas: Canvas) -> Markup:
    frame = canvas.frame
    most = max((row.size or 0.0 for row in rows), default=0.0)
    shrunk = min(1.0, canvas.width / 600)
    edge = shrunk * LARGEST + GAP
    margins = edge / (frame.right - frame.left), edge / (frame.bottom - frame.top)
    grams = scale([row.entry.grams for row in rows], margins[0], may_be_log=True)
    results = scale([row.result or 0.0 for row in rows], margins[1])

    def point(row: Row) -> Point:
        return Point(
            frame.left + grams.place(row.entry.grams) * (frame.right - frame.left),
            frame.bottom - results.place(row.result or 0.0) * (frame.bottom - frame.top),
            shrunk * _radius(row.size, most),
            row.label,
        )

    by_name = sorted(rows, key=lambda row: (not row.is_best, row.rank is None, row.rank))
    points = [point(row) for row in by_name]
    bubbles = sorted(zip(points, by_name, strict=True), key=lambda each: -each[0].radius)
    names = zip(points, placed(points, canvas.room), by_name, strict=True)
    return tag(
        "svg",
        *_grams_axis(grams, frame),
        *_results_axis(results, frame, asked),
        _front([p for p, row in zip(points, by_name, strict=True) if row.is_best]),
        *(_bubble(each, row, asked) for each, row in bubbles),
        *(_name(each, box, row) for each, box, row in names if box is not None),
        class_=canvas.class_,
        viewBox=f"0 0 {canvas.width:g} {canvas.height:g}",
        role="img",
        aria_label=f"{asked.metric} against grams of CO2 equivalent",
    )


def _radius(size: float | None, most: float) -> float:
    """Areas are to each other as sizes are."""
    if not size or size < 0:
        return UNSIZED if most <= 0 else SMALLEST
    return max(SMALLEST, LARGEST * math.sqrt(size / most))


def _grams_axis(axis: Scale, frame: Box) -> list[Markup]:
    found = []
    for value in axis.ticks(int((frame.right - frame.left) / TICK_PIXELS_X)):
        x = frame.left + axis.place(value) * (frame.right - frame.left)
        found.append(tag("line", x1=x, x2=x, y1=frame.top, y2=frame.bottom, class_="grid"))
        found.append(tag("text", _grams(value), x=x, y=frame.bottom + 17, text_anchor="middle"))
    kind = ", each decade as wide as the next" if axis.is_log else ""
    said = f"CO2eq{kind}"
    middle = (frame.left + frame.right) / 2
    return [*found, tag("text", said, x=middle, y=frame.bottom + 37, text_anchor="middle")]


def _results_axis(axis: Scale, frame: Box, asked: Question) -> list[Markup]:
    found = []
    for value in axis.ticks(int((frame.bottom - frame.top) / TICK_PIXELS_Y)):
        y = frame.bottom - axis.place(value) * (frame.bottom - frame.top)
        found.append(tag("line", x1=frame.left, x2=frame.right, y1=y, y2=y, class_="grid"))
        text = f"{value:.6g}"
        found.append(tag("text", text, x=frame.left - 8, y=y + 4, text_anchor="end"))
    better = "more" if asked.higher_is_better else "less"
    said = f"{short(asked.metric)}, {better} is better"
    middle = (frame.top + frame.bottom) / 2
    turned = f"rotate(-90 12 {middle:g})"
    return [*found, tag("text", said, x=12, y=middle, text_anchor="middle", transform=turned)]


def _front(points: Sequence[Point]) -> Markup:
    """Steps along the Pareto runs: what can be had for at most so many grams."""
    corners: list[str] = []
    for point in sorted(points):
        if corners:
            corners.append(f"{point.x:.1f},{corners[-1].partition(',')[2]}")
        corners.append(f"{point.x:.1f},{point.y:.1f}")
    return tag("polyline", points=" ".join(corners), class_="front") if corners else Markup("")


def _bubble(point: Point, row: Row, asked: Question) -> Markup:
    entry = row.entry
    carbon = words.carbon(entry, human.carbon_scale((entry.carbon_ng,)))
    energy = words.energy(entry, human.energy_scale((entry.energy_uj,)))
    said = [
        f"{row.label}: {asked.metric} {words.result(row, asked)}",
        f"{carbon} CO2eq, {energy}",
        *([f"{asked.size} {words.size(row.size)}"] if row.size else []),
        *words.marks(row),
    ]
    kinds = {
        "bubble": True,
        "best": row.is_best,
        "open": not entry.is_complete,
        "ring": bool(asked.size) and not row.size,
    }
    title = tag("title", "\n".join(said))
    class_ = " ".join(kind for kind, is_so in kinds.items() if is_so)
    return tag("circle", title, cx=point.x, cy=point.y, r=point.radius, class_=class_)


def _name(point: Point, box: Box, row: Row) -> Markup:
    class_ = "name best" if row.is_best else "name"
    return tag("text", short(point.name), x=box.left, y=box.bottom - HEIGHT * 0.25, class_=class_)


def _grams(grams: float) -> str:
    """A round number of grams."""
    size, unit = next(each for each in UNITS if abs(grams) >= each[0])
    return f"{grams / size:g} {unit}" if grams and size else "0"
