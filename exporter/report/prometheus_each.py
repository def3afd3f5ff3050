"""What was read of many runs at once, as what is known of each of them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from exporter.report.prometheus_api import Labels
from exporter.report.prometheus_runs import (
    CARBON,
    ENERGY,
    HELD,
    RUN,
    START,
    UNITS,
    Family,
    Key,
    Runs,
    Values,
    runs_of,
)


class Known(Protocol):
    """What is known of some runs; see Runs."""

    @property
    def infos(self) -> Sequence[Labels]:
        """What is said of them."""

    @property
    def all_recorded(self) -> bool:
        """Whether the rules saw every node of every run."""

    def total(self, family: Family) -> Values:
        """The largest value of each series, by RUN and the family's labels."""

    def ends(self) -> Values:
        """When runs ended, by RUN."""

    def budgets(self) -> Values:
        """Budgets of runs that have one, by RUN."""

    def open(self) -> set[Key]:
        """Runs that a node shows as open."""

    def last_seen(self) -> Values:
        """When each was last scraped, by RUN."""

    def grids(self, since: float, until: float) -> Sequence[Labels]:
        """Intensities that were in force on the runs' nodes."""


class One(NamedTuple):
    """One of the runs that were read; keeps the promises of Known."""

    infos: Sequence[Labels]
    all_recorded: bool
    totals: Mapping[Family, Values]
    ended: Values
    budgeted: Values
    opened: Values
    seen: Values
    in_force: Sequence[Labels]

    def total(self, family: Family) -> Values:
        """See Known."""
        return self.totals[family]

    def ends(self) -> Values:
        """See Known."""
        return self.ended

    def budgets(self) -> Values:
        """See Known."""
        return self.budgeted

    def open(self) -> set[Key]:
        """See Known."""
        return set(self.opened)

    def last_seen(self) -> Values:
        """See Known."""
        return self.seen

    def grids(self, _since: float, _until: float) -> Sequence[Labels]:
        """Those of its nodes in all the look-back."""
        return self.in_force


def apart(runs: Runs, energy: Values) -> dict[Key, One]:
    """Each run, by (run_id, job_id), of those that `energy` is of.

    Asks no more than is asked for one run. Raises SourceError.
    """
    families = {family: runs.total(family) for family in (CARBON, HELD, START, UNITS)}
    totals = {family: _by_run(values) for family, values in (*families.items(), (ENERGY, energy))}
    ends, opened = runs.ends(), dict.fromkeys(runs.open(), 0.0)
    has_lost = bool(runs_of(energy) - ends.keys() - opened.keys())
    ended, still, budgets = _by_run(ends), _by_run(opened), _by_run(runs.budgets())
    seen = _by_run(runs.last_seen() if has_lost else {})
    infos: dict[Key, list[Labels]] = {}
    for info in runs.infos:
        infos.setdefault(tuple(info.get(name, "") for name in RUN[1:]), []).append(info)
    grids: dict[str, list[Labels]] = {}
    for grid in runs.grids_of_nodes():
        labels = {name: value for name, value in grid.items() if name != "instance"}
        grids.setdefault(grid.get("instance", ""), []).append(labels)
    return {
        run: One(
            infos.get(run, ()),
            runs.all_recorded,
            {family: values.get(run, {}) for family, values in totals.items()},
            ended.get(run, {}),
            budgets.get(run, {}),
            still.get(run, {}),
            seen.get(run, {}),
            _once(grid for node in {key[0] for key in of_run} for grid in grids.get(node, ())),
        )
        for run, of_run in totals[ENERGY].items()
    }


def _by_run(values: Values) -> dict[Key, Values]:
    """The values of each (run_id, job_id)."""
    runs: dict[Key, Values] = {}
    for key, value in values.items():
        runs.setdefault(key[1 : len(RUN)], {})[key] = value
    return runs


def _once(grids: Iterable[Labels]) -> list[Labels]:
    """Each of them once, in order."""
    return [dict(pairs) for pairs in sorted({tuple(sorted(grid.items())) for grid in grids})]
