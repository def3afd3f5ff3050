"""One run as a leaderboard sees it, made of the records of the nodes that it was seen on."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

from exporter import units
from exporter.model.record import GROUP_LABEL

Record = Mapping[str, Any]
SERVES_LABEL = "serves"
"""A run with that label uses what the run of that id made, and was begun to see what that costs."""


class Grid(NamedTuple):
    """What energy was converted with, apart from how much that was at each moment."""

    zone: str
    basis: str
    signal: str
    accounting: str
    pue: float | None
    """None where it is not told."""


class Entry(NamedTuple):
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
    grids: frozenset[Grid]
    units: Mapping[str, float]
    logged: Mapping[str, Any]
    serves: str
    """The id of the run whose outcome it uses; "": none."""
    servings: "tuple[Entry, ...]" = ()
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
    def held_share(self) -> float | None:
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


def entries(records: Iterable[Record]) -> list[Entry]:
    """One for each run; the records of its nodes are added up.

    Of several records of a run on a node the last one counts, and one of many nodes instead of
    those of some of them.
    """
    runs: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        key = record["run_id"], record["job_id"], _user(record)
        runs.setdefault(key, []).append(record)
    return [_entry(apart) for found in runs.values() if (apart := _apart(found))]


def _apart(records: Sequence[Record]) -> list[Record]:
    """Those of different nodes, oldest first."""
    taken: list[Record] = []
    seen: set[str] = set()
    for record in sorted(records, key=lambda each: (-len(_nodes(each)), -each["at"])):
        if not seen & _nodes(record):
            taken.append(record)
            seen |= _nodes(record)
    return sorted(taken, key=lambda each: float(each["at"]))


def _entry(records: Sequence[Record]) -> Entry:
    first = records[0]
    ends = [record.get("ended") for record in records]
    parts = [part for record in records for part in record["parts"]]
    uses = [use for record in records for use in record["intensity"]]
    known = all(part.get("method") for part in parts)
    estimated = (part["energy_uj"] for part in parts if part.get("method") == "estimated")
    return Entry(
        run_id=first["run_id"],
        job_id=first["job_id"],
        user=_user(first),
        group=str(_table(first, "labels").get(GROUP_LABEL, "")),
        nodes=frozenset().union(*map(_nodes, records)),
        expected_nodes=max(_expected(record) for record in records),
        lost=any(_table(record, "boundary").get("nodes_lost") for record in records),
        started=min(record["started"] for record in records),
        ended=None if None in ends else max(end for end in ends if end is not None),
        energy_uj=sum(record["energy_uj"] for record in records),
        held_uj=sum(record["held_uj"] for record in records),
        carbon_ng=sum(record["carbon_ng"] for record in records),
        unpriced_uj=sum(map(_unpriced_uj, records)),
        estimated_uj=sum(estimated) if known else None,
        devices=frozenset(part["device"] for part in parts if part["energy_uj"]),
        grids=frozenset([*_grids(uses), *(grid for each in records for grid in _seen(each))]),
        units=_units(records),
        logged={name: said for each in records for name, said in _table(each, "logged").items()},
        serves=str(_table(first, "labels").get(SERVES_LABEL, "")),
        name=next(filter(None, map(_name, records)), ""),
    )


def _nodes(record: Record) -> set[str]:
    return set(record["node"].split(", "))


def _table(record: Record, name: str) -> Mapping[str, Any]:
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


def _grids(uses: Iterable[Record]) -> Iterable[Grid]:
    for use in uses:
        if use.get("zone") is not None and use["energy_uj"]:
            pue = use.get("pue")
            yield _grid(use, "zone", float(pue) if _is_finite(pue) else None)


def _seen(record: Record) -> Iterable[Grid]:
    """Those that a Prometheus knows were in force on its nodes."""
    for grid in _table(record, "boundary").get("grids") or ():
        yield _grid(grid, "grid_zone", None)


def _grid(facts: Record, zone: str, pue: float | None) -> Grid:
    said = {name: str(facts.get(name) or "") for name in ("basis", "signal", "accounting")}
    return Grid(zone=str(facts.get(zone) or ""), pue=pue, **said)


def _units(records: Iterable[Record]) -> dict[str, float]:
    amounts: dict[str, float] = {}
    for record in records:
        for name, amount in _table(record, "units").items():
            if _is_finite(amount):
                amounts[name] = amounts.get(name, 0.0) + amount
    return amounts


def _is_finite(value: Any) -> TypeGuard[float]:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value)
