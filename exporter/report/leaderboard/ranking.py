"""Ranking of runs and Pareto-optimal runs; pure functions in grams, joules and seconds."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from exporter.errors import ConfigError
from exporter.report.leaderboard.entry import LeaderboardEntry, counted_units, unit_emissions

SIZE_NAMES = ("parameters", "params", "num_parameters", "n_parameters")
"""Logged names of the size of a model."""
UNITS_PER: Mapping[str, int] = {"requests": 10_000, "inferences": 10_000, "predictions": 10_000}
DEFAULT_UNITS_PER = 1_000
"""Number of units for which emissions are shown."""
LESS_IS_BETTER = ("loss", "perplexity", "ppl", "error", "err", "rmse", "mse", "mae", "mape", "wer")
MORE_IS_BETTER = ("accuracy", "acc", "f1", "auc", "precision", "recall", "bleu", "rouge", "score")


class SortKey(StrEnum):
    """Sort key; the best run is first."""

    GRAMS = "grams"
    ENERGY = "energy"
    IDLE = "idle"
    RESULT = "result"
    PER_RESULT = "per-result"


class RankingCriteria(NamedTuple):
    """Criteria by which runs are compared."""

    sort: SortKey = SortKey.GRAMS
    metric: str = ""
    """Logged value that is the result; "" for none."""
    higher_is_better: bool = True
    is_direction_given: bool = False
    """Whether the direction was given, rather than derived from the metric's name."""
    size: str = ""
    """Logged value that is the size of a bubble; "" for none."""
    unit: str = ""
    """Counted unit, for `per` of which emissions are shown; "" for none."""

    @property
    def per(self) -> int:
        """Number of units for which emissions are shown."""
        return UNITS_PER.get(self.unit, DEFAULT_UNITS_PER)


class RankedRun(NamedTuple):
    """A run with its rank and derived values."""

    rank: int | None
    """None if the run cannot be compared by the criteria."""
    entry: LeaderboardEntry
    result: float | None = None
    result_per_gram: float | None = None
    """Result per gram; None if a smaller result is better."""
    grams_per_units: float | None = None
    """Grams for `per` of its counted units."""
    spread: tuple[float, float] | None = None
    """Smallest and largest of these, if several runs determine it."""
    size: float | None = None
    is_pareto_optimal: bool = False
    """No other ended run is at least as good in result and grams, and better in one of them."""
    label: str = ""
    """Label in plots: the run's name, with its id if several runs have this name."""


def choose_criteria(
    entries: Sequence[LeaderboardEntry],
    sort: SortKey = SortKey.GRAMS,
    metric: str = "",
    size: str = "",
    unit: str = "",
    *,
    higher_is_better: bool | None = None,
) -> RankingCriteria:
    """Return the criteria, with defaults derived from the runs. Raises ConfigError."""
    size = size or next((name for name in SIZE_NAMES if _count_with_number(entries, name)), "")
    logged = Counter(name for entry in entries for name in entry.logged if _has_number(entry, name))
    others = [name for name in logged if name != size]
    if metric and entries and metric not in logged:
        known = f"; they logged {', '.join(sorted(others))}" if others else "; none logged anything"
        raise ConfigError(f"--metric {metric}: no run logged this as a number{known}")
    metric = metric or min(
        others, key=lambda name: (-logged[name], _metric_direction(name), name), default=""
    )
    given = higher_is_better is not None
    higher = _metric_direction(metric) != LOWER if higher_is_better is None else higher_is_better
    if sort in (SortKey.RESULT, SortKey.PER_RESULT) and entries and not metric:
        raise ConfigError(f"--sort {sort}: no run logged a number, as run.log(accuracy=0.93) does")
    if sort == SortKey.PER_RESULT and not higher:
        raise ConfigError(
            f"--sort {sort}: a smaller {metric} is better, so a result per gram is not meaningful; "
            "sort by result or by grams"
        )
    counted = Counter(name for entry in entries for name in counted_units(entry))
    if unit and entries and unit not in counted:
        known = f"; they counted {', '.join(sorted(counted))}" if counted else ""
        raise ConfigError(f"--per {unit}: no run counted this unit{known}")
    unit = unit or min(counted, key=lambda name: (-counted[name], name), default="")
    return RankingCriteria(sort, metric, higher, given, size, unit)


def rank_runs(
    entries: Iterable[LeaderboardEntry], asked: RankingCriteria, *, reverse: bool = False
) -> list[RankedRun]:
    """Rank runs, best first. Runs without an end follow without a rank, in the same order.

    Runs that cannot be compared come last, newest first. Equal runs share a rank, and the next rank
    is skipped accordingly (1, 1, 3). `reverse` reverses the order, not the ranks, of ended runs and
    of runs without an end.
    """
    rows = _mark_pareto(_with_labels([_row(entry, asked) for entry in entries]), asked)
    valued = [(worth, row) for row in rows if (worth := _sort_value(row, asked)) is not None]
    valued.sort(key=lambda each: (each[0], each[1].entry.carbon_ng, _name(each[1])))
    compared = [each for each in valued if each[1].entry.ended is not None]
    ranked: list[RankedRun] = []
    for place, (worth, row) in enumerate(compared, 1):
        same = place > 1 and compared[place - 2][0] == worth
        ranked.append(row._replace(rank=ranked[-1].rank if same else place))
    without_end = [row for _, row in valued if row.entry.ended is None]
    others = [row for row in rows if _sort_value(row, asked) is None]
    others.sort(key=lambda row: (-row.entry.started, _name(row)))
    step = -1 if reverse else 1
    return ranked[::step] + without_end[::step] + others


def pareto_optimal(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Return which points (cost, worth) are Pareto-optimal: low cost and high worth.

    Equal points do not dominate each other.
    """
    best = [False] * len(points)
    most, cheapest = -float("inf"), -float("inf")
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        cost, worth = points[index]
        best[index] = worth > most or (worth == most and cost == cheapest)
        if worth > most:
            most, cheapest = worth, cost
    return best


def _row(entry: LeaderboardEntry, asked: RankingCriteria) -> RankedRun:
    result = entry.number(asked.metric)
    grams_per_units, spread = unit_emissions(entry, asked.unit, asked.per)
    grams = entry.grams if entry.energy_uj and not entry.unpriced_uj else None
    result_per_gram = (
        _finite(result / grams) if grams and result is not None and result >= 0 else None
    )
    return RankedRun(
        rank=None,
        entry=entry,
        result=result,
        result_per_gram=result_per_gram if asked.higher_is_better else None,
        grams_per_units=grams_per_units,
        spread=spread,
        size=entry.number(asked.size),
    )


def _with_labels(rows: Sequence[RankedRun]) -> list[RankedRun]:
    names = Counter(row.entry.name for row in rows)
    return [row._replace(label=_label(row.entry, names[row.entry.name])) for row in rows]


def _label(entry: LeaderboardEntry, same_name: int) -> str:
    if not entry.name:
        return entry.run_id
    return entry.name if same_name == 1 else f"{entry.name} ({entry.run_id})"


def _finite(ratio: float) -> float | None:
    """Return the ratio; None if it is not finite."""
    return ratio if math.isfinite(ratio) else None


def _mark_pareto(rows: Sequence[RankedRun], asked: RankingCriteria) -> list[RankedRun]:
    sign = 1.0 if asked.higher_is_better else -1.0
    there = [row for row in rows if row.entry.is_complete and row.result is not None]
    points = [(row.entry.grams, sign * (row.result or 0.0)) for row in there]
    best = {
        id(row)
        for row, is_pareto_optimal in zip(there, pareto_optimal(points), strict=True)
        if is_pareto_optimal
    }
    return [row._replace(is_pareto_optimal=id(row) in best) for row in rows]


def _sort_value(row: RankedRun, asked: RankingCriteria) -> float | None:
    """Return the sort value, smallest first; None if the run cannot be compared.

    That of a run without an end is its usage so far.
    """
    entry = row.entry
    if not entry.energy_uj:
        return None
    match asked.sort:
        case SortKey.ENERGY:
            return float(entry.energy_uj)
        case SortKey.IDLE:
            return entry.held_idle_ratio
        case SortKey.RESULT:
            worth = row.result
        case SortKey.PER_RESULT:
            worth = row.result_per_gram
        case SortKey.GRAMS:
            return None if entry.unpriced_uj else entry.grams
    return None if worth is None else -worth if asked.higher_is_better else worth


def _name(row: RankedRun) -> tuple[str, str, str]:
    return row.entry.run_id, row.entry.job_id, row.entry.user


def _has_number(entry: LeaderboardEntry, name: str) -> bool:
    return entry.number(name) is not None


def _count_with_number(entries: Iterable[LeaderboardEntry], name: str) -> int:
    return sum(_has_number(entry, name) for entry in entries)


HIGHER, LOWER, NEITHER = range(3)


def _metric_direction(metric: str) -> int:
    """Derive from the name of a metric whether a larger or a smaller value is better."""
    words = metric.lower().replace("-", "_").replace("/", "_").split("_")
    if any(word in LESS_IS_BETTER for word in words):
        return LOWER
    return HIGHER if any(word in MORE_IS_BETTER for word in words) else NEITHER
