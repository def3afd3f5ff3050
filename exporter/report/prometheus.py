"""The record of a run over all its nodes, from Prometheus or what speaks as it does."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from exporter import human, units
from exporter.errors import SourceError
from exporter.model.record import VERSION
from exporter.report.prometheus_api import Api, Labels
from exporter.report.prometheus_each import Known, apart
from exporter.report.prometheus_runs import (
    CARBON,
    ENERGY,
    HELD,
    RUN,
    START,
    UNITS,
    Key,
    Runs,
    Values,
    Wanted,
    runs_of,
)

OURS = f'{{__name__=~"emissions_.+|{ENERGY.recorded}"}}'
LABEL = "label_"


def matches(api: Api, selector: str, since_seconds: float) -> bool:
    """Whether any series was there in the look-back, as `emissions_run_info{user="ada"}`.

    Raises SourceError; also where there is nothing of any exporter, since nothing can match then.
    """
    at = _now(api)
    if api.has(selector, at - since_seconds, at):
        return True
    _expect_ours(api, at, since_seconds)
    return False


def fleet_record(api: Api, wanted: Wanted, since_seconds: float) -> dict[str, Any]:
    """One record of all wanted runs on all nodes; `boundary` says what it can and cannot know.

    Raises SourceError.
    """
    at = _now(api)
    runs = Runs(api, wanted, at, since_seconds)
    energy = runs.total(ENERGY)
    if not energy:
        _expect_ours(api, at, since_seconds)
        raise SourceError(f"{api.who} knows no run of {_named(wanted)}{_lately(since_seconds)}")
    return _record(runs, energy, _named(wanted), at, since_seconds)


def fleet_records(api: Api, wanted: Wanted, since_seconds: float) -> list[dict[str, Any]]:
    """A record of each of the wanted runs on all nodes, as `fleet_record` makes one.

    As many questions are asked as for one run; so `boundary.grids` are those of all the look-back.
    Raises SourceError.
    """
    at = _now(api)
    runs = Runs(api, wanted, at, since_seconds)
    energy = runs.total(ENERGY)
    if not energy:
        _expect_ours(api, at, since_seconds)
    return [
        _record(one, one.total(ENERGY), run_id, at, since_seconds)
        for (run_id, _), one in apart(runs, energy).items()
    ]


def _record(
    runs: Known, energy: Values, what: str, at: float, since_seconds: float
) -> dict[str, Any]:
    """The record of all of `runs`; `what` names them if they are several."""
    keys = runs_of(energy)
    held, parts = runs.total(HELD), _parts(energy, runs.total(CARBON))
    held_uj = _give_held(parts, held)
    times = _times(runs, keys, at)
    sums = {name: sum(part[name] for part in parts) for name in ("energy_uj", "carbon_ng")}
    infos = [info for info in runs.infos if _key(info) in keys]
    run_ids = sorted({key[1] for key in keys})
    nodes = _texts(key[0] for key in keys)
    title = run_ids[0] if len(run_ids) == 1 else f"all {len(run_ids)} of {what}"
    until = times["ended"] or times["seen"]
    return {
        "version": VERSION,
        "run_id": title,
        "job_id": ", ".join(_texts(key[2] for key in keys)),
        "uid": None,
        "name": _said(infos, "run_name"),
        "user": _said(infos, "user"),
        "namespace": _said(infos, "workload_namespace"),
        "account": _said(infos, "account"),
        "origin": _said(infos, "origin"),
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
        "units": _units(runs.total(UNITS)),
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
            "from_rules": runs.all_recorded,
            "nodes": nodes,
            "nodes_running": times["running"],
            "nodes_lost": times["lost"],
            "devices": sorted({part["device"] for part in parts}),
            "grids": [dict(grid) for grid in runs.grids(times["started"], until)],
        },
    }


def _now(api: Api) -> float:
    """The clock of the server, by which all is asked."""
    found = api.query("vector(time())")
    if len(found) != 1:
        raise SourceError(f"{api.who} does not say what time it is; is it Prometheus?")
    return found[0].value


def _expect_ours(api: Api, at: float, since_seconds: float) -> None:
    if not api.has(OURS, at - since_seconds, at):
        raise SourceError(
            f"{api.who} has no emissions_ metrics at all{_lately(since_seconds)}; does it "
            "scrape the exporters, and is this its address?"
        )


def _lately(since_seconds: float) -> str:
    return f" in the last {human.duration(since_seconds)}; --since looks further back"


def _named(wanted: Wanted) -> str:
    given = {
        "id": wanted.run_id,
        "job": wanted.job_id,
        "user": wanted.user,
        "namespace": wanted.namespace,
    }
    return ", ".join(f"{name} {value}" for name, value in given.items() if value is not None)


def _parts(energy: Values, carbon: Values) -> list[dict[str, Any]]:
    """The energy of each device of each node; runs with several jobs or ids are added up."""
    parts: dict[Key, dict[str, Any]] = {}
    for key in sorted(energy):
        node, _, _, device, name = key
        what = {"node": node, "device": device, "id": name, "method": None, "split": None}
        amounts = {"energy_uj": 0, "held_uj": None, "carbon_ng": 0}
        part = parts.setdefault((node, device, name), {**what, **amounts})
        part["energy_uj"] += round(energy[key] * units.MICROJOULES_PER_JOULE)
        part["carbon_ng"] += round(carbon.get(key, 0.0) * units.NANOGRAMS_PER_GRAM)
    return list(parts.values())


def _give_held(parts: Sequence[dict[str, Any]], held: Values) -> int:
    """Say what the only device of its kind on a node was held idle; the answer is that of all.

    Of several the metrics tell the sum alone.
    """
    sums: dict[Key, int] = {}
    for (node, _, _, device), joules in held.items():
        held_uj = round(joules * units.MICROJOULES_PER_JOULE)
        sums[node, device] = sums.get((node, device), 0) + held_uj
    alike: dict[Key, list[dict[str, Any]]] = {}
    for part in parts:
        alike.setdefault((part["node"], part["device"]), []).append(part)
    for kind, found in alike.items():
        held_uj = sums.get(kind, 0)
        for part in found:
            part["held_uj"] = held_uj if len(found) == 1 or not held_uj else None
    return sum(sums.values())


def _times(runs: Known, keys: set[Key], at: float) -> dict[str, Any]:
    """First start, last end or last sight, and nodes where it goes on or was lost sight of."""
    starts, running = runs.total(START), keys & runs.open()
    ends = {key: end for key, end in runs.ends().items() if key in keys - running}
    lost = keys - running - ends.keys()
    seen = at
    if not running:
        seen = max([*ends.values(), *(runs.last_seen().values() if lost else ())], default=at)
    return {
        "started": min((starts[key] for key in keys & starts.keys()), default=at),
        "ended": None if running or lost else max(ends[key] for key in keys),
        "seen": seen,
        "running": _texts(key[0] for key in running),
        "lost": _texts(key[0] for key in lost),
    }


def _budget(budgets: Values, keys: set[Key], carbon_ng: int) -> dict[str, Any]:
    """The budget of the run, if this is the record of one.

    Its grams are a lower bound, so that only an excess is sure.
    """
    known = [grams for key, grams in budgets.items() if key in keys]
    if not known or len({key[1:] for key in keys}) > 1:
        return {"budget_grams": None, "budget_exceeded": None}
    is_over = units.grams(carbon_ng) > max(known)
    return {"budget_grams": max(known), "budget_exceeded": True if is_over else None}


def _units(values: Values) -> dict[str, float]:
    amounts: dict[str, float] = {}
    for key, value in values.items():
        amounts[key[-1]] = amounts.get(key[-1], 0) + value
    return amounts


def _key(info: Labels) -> Key:
    return tuple(info.get(name, "") for name in RUN)


def _texts(texts: Iterable[str]) -> list[str]:
    return sorted({text for text in texts if text})


def _said(infos: Iterable[Labels], name: str) -> str:
    return ", ".join(_texts(info.get(name, "") for info in infos))


def _labels(infos: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Labels of runs that the exporters show, without `label_`."""
    names = sorted({name for info in infos for name in info if name.startswith(LABEL)})
    return {n.removeprefix(LABEL): said for n in names if (said := _said(infos, n))}
