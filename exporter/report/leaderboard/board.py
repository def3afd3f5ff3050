"""Leaderboard: ranked runs, and notes on comparing them."""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from exporter import formatting
from exporter.report import quantities
from exporter.report.leaderboard.entry import GridConditions, LeaderboardEntry
from exporter.report.leaderboard.ranking import RankedRun, RankingCriteria, SortKey, rank_runs

SIMILAR_INTENSITY_RATIO = 1.02
"""Mean intensities within this ratio count as equal."""
MAX_NAMES = 6


def comparison_notes(rows: Sequence[RankedRun], asked: RankingCriteria) -> tuple[str, ...]:
    """Return notes about all rows, shown or not."""
    entries = [row.entry for row in rows]
    return (
        *_results(rows, asked),
        *_unranked(rows, asked),
        *_servings(entries),
        *_intensities(entries),
        *_boundaries(entries),
    )


def _results(rows: Sequence[RankedRun], asked: RankingCriteria) -> Iterator[str]:
    """Yield notes on the result and on runs without one."""
    if not asked.metric:
        yield (
            "No run logged a number as its result, for example with run.log(accuracy=0.93): runs "
            "are compared by energy and emissions only."
        )
        return
    better = "larger" if asked.higher_is_better else "smaller"
    other = "--lower-is-better" if asked.higher_is_better else "--higher-is-better"
    how = "" if asked.is_direction_given else f"; {other} reverses this"
    yield f"Result: {asked.metric}, {better} is better{how}."
    if any(row.is_pareto_optimal for row in rows):
        yield (
            "Pareto: no other ended run has at least as good a result with at most the grams, and "
            "is better in one of them."
        )
    if not asked.higher_is_better:
        yield "No result per gram is shown, because a smaller result is better."
    values = [entry.logged.get(asked.metric) for entry in (row.entry for row in rows)]
    if wrong := sum(_is_no_number(value) for value in values):
        yield f"{_count_text(wrong)} logged a result that is not a number: shown, not compared."
    if asked.higher_is_better and (below := sum((row.result or 0) < 0 for row in rows)):
        yield (
            f"{_count_text(below)} with a result below 0: no result per gram, which would improve "
            "with more grams."
        )
    if free := sum(not row.entry.carbon_ng and row.entry.is_complete for row in rows):
        yield (
            f"{_count_text(free)} with no emissions because the carbon intensity was 0: no result "
            "per gram, and not shown on a logarithmic scale."
        )


def _unranked(rows: Sequence[RankedRun], asked: RankingCriteria) -> Iterator[str]:
    not_ended = [row.entry for row in rows if row.entry.ended is None]
    lost = sum(entry.lost for entry in not_ended)
    if running := len(not_ended) - lost:
        yield f"{_count_text(running)} still running: shown with usage so far, not ranked."
    if lost:
        yield (
            f"{_count_text(lost)} lost, no longer scraped and without a known end: shown with "
            "usage until then, not ranked."
        )
    if empty := sum(not row.entry.energy_uj for row in rows):
        yield f"{_count_text(empty)} without measured energy: not ranked; unknown is not zero."
    if waiting := sum(row.entry.unpriced_uj > 0 for row in rows):
        yield (
            f"{_count_text(waiting)} with energy without a carbon intensity: grams are incomplete "
            "and not ranked; compare the energy, or wait until the intensity is available."
        )
    if asked.sort == SortKey.PER_RESULT and all(row.rank is None for row in rows) and rows:
        yield "No run has both a result and grams."


def _servings(entries: Sequence[LeaderboardEntry]) -> Iterator[str]:
    """Yield a note on serving runs, which are no rows of their own."""
    if serving := sum(len(entry.serving_runs) for entry in entries):
        yield (
            f"{_count_text(serving)} used the result of another: they determine its emissions per "
            "unit, and are not included in its grams."
        )


def _intensities(entries: Sequence[LeaderboardEntry]) -> Iterator[str]:
    """Yield notes on differing carbon intensities."""
    means = [mean for entry in entries if (mean := entry.grams_per_kwh)]
    uses = sorted({grid for entry in entries for grid in entry.grids})
    zones = sorted({grid.zone for grid in uses})
    if means and max(means) > SIMILAR_INTENSITY_RATIO * min(means):
        least, most = formatting.number(min(means)), formatting.number(max(means))
        at = f" ({_join_names(zones)})" if zones else ""
        yield (
            f"Different carbon intensities: {least} to {most} g/kWh on average{at}. Grams also "
            "depend on grid and time; compare the energy to compare only the runs."
        )
    elif len(zones) > 1:
        yield f"Different zones: {_join_names(zones)}, with about the same carbon intensity."
    yield from _kinds(uses)
    if quantities.WORLD in zones:
        yield "Without a configured zone, grams are based on the world average."


def _kinds(uses: Sequence[GridConditions]) -> Iterator[str]:
    """Yield notes on differing kinds of intensity and PUE."""
    for what, values in (
        ("Bases", {grid.basis for grid in uses}),
        ("Signals", {grid.signal for grid in uses}),
        ("Accounting methods", {grid.accounting for grid in uses}),
    ):
        if len(values) > 1:
            yield f"{what} differ, so grams are not comparable: {_join_names(sorted(values))}."
    factors = sorted({grid.pue for grid in uses if grid.pue is not None})
    if len(factors) > 1:
        yield f"The PUE differs: {factors[0]:g} to {factors[-1]:g}; energy excludes it."


def _boundaries(entries: Sequence[LeaderboardEntry]) -> Iterator[str]:
    """Yield notes on differing devices, missing nodes and estimated energy."""
    kinds = Counter(", ".join(sorted(e.devices)) for e in entries if e.devices)
    if len(kinds) > 1:
        devices = "; ".join(
            f"{names} ({_count_text(count)})" for names, count in kinds.most_common(MAX_NAMES)
        )
        yield f"Different devices: {devices}. The rest of a machine is not counted."
    if partial := sum(0 < len(e.nodes) < e.expected_nodes for e in entries):
        yield (
            f"{_count_text(partial)} with records of only some of their nodes: the energy of the "
            "others is missing."
        )
    estimated = sum(bool(entry.estimated_uj) for entry in entries)
    if estimated:
        yield (
            f"{_count_text(estimated)} with estimated energy, whose error can be large: "
            "differences between such runs may not be real."
        )
    if unknown := sum(entry.estimated_uj is None for entry in entries):
        yield (
            f"{_count_text(unknown)} from Prometheus: its metrics do not distinguish measured from "
            "estimated energy, and all amounts are lower bounds."
        )


def _is_no_number(value: object) -> bool:
    """Whether a logged value cannot be compared."""
    if value is None:
        return False
    return isinstance(value, bool | str) or not (
        isinstance(value, int | float) and abs(value) <= sys.float_info.max
    )


def _count_text(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def _join_names(names: Sequence[str]) -> str:
    return ", ".join(names[:MAX_NAMES]) + (", ..." if len(names) > MAX_NAMES else "")


class Leaderboard(NamedTuple):
    """Ranked runs with notes."""

    question: RankingCriteria
    rows: tuple[RankedRun, ...]
    """Shown rows, at most `top`."""
    of: int
    """Number of all rows."""
    notes: tuple[str, ...] = ()
    """Notes about all rows."""
    is_reversed: bool = False


def make_leaderboard(
    entries: Iterable[LeaderboardEntry],
    asked: RankingCriteria,
    top: int | None = None,
    *,
    reverse: bool = False,
) -> Leaderboard:
    """Rank the runs as `rank_runs`; ranks, marks and notes refer to all runs, shown or not."""
    rows = rank_runs(entries, asked, reverse=reverse)
    notes = comparison_notes(rows, asked) if rows else ()
    return Leaderboard(asked, tuple(rows[:top]), len(rows), notes, reverse)
