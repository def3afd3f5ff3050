"""Plots of a leaderboard, drawn with matplotlib: results against emissions, and bars of emissions.

matplotlib is the extra `plots`; this module imports it when it draws.
"""

import io
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from exporter import formatting, units
from exporter.errors import ConfigError
from exporter.report.leaderboard import formats
from exporter.report.leaderboard.board import Leaderboard
from exporter.report.leaderboard.entry import runs_counting
from exporter.report.leaderboard.ranking import RankedRun, RankingCriteria

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE_INCHES, NARROW_INCHES = 11.0, 3.8
PLOT_INCHES, BAR_INCHES, AXIS_INCHES, TEXT_INCHES = 4.6, 0.28, 0.7, 0.6
CAPTION_POINTS = 8
DOTS_PER_INCH = 130
MAX_AREA, MIN_AREA, UNSIZED_AREA = 1600.0, 40.0, 90.0
"""Of bubbles, in square points: of the largest size, the smallest, and where no run has a size."""
MAX_BARS, MAX_LABELS = 40, 25
MAX_NAME_CHARACTERS = 24
NAME_POINTS = 3
LABEL_ORDER = 4
"""Names are drawn above bubbles (at most 3) and lines (2), with a background of their own."""
POINTS_PER_INCH = 72
LABEL_POSITIONS = (
    (0.7, 0.7, "left", "bottom"),
    (1, 0, "left", "center"),
    (-1, 0, "right", "center"),
    (0, 1, "center", "bottom"),
    (0, -1, "center", "top"),
    (0.7, -0.7, "left", "top"),
    (-0.7, 0.7, "right", "bottom"),
    (-0.7, -0.7, "right", "top"),
)
"""Where a name may stand around its bubble, and the sides of the text that are there."""
MAX_RESULT = 1e300
"""Results beyond are not drawn: the length of their axis is not finite."""
DECADE = 10
RC_PARAMS: Mapping[Any, Any] = MappingProxyType(
    {
        "font.family": "sans-serif",
        "font.size": 9,
        "svg.fonttype": "none",
        "svg.hashsalt": "emissions-exporter",
        "text.parse_math": False,
    }
)
"""Text of an SVG stays text, `$` in a name is no formula, and the same board is the same file."""


class Theme(NamedTuple):
    """Colors of the page, light or dark."""

    ink: str
    soft: str
    line: str
    best: str
    plain: str
    paper: str


LIGHT = Theme("#1b1f1c", "#5c645e", "#e2e4de", "#2b7a4b", "#5a6b8c", "#fafaf7")
DARK = Theme("#e4e8e5", "#98a19b", "#272c29", "#69bd89", "#8fa3c9", "#121513")


class Plot(NamedTuple):
    """One plot of a board; `name` is that of its files."""

    name: str
    title: str
    caption: str
    height_inches: float
    draw: "Callable[[Axes, Theme], None]"


def make_plots(board: Leaderboard) -> list[Plot]:
    """The plots that the board has data for. Raises ConfigError without matplotlib."""
    try:
        import matplotlib  # noqa: F401, ICN001
    except ImportError as error:
        raise ConfigError(
            f"plots: {error.name} is not installed; `pip install 'emissions-exporter[plots]'`"
        ) from None
    return [*_results_plot(board), *_emissions_plot(board), *_unit_plot(board)]


def render_svg(plot: Plot, theme: Theme, width_inches: float = WIDE_INCHES) -> bytes:
    """The plot as an SVG document with a transparent background."""
    return _render(plot, theme, width_inches, "svg")


def write_plots(board: Leaderboard, directory: str) -> list[str]:
    """Write each plot with its title and caption as PNG and SVG; the paths. Raises ConfigError."""
    paths = []
    try:
        os.makedirs(directory, exist_ok=True)
        for plot in make_plots(board):
            for form in ("png", "svg"):
                path = os.path.join(directory, f"{plot.name}.{form}")
                with open(path, "wb") as file:
                    file.write(_render(plot, LIGHT, WIDE_INCHES, form, has_text=True))
                paths.append(path)
    except OSError as error:
        raise ConfigError(f"--plots {directory}: {error.strerror}") from None
    return paths


def _render(
    plot: Plot, theme: Theme, width_inches: float, form: str, *, has_text: bool = False
) -> bytes:
    import warnings

    from matplotlib import rc_context

    output = io.BytesIO()
    with rc_context(dict(RC_PARAMS)), warnings.catch_warnings():
        # Letters that the bundled font lacks are boxes in a PNG; the browser draws those of an SVG.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = _figure(plot, theme, width_inches, has_text=has_text)
        background = theme.paper if form == "png" else "none"
        metadata = {"Date": None} if form == "svg" else {"Software": None}
        figure.savefig(
            output, format=form, dpi=DOTS_PER_INCH, facecolor=background, metadata=metadata
        )
    return output.getvalue()


def _figure(plot: Plot, theme: Theme, width_inches: float, *, has_text: bool = False) -> "Figure":
    """Draw a plot; `has_text` adds title and caption, which a page has outside the picture."""
    from matplotlib.figure import Figure

    height_inches = plot.height_inches + (TEXT_INCHES if has_text else 0.0)
    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    if has_text:
        title = formatting.printable(plot.title)
        figure.suptitle(title, x=0.01, horizontalalignment="left", color=theme.ink)
        caption = formatting.printable(plot.caption)
        figure.supxlabel(
            caption, x=0.01, horizontalalignment="left", color=theme.soft, fontsize=CAPTION_POINTS
        )
    axes = figure.add_subplot(facecolor="none")
    axes.set_axisbelow(True)
    axes.grid(visible=True, color=theme.line)
    for edge in axes.spines.values():
        edge.set_visible(False)
    axes.tick_params(which="both", colors=theme.soft, length=0)
    plot.draw(axes, theme)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(theme.soft)
    return figure


def _results_plot(board: Leaderboard) -> Iterator[Plot]:
    """Yield the plot of results against emissions, if at least two runs have both."""
    asked = board.question
    rows = [
        row
        for row in board.rows
        if row.result is not None and abs(row.result) < MAX_RESULT and row.entry.carbon_ng > 0
    ]
    if len(rows) < 2:
        return
    sizes = [row.size for row in rows if row.size]
    area = (
        f"The area of a circle is {asked.size}, at most {formats.size_text(max(sizes))}. "
        if sizes
        else ""
    )
    hollow = f"Without {asked.size}: a small ring. " if sizes and len(sizes) < len(rows) else ""
    yield Plot(
        "results",
        f"{asked.metric} against CO2eq",
        f"{area}{hollow}Green, on the dotted line: Pareto. Dashed circle: running, lost or grams "
        "incomplete.",
        PLOT_INCHES,
        lambda axes, theme: _draw_results(axes, theme, rows, asked),
    )


def _draw_results(
    axes: "Axes", theme: Theme, rows: Sequence[RankedRun], asked: RankingCriteria
) -> None:
    scale = formatting.carbon_scale([row.entry.carbon_ng for row in rows])
    amounts = [row.entry.carbon_ng / scale.size for row in rows]
    results = [row.result or 0.0 for row in rows]
    largest = max((row.size or 0.0 for row in rows), default=0.0)
    for row, x, y in zip(rows, amounts, results, strict=True):
        color = theme.best if row.is_pareto_optimal else theme.plain
        is_ring = bool(asked.size) and not row.size
        axes.scatter(
            [x],
            [y],
            s=_area(row.size, largest),
            facecolor=theme.paper if is_ring else (color, 0.3),
            edgecolor=color,
            linestyle="-" if row.entry.is_complete else "--",
            zorder=3 - (row.size or 0.0) / max(largest, 1.0),
        )
    front = sorted(
        (x, y) for row, x, y in zip(rows, amounts, results, strict=True) if row.is_pareto_optimal
    )
    if front:
        axes.step(*zip(*front, strict=True), where="post", color=theme.best, linestyle=":")
    if max(amounts) > DECADE * min(amounts):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(lambda *_: "")
    axes.margins(0.12)
    better = "larger" if asked.higher_is_better else "smaller"
    axes.set_xlabel(f"CO2eq in {scale.unit}")
    axes.set_ylabel(f"{_short(asked.metric)}, {better} is better")
    named = sorted(
        zip(rows, amounts, results, strict=True),
        key=lambda each: (not each[0].is_pareto_optimal, each[0].rank is None, each[0].rank),
    )
    _place_names(axes, theme, named, largest)


def _place_names(
    axes: "Axes", theme: Theme, named: Sequence[tuple[RankedRun, float, float]], largest: float
) -> None:
    """Place names next to their bubbles, the best runs first.

    A name that would overlap another name or a bubble is omitted; the table has all names.
    """
    from matplotlib.transforms import Bbox

    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # only then the layout and its pixels are known
    radii = [math.sqrt(_area(row.size, largest) / math.pi) for row, *_ in named]
    taken = []
    for (_, *place), radius in zip(named, radii, strict=True):
        x, y = axes.transData.transform(place)
        pixels = radius * figure.dpi / POINTS_PER_INCH
        taken.append(Bbox.from_extents(x - pixels, y - pixels, x + pixels, y + pixels))
    for (row, *place), radius in list(zip(named, radii, strict=True))[:MAX_LABELS]:
        away_points = radius + NAME_POINTS
        text = axes.annotate(
            _short(_name(row)),
            (place[0], place[1]),
            xytext=(0, 0),
            textcoords="offset points",
            color=theme.best if row.is_pareto_optimal else theme.ink,
            fontweight="bold" if row.is_pareto_optimal else "normal",
            bbox={"facecolor": theme.paper, "edgecolor": "none", "pad": 1.0},
            zorder=LABEL_ORDER,
        )
        for right, up, horizontal, vertical in LABEL_POSITIONS:
            text.set(position=(right * away_points, up * away_points))
            text.set(horizontalalignment=horizontal, verticalalignment=vertical)
            box = text.get_window_extent()
            inside = Bbox.intersection(box, axes.bbox)
            if inside and inside.bounds == box.bounds and not box.count_overlaps(taken):
                taken.append(box)
                break
        else:
            text.remove()


def _area(size: float | None, largest: float) -> float:
    """Return the area of a bubble, proportional to the size of its model."""
    if not size or size < 0:
        return UNSIZED_AREA if largest <= 0 else MIN_AREA
    return max(MIN_AREA, MAX_AREA * size / largest)


def _emissions_plot(board: Leaderboard) -> Iterator[Plot]:
    """Yield the bar chart of emissions, with the share of devices held idle."""
    rows = [row for row in board.rows if row.entry.carbon_ng > 0]
    if not rows:
        return
    scale = formatting.carbon_scale([row.entry.carbon_ng for row in rows])
    bars = [
        Bar(
            row,
            row.entry.carbon_ng / scale.size,
            formats.carbon_cell(row.entry, scale),
            idle_share=row.entry.held_idle_ratio or 0.0,
        )
        for row in rows
    ]
    yield _bars_plot(
        "emissions",
        "CO2eq of each run",
        "Pale: share of devices held idle. Energy without a carbon intensity is not included.",
        f"CO2eq in {scale.unit}",
        bars,
    )


def _unit_plot(board: Leaderboard) -> Iterator[Plot]:
    """Yield the bar chart of emissions per counted units, lowest first."""
    asked = board.question
    rows = [row for row in board.rows if row.grams_per_units is not None]
    if not rows:
        return
    rows.sort(key=lambda row: row.grams_per_units or 0.0)
    amounts_ng = {
        id(row): [
            grams * units.NANOGRAMS_PER_GRAM
            for grams in (row.grams_per_units or 0.0, *(row.spread or ()))
        ]
        for row in rows
    }
    scale = formatting.carbon_scale([max(amounts) for amounts in amounts_ng.values()])
    per = f"{formatting.number(asked.per)} {asked.unit}"
    bars = []
    for row in rows:
        mean, *spread = (amount / scale.size for amount in amounts_ng[id(row)])
        bars.append(Bar(row, mean, formats.grams_per_units_cell(row, scale), spread=tuple(spread)))
    counted = sum(
        run.units[asked.unit] for row in rows for run in runs_counting(row.entry, asked.unit)
    )
    yield _bars_plot(
        "per-unit",
        f"CO2eq {formats.per_units_head(asked)}",
        f"{formatting.number(counted)} {asked.unit} were counted. Lines: range over runs.",
        f"CO2eq in {scale.unit} per {per}",
        bars,
    )


class Bar(NamedTuple):
    """One bar, its length in the unit of the axis."""

    row: RankedRun
    length: float
    text: str
    idle_share: float = 0.0
    spread: tuple[float, ...] = ()
    """Smallest and largest value; empty if only one run counted."""


def _bars_plot(name: str, title: str, caption: str, axis: str, bars: Sequence[Bar]) -> Plot:
    shown = bars[:MAX_BARS]
    if len(shown) < len(bars):
        caption += f" The first {len(shown)} of {len(bars)} runs."
    height_inches = AXIS_INCHES + BAR_INCHES * len(shown)
    return Plot(
        name,
        title,
        caption,
        height_inches,
        lambda axes, theme: _draw_bars(axes, theme, axis, shown),
    )


def _draw_bars(axes: "Axes", theme: Theme, axis: str, bars: Sequence[Bar]) -> None:
    axes.grid(visible=False, axis="y")
    for place, bar in enumerate(bars):
        color = theme.best if bar.row.is_pareto_optimal else theme.plain
        idle = bar.length * bar.idle_share
        axes.barh(place, bar.length - idle, color=color, height=0.6)
        axes.barh(place, idle, left=bar.length - idle, color=(color, 0.4), height=0.6)
        axes.plot(bar.spread, [place] * len(bar.spread), color=theme.ink, linewidth=1.5)
        axes.annotate(
            bar.text,
            (max(bar.length, *bar.spread, 0.0), place),
            xytext=(4, 0),
            textcoords="offset points",
            verticalalignment="center",
            color=theme.ink,
        )
    axes.set_yticks(range(len(bars)), [_short(_name(bar.row)) for bar in bars])
    for label, bar in zip(axes.get_yticklabels(), bars, strict=True):
        label.set_color(theme.best if bar.row.is_pareto_optimal else theme.ink)
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.set_xmargin(0.25)
    axes.set_xlim(left=0)
    axes.set_xlabel(axis)


def _name(row: RankedRun) -> str:
    return formatting.printable(row.label)


def _short(name: str) -> str:
    """A name that is not too long for a plot."""
    return name if len(name) <= MAX_NAME_CHARACTERS else name[: MAX_NAME_CHARACTERS - 1] + "…"
