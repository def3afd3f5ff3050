"""What a Prometheus knows of some runs, over all their nodes: totals, times, names.

Totals are those of deploy/prometheus/rules/runs.yaml: the largest value of each counter, never an
increase. Where the rules were not there for all of the look-back, the counters themselves are read,
which costs more.
"""

import json
from collections.abc import Collection
from typing import NamedTuple

from exporter.report.prometheus_api import Api, Labels

RUN = ("instance", "run_id", "job_id")
LATELY_SECONDS = 300
"""How far back a run is looked for that is there now; some scrapes may fail."""

Key = tuple[str, ...]
Values = dict[Key, float]


class Family(NamedTuple):
    """A metric of runs, the series that the rules make of it, and its labels besides RUN."""

    raw: str
    recorded: str
    labels: Key = ()


ENERGY = Family(
    "emissions_run_energy_joules_total",
    "instance_run_id_job_id_device_id:emissions_run_energy_joules_total:max",
    ("device", "id"),
)
CARBON = Family(
    "emissions_run_carbon_grams_total",
    "instance_run_id_job_id_device_id:emissions_run_carbon_grams_total:max",
    ("device", "id"),
)
HELD = Family(
    "emissions_run_held_idle_energy_joules_total",
    "instance_run_id_job_id_device:emissions_run_held_idle_energy_joules_total:max",
    ("device",),
)
UNITS = Family(
    "emissions_run_units_total",
    "instance_run_id_job_id_unit:emissions_run_units_total:max",
    ("unit",),
)
START = Family(
    "emissions_run_start_time_seconds",
    "instance_run_id_job_id:emissions_run_start_time_seconds:max",
)
END = "emissions_run_end_time_seconds"
BUDGET = "emissions_run_budget_grams"
INFO = Family(
    "emissions_run_info",
    "instance_run_id_job_id_user_workload_namespace_account:emissions_run_info:max",
)
GRID = "emissions_grid_intensity_info"
GRID_LABELS = ("grid_zone", "source", "signal", "basis", "accounting")


class Wanted(NamedTuple):
    """Which runs; None: any."""

    run_id: str | None = None
    job_id: str | None = None
    user: str | None = None
    namespace: str | None = None

    @property
    def matchers(self) -> str:
        """Those of any metric of runs."""
        given = {"run_id": self.run_id, "job_id": self.job_id}
        return _matchers(given)

    @property
    def info(self) -> str:
        """The selector of what is said of the runs, by the daemons or by the rules."""
        either = _matchers(
            {
                "run_id": self.run_id,
                "job_id": self.job_id,
                "user": self.user,
                "workload_namespace": self.namespace,
            }
        )
        return f'{{__name__=~"{INFO.raw}|{INFO.recorded}"{either and "," + either}}}'


class Runs:
    """The wanted runs as they were in the `window` seconds up to `at`.

    Every call raises SourceError.
    """

    def __init__(self, api: Api, wanted: Wanted, at: float, window: float) -> None:
        self._api = api
        self._wanted = wanted
        self._at = at
        self._window = f"{window:.0f}s"
        self.infos: list[Labels] = api.series(wanted.info, at - window, at)
        self._energy = self._recorded(ENERGY)
        known = {tuple(info.get(name, "") for name in RUN) for info in self.infos}
        self.all_recorded = known <= {key[: len(RUN)] for key in self._energy}
        """Whether the rules saw every node of every run."""

    def total(self, family: Family) -> Values:
        """The largest value of each series, by RUN and the family's labels."""
        recorded = self._energy if family is ENERGY else self._recorded(family)
        found = [recorded, self._lately(family)]
        if not (recorded and self.all_recorded):
            found.append(self._largest(family, family.raw, self._window))
        largest: Values = {}
        for values in found:
            for key, value in values.items():
                largest[key] = max(value, largest.get(key, value))
        return largest

    def ends(self) -> Values:
        """When runs ended, by RUN; those that are open again included."""
        return self._values((), END, f"last_over_time({{}}[{self._window}])")

    def budgets(self) -> Values:
        """Budgets of runs that have one, by RUN."""
        return self._values((), BUDGET, f"last_over_time({{}}[{self._window}])")

    def open(self) -> set[Key]:
        """Runs that a node shows as open; also where its last scrape failed."""
        lately = f"last_over_time({{}}[{LATELY_SECONDS}s])"
        return {
            key
            for how in ("{}", lately)
            for key in self._values((), START.raw, how).keys() - self._values((), END, how).keys()
        }

    def last_seen(self) -> Values:
        """When each was last scraped, to five minutes, by RUN."""
        step = f"[{self._window}:{LATELY_SECONDS}s]"
        return self._values((), START.raw, f"max_over_time(timestamp({{}}){step})")

    def grids(self, since: float, until: float) -> list[Labels]:
        """Intensities that were in force on the runs' nodes between two times."""
        window = f"{max(until - since, LATELY_SECONDS):.0f}s"
        of = f"last_over_time({START.raw}{{{self._wanted.matchers}}}[{window}])"
        text = f"last_over_time({GRID}[{window}]) and on (instance) {of}"
        found = self._api.query(f"count by ({', '.join(GRID_LABELS)}) ({text})", until)
        return [sample.labels for sample in found]

    def grids_of_nodes(self) -> list[Labels]:
        """Intensities that were in force in the window, each with its node."""
        names = ", ".join(("instance", *GRID_LABELS))
        text = f"count by ({names}) (last_over_time({GRID}[{self._window}]))"
        return [sample.labels for sample in self._api.query(text, self._at)]

    def _recorded(self, family: Family) -> Values:
        return self._largest(family, family.recorded, self._window)

    def _lately(self, family: Family) -> Values:
        """What the rules have not yet seen."""
        return self._largest(family, family.raw, f"{LATELY_SECONDS}s")

    def _largest(self, family: Family, name: str, window: str) -> Values:
        return self._values(family.labels, name, f"max_over_time({{}}[{window}])")

    def _values(self, labels: Key, name: str, how: str) -> Values:
        """By RUN and `labels`; `how` is what is asked of the series, `{}`."""
        names = (*RUN, *labels)
        query = how.replace("{}", f"{name}{{{self._wanted.matchers}}}")
        if self._wanted.user is not None or self._wanted.namespace is not None:
            of = f"last_over_time({self._wanted.info}[{self._window}])"
            query += f" and on ({', '.join(RUN)}) {of}"
        found = self._api.query(f"max by ({', '.join(names)}) ({query})", self._at)
        return {tuple(each.labels.get(n, "") for n in names): each.value for each in found}


def runs_of(values: Collection[Key]) -> set[Key]:
    """The keys of the runs, RUN, that keys with more labels are of."""
    return {key[: len(RUN)] for key in values}


def _matchers(given: dict[str, str | None]) -> str:
    return ",".join(f"{name}={json.dumps(v)}" for name, v in given.items() if v is not None)
