"""One run as a leaderboard sees it, made of the records of the nodes that it was seen on."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

from exporter import units
from exporter.model.record import GROUP_LABEL

Record = Mapping[str, Any]
SERVES_LABEL = "serves"
"""A run with that label uses what the run of that id made, and was begun to see what that costs."""


class GridConditions(NamedTuple):
    """What energy was converted with, apart from how much that was at each moment."""

    zone: str
    basis: str
    signal: str
    accounting: str
    pue: float | None
    """None where it is not told."""


class LeaderboardEntry(NamedTuple):
    """A run with what is known of it on all nodes."""

    run_id: str
    job_id: str
    user: str
    group: str
    """The sweep that it is of; "": none."""
    nodes: frozenset[str]
    expected_nodes: int
    """As many as the launcher said there are; 0: not known."""
    lost: bool
    """Whether a node went out of sight without an end."""
    started: float
    ended: float | None
    """None: still running, as far as is known."""
    energy_uj: int
    held_uj: int
    carbon_ng: int
    unpriced_uj: int
    """Energy that waits for an intensity: its grams are not in `carbon_ng`."""
    estimated_uj: int | None
    """None: not known."""
    devices: frozenset[str]
    grids: frozenset[GridConditions]
    units: Mapping[str, float]
    logged: Mapping[str, Any]
    serves: str
    """The id of the run whose outcome it uses; "": none."""
    serving_runs: "tuple[LeaderboardEntry, ...]" = ()
    """The runs that use its outcome."""
    name: str = ""
    """Name for people; "": none other than the id."""

    @property
    def grams(self) -> float:
        """What it emitted; too little where energy is unpriced."""
        return units.grams(self.carbon_ng)

    @property
    def is_complete(self) -> bool:
        """Whether its grams are those of all of its energy, and nothing comes on top."""
        return self.ended is not None and self.energy_uj > 0 and self.unpriced_uj == 0

    @property
    def held_idle_ratio(self) -> float | None:
        """How much of its energy was that of devices held idle."""
        return self.held_uj / self.energy_uj if self.energy_uj else None

    @property
    def grams_per_kwh(self) -> float | None:
        """The mean intensity of what is priced, PUE included."""
        priced_uj = self.energy_uj - self.unpriced_uj
        return self.grams / units.kwh(priced_uj) if priced_uj > 0 else None

    def number(self, name: str) -> float | None:
        """A value that it logged, where that is a finite number."""
        value = self.logged.get(name)
        return float(value) if _is_finite(value) else None


def make_entries(records: Iterable[Record]) -> list[LeaderboardEntry]:
    """One for each run; the records of its nodes are added up.

    Of several records of a run on a node the last one counts, and one of many nodes instead of
    those of some of them.
    """
    runs: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        key = record["run_id"], record["job_id"], _user(record)
        runs.setdefault(key, []).append(record)
    return [_entry(apart) for found in runs.values() if (apart := _distinct_nodes(found))]


def _distinct_nodes(records: Sequence[Record]) -> list[Record]:
    """Those of different nodes, oldest first."""
    taken: list[Record] = []
    seen: set[str] = set()
    for record in sorted(records, key=lambda each: (-len(_nodes(each)), -each["at"])):
        if not seen & _nodes(record):
            taken.append(record)
            seen |= _nodes(record)
    return sorted(taken, key=lambda each: float(each["at"]))


def _entry(records: Sequence[Record]) -> LeaderboardEntry:
    first = records[0]
    ends = [record.get("ended") for record in records]
    parts = [part for record in records for part in record["parts"]]
    uses = [use for record in records for use in record["intensity"]]
    known = all(part.get("method") for part in parts)
    estimated = (part["energy_uj"] for part in parts if part.get("method") == "estimated")
    return LeaderboardEntry(
        run_id=first["run_id"],
        job_id=first["job_id"],
        user=_user(first),
        group=str(_mapping(first, "labels").get(GROUP_LABEL, "")),
        nodes=frozenset().union(*map(_nodes, records)),
        expected_nodes=max(_expected(record) for record in records),
        lost=any(_mapping(record, "boundary").get("nodes_lost") for record in records),
        started=min(record["started"] for record in records),
        ended=None if None in ends else max(end for end in ends if end is not None),
        energy_uj=sum(record["energy_uj"] for record in records),
        held_uj=sum(record["held_uj"] for record in records),
        carbon_ng=sum(record["carbon_ng"] for record in records),
        unpriced_uj=sum(map(_unpriced_uj, records)),
        estimated_uj=sum(estimated) if known else None,
        devices=frozenset(part["device"] for part in parts if part["energy_uj"]),
        grids=frozenset(
            [*_grids(uses), *(grid for each in records for grid in _prometheus_grids(each))]
        ),
        units=_units(records),
        logged={name: said for each in records for name, said in _mapping(each, "logged").items()},
        serves=str(_mapping(first, "labels").get(SERVES_LABEL, "")),
        name=next(filter(None, map(_name, records)), ""),
    )


def _nodes(record: Record) -> set[str]:
    return set(record["node"].split(", "))


def _mapping(record: Record, name: str) -> Mapping[str, Any]:
    """Names with values; older records do not have all of these tables."""
    return record.get(name) or {}


def _name(record: Record) -> str:
    """The name, where it says more than the id."""
    name = str(record.get("name") or "").strip()
    return "" if name == record["run_id"] else name


def _user(record: Record) -> str:
    return str(record.get("user") or "")


def _expected(record: Record) -> int:
    """How many nodes its launcher said there are."""
    nodes = record.get("nodes")
    return nodes if isinstance(nodes, int) else 0


def _unpriced_uj(record: Record) -> int:
    """Energy without an intensity; where uses are not told, all of it or none."""
    if record["intensity"]:
        return sum(u["energy_uj"] for u in record["intensity"] if u.get("zone") is None)
    return 0 if record["carbon_ng"] else int(record["energy_uj"])


def _grids(uses: Iterable[Record]) -> Iterable[GridConditions]:
    for use in uses:
        if use.get("zone") is not None and use["energy_uj"]:
            pue = use.get("pue")
            yield _grid(use, "zone", float(pue) if _is_finite(pue) else None)


def _prometheus_grids(record: Record) -> Iterable[GridConditions]:
    """Those that a Prometheus knows were in force on its nodes."""
    for grid in _mapping(record, "boundary").get("grids") or ():
        yield _grid(grid, "grid_zone", None)


def _grid(facts: Record, zone: str, pue: float | None) -> GridConditions:
    said = {name: str(facts.get(name) or "") for name in ("basis", "signal", "accounting")}
    return GridConditions(zone=str(facts.get(zone) or ""), pue=pue, **said)


def _units(records: Iterable[Record]) -> dict[str, float]:
    amounts: dict[str, float] = {}
    for record in records:
        for name, amount in _mapping(record, "units").items():
            if _is_finite(amount):
                amounts[name] = amounts.get(name, 0.0) + amount
    return amounts


def _is_finite(value: Any) -> TypeGuard[float]:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value)


def attach_serving_runs(runs: Iterable[LeaderboardEntry]) -> list[LeaderboardEntry]:
    """The runs, each with those that use its outcome, which are no rows of their own then.

    Of several runs with the id that is named it is the one of the same job, else the last one. What
    uses the outcome of a run that is not among them stays by itself.
    """
    all_runs = list(runs)
    makers: dict[tuple[str, ...], LeaderboardEntry] = {}
    for run in sorted(all_runs, key=lambda each: each.started):
        if not run.serves:
            makers[run.user, run.run_id] = makers[_key(run)] = run
    users: dict[tuple[str, ...], list[LeaderboardEntry]] = {}
    alone = []
    for run in all_runs:
        named = (run.user, run.serves)
        made = makers.get((*named, run.job_id)) or makers.get(named)
        if run.serves and made is not None:
            users.setdefault(_key(made), []).append(run)
        else:
            alone.append(run)
    return [run._replace(serving_runs=tuple(users.get(_key(run), ()))) for run in alone]


def runs_counting(run: LeaderboardEntry, unit: str) -> tuple[LeaderboardEntry, ...]:
    """The runs that tell what one of a unit costs: those that use its outcome, else itself."""
    return tuple(each for each in run.serving_runs if _counted(each, unit)) or (
        (run,) if _counted(run, unit) else ()
    )


def counted_units(run: LeaderboardEntry) -> set[str]:
    """What it counted, or the runs that use its outcome."""
    return {
        name for each in (run, *run.serving_runs) for name in each.units if _counted(each, name)
    }


def unit_emissions(
    run: LeaderboardEntry, unit: str, per: int
) -> tuple[float | None, tuple[float, float] | None]:
    """Grams for `per` of a unit, over all runs that tell it; and the least and the most of them.

    None where a run has no grams, or only some of them, and where there is but one to compare.
    """
    runs = runs_counting(run, unit)
    if not runs or not all(each.energy_uj and not each.unpriced_uj for each in runs):
        return None, None
    mean = sum(each.grams for each in runs) / sum(each.units[unit] for each in runs) * per
    single = [each.grams / each.units[unit] * per for each in runs]
    if not math.isfinite(mean):
        return None, None
    return mean, (min(single), max(single)) if len(single) > 1 else None


def _key(run: LeaderboardEntry) -> tuple[str, ...]:
    return run.user, run.run_id, run.job_id


def _counted(run: LeaderboardEntry, unit: str) -> bool:
    return run.units.get(unit, 0.0) > 0
