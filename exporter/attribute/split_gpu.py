"""Splitting one interval's energy of one GPU over those that hold it: pure, exact in integers.

The idle floor goes to holders by what they hold, and what nobody holds is `unallocated`. The rest
goes by activity as far as that is known, else by what is held by those that have a process there.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeAlias

from exporter.attribute.parts import Part, parts_of
from exporter.model.apportion import apportion
from exporter.model.readings import Interval, Occupancy
from exporter.model.runs import RunKey
from exporter.model.workload import Holding, Party, Reason, Share, Sighting, Split

MIN_COVERAGE = 0.5
"""Activity that is known for less of the time than this is not used."""
MIN_ACTIVITY = 0.05
"""A sum of activity that is no more than this is noise."""

Weights: TypeAlias = dict[Party, float]


def split_gpu(
    interval: Interval, floor_uj: int | None, sighting: Sighting, occupancy: Occupancy
) -> list[Share]:
    """Split a GPU's energy, of which `floor_uj` is its idle floor; None: that is not known yet.

    The interval is cut at every change of a holding, its energy in proportion to time. Whoever
    holds all of the device pays all of it. An occupant counts where its run holds something; one
    of no run is `unknown_process`. Over a restart only holdings prove anything, and the rest is
    `restart`. A run that owns the machine pays what no other run does. Shares of 0 are left out;
    the sum is `interval.energy_uj`, always.
    """
    floors: dict[tuple[Party, Split], float] = defaultdict(float)
    actives: dict[tuple[Party, Split], float] = defaultdict(float)
    occupancy = _with_servers(occupancy, sighting.servers)
    own = [row for row in sighting.holdings if row.device == interval.device and row.units > 0]
    for duration_ns, holdings in _pieces(own, interval.t0_ns, interval.t1_ns):
        parts = parts_of(holdings, occupancy)
        if interval.restart:
            piece = _proven(parts, occupancy)
        else:
            piece = _piece(parts, sighting, occupancy, floor_known=floor_uj is not None)
        split = piece.split()
        for sums, weights in ((floors, piece.floor), (actives, piece.active)):
            for party, weight in weights.items():
                sums[_line(party, split, sighting.holder)] += duration_ns * weight
    return _shares(interval.energy_uj, floor_uj or 0, floors, actives)


def _with_servers(occupancy: Occupancy, servers: frozenset[int]) -> Occupancy:
    """With the servers that the driver does not tell from other processes."""
    if not any(seen.pid in servers and not seen.serves for seen in occupancy.occupants):
        return occupancy
    return occupancy._replace(
        occupants=tuple(
            seen._replace(serves=seen.serves or seen.pid in servers) for seen in occupancy.occupants
        )
    )


class _Piece(NamedTuple):
    """Parts of a stretch of time in which holdings did not change; both sum to 1."""

    floor: Weights
    active: Weights
    static: Split
    """How it was split, unless somebody had all of it."""

    def split(self) -> Split:
        parties = {party for party, part in (*self.floor.items(), *self.active.items()) if part > 0}
        return Split.EXCLUSIVE if len(parties) == 1 else self.static


def _pieces(
    holdings: Iterable[Holding], t0_ns: int, t1_ns: int
) -> Iterator[tuple[int, list[Holding]]]:
    """Stretches of the interval in nanoseconds, with what is held in each."""
    t1_ns = max(t1_ns, t0_ns + 1)
    rows = [
        (max(row.since_ns, t0_ns), t1_ns if row.until_ns is None else min(row.until_ns, t1_ns), row)
        for row in holdings
    ]
    rows = [row for row in rows if row[0] < row[1]]
    edges = {t0_ns, t1_ns, *(row[0] for row in rows), *(row[1] for row in rows)}
    for start, end in pairwise(sorted(edges)):
        yield end - start, [row for since, until, row in rows if since <= start and end <= until]


def _proven(parts: Sequence[Part], occupancy: Occupancy) -> _Piece:
    """What is certain of a time in which nobody looked: all goes by what is held."""
    floor = _floor(parts)
    if Reason.UNALLOCATED in floor:
        floor[Reason.RESTART] = floor.pop(Reason.UNALLOCATED)
    return _Piece(floor, floor, _static(occupancy))


def _piece(
    parts: Sequence[Part], sighting: Sighting, occupancy: Occupancy, *, floor_known: bool
) -> _Piece:
    floor = _floor(parts)
    present = [part.present(sighting.owners) for part in parts]
    busy = [part for part in present if part.is_busy]
    if not busy:
        return _Piece(floor, floor, _static(occupancy))
    active: Weights = {}
    used = 1.0
    if not floor_known:
        # Most of it may be floor then, so a part where nothing runs is taken to draw by its size.
        used = sum(part.size for part in busy)
        active = _floor([part for part in present if not part.is_busy])
    between, by_activity = _between(busy, occupancy)
    for part, weight in zip(busy, between, strict=True):
        within, is_measured = _within(part, sighting, occupancy)
        by_activity = by_activity or is_measured
        _add(active, within, weight * used)
    return _Piece(floor, active, Split.ACTIVITY if by_activity else _static(occupancy))


def _floor(parts: Sequence[Part]) -> Weights:
    """Who pays for the parts while they idle, by size."""
    floor: Weights = {}
    for part in parts:
        _add(floor, part.floor(), part.size)
    return floor


def _static(occupancy: Occupancy) -> Split:
    return Split.SLICES if occupancy.slices else Split.EQUAL


def _between(busy: Sequence[Part], occupancy: Occupancy) -> tuple[list[float], bool]:
    """Each part's part of what they drew together: by activity times size, else by size."""
    static = _normal([part.size for part in busy])
    if not _is_known(occupancy.coverage, [part.active or 0.0 for part in busy]):
        return static, False
    measured = _normal([(part.active or 0.0) * part.size for part in busy])
    return _blend(measured, static, occupancy.coverage), True


def _within(part: Part, sighting: Sighting, occupancy: Occupancy) -> tuple[Weights, bool]:
    """Whose the energy is that one part drew by being used, and whether activity told."""
    if not part.holders:
        return {Reason.UNKNOWN_PROCESS: 1.0}, False
    if part.is_exclusive:
        return dict.fromkeys(part.holders, 1.0), False
    seen: Weights = {}
    served: float | None = None
    for occupant in part.occupants:
        owner = sighting.owners.get(occupant.pid, Reason.UNKNOWN_PROCESS)
        if occupant.serves:
            served = (served or 0.0) + occupant.active
        else:
            seen[owner] = seen.get(owner, 0.0) + occupant.active
    # A holder without a process draws nothing, unless a server draws it in the holder's place.
    everyone = served is not None or not seen.keys() & part.holders.keys()
    using: Weights = {run: units for run, units in part.holders.items() if everyone or run in seen}
    units: Weights = dict.fromkeys(seen, 1.0)  # one replica for who is there and holds none
    units.update(using)
    static = _normal(list(units.values()))
    active = [seen.get(party, 0.0) for party in units]
    if not _is_known(occupancy.coverage, [*active, served or 0.0]):
        return dict(zip(units, static, strict=True)), False
    shared: Weights = dict(zip(using, _normal(list(using.values())), strict=True))
    total = [seen.get(party, 0.0) + (served or 0.0) * shared.get(party, 0.0) for party in units]
    blend = _blend(_normal(total), static, occupancy.coverage)
    return dict(zip(units, blend, strict=True)), any(active)


def _is_known(coverage: float, activity: Sequence[float]) -> bool:
    return coverage >= MIN_COVERAGE and sum(activity) > MIN_ACTIVITY


def _blend(measured: Sequence[float], static: Sequence[float], coverage: float) -> list[float]:
    c = min(1.0, coverage)
    return [c * one + (1.0 - c) * other for one, other in zip(measured, static, strict=True)]


def _normal(weights: Sequence[float]) -> list[float]:
    """The weights (one of them > 0) as parts of 1."""
    of = sum(weights)
    return [weight / of for weight in weights]


def _add(sums: Weights, weights: Weights, factor: float) -> None:
    for party, weight in weights.items():
        sums[party] = sums.get(party, 0.0) + weight * factor


def _line(party: Party, split: Split, holder: RunKey | None) -> tuple[Party, Split]:
    if not isinstance(party, Reason):
        return party, split
    return (party, Split.REST) if holder is None else (holder, Split.EXCLUSIVE)


def _shares(
    energy_uj: int,
    idle_uj: int,
    floors: dict[tuple[Party, Split], float],
    actives: dict[tuple[Party, Split], float],
) -> list[Share]:
    held = dict(zip(floors, apportion(idle_uj, list(floors.values())), strict=True))
    used = dict(zip(actives, apportion(energy_uj - idle_uj, list(actives.values())), strict=True))
    return [
        Share(
            party,
            held.get(line, 0) + used.get(line, 0),
            split,
            0 if isinstance(party, Reason) else held.get(line, 0),
        )
        for line in dict.fromkeys((*floors, *actives))
        for party, split in [line]
        if held.get(line, 0) + used.get(line, 0)
    ]
