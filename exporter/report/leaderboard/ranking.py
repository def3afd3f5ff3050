"""Which run is before which, and which no other run beats. Pure; grams, joules, seconds."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from exporter.errors import ConfigError
from exporter.report.leaderboard.entry import LeaderboardEntry, counted_units, unit_emissions

SIZE_NAMES = ("parameters", "params", "num_parameters", "n_parameters")
"""What the size of a model is called."""
UNITS_PER: Mapping[str, int] = {"requests": 10_000, "inferences": 10_000, "predictions": 10_000}
DEFAULT_UNITS_PER = 1_000
"""For how many units grams are given."""
LESS_IS_BETTER = ("loss", "perplexity", "ppl", "error", "err", "rmse", "mse", "mae", "mape", "wer")
MORE_IS_BETTER = ("accuracy", "acc", "f1", "auc", "precision", "recall", "bleu", "rouge", "score")


class SortKey(StrEnum):
    """What is best first."""

    GRAMS = "grams"
    ENERGY = "energy"
    IDLE = "idle"
    RESULT = "result"
    PER_RESULT = "per-result"


class RankingCriteria(NamedTuple):
    """What runs are compared by."""

    sort: SortKey = SortKey.GRAMS
    metric: str = ""
    """The logged value that is the result; "": none."""
    higher_is_better: bool = True
    is_direction_given: bool = False
    """Whether a person said so, or the name of the metric."""
    size: str = ""
    """The logged value that is the size of a bubble; "": none."""
    unit: str = ""
    """What runs counted, and `per` of which grams are given for; "": nothing."""

    @property
    def per(self) -> int:
        """For how many units."""
        return UNITS_PER.get(self.unit, DEFAULT_UNITS_PER)


class RankedRun(NamedTuple):
    """A run in its place."""

    rank: int | None
    """None: it cannot be compared with the others by what is asked for."""
    entry: LeaderboardEntry
    result: float | None = None
    result_per_gram: float | None = None
    """Result per gram; where less is better there is no such thing."""
    grams_per_units: float | None = None
    """Grams for `per` of the units that it counted."""
    spread: tuple[float, float] | None = None
    """The least and the most of that, where several runs tell it."""
    size: float | None = None
    is_pareto_optimal: bool = False
    """No other run that has ended has as good a result with as few grams, and one better."""
    label: str = ""
    """Name for drawings: the run's name, with its id where several runs have that name."""


def choose_criteria(
    entries: Sequence[LeaderboardEntry],
    sort: SortKey = SortKey.GRAMS,
    metric: str = "",
    size: str = "",
    unit: str = "",
    *,
    higher_is_better: bool | None = None,
) -> RankingCriteria:
    """What was asked, with what these runs say themselves where nothing was. Raises ConfigError."""
    size = size or next((name for name in SIZE_NAMES if _count_with_number(entries, name)), "")
    logged = Counter(name for entry in entries for name in entry.logged if _has_number(entry, name))
    others = [name for name in logged if name != size]
    if metric and entries and metric not in logged:
        known = f"; they logged {', '.join(sorted(others))}" if others else "; none logged anything"
        raise ConfigError(f"--metric {metric}: no run logged such a number{known}")
    metric = metric or min(
        others, key=lambda name: (-logged[name], _metric_direction(name), name), default=""
    )
    given = higher_is_better is not None
    higher = _metric_direction(metric) != LOWER if higher_is_better is None else higher_is_better
    if sort in (SortKey.RESULT, SortKey.PER_RESULT) and entries and not metric:
        raise ConfigError(f"--sort {sort}: no run logged a number, as run.log(accuracy=0.93) does")
    if sort == SortKey.PER_RESULT and not higher:
        raise ConfigError(
            f"--sort {sort}: {metric} is better where it is less, and less of it per gram is no "
            "merit; sort by result or by grams"
        )
    counted = Counter(name for entry in entries for name in counted_units(entry))
    if unit and entries and unit not in counted:
        known = f"; they counted {', '.join(sorted(counted))}" if counted else ""
        raise ConfigError(f"--per {unit}: no run counted any{known}")
    unit = unit or min(counted, key=lambda name: (-counted[name], name), default="")
    return RankingCriteria(sort, metric, higher, given, size, unit)


def rank_runs(entries: Iterable[LeaderboardEntry], asked: RankingCriteria) -> list[RankedRun]:
    """All runs, the best first; those that cannot be compared come last, the newest first.

    Equal ones share a rank, and the next has as many above it.
    """
    rows = _mark_pareto(_with_labels([_row(entry, asked) for entry in entries]), asked)
    compared = [(worth, row) for row in rows if (worth := _sort_value(row, asked)) is not None]
    compared.sort(key=lambda each: (each[0], each[1].entry.carbon_ng, _name(each[1])))
    ranked: list[RankedRun] = []
    for place, (worth, row) in enumerate(compared, 1):
        same = place > 1 and compared[place - 2][0] == worth
        ranked.append(row._replace(rank=ranked[-1].rank if same else place))
    others = [row for row in rows if _sort_value(row, asked) is None]
    return ranked + sorted(others, key=lambda row: (-row.entry.started, _name(row)))


def pareto_optimal(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Of points (cost, worth): which no other has at most the cost and at least the worth of.

    Equal points do not beat each other.
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
    """A ratio; None where it is too large for a number."""
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
    """What rows are sorted by, least first; None: the run cannot be compared by it."""
    entry = row.entry
    if entry.ended is None or not entry.energy_uj:
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
            return entry.grams if entry.is_complete else None
    return None if worth is None else -worth if asked.higher_is_better else worth


def _name(row: RankedRun) -> tuple[str, str, str]:
    return row.entry.run_id, row.entry.job_id, row.entry.user


def _has_number(entry: LeaderboardEntry, name: str) -> bool:
    return entry.number(name) is not None


def _count_with_number(entries: Iterable[LeaderboardEntry], name: str) -> int:
    return sum(_has_number(entry, name) for entry in entries)


HIGHER, LOWER, NEITHER = range(3)


def _metric_direction(metric: str) -> int:
    """What the name of a metric says of it: more is better, less is, or nothing."""
    words = metric.lower().replace("-", "_").replace("/", "_").split("_")
    if any(word in LESS_IS_BETTER for word in words):
        return LOWER
    return HIGHER if any(word in MORE_IS_BETTER for word in words) else NEITHER
