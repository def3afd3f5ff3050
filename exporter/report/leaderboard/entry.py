"""Leaderboard entries: runs, each combined from the records of its nodes."""

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

from exporter import units
from exporter.model.record import GROUP_LABEL
from exporter.report import quantities

Record = Mapping[str, Any]
SERVES_LABEL = "serves"
"""Label of a serving run: the id of the run whose result it uses, for example for inference."""


class GridConditions(NamedTuple):
    """Kind of carbon intensity used for conversion, without its value."""

    zone: str
    basis: str
    signal: str
    accounting: str
    pue: float | None
    """None if unknown."""


class LeaderboardEntry(NamedTuple):
    """A run over all its nodes."""

    run_id: str
    job_id: str
    user: str
    group: str
    """Group of the run, for example a sweep; "" for none."""
    nodes: frozenset[str]
    expected_nodes: int
    """Number of nodes reported by the launcher; 0 if unknown."""
    lost: bool
    """Whether a node is no longer scraped and has no known end."""
    started: float
    ended: float | None
    """None if still running."""
    energy_uj: int
    held_uj: int
    carbon_ng: int
    unpriced_uj: int
    """Energy without a carbon intensity; its grams are not in `carbon_ng`."""
    estimated_uj: int | None
    """None if unknown."""
    devices: frozenset[str]
    grids: frozenset[GridConditions]
    units: Mapping[str, float]
    logged: Mapping[str, Any]
    serves: str
    """Id of the run whose result it uses; "" for none."""
    serving_runs: "tuple[LeaderboardEntry, ...]" = ()
    """Runs that use its result."""
    name: str = ""
    """Display name; "" if it is the id."""

    @property
    def grams(self) -> float:
        """Emissions in grams; a lower bound if energy has no carbon intensity yet."""
        return units.grams(self.carbon_ng)

    @property
    def are_grams_unknown(self) -> bool:
        """Whether none of its energy has a carbon intensity yet."""
        return self.energy_uj > 0 and self.unpriced_uj >= self.energy_uj

    @property
    def is_complete(self) -> bool:
        """Whether the run has ended and its grams cover all its energy."""
        return self.ended is not None and self.energy_uj > 0 and self.unpriced_uj == 0

    @property
    def held_idle_ratio(self) -> float | None:
        """Share of its energy used by idle devices that it held."""
        return self.held_uj / self.energy_uj if self.energy_uj else None

    @property
    def grams_per_kwh(self) -> float | None:
        """Mean carbon intensity of the converted energy, PUE included."""
        priced_uj = self.energy_uj - self.unpriced_uj
        return self.grams / units.kwh(priced_uj) if priced_uj > 0 else None

    def number(self, name: str) -> float | None:
        """Return a logged value if it is a finite number."""
        value = self.logged.get(name)
        return float(value) if _is_finite(value) else None


def make_entries(records: Iterable[Record]) -> list[LeaderboardEntry]:
    """Return one entry per run; the records of its nodes are added up.

    Of several records of a run on a node the last one counts, and one of many nodes instead of
    those of some of them.
    """
    runs: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        key = record["run_id"], record["job_id"], _user(record)
        runs.setdefault(key, []).append(record)
    return [_entry(apart) for found in runs.values() if (apart := _distinct_nodes(found))]


def _distinct_nodes(records: Sequence[Record]) -> list[Record]:
    """Return the records of different nodes, oldest first."""
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
        unpriced_uj=sum(map(quantities.unconverted_uj, records)),
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
    """Return a mapping of a record; older records do not have all of them."""
    return record.get(name) or {}


def _name(record: Record) -> str:
    """Return the name if it differs from the id."""
    name = str(record.get("name") or "").strip()
    return "" if name == record["run_id"] else name


def _user(record: Record) -> str:
    return str(record.get("user") or "")


def _expected(record: Record) -> int:
    """Return the number of nodes reported by the launcher."""
    nodes = record.get("nodes")
    return nodes if isinstance(nodes, int) else 0


def _grids(uses: Iterable[Record]) -> Iterable[GridConditions]:
    for use in uses:
        if use.get("zone") is not None and use["energy_uj"]:
            pue = use.get("pue")
            yield _grid(use, "zone", float(pue) if _is_finite(pue) else None)


def _prometheus_grids(record: Record) -> Iterable[GridConditions]:
    """Return the intensities in force on the run's nodes according to Prometheus."""
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
    return is_number and abs(value) <= sys.float_info.max


def attach_serving_runs(runs: Iterable[LeaderboardEntry]) -> list[LeaderboardEntry]:
    """Attach serving runs to the runs whose results they use, and remove them from the list.

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
    """Return the runs that determine the emissions per unit: serving runs, else the run itself."""
    return tuple(each for each in run.serving_runs if _counted(each, unit)) or (
        (run,) if _counted(run, unit) else ()
    )


def counted_units(run: LeaderboardEntry) -> set[str]:
    """Return the units counted by the run or its serving runs."""
    return {
        name for each in (run, *run.serving_runs) for name in each.units if _counted(each, name)
    }


def unit_emissions(
    run: LeaderboardEntry, unit: str, per: int
) -> tuple[float | None, tuple[float, float] | None]:
    """Return the mean grams for `per` of a unit, and the range over the runs that counted it.

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
