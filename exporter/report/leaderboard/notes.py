"""What to know before runs are compared, in sentences."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from exporter import human
from exporter.report import figures
from exporter.report.leaderboard.entry import Entry, Grid
from exporter.report.leaderboard.ranking import Question, Row, Sort

ALIKE = 1.02
"""Mean intensities within that ratio are called the same."""
SHOWN = 6


def notes(rows: Sequence[Row], asked: Question) -> tuple[str, ...]:
    """About all rows, whether or not they are shown."""
    entries = [row.entry for row in rows]
    return (
        *_results(rows, asked),
        *_unranked(rows, asked),
        *_servings(entries),
        *_intensities(entries),
        *_boundaries(entries),
    )


def _results(rows: Sequence[Row], asked: Question) -> Iterator[str]:
    """How the result is read, and where there is none."""
    if not asked.metric:
        yield (
            "No run logged a number as its result, as run.log(accuracy=0.93) does: they are "
            "compared by what they used alone."
        )
        return
    better = "more" if asked.higher_is_better else "less"
    other = "--lower-is-better" if asked.higher_is_better else "--higher-is-better"
    how = "" if asked.direction_is_given else f"; {other} turns it round"
    yield f"Result: {asked.metric}, {better} is better{how}."
    if any(row.is_best for row in rows):
        yield (
            "Pareto: no other run that has ended is at least as good with at most the grams, and "
            "better in one of both."
        )
    if not asked.higher_is_better:
        yield "There is no result per gram where less is better."
    values = [entry.logged.get(asked.metric) for entry in (row.entry for row in rows)]
    if wrong := sum(_is_no_number(value) for value in values):
        yield f"{_runs(wrong)} logged a result that is no number: shown, and not compared."
    if asked.higher_is_better and (below := sum((row.result or 0) < 0 for row in rows)):
        yield f"{_runs(below)} with a result below 0: no result per gram, which more grams improve."
    if free := sum(not row.entry.carbon_ng and row.entry.is_complete for row in rows):
        yield (
            f"{_runs(free)} emitted no grams at all, since the intensity was 0: no result per "
            "gram, and not on a scale of decades."
        )


def _unranked(rows: Sequence[Row], asked: Question) -> Iterator[str]:
    not_ended = [row.entry for row in rows if row.entry.ended is None]
    lost = sum(entry.lost for entry in not_ended)
    if running := len(not_ended) - lost:
        yield f"{_runs(running)} still running: shown with the use so far, not ranked."
    if lost:
        yield (
            f"{_runs(lost)} lost, no longer seen and without a known end: shown with the use until "
            "then, not ranked."
        )
    if empty := sum(not row.entry.energy_uj for row in rows):
        yield f"{_runs(empty)} without any energy measured: not ranked; absent is not zero."
    if waiting := sum(row.entry.unpriced_uj > 0 for row in rows):
        yield (
            f"{_runs(waiting)} with energy that has no intensity: the grams are too few, so there "
            "is no rank by them; compare the energy, or wait until they are filled in."
        )
    if asked.sort == Sort.PER_RESULT and all(row.rank is None for row in rows) and rows:
        yield "No run has both a result and grams."


def _servings(entries: Sequence[Entry]) -> Iterator[str]:
    """What is no row of its own."""
    if serving := sum(len(entry.servings) for entry in entries):
        yield (
            f"{_runs(serving)} used the outcome of another: they tell what a unit of it costs, and "
            "their grams are not in its own."
        )


def _intensities(entries: Sequence[Entry]) -> Iterator[str]:
    """Whether grams compare the runs, or their grids and hours."""
    means = [mean for entry in entries if (mean := entry.grams_per_kwh)]
    uses = sorted({grid for entry in entries for grid in entry.grids})
    zones = sorted({grid.zone for grid in uses})
    if means and max(means) > ALIKE * min(means):
        least, most = human.number(min(means)), human.number(max(means))
        at = f" ({_some(zones)})" if zones else ""
        yield (
            f"Different intensities: {least} to {most} g/kWh in the mean{at}. Grams compare the "
            "grids and the hours too; the energy compares the runs."
        )
    elif len(zones) > 1:
        yield f"Different zones: {_some(zones)}, of about the same intensity."
    yield from _kinds(uses)
    if figures.WORLD in zones:
        yield "Where no zone was set, grams are by the average of the world."


def _kinds(uses: Sequence[Grid]) -> Iterator[str]:
    """What grams are made of where that differs."""
    for what, values in (
        ("Bases", {grid.basis for grid in uses}),
        ("Signals", {grid.signal for grid in uses}),
        ("Ways of accounting", {grid.accounting for grid in uses}),
    ):
        if len(values) > 1:
            yield f"{what} differ, which count different things: {_some(sorted(values))}."
    factors = sorted({grid.pue for grid in uses if grid.pue is not None})
    if len(factors) > 1:
        yield f"The PUE differs: {factors[0]:g} to {factors[-1]:g}; the energy is without it."


def _boundaries(entries: Sequence[Entry]) -> Iterator[str]:
    """What the energy is that of, where it is not the same of all, or not known well."""
    kinds = Counter(", ".join(sorted(e.devices)) for e in entries if e.devices)
    if len(kinds) > 1:
        said = "; ".join(f"{names} ({_runs(count)})" for names, count in kinds.most_common(SHOWN))
        yield f"Not the same devices: {said}. The rest of a machine is not counted."
    if partial := sum(0 < len(e.nodes) < e.expected_nodes for e in entries):
        yield f"{_runs(partial)} seen on some of their nodes only: what the others used is missing."
    estimated = sum(bool(entry.estimated_uj) for entry in entries)
    if estimated:
        yield (
            f"{_runs(estimated)} with estimated energy, which can be far off: a difference between "
            "such runs may be none."
        )
    if unknown := sum(entry.estimated_uj is None for entry in entries):
        yield (
            f"{_runs(unknown)} from Prometheus: what is measured and what is estimated is in no "
            "metric of runs, and all amounts are lower bounds."
        )


def _is_no_number(value: object) -> bool:
    """Something was logged, and it cannot be compared."""
    if value is None:
        return False
    return isinstance(value, bool | str) or not (
        isinstance(value, int | float) and math.isfinite(value)
    )


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
