"""Splitting one interval's energy of one GPU over those that hold it: pure, exact in integers.

The idle floor goes to holders by what they hold, and what nobody holds is `unallocated`. The rest
goes by activity as far as that is known, else by what is held by those that have a process there.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeAlias

from exporter.model.apportion import apportion
from exporter.model.readings import GpuActivity, GpuProcess, Interval
from exporter.model.runs import RunKey
from exporter.model.workload import (
    AttributionTarget,
    EnergyShare,
    GpuHolding,
    SplitMethod,
    UnattributedReason,
    WorkloadSample,
)


class GpuPart(NamedTuple):
    """A partition, the slices that are in none, or a whole device that has no partitions."""

    size: float
    """Of the device, 0 to 1; the parts of a device sum to 1."""
    holders: Mapping[RunKey, int]
    """Replicas that each run holds."""
    replicas: int
    """All that there are, held or free; 0: not known."""
    gpu_processes: tuple[GpuProcess, ...]
    active: float | None
    """Mean activity of its multiprocessors, 0 to 1; None: not known."""
    is_busy: bool
    """Whether something may have run on it."""

    @property
    def is_exclusive(self) -> bool:
        """Whether one run is known to hold all of it, whatever process is seen there."""
        return len(self.holders) == 1 and 0 < self.replicas <= sum(self.holders.values())

    def floor(self) -> dict[AttributionTarget, float]:
        """Who pays for it while it idles: by replicas held. Sums to 1."""
        held = sum(self.holders.values())
        replicas = max(self.replicas, held)
        weights: dict[AttributionTarget, float] = {
            run: units / replicas for run, units in self.holders.items()
        }
        if replicas > held or not held:
            weights[UnattributedReason.UNALLOCATED] = (replicas - held) / replicas if held else 1.0
        return weights

    def present(self, owners: Mapping[int, RunKey]) -> "GpuPart":
        """The part without occupants of runs that hold nothing of it, as those that have ended."""
        if not self.gpu_processes:
            return self
        gpu_processes = tuple(
            occupant
            for occupant in self.gpu_processes
            if occupant.is_proxy or owners.get(occupant.pid) in (None, *self.holders)
        )
        return self._replace(gpu_processes=gpu_processes, is_busy=bool(gpu_processes))


def gpu_parts(holdings: Sequence[GpuHolding], occupancy: GpuActivity) -> list[GpuPart]:
    """The parts of a device. Who holds all of it holds those that nobody else holds."""
    sizes = {part.id: part.slices for part in occupancy.partitions if part.slices > 0}
    if not sizes and not occupancy.slices:
        # A layout that nobody has told: all that is held is taken to be of one size.
        sizes = {row.partition: 1.0 for row in holdings if row.partition}
        if not sizes:
            part = _part(1.0, holdings, occupancy.gpu_processes, occupancy.utilization, occupancy)
            return [part._replace(active=None)]
    active = {part.id: part.active for part in occupancy.partitions}
    whole = [row for row in holdings if not row.partition]
    sliced = sum(sizes.values())
    slices = max(float(occupancy.slices), sliced)
    parts = [
        _part(
            size / slices,
            [row for row in holdings if row.partition == name] or whole,
            tuple(seen for seen in occupancy.gpu_processes if seen.partition == name),
            active.get(name),
            occupancy,
        )
        for name, size in sizes.items()
    ]
    if slices > sliced:
        parts.append(_part((slices - sliced) / slices, whole, (), None, occupancy))
    return parts


def _part(
    size: float,
    holdings: Sequence[GpuHolding],
    gpu_processes: tuple[GpuProcess, ...],
    active: float | None,
    occupancy: GpuActivity,
) -> GpuPart:
    holders: dict[RunKey, int] = {}
    for row in holdings:
        holders[row.run] = holders.get(row.run, 0) + row.units
    replicas = max((row.units_of for row in holdings), default=0)
    is_busy = bool(holders) if occupancy.why else bool(gpu_processes or active)
    return GpuPart(size, holders, replicas, gpu_processes, active, is_busy)


MIN_COVERAGE = 0.5
"""Activity that is known for less of the time than this is not used."""
MIN_ACTIVITY = 0.05
"""A sum of activity that is no more than this is noise."""

Weights: TypeAlias = dict[AttributionTarget, float]


def split_gpu(
    interval: Interval, floor_uj: int | None, sighting: WorkloadSample, occupancy: GpuActivity
) -> list[EnergyShare]:
    """Split a GPU's energy, of which `floor_uj` is its idle floor; None: that is not known yet.

    The interval is cut at every change of a holding, its energy in proportion to time. Whoever
    holds all of the device pays all of it. An occupant counts where its run holds something; one
    of no run is `unknown_process`. Over a restart only holdings prove anything, and the rest is
    `restart`. A run that owns the machine pays what no other run does. Shares of 0 are left out;
    the sum is `interval.energy_uj`, always.
    """
    floors: dict[tuple[AttributionTarget, SplitMethod], float] = defaultdict(float)
    actives: dict[tuple[AttributionTarget, SplitMethod], float] = defaultdict(float)
    occupancy = _with_servers(occupancy, sighting.proxy_pids)
    own = [row for row in sighting.holdings if row.device == interval.device and row.units > 0]
    for duration_ns, holdings in _constant_periods(own, interval.t0_ns, interval.t1_ns):
        parts = gpu_parts(holdings, occupancy)
        if interval.restart:
            piece = _restart_weights(parts, occupancy)
        else:
            piece = _weights(parts, sighting, occupancy, floor_known=floor_uj is not None)
        split = piece.split()
        for sums, weights in ((floors, piece.floor), (actives, piece.active)):
            for target, weight in weights.items():
                sums[_charged_to(target, split, sighting.machine_owner)] += duration_ns * weight
    return _shares(interval.energy_uj, floor_uj or 0, floors, actives)


def _with_servers(occupancy: GpuActivity, proxy_pids: frozenset[int]) -> GpuActivity:
    """With the servers that the driver does not tell from other processes."""
    if not any(seen.pid in proxy_pids and not seen.is_proxy for seen in occupancy.gpu_processes):
        return occupancy
    return occupancy._replace(
        gpu_processes=tuple(
            seen._replace(is_proxy=seen.is_proxy or seen.pid in proxy_pids)
            for seen in occupancy.gpu_processes
        )
    )


class _WeightedPeriod(NamedTuple):
    """Parts of a stretch of time in which holdings did not change; both sum to 1."""

    floor: Weights
    active: Weights
    static: SplitMethod
    """How it was split, unless somebody had all of it."""

    def split(self) -> SplitMethod:
        parties = {
            target for target, part in (*self.floor.items(), *self.active.items()) if part > 0
        }
        return SplitMethod.EXCLUSIVE if len(parties) == 1 else self.static


def _constant_periods(
    holdings: Iterable[GpuHolding], t0_ns: int, t1_ns: int
) -> Iterator[tuple[int, list[GpuHolding]]]:
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


def _restart_weights(parts: Sequence[GpuPart], occupancy: GpuActivity) -> _WeightedPeriod:
    """What is certain of a time in which nobody looked: all goes by what is held."""
    floor = _idle_weights(parts)
    if UnattributedReason.UNALLOCATED in floor:
        floor[UnattributedReason.RESTART] = floor.pop(UnattributedReason.UNALLOCATED)
    return _WeightedPeriod(floor, floor, _fallback_split(occupancy))


def _weights(
    parts: Sequence[GpuPart], sighting: WorkloadSample, occupancy: GpuActivity, *, floor_known: bool
) -> _WeightedPeriod:
    floor = _idle_weights(parts)
    present = [part.present(sighting.run_of_pid) for part in parts]
    busy = [part for part in present if part.is_busy]
    if not busy:
        return _WeightedPeriod(floor, floor, _fallback_split(occupancy))
    active: Weights = {}
    used = 1.0
    if not floor_known:
        # Most of it may be floor then, so a part where nothing runs is taken to draw by its size.
        used = sum(part.size for part in busy)
        active = _idle_weights([part for part in present if not part.is_busy])
    between, by_activity = _weights_between_parts(busy, occupancy)
    for part, weight in zip(busy, between, strict=True):
        within, is_measured = _weights_within_part(part, sighting, occupancy)
        by_activity = by_activity or is_measured
        _add(active, within, weight * used)
    return _WeightedPeriod(
        floor, active, SplitMethod.ACTIVITY if by_activity else _fallback_split(occupancy)
    )


def _idle_weights(parts: Sequence[GpuPart]) -> Weights:
    """Who pays for the parts while they idle, by size."""
    floor: Weights = {}
    for part in parts:
        _add(floor, part.floor(), part.size)
    return floor


def _fallback_split(occupancy: GpuActivity) -> SplitMethod:
    return SplitMethod.SLICES if occupancy.slices else SplitMethod.EQUAL


def _weights_between_parts(
    busy: Sequence[GpuPart], occupancy: GpuActivity
) -> tuple[list[float], bool]:
    """Each part's part of what they drew together: by activity times size, else by size."""
    static = _normalized([part.size for part in busy])
    if not _is_known(occupancy.coverage, [part.active or 0.0 for part in busy]):
        return static, False
    measured = _normalized([(part.active or 0.0) * part.size for part in busy])
    return _blend(measured, static, occupancy.coverage), True


def _weights_within_part(
    part: GpuPart, sighting: WorkloadSample, occupancy: GpuActivity
) -> tuple[Weights, bool]:
    """Whose the energy is that one part drew by being used, and whether activity told."""
    if not part.holders:
        return {UnattributedReason.UNKNOWN_PROCESS: 1.0}, False
    if part.is_exclusive:
        return dict.fromkeys(part.holders, 1.0), False
    seen: Weights = {}
    served: float | None = None
    for occupant in part.gpu_processes:
        owner = sighting.run_of_pid.get(occupant.pid, UnattributedReason.UNKNOWN_PROCESS)
        if occupant.is_proxy:
            served = (served or 0.0) + occupant.active
        else:
            seen[owner] = seen.get(owner, 0.0) + occupant.active
    # A holder without a process draws nothing, unless a server draws it in the holder's place.
    everyone = served is not None or not seen.keys() & part.holders.keys()
    using: Weights = {run: units for run, units in part.holders.items() if everyone or run in seen}
    units: Weights = dict.fromkeys(seen, 1.0)  # one replica for who is there and holds none
    units.update(using)
    static = _normalized(list(units.values()))
    active = [seen.get(target, 0.0) for target in units]
    if not _is_known(occupancy.coverage, [*active, served or 0.0]):
        return dict(zip(units, static, strict=True)), False
    shared: Weights = dict(zip(using, _normalized(list(using.values())), strict=True))
    total = [seen.get(target, 0.0) + (served or 0.0) * shared.get(target, 0.0) for target in units]
    blend = _blend(_normalized(total), static, occupancy.coverage)
    return dict(zip(units, blend, strict=True)), any(active)


def _is_known(coverage: float, activity: Sequence[float]) -> bool:
    return coverage >= MIN_COVERAGE and sum(activity) > MIN_ACTIVITY


def _blend(measured: Sequence[float], static: Sequence[float], coverage: float) -> list[float]:
    c = min(1.0, coverage)
    return [c * one + (1.0 - c) * other for one, other in zip(measured, static, strict=True)]


def _normalized(weights: Sequence[float]) -> list[float]:
    """The weights (one of them > 0) as parts of 1."""
    of = sum(weights)
    return [weight / of for weight in weights]


def _add(sums: Weights, weights: Weights, factor: float) -> None:
    for target, weight in weights.items():
        sums[target] = sums.get(target, 0.0) + weight * factor


def _charged_to(
    target: AttributionTarget, split: SplitMethod, holder: RunKey | None
) -> tuple[AttributionTarget, SplitMethod]:
    if not isinstance(target, UnattributedReason):
        return target, split
    return (target, SplitMethod.REST) if holder is None else (holder, SplitMethod.EXCLUSIVE)


def _shares(
    energy_uj: int,
    idle_uj: int,
    floors: dict[tuple[AttributionTarget, SplitMethod], float],
    actives: dict[tuple[AttributionTarget, SplitMethod], float],
) -> list[EnergyShare]:
    held = dict(zip(floors, apportion(idle_uj, list(floors.values())), strict=True))
    used = dict(zip(actives, apportion(energy_uj - idle_uj, list(actives.values())), strict=True))
    return [
        EnergyShare(
            target,
            held.get(line, 0) + used.get(line, 0),
            split,
            0 if isinstance(target, UnattributedReason) else held.get(line, 0),
        )
        for line in dict.fromkeys((*floors, *actives))
        for target, split in [line]
        if held.get(line, 0) + used.get(line, 0)
    ]
