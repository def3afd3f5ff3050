"""Runs against each other: the rows, their order, and what to know before comparing them."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from exporter import formatting
from exporter.report import quantities
from exporter.report.leaderboard.entry import GridConditions, LeaderboardEntry
from exporter.report.leaderboard.ranking import RankedRun, RankingCriteria, SortKey, rank_runs

SIMILAR_INTENSITY_RATIO = 1.02
"""Mean intensities within that ratio are called the same."""
MAX_NAMES = 6


def comparison_notes(rows: Sequence[RankedRun], asked: RankingCriteria) -> tuple[str, ...]:
    """About all rows, whether or not they are shown."""
    entries = [row.entry for row in rows]
    return (
        *_results(rows, asked),
        *_unranked(rows, asked),
        *_servings(entries),
        *_intensities(entries),
        *_boundaries(entries),
    )


def _results(rows: Sequence[RankedRun], asked: RankingCriteria) -> Iterator[str]:
    """How the result is read, and where there is none."""
    if not asked.metric:
        yield (
            "No run logged a number as its result, as run.log(accuracy=0.93) does: they are "
            "compared by what they used alone."
        )
        return
    better = "more" if asked.higher_is_better else "less"
    other = "--lower-is-better" if asked.higher_is_better else "--higher-is-better"
    how = "" if asked.is_direction_given else f"; {other} turns it round"
    yield f"Result: {asked.metric}, {better} is better{how}."
    if any(row.is_pareto_optimal for row in rows):
        yield (
            "Pareto: no other run that has ended is at least as good with at most the grams, and "
            "better in one of both."
        )
    if not asked.higher_is_better:
        yield "There is no result per gram where less is better."
    values = [entry.logged.get(asked.metric) for entry in (row.entry for row in rows)]
    if wrong := sum(_is_no_number(value) for value in values):
        yield f"{_count_text(wrong)} logged a result that is no number: shown, and not compared."
    if asked.higher_is_better and (below := sum((row.result or 0) < 0 for row in rows)):
        yield (
            f"{_count_text(below)} with a result below 0: no result per gram, which more grams "
            "improve."
        )
    if free := sum(not row.entry.carbon_ng and row.entry.is_complete for row in rows):
        yield (
            f"{_count_text(free)} emitted no grams at all, since the intensity was 0: no result "
            "per gram, and not on a scale of decades."
        )


def _unranked(rows: Sequence[RankedRun], asked: RankingCriteria) -> Iterator[str]:
    not_ended = [row.entry for row in rows if row.entry.ended is None]
    lost = sum(entry.lost for entry in not_ended)
    if running := len(not_ended) - lost:
        yield f"{_count_text(running)} still running: shown with the use so far, not ranked."
    if lost:
        yield (
            f"{_count_text(lost)} lost, no longer seen and without a known end: shown with the "
            "use until "
            "then, not ranked."
        )
    if empty := sum(not row.entry.energy_uj for row in rows):
        yield f"{_count_text(empty)} without any energy measured: not ranked; absent is not zero."
    if waiting := sum(row.entry.unpriced_uj > 0 for row in rows):
        yield (
            f"{_count_text(waiting)} with energy that has no intensity: the grams are too few, so "
            "there is no rank by them; compare the energy, or wait until they are filled in."
        )
    if asked.sort == SortKey.PER_RESULT and all(row.rank is None for row in rows) and rows:
        yield "No run has both a result and grams."


def _servings(entries: Sequence[LeaderboardEntry]) -> Iterator[str]:
    """What is no row of its own."""
    if serving := sum(len(entry.serving_runs) for entry in entries):
        yield (
            f"{_count_text(serving)} used the outcome of another: they tell what a unit of it "
            "costs, and their grams are not in its own."
        )


def _intensities(entries: Sequence[LeaderboardEntry]) -> Iterator[str]:
    """Whether grams compare the runs, or their grids and hours."""
    means = [mean for entry in entries if (mean := entry.grams_per_kwh)]
    uses = sorted({grid for entry in entries for grid in entry.grids})
    zones = sorted({grid.zone for grid in uses})
    if means and max(means) > SIMILAR_INTENSITY_RATIO * min(means):
        least, most = formatting.number(min(means)), formatting.number(max(means))
        at = f" ({_join_names(zones)})" if zones else ""
        yield (
            f"Different intensities: {least} to {most} g/kWh in the mean{at}. Grams compare the "
            "grids and the hours too; the energy compares the runs."
        )
    elif len(zones) > 1:
        yield f"Different zones: {_join_names(zones)}, of about the same intensity."
    yield from _kinds(uses)
    if quantities.WORLD in zones:
        yield "Where no zone was set, grams are by the average of the world."


def _kinds(uses: Sequence[GridConditions]) -> Iterator[str]:
    """What grams are made of where that differs."""
    for what, values in (
        ("Bases", {grid.basis for grid in uses}),
        ("Signals", {grid.signal for grid in uses}),
        ("Ways of accounting", {grid.accounting for grid in uses}),
    ):
        if len(values) > 1:
            yield f"{what} differ, which count different things: {_join_names(sorted(values))}."
    factors = sorted({grid.pue for grid in uses if grid.pue is not None})
    if len(factors) > 1:
        yield f"The PUE differs: {factors[0]:g} to {factors[-1]:g}; the energy is without it."


def _boundaries(entries: Sequence[LeaderboardEntry]) -> Iterator[str]:
    """What the energy is that of, where it is not the same of all, or not known well."""
    kinds = Counter(", ".join(sorted(e.devices)) for e in entries if e.devices)
    if len(kinds) > 1:
        said = "; ".join(
            f"{names} ({_count_text(count)})" for names, count in kinds.most_common(MAX_NAMES)
        )
        yield f"Not the same devices: {said}. The rest of a machine is not counted."
    if partial := sum(0 < len(e.nodes) < e.expected_nodes for e in entries):
        yield (
            f"{_count_text(partial)} seen on some of their nodes only: what the others used is "
            "missing."
        )
    estimated = sum(bool(entry.estimated_uj) for entry in entries)
    if estimated:
        yield (
            f"{_count_text(estimated)} with estimated energy, which can be far off: a difference "
            "between such runs may be none."
        )
    if unknown := sum(entry.estimated_uj is None for entry in entries):
        yield (
            f"{_count_text(unknown)} from Prometheus: what is measured and what is estimated is in "
            "no metric of runs, and all amounts are lower bounds."
        )


def _is_no_number(value: object) -> bool:
    """Something was logged, and it cannot be compared."""
    if value is None:
        return False
    return isinstance(value, bool | str) or not (
        isinstance(value, int | float) and math.isfinite(value)
    )


def _count_text(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def _join_names(names: Sequence[str]) -> str:
    return ", ".join(names[:MAX_NAMES]) + (", ..." if len(names) > MAX_NAMES else "")


class Leaderboard(NamedTuple):
    """All runs, the best first."""

    question: RankingCriteria
    rows: tuple[RankedRun, ...]
    """The first of them, if no more are wanted."""
    of: int
    """How many there are."""
    notes: tuple[str, ...] = ()
    """About all of them."""


def make_leaderboard(
    entries: Iterable[LeaderboardEntry],
    asked: RankingCriteria,
    top: int | None = None,
    *,
    reverse: bool = False,
) -> Leaderboard:
    """The runs in order; ranks, marks and notes are those among all, shown or not.

    `reverse` begins with the last of those that can be compared; ranks stay.
    """
    rows = rank_runs(entries, asked)
    if reverse:
        compared = [row for row in rows if row.rank is not None]
        rows = [*reversed(compared), *rows[len(compared) :]]
    return Leaderboard(
        asked, tuple(rows[:top]), len(rows), comparison_notes(rows, asked) if rows else ()
    )
