"""Splits one interval of a GPU's energy between the runs that hold it: pure, in exact integers.

Idle energy is split by holdings; the part that no run holds is `unallocated`. Active energy is
split by measured activity, else by the holdings of runs that have a process on the GPU.
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
    """A partition, the slices outside of partitions, or a whole device without partitions."""

    size: float
    """Fraction of the device, 0 to 1; the parts of a device sum to 1."""
    holders: Mapping[RunKey, int]
    """Replicas held, by run."""
    replicas: int
    """All replicas, held or free; 0: unknown."""
    gpu_processes: tuple[GpuProcess, ...]
    active: float | None
    """Mean activity of its compute units, 0 to 1; None: unknown."""
    is_busy: bool
    """Whether a process may have run on it."""

    @property
    def is_exclusive(self) -> bool:
        """Whether one run certainly holds all of it, whichever processes are seen there."""
        return len(self.holders) == 1 and 0 < self.replicas <= sum(self.holders.values())

    def idle_weights(self) -> dict[AttributionTarget, float]:
        """Weights of its idle energy by target, from the replicas held. Sums to 1."""
        held = sum(self.holders.values())
        replicas = max(self.replicas, held)
        weights: dict[AttributionTarget, float] = {
            run: units / replicas for run, units in self.holders.items()
        }
        if replicas > held or not held:
            weights[UnattributedReason.UNALLOCATED] = (replicas - held) / replicas if held else 1.0
        return weights

    def present(self, owners: Mapping[int, RunKey]) -> "GpuPart":
        """The part without processes of runs that do not hold it, such as ended runs."""
        if not self.gpu_processes:
            return self
        gpu_processes = tuple(
            process
            for process in self.gpu_processes
            if process.is_proxy or owners.get(process.pid) in (None, *self.holders)
        )
        return self._replace(gpu_processes=gpu_processes, is_busy=bool(gpu_processes))


def gpu_parts(holdings: Sequence[GpuHolding], activity: GpuActivity) -> list[GpuPart]:
    """The parts of a device. A run that holds the device holds all parts without a holder."""
    sizes = {part.id: part.slices for part in activity.partitions if part.slices > 0}
    if not sizes and not activity.slices:
        # The partitions are unknown: assume that all held partitions have the same size.
        sizes = {row.partition: 1.0 for row in holdings if row.partition}
        if not sizes:
            part = _part(1.0, holdings, activity.gpu_processes, activity.utilization, activity)
            return [part._replace(active=None)]
    active = {part.id: part.active for part in activity.partitions}
    whole = [row for row in holdings if not row.partition]
    sliced = sum(sizes.values())
    slices = max(float(activity.slices), sliced)
    parts = [
        _part(
            size / slices,
            [row for row in holdings if row.partition == name] or whole,
            tuple(seen for seen in activity.gpu_processes if seen.partition == name),
            active.get(name),
            activity,
        )
        for name, size in sizes.items()
    ]
    if slices > sliced:
        parts.append(_part((slices - sliced) / slices, whole, (), None, activity))
    return parts


def _part(
    size: float,
    holdings: Sequence[GpuHolding],
    gpu_processes: tuple[GpuProcess, ...],
    active: float | None,
    activity: GpuActivity,
) -> GpuPart:
    holders: dict[RunKey, int] = {}
    for row in holdings:
        holders[row.run] = holders.get(row.run, 0) + row.units
    replicas = max((row.units_of for row in holdings), default=0)
    is_busy = bool(holders) if activity.why else bool(gpu_processes or active)
    return GpuPart(size, holders, replicas, gpu_processes, active, is_busy)


MIN_COVERAGE = 0.5
"""Activity measured for less than this fraction of the time is not used."""
MIN_ACTIVITY = 0.05
"""A sum of activities up to this is treated as noise."""

Weights: TypeAlias = dict[AttributionTarget, float]


def split_gpu(
    interval: Interval, idle_uj: int | None, sample: WorkloadSample, activity: GpuActivity
) -> list[EnergyShare]:
    """Split a GPU's energy, of which `idle_uj` is idle energy; None: not learned yet.

    The interval is cut at every change of a holding and its energy divided in proportion to time. A
    run that holds the whole device is charged for all of it. A process counts where its run holds
    a part; a process of no run is `unknown_process`. Over a restart only holdings are certain, and
    the rest is `restart`. The machine owner is charged for all energy of no other run. Shares of 0
    are omitted; the sum is always `interval.energy_uj`.
    """
    idle_sums: dict[tuple[AttributionTarget, SplitMethod], float] = defaultdict(float)
    active_sums: dict[tuple[AttributionTarget, SplitMethod], float] = defaultdict(float)
    activity = _with_proxies(activity, sample.proxy_pids)
    own = [row for row in sample.holdings if row.device == interval.device and row.units > 0]
    for duration_ns, holdings in _constant_periods(own, interval.t0_ns, interval.t1_ns):
        parts = gpu_parts(holdings, activity)
        if interval.restart:
            piece = _restart_weights(parts, activity)
        else:
            piece = _weights(parts, sample, activity, idle_known=idle_uj is not None)
        split = piece.split()
        for sums, weights in ((idle_sums, piece.idle), (active_sums, piece.active)):
            for target, weight in weights.items():
                sums[_charged_to(target, split, sample.machine_owner)] += duration_ns * weight
    return _shares(interval.energy_uj, idle_uj or 0, idle_sums, active_sums)


def _with_proxies(activity: GpuActivity, proxy_pids: frozenset[int]) -> GpuActivity:
    """Mark the proxy processes (MPS servers) that the driver lists as ordinary processes."""
    if not any(seen.pid in proxy_pids and not seen.is_proxy for seen in activity.gpu_processes):
        return activity
    return activity._replace(
        gpu_processes=tuple(
            seen._replace(is_proxy=seen.is_proxy or seen.pid in proxy_pids)
            for seen in activity.gpu_processes
        )
    )


class _WeightedPeriod(NamedTuple):
    """Weights by target in a period with constant holdings; both sum to 1."""

    idle: Weights
    active: Weights
    static: SplitMethod
    """The split method, unless one target has all of it."""

    def split(self) -> SplitMethod:
        targets = {
            target for target, part in (*self.idle.items(), *self.active.items()) if part > 0
        }
        return SplitMethod.EXCLUSIVE if len(targets) == 1 else self.static


def _constant_periods(
    holdings: Iterable[GpuHolding], t0_ns: int, t1_ns: int
) -> Iterator[tuple[int, list[GpuHolding]]]:
    """Cut an interval where holdings change: durations in nanoseconds, with their holdings."""
    t1_ns = max(t1_ns, t0_ns + 1)
    rows = [
        (max(row.since_ns, t0_ns), t1_ns if row.until_ns is None else min(row.until_ns, t1_ns), row)
        for row in holdings
    ]
    rows = [row for row in rows if row[0] < row[1]]
    edges = {t0_ns, t1_ns, *(row[0] for row in rows), *(row[1] for row in rows)}
    for start, end in pairwise(sorted(edges)):
        yield end - start, [row for since, until, row in rows if since <= start and end <= until]


def _restart_weights(parts: Sequence[GpuPart], activity: GpuActivity) -> _WeightedPeriod:
    """Weights over a restart: without activity readings only holdings are certain."""
    idle = _idle_weights(parts)
    if UnattributedReason.UNALLOCATED in idle:
        idle[UnattributedReason.RESTART] = idle.pop(UnattributedReason.UNALLOCATED)
    return _WeightedPeriod(idle, idle, _fallback_split(activity))


def _weights(
    parts: Sequence[GpuPart], sample: WorkloadSample, activity: GpuActivity, *, idle_known: bool
) -> _WeightedPeriod:
    idle = _idle_weights(parts)
    present = [part.present(sample.run_of_pid) for part in parts]
    busy = [part for part in present if part.is_busy]
    if not busy:
        return _WeightedPeriod(idle, idle, _fallback_split(activity))
    active: Weights = {}
    used = 1.0
    if not idle_known:
        # Most of it may be idle energy, so assume that an unused part draws power by its size.
        used = sum(part.size for part in busy)
        active = _idle_weights([part for part in present if not part.is_busy])
    between, by_activity = _weights_between_parts(busy, activity)
    for part, weight in zip(busy, between, strict=True):
        within, is_measured = _weights_within_part(part, sample, activity)
        by_activity = by_activity or is_measured
        _add(active, within, weight * used)
    return _WeightedPeriod(
        idle, active, SplitMethod.ACTIVITY if by_activity else _fallback_split(activity)
    )


def _idle_weights(parts: Sequence[GpuPart]) -> Weights:
    """Weights of idle energy over all parts, by size."""
    idle: Weights = {}
    for part in parts:
        _add(idle, part.idle_weights(), part.size)
    return idle


def _fallback_split(activity: GpuActivity) -> SplitMethod:
    return SplitMethod.SLICES if activity.slices else SplitMethod.EQUAL


def _weights_between_parts(
    busy: Sequence[GpuPart], activity: GpuActivity
) -> tuple[list[float], bool]:
    """Weight of each part, by activity times size, else by size; whether activity was used."""
    static = _normalized([part.size for part in busy])
    if not _is_known(activity.coverage, [part.active or 0.0 for part in busy]):
        return static, False
    measured = _normalized([(part.active or 0.0) * part.size for part in busy])
    return _blend(measured, static, activity.coverage), True


def _weights_within_part(
    part: GpuPart, sample: WorkloadSample, activity: GpuActivity
) -> tuple[Weights, bool]:
    """Weights of one part's active energy by target, and whether activity was used."""
    if not part.holders:
        return {UnattributedReason.UNKNOWN_PROCESS: 1.0}, False
    if part.is_exclusive:
        return dict.fromkeys(part.holders, 1.0), False
    seen: Weights = {}
    served: float | None = None
    for process in part.gpu_processes:
        owner = sample.run_of_pid.get(process.pid, UnattributedReason.UNKNOWN_PROCESS)
        if process.is_proxy:
            served = (served or 0.0) + process.active
        else:
            seen[owner] = seen.get(owner, 0.0) + process.active
    # A holder without a process draws nothing, unless a proxy process works for it.
    everyone = served is not None or not seen.keys() & part.holders.keys()
    using: Weights = {run: units for run, units in part.holders.items() if everyone or run in seen}
    units: Weights = dict.fromkeys(
        seen, 1.0
    )  # one replica for a target with a process but no holding
    units.update(using)
    static = _normalized(list(units.values()))
    active = [seen.get(target, 0.0) for target in units]
    if not _is_known(activity.coverage, [*active, served or 0.0]):
        return dict(zip(units, static, strict=True)), False
    shared: Weights = dict(zip(using, _normalized(list(using.values())), strict=True))
    total = [seen.get(target, 0.0) + (served or 0.0) * shared.get(target, 0.0) for target in units]
    blend = _blend(_normalized(total), static, activity.coverage)
    return dict(zip(units, blend, strict=True)), any(active)


def _is_known(coverage: float, activity: Sequence[float]) -> bool:
    return coverage >= MIN_COVERAGE and sum(activity) > MIN_ACTIVITY


def _blend(measured: Sequence[float], static: Sequence[float], coverage: float) -> list[float]:
    c = min(1.0, coverage)
    return [c * one + (1.0 - c) * other for one, other in zip(measured, static, strict=True)]


def _normalized(weights: Sequence[float]) -> list[float]:
    """The weights (at least one > 0) scaled to a sum of 1."""
    total = sum(weights)
    return [weight / total for weight in weights]


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
    idle_sums: dict[tuple[AttributionTarget, SplitMethod], float],
    active_sums: dict[tuple[AttributionTarget, SplitMethod], float],
) -> list[EnergyShare]:
    held = dict(zip(idle_sums, apportion(idle_uj, list(idle_sums.values())), strict=True))
    used = dict(
        zip(active_sums, apportion(energy_uj - idle_uj, list(active_sums.values())), strict=True)
    )
    return [
        EnergyShare(
            target,
            held.get(line, 0) + used.get(line, 0),
            split,
            0 if isinstance(target, UnattributedReason) else held.get(line, 0),
        )
        for line in dict.fromkeys((*idle_sums, *active_sums))
        for target, split in [line]
        if held.get(line, 0) + used.get(line, 0)
    ]
