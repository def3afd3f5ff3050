"""Record of a run over all its nodes, from Prometheus or a compatible server."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from exporter import formatting, units
from exporter.errors import SourceError
from exporter.model.record import VERSION
from exporter.report.prometheus_queries import (
    CARBON_METRIC,
    ENERGY_METRIC,
    HELD_IDLE_METRIC,
    RUN_LABELS,
    START_METRIC,
    UNITS_METRIC,
    Labels,
    LabelValues,
    PrometheusApi,
    RunMetric,
    RunQueries,
    RunSelector,
    Values,
    run_keys,
)


class RunData(Protocol):
    """Data of some runs; see RunQueries."""

    @property
    def infos(self) -> Sequence[Labels]:
        """Labels of the info metric of each run on each node."""

    @property
    def is_fully_recorded(self) -> bool:
        """Whether the recording rules cover every node of every run."""

    def total(self, family: RunMetric) -> Values:
        """Return the largest value of each series, by RUN_LABELS and the metric's labels."""

    def ends(self) -> Values:
        """Return the end times of runs, by RUN_LABELS."""

    def budgets(self) -> Values:
        """Return the budgets of runs that have one, by RUN_LABELS."""

    def open(self) -> set[LabelValues]:
        """Return the runs that a node reports as open."""

    def last_seen(self) -> Values:
        """Return when each run was last scraped, by RUN_LABELS."""

    def grids(self, since: float, until: float) -> Sequence[Labels]:
        """Return the intensities in force on the runs' nodes."""


class SingleRunData(NamedTuple):
    """Data of one run; implements RunData."""

    infos: Sequence[Labels]
    is_fully_recorded: bool
    totals: Mapping[RunMetric, Values]
    ended: Values
    budgeted: Values
    opened: Values
    seen: Values
    grids_in_force: Sequence[Labels]

    def total(self, family: RunMetric) -> Values:
        """See RunData."""
        return self.totals[family]

    def ends(self) -> Values:
        """See RunData."""
        return self.ended

    def budgets(self) -> Values:
        """See RunData."""
        return self.budgeted

    def open(self) -> set[LabelValues]:
        """See RunData."""
        return set(self.opened)

    def last_seen(self) -> Values:
        """See RunData."""
        return self.seen

    def grids(self, _since: float, _until: float) -> Sequence[Labels]:
        """Return the intensities of the run's nodes in the whole lookback window."""
        return self.grids_in_force


def split_by_run(runs: RunQueries, energy: Values) -> dict[LabelValues, SingleRunData]:
    """Split the data of several runs by (run_id, job_id).

    Needs no more queries than a single run. Raises SourceError.
    """
    families = {
        family: runs.total(family)
        for family in (CARBON_METRIC, HELD_IDLE_METRIC, START_METRIC, UNITS_METRIC)
    }
    totals = {
        family: _by_run(values) for family, values in (*families.items(), (ENERGY_METRIC, energy))
    }
    ends, opened = runs.ends(), dict.fromkeys(runs.open(), 0.0)
    has_lost = bool(run_keys(energy) - ends.keys() - opened.keys())
    ended, still, budgets = _by_run(ends), _by_run(opened), _by_run(runs.budgets())
    seen = _by_run(runs.last_seen() if has_lost else {})
    infos: dict[LabelValues, list[Labels]] = {}
    for info in runs.infos:
        infos.setdefault(tuple(info.get(name, "") for name in RUN_LABELS[1:]), []).append(info)
    grids: dict[str, list[Labels]] = {}
    for grid in runs.grids_of_nodes():
        labels = {name: value for name, value in grid.items() if name != "instance"}
        grids.setdefault(grid.get("instance", ""), []).append(labels)
    return {
        run: SingleRunData(
            infos.get(run, ()),
            runs.is_fully_recorded,
            {family: values.get(run, {}) for family, values in totals.items()},
            ended.get(run, {}),
            budgets.get(run, {}),
            still.get(run, {}),
            seen.get(run, {}),
            _distinct(grid for node in {key[0] for key in of_run} for grid in grids.get(node, ())),
        )
        for run, of_run in totals[ENERGY_METRIC].items()
    }


def _by_run(values: Values) -> dict[LabelValues, Values]:
    """Group values by (run_id, job_id)."""
    runs: dict[LabelValues, Values] = {}
    for key, value in values.items():
        runs.setdefault(key[1 : len(RUN_LABELS)], {})[key] = value
    return runs


def _distinct(grids: Iterable[Labels]) -> list[Labels]:
    """Return the distinct grids, sorted."""
    return [dict(pairs) for pairs in sorted({tuple(sorted(grid.items())) for grid in grids})]


EXPORTER_SERIES = f'{{__name__=~"emissions_.+|{ENERGY_METRIC.recorded}"}}'
LABEL_PREFIX = "label_"


def has_series(api: PrometheusApi, selector: str, since_seconds: float) -> bool:
    """Whether a series such as `emissions_run_info{user="ada"}` exists in the lookback window.

    Raises SourceError, also if there is no series of any exporter.
    """
    at = _now(api)
    if api.has(selector, at - since_seconds, at):
        return True
    _require_exporter_series(api, at, since_seconds)
    return False


def fleet_record(api: PrometheusApi, wanted: RunSelector, since_seconds: float) -> dict[str, Any]:
    """Return one record of all wanted runs on all nodes; `boundary` describes its limits.

    Raises SourceError.
    """
    at = _now(api)
    runs = RunQueries(api, wanted, at, since_seconds)
    energy = runs.total(ENERGY_METRIC)
    if not energy:
        _require_exporter_series(api, at, since_seconds)
        raise SourceError(
            f"{api.who} has no run of {_selector_text(wanted)}{_lookback_text(since_seconds)}"
        )
    return _record(runs, energy, _selector_text(wanted), at, since_seconds)


def fleet_records(
    api: PrometheusApi, wanted: RunSelector, since_seconds: float
) -> list[dict[str, Any]]:
    """Return a record per wanted run over all nodes, as `fleet_record` does for one.

    Needs as many queries as one run, so `boundary.grids` covers the whole lookback window. Raises
    SourceError.
    """
    at = _now(api)
    runs = RunQueries(api, wanted, at, since_seconds)
    energy = runs.total(ENERGY_METRIC)
    if not energy:
        _require_exporter_series(api, at, since_seconds)
    return [
        _record(one, one.total(ENERGY_METRIC), run_id, at, since_seconds)
        for (run_id, _), one in split_by_run(runs, energy).items()
    ]


def _record(
    runs: RunData, energy: Values, what: str, at: float, since_seconds: float
) -> dict[str, Any]:
    """Build the record of all `runs`; `what` is their title if they are several."""
    keys = run_keys(energy)
    held, parts = runs.total(HELD_IDLE_METRIC), _parts(energy, runs.total(CARBON_METRIC))
    held_uj = _assign_held_idle(parts, held)
    times = _run_times(runs, keys, at)
    sums = {name: sum(part[name] for part in parts) for name in ("energy_uj", "carbon_ng")}
    infos = [info for info in runs.infos if _run_key(info) in keys]
    run_ids = sorted({key[1] for key in keys})
    nodes = _sorted_texts(key[0] for key in keys)
    title = run_ids[0] if len(run_ids) == 1 else f"all {len(run_ids)} of {what}"
    until = times["ended"] or times["seen"]
    return {
        "version": VERSION,
        "run_id": title,
        "job_id": ", ".join(_sorted_texts(key[2] for key in keys)),
        "uid": None,
        "name": _joined_label(infos, "run_name"),
        "user": _joined_label(infos, "user"),
        "namespace": _joined_label(infos, "workload_namespace"),
        "account": _joined_label(infos, "account"),
        "origin": _joined_label(infos, "origin"),
        "labels": _labels(infos),
        "node": ", ".join(nodes),
        "nodes": None,
        "runs": len(run_ids),
        "started": times["started"],
        "ended": times["ended"],
        "end_reason": None,
        "at": at,
        "duration_seconds": max(0.0, until - times["started"]),
        **_budget(runs.budgets(), keys, sums["carbon_ng"]),
        "units": _sum_units(runs.total(UNITS_METRIC)),
        **sums,
        "held_uj": held_uj,
        "energy_joules": units.joules(sums["energy_uj"]),
        "carbon_grams": units.grams(sums["carbon_ng"]),
        "parts": parts,
        "intensity": [],
        "boundary": {
            "source": "prometheus",
            "since": at - since_seconds,
            "lower_bound": True,
            "from_rules": runs.is_fully_recorded,
            "nodes": nodes,
            "nodes_running": times["running"],
            "nodes_lost": times["lost"],
            "devices": sorted({part["device"] for part in parts}),
            "grids": [dict(grid) for grid in runs.grids(times["started"], until)],
        },
    }


def _now(api: PrometheusApi) -> float:
    """Return the server's clock, which is used for all queries."""
    found = api.query("vector(time())")
    if len(found) != 1:
        raise SourceError(f"{api.who} did not answer `vector(time())`; is it a Prometheus server?")
    return found[0].value


def _require_exporter_series(api: PrometheusApi, at: float, since_seconds: float) -> None:
    if not api.has(EXPORTER_SERIES, at - since_seconds, at):
        raise SourceError(
            f"{api.who} has no emissions_ metrics{_lookback_text(since_seconds)}; check its "
            "address, and whether it scrapes the exporters"
        )


def _lookback_text(since_seconds: float) -> str:
    return f" in the last {formatting.duration(since_seconds)} (see --since)"


def _selector_text(wanted: RunSelector) -> str:
    given = {
        "id": wanted.run_id,
        "job": wanted.job_id,
        "user": wanted.user,
        "namespace": wanted.namespace,
        "account": wanted.account,
    }
    return ", ".join(f"{name} {value}" for name, value in given.items() if value is not None)


def _parts(energy: Values, carbon: Values) -> list[dict[str, Any]]:
    """Return the energy of each device of each node, summed over job and run ids."""
    parts: dict[LabelValues, dict[str, Any]] = {}
    for key in sorted(energy):
        node, _, _, device, name = key
        what = {"node": node, "device": device, "id": name, "method": None, "split": None}
        amounts = {"energy_uj": 0, "held_uj": None, "carbon_ng": 0}
        part = parts.setdefault((node, device, name), {**what, **amounts})
        part["energy_uj"] += round(energy[key] * units.MICROJOULES_PER_JOULE)
        part["carbon_ng"] += round(carbon.get(key, 0.0) * units.NANOGRAMS_PER_GRAM)
    return list(parts.values())


def _assign_held_idle(parts: Sequence[dict[str, Any]], held: Values) -> int:
    """Set the held idle energy of parts, and return the sum.

    For several devices of a kind on a node, the metrics contain only the sum, so their parts get
    None.
    """
    sums: dict[LabelValues, int] = {}
    for (node, _, _, device), joules in held.items():
        held_uj = round(joules * units.MICROJOULES_PER_JOULE)
        sums[node, device] = sums.get((node, device), 0) + held_uj
    by_kind: dict[LabelValues, list[dict[str, Any]]] = {}
    for part in parts:
        by_kind.setdefault((part["node"], part["device"]), []).append(part)
    for kind, same_kind in by_kind.items():
        held_uj = sums.get(kind, 0)
        for part in same_kind:
            part["held_uj"] = held_uj if len(same_kind) == 1 or not held_uj else None
    return sum(sums.values())


def _run_times(runs: RunData, keys: set[LabelValues], at: float) -> dict[str, Any]:
    """Return first start, last end or scrape, and the nodes where runs are running or lost."""
    starts, running = runs.total(START_METRIC), keys & runs.open()
    ends = {key: end for key, end in runs.ends().items() if key in keys - running}
    lost = keys - running - ends.keys()
    seen = at
    if not running:
        seen = max([*ends.values(), *(runs.last_seen().values() if lost else ())], default=at)
    return {
        "started": min((starts[key] for key in keys & starts.keys()), default=at),
        "ended": None if running or lost else max(ends[key] for key in keys),
        "seen": seen,
        "running": _sorted_texts(key[0] for key in running),
        "lost": _sorted_texts(key[0] for key in lost),
    }


def _budget(budgets: Values, keys: set[LabelValues], carbon_ng: int) -> dict[str, Any]:
    """Return the budget, if this is the record of one run.

    The emissions are a lower bound, so only an exceeded budget is certain.
    """
    grams_found = [grams for key, grams in budgets.items() if key in keys]
    if not grams_found or len({key[1:] for key in keys}) > 1:
        return {"budget_grams": None, "budget_exceeded": None}
    is_over = units.grams(carbon_ng) > max(grams_found)
    return {"budget_grams": max(grams_found), "budget_exceeded": True if is_over else None}


def _sum_units(values: Values) -> dict[str, float]:
    amounts: dict[str, float] = {}
    for key, value in values.items():
        amounts[key[-1]] = amounts.get(key[-1], 0) + value
    return amounts


def _run_key(info: Labels) -> LabelValues:
    return tuple(info.get(name, "") for name in RUN_LABELS)


def _sorted_texts(texts: Iterable[str]) -> list[str]:
    return sorted({text for text in texts if text})


def _joined_label(infos: Iterable[Labels], name: str) -> str:
    return ", ".join(_sorted_texts(info.get(name, "") for info in infos))


def _labels(infos: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return the exported labels of the runs, without the prefix `label_`."""
    names = sorted({name for info in infos for name in info if name.startswith(LABEL_PREFIX)})
    return {n.removeprefix(LABEL_PREFIX): text for n in names if (text := _joined_label(infos, n))}
