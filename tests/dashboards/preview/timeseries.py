"""Lines, areas and bars over time."""

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from exporter.html import Markup, concatenate, tag
from tests.dashboards.preview import formatting
from tests.dashboards.preview.formatting import Field, field
from tests.dashboards.preview.panel_data import PanelData
from tests.dashboards.preview.prometheus import (
    CALCULATIONS,
    NICE_SECONDS,
    Series,
    Span,
    pieces,
    reduced,
)
from tests.dashboards.preview.variables import Marks

LINE = 20.0
"""Height of a row in pixels."""
BELOW = 2
"""Rows of a table below a plot, beyond which Grafana scrolls."""


def is_legend_right(drawn: PanelData) -> bool:
    """Whether it takes width from the plot, and not height."""
    mode = drawn.option("legend", "displayMode") or "hidden"
    return mode != "hidden" and drawn.option("legend", "placement") == "right"


def legend(drawn: PanelData, shown: Sequence[tuple[Series, Field, str]]) -> Markup:
    """A list, or a table with the calculations that the panel names."""
    mode = drawn.option("legend", "displayMode") or "hidden"
    if mode == "hidden" or drawn.option("legend", "showLegend") is False:
        return concatenate()
    calculations = drawn.option("legend", "calcs") or []
    if mode == "list":
        items = [
            tag("span", _swatch(colour), each.name, *_calculated(each, of, calculations))
            for each, of, colour in shown
        ]
        return tag("div", *items, class_="key list")
    heads = ["Name", *(CALCULATIONS[name][0] for name in calculations)]
    fitting = int(drawn.height / LINE) - 2 if is_legend_right(drawn) else BELOW
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


def _calculated(series: Series, of: Field, calculations: Sequence[str]) -> list[Markup]:
    return [
        tag("span", f"{CALCULATIONS[name][0]}: {of.text(reduced(series, name))}")
        for name in calculations
    ]


def _swatch(colour: str) -> Markup:
    return tag("i", style=f"background:{colour}")


SIDE = 1000.0
"""Of the drawing, which is then stretched to the room that it has."""


def draw_timeseries(drawn: PanelData) -> Markup:
    """The plot, with its legend below or on the right."""
    traces = [Trace(drawn, each, at) for at, each in enumerate(drawn.series)]
    _stack(traces)
    _band(traces)
    low, high = _limits(drawn, traces)
    beside = is_legend_right(drawn)
    height = drawn.height - (30 if beside else 48)
    unit = field(drawn.panel, "")["unit"] or ""
    scale = [at for at in ticks(low, high, height, unit) if low <= at <= high]
    labels = [formatting.tick_text(at, unit) for at in scale]
    places = [100 * (at - low) / (high - low) for at in scale]
    ruler = [
        tag("span", label, style=f"bottom:{place:.2f}%")
        for label, place in zip(labels, places, strict=True)
    ]
    lines = [
        tag("path", class_="line", d=f"M0 {SIDE * (1 - place / 100):.1f}H{SIDE}")
        for place in places
    ]
    plot = tag(
        "svg",
        *lines,
        *(part for trace in traces for part in trace.shapes(low, high)),
        *(part for marks in drawn.marks for part in _mark_lines(drawn, marks)),
        viewBox=f"0 0 {SIDE} {SIDE}",
        preserveAspectRatio="none",
    )
    width = 7 * max((len(label) for label in labels), default=0) + 6
    chart = tag(
        "div",
        tag("div", *ruler, class_="ruler", style=f"width:{width}px"),
        tag("div", plot, _time_axis(drawn), class_="plot"),
        class_="chart",
    )
    key = legend(drawn, [(trace.series, trace.of, trace.colour) for trace in traces])
    return tag("div", chart, key, class_="beside" if beside else "above")


def _time_axis(drawn: PanelData) -> Markup:
    """Times below a plot."""
    width = drawn.width * (0.6 if is_legend_right(drawn) else 0.9)
    return tag(
        "div",
        *(
            tag("span", label, style=f"left:{100 * place:.2f}%")
            for place, label in time_ticks(drawn.span, width)
            if 0.03 < place < 0.97
        ),
        class_="times",
    )


class Trace:
    """One series, and what it stands on where it is stacked."""

    def __init__(self, drawn: PanelData, series: Series, index: int) -> None:
        self.drawn, self.series = drawn, series
        self.of: Field = drawn.field(series)
        self.top = {at: value for at, value in series.points if math.isfinite(value)}
        self.floor: dict[float, float] = {}
        self.colour = self.of.colour(next(reversed(self.top.values()), None), index)
        self.bars = self.of["custom.drawStyle"] == "bars"

    def shapes(self, low: float, high: float) -> list[Markup]:
        """Its area and its line, each as often as it is interrupted."""
        tops = list(self.top.items())
        parts = [[top] for top in tops] if self.bars else pieces(tops, self.drawn.step_seconds)
        return [shape for part in parts for shape in self._part(part, low, high)]

    def _part(self, part: list[tuple[float, float]], low: float, high: float) -> Iterator[Markup]:
        base = max(low, min(0.0, high))
        under = [(at, self.floor.get(at, base)) for at, _ in part]
        if self.bars:
            part, under = self._wide(part), self._wide(under)
        line, back = (
            "L".join(self._place(*point, low, high) for point in points)
            for points in (part, reversed(under))
        )
        opacity = (self.of["custom.fillOpacity"] or 0) / 100
        if opacity:
            yield tag("path", d=f"M{line}L{back}Z", fill=self.colour, fill_opacity=opacity)
        width = self.of["custom.lineWidth"]
        # A point by itself is a line of no length, which has round ends.
        yield tag("path", d=f"M{line}h0", fill="none", stroke=self.colour, stroke_width=width)

    def _wide(self, part: list[tuple[float, float]]) -> list[tuple[float, float]]:
        """The two ends of a bar that leaves a fifth of its step free."""
        half = 0.4 * self.drawn.step_seconds
        return [(at + side, top) for at, top in part for side in (-half, half)]

    def _place(self, at: float, value: float, low: float, high: float) -> str:
        x = SIDE * (at - self.drawn.span.start) / self.drawn.span.seconds
        return f"{x:.1f} {SIDE * (1 - (value - low) / (high - low)):.1f}"


def _stack(traces: Sequence[Trace]) -> None:
    """Each trace of a group is put onto those before it."""
    heights: dict[str, dict[float, float]] = {}
    for trace in traces:
        stacking = trace.of["custom.stacking"] or {}
        if stacking.get("mode") != "normal":
            continue
        height = heights.setdefault(stacking["group"], {})
        for at, value in trace.top.items():
            trace.floor[at] = height.get(at, 0.0)
            trace.top[at] = height[at] = trace.floor[at] + value


def _band(traces: Sequence[Trace]) -> None:
    """What is filled down to another line stands on it."""
    tops = {trace.series.name: trace.top for trace in traces}
    for trace in traces:
        trace.floor |= tops.get(trace.of["custom.fillBelowTo"], {})


def _limits(drawn: PanelData, traces: Sequence[Trace]) -> tuple[float, float]:
    of = field(drawn.panel, "")
    values = [value for trace in traces for value in trace.top.values()]
    low, high = min(values, default=0.0), max(values, default=1.0)
    low = min(low, of["custom.axisSoftMin"] if of["custom.axisSoftMin"] is not None else low)
    high = max(high, of["custom.axisSoftMax"] if of["custom.axisSoftMax"] is not None else high)
    if high == low:
        low, high = min(low, 0.0), (high * 1.1 if high > 0 else low + 1)
    high += 0.04 * (high - low)
    return (
        low if of["min"] is None else of["min"],
        high if of["max"] is None else of["max"],
    )


def _mark_lines(drawn: PanelData, marks: Marks) -> list[Markup]:
    """A dashed line for a moment; two and what is between them for a longer time."""
    shapes = []
    for times in sorted(marks.times):
        left, right = (SIDE * (at - drawn.span.start) / drawn.span.seconds for at in times)
        if right > left:
            area = f"M{left:.1f} 0V{SIDE}H{right:.1f}V0Z"
            shapes.append(tag("path", d=area, fill=marks.colour, fill_opacity=0.06))
        shapes += [
            tag("path", d=f"M{x:.1f} 0V{SIDE}", stroke=marks.colour, stroke_dasharray="4 4")
            for x in sorted({left, right})
        ]
    return shapes


Y_PIXELS, X_PIXELS = 42.0, 85.0
"""Least room of one mark."""


def ticks(low: float, high: float, height: float, unit: str) -> list[float]:
    """Round numbers between two values, as many as there is room for."""
    wanted = (high - low) / max(height / Y_PIXELS, 1)
    if unit == "s" and wanted > 1:
        step = next((nice for nice in NICE_SECONDS if nice >= wanted), wanted)
    else:
        base = 1024 ** math.floor(math.log(wanted, 1024)) if unit == "bytes" else 1
        ten = 10 ** math.floor(math.log10(wanted / base))
        step = base * ten * next(n for n in (1, 2, 5, 10) if n * ten * base >= wanted * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [at * step for at in range(first, math.floor(high / step + 1e-9) + 1)]


def time_ticks(span: Span, width: float) -> list[tuple[float, str]]:
    """Round times within a span, from 0 to 1, and how they are written; UTC."""
    wanted = span.seconds / max(width / X_PIXELS, 1)
    step = next((nice for nice in NICE_SECONDS if nice >= max(wanted, 1)), wanted)
    form = "%H:%M:%S" if step < 60 else "%H:%M" if span.seconds < 86400 else "%m/%d %H:%M"
    first = math.ceil(span.start / step)
    return [
        (
            (at * step - span.start) / span.seconds,
            datetime.fromtimestamp(at * step, UTC).strftime(form),
        )
        for at in range(first, math.floor(span.end / step) + 1)
    ]
