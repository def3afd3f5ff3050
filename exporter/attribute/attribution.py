"""The attribute stage: splits energy intervals into shares by workload samples."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from exporter.attribute.idle_power import (
    IdlePower,
    gpu_idle_energy_uj,
    idle_energy_uj,
    learn_gpu_idle_power,
    learn_idle_power,
)
from exporter.attribute.split import (
    NO_HOST_USAGE,
    merge_samples,
    split_cpu,
    split_dram,
    split_rest,
)
from exporter.attribute.split_gpu import split_gpu
from exporter.model.readings import (
    GPU_ACTIVITY_MAX_AGE_NS,
    Device,
    DeviceKind,
    GpuActivity,
    Interval,
)
from exporter.model.workload import NO_PROCESS_RUNS, EnergyShare, HostUsage, WorkloadSample

MAX_ENDED = 100
"""Ended runs or holdings that are kept for a device that cannot be read."""


def combine_activity(device: Device, readings: Sequence[GpuActivity], at_ns: int) -> GpuActivity:
    """Combine the activity readings of one device, oldest first, as of `at_ns`.

    Activity, coverage and utilization are means over the fresh readings. The partitions are those
    of the last reading. Without a fresh reading the result has a reason and no activity.
    """
    if not readings:
        return GpuActivity(device, 0, why="GPU activity has not been read yet")
    last = readings[-1]
    fresh = [
        each for each in readings if not each.why and at_ns - each.at_ns <= GPU_ACTIVITY_MAX_AGE_NS
    ]
    if not fresh:
        partitions = tuple(part._replace(active=None) for part in last.partitions)
        why = last.why or "the last reading of GPU activity is too old"
        return GpuActivity(device, last.at_ns, partitions=partitions, slices=last.slices, why=why)
    if len(fresh) == 1:
        return fresh[0]._replace(partitions=last.partitions, slices=last.slices)
    return _mean_activity(last, fresh)


def is_gpu_idle(activity: GpuActivity) -> bool:
    """Whether it is certain that no process has a context on the device."""
    return not (
        activity.why
        or activity.gpu_processes
        or activity.utilization
        or any(part.active for part in activity.partitions)
    )


def _mean_activity(last: GpuActivity, fresh: Sequence[GpuActivity]) -> GpuActivity:
    parts: dict[str, list[float]] = {}
    active: dict[tuple[int, str], float] = {}
    for reading in fresh:
        for process in reading.gpu_processes:
            key = process.pid, process.partition
            active[key] = active.get(key, 0.0) + process.active / len(fresh)
        for part in reading.partitions:
            if part.active is not None:
                parts.setdefault(part.id, []).append(part.active)
    gpu_processes = {
        (seen.pid, seen.partition): seen for reading in fresh for seen in reading.gpu_processes
    }
    utilizations = [reading.utilization for reading in fresh if reading.utilization is not None]
    return last._replace(
        gpu_processes=tuple(
            seen._replace(active=active[key]) for key, seen in gpu_processes.items()
        ),
        partitions=tuple(
            part._replace(active=sum(parts[part.id]) / len(parts[part.id]))
            if part.id in parts
            else part
            for part in last.partitions
        ),
        coverage=sum(reading.coverage for reading in fresh) / len(fresh),
        utilization=sum(utilizations) / len(utilizations) if utilizations else None,
        why="",
    )


class _PendingSamples(NamedTuple):
    """Workload and GPU activity since a device's last interval."""

    workload: WorkloadSample
    activities: tuple[GpuActivity, ...]
    """Of the device, oldest first.

    The first one is from the end of the last interval if it is fresh.
    """


class Attribution:
    """Splits each device's intervals by the workload since that device's last interval.

    Keeps, for each device, the samples not yet used by an interval (after a gap in the readings,
    energy is split by everything that ran meanwhile) and the idle power. Of ended runs, only those
    that used or held most are kept; the energy of the rest is `other`, or `unallocated`.
    """

    def __init__(self, floors: Mapping[Device, float]) -> None:
        self._idle_power = {device: IdlePower(watts) for device, watts in floors.items()}
        self._pending: dict[Device, _PendingSamples] = {}
        self._last_activities: dict[Device, tuple[GpuActivity, ...]] = {}
        """The last activity reading before the current interval of each device, if any."""
        self.exporter_uj = 0
        """CPU energy of this daemon since it started, uJ; part of the run or `other` that it
        belongs to."""

    def shares(
        self,
        intervals: Sequence[Interval],
        devices: Iterable[Device],
        sample: WorkloadSample,
        activities: Mapping[Device, GpuActivity],
    ) -> list[tuple[Interval, list[EnergyShare]]]:
        """Split each interval; `devices` are all known devices, read or not.

        `activities` must be those from which `sample` was made: a process newer than the sample
        would be attributed to no run.
        """
        result = []
        read_devices = set()
        for interval in intervals:
            pending = self._with_pending(interval.device, sample, activities)
            self._pending.pop(interval.device, None)
            self._last_activities[interval.device] = pending.activities[-1:]
            read_devices.add(interval.device)
            result.append((interval, self._split(interval, pending)))
        for device in devices:
            if device not in read_devices:
                now = _relevant_to(device, sample)
                self._pending[device] = _limit_pending(
                    self._with_pending(device, now, activities), now, device
                )
        return result

    def floors(self) -> dict[Device, float]:
        """Idle power learned so far, in watts."""
        return {
            device: idle_power.watts
            for device, idle_power in self._idle_power.items()
            if idle_power.watts is not None
        }

    def _with_pending(
        self, device: Device, sample: WorkloadSample, activities: Mapping[Device, GpuActivity]
    ) -> _PendingSamples:
        """The pending samples of a device with the new one added."""
        reading = activities.get(device)
        readings = () if reading is None else (reading,)
        pending = self._pending.get(device)
        before = self._last_activities.get(device, ()) if pending is None else pending.activities
        earlier = (
            old
            for old in before
            if (reading is None or old.at_ns != reading.at_ns)
            and sample.at_ns - old.at_ns <= GPU_ACTIVITY_MAX_AGE_NS
        )
        workload = sample if pending is None else merge_samples(pending.workload, sample)
        return _PendingSamples(workload, (*earlier, *readings))

    def _split(self, interval: Interval, pending: _PendingSamples) -> list[EnergyShare]:
        match interval.device.kind:
            case DeviceKind.GPU:
                return self._split_gpu(interval, pending)
            case DeviceKind.CPU:
                return self._split_cpu(interval, pending.workload)
            case DeviceKind.DRAM:
                return split_dram(interval.energy_uj, pending.workload, restart=interval.restart)
            case DeviceKind.REST:
                return split_rest(interval.energy_uj, restart=interval.restart)
            case DeviceKind.NODE:
                raise ValueError(interval.device)

    def _split_cpu(self, interval: Interval, sample: WorkloadSample) -> list[EnergyShare]:
        duration_ns = interval.t1_ns - interval.t0_ns
        busy_ratio = _busy_ratio(sample)
        idle_power = self._idle_power.get(interval.device, IdlePower())
        idle_uj = idle_energy_uj(idle_power, interval.energy_uj, duration_ns, busy_ratio)
        if not interval.restart:
            self._idle_power[interval.device] = learn_idle_power(
                idle_power, interval.energy_uj, duration_ns, busy_ratio
            )
        self.exporter_uj += _exporter_energy_uj(interval.energy_uj - idle_uj, sample.machine)
        return split_cpu(interval.energy_uj, idle_uj, sample, restart=interval.restart)

    def _split_gpu(self, interval: Interval, pending: _PendingSamples) -> list[EnergyShare]:
        duration_ns = interval.t1_ns - interval.t0_ns
        activity = combine_activity(interval.device, pending.activities, interval.t1_ns)
        is_idle = is_gpu_idle(activity) and not interval.restart
        idle_power = self._idle_power.get(interval.device, IdlePower())
        idle_uj = gpu_idle_energy_uj(idle_power, interval.energy_uj, duration_ns, is_idle=is_idle)
        self._idle_power[interval.device] = learn_gpu_idle_power(
            idle_power, interval.energy_uj, duration_ns, activity.at_ns if is_idle else None
        )
        return split_gpu(interval, idle_uj, pending.workload, activity)


def _relevant_to(device: Device, sample: WorkloadSample) -> WorkloadSample:
    """What one device needs of a sample, kept while the device cannot be read."""
    if device.kind is not DeviceKind.GPU:
        return sample._replace(holdings=(), run_of_pid=NO_PROCESS_RUNS, proxy_pids=frozenset())
    holdings = tuple(row for row in sample.holdings if row.device == device)
    return sample._replace(usage=(), machine=None, holdings=holdings)


def _limit_pending(
    pending: _PendingSamples, now: WorkloadSample, device: Device
) -> _PendingSamples:
    """Bound the size of pending samples by the number of present runs, however long the gap."""
    if device.kind is DeviceKind.GPU:
        return pending._replace(workload=_limit_holdings(pending, now))
    return pending._replace(workload=_limit_usage(pending.workload, now, device.kind))


def _limit_holdings(pending: _PendingSamples, now: WorkloadSample) -> WorkloadSample:
    """Drop processes that no activity reading shows, and the shortest of the ended holdings."""
    sample = pending.workload
    pids = {process.pid for reading in pending.activities for process in reading.gpu_processes}
    held = set(now.holdings)
    gone = [row for row in sample.holdings if row not in held]
    if len(gone) > MAX_ENDED:
        gone.sort(key=lambda row: (row.until_ns or now.at_ns) - row.since_ns, reverse=True)
    return sample._replace(
        holdings=(*gone[:MAX_ENDED], *now.holdings),
        run_of_pid={pid: run for pid, run in sample.run_of_pid.items() if pid in pids},
        proxy_pids=sample.proxy_pids & pids,
    )


def _limit_usage(sample: WorkloadSample, now: WorkloadSample, kind: DeviceKind) -> WorkloadSample:
    """Drop the ended runs that used least; their CPU time stays in the host's busy time."""
    machine = sample.machine
    if machine is not None and now.machine is None:  # add what runs used since
        machine = machine._replace(busy_us=machine.busy_us + _used_us(now))
    present = {usage.run for usage in now.usage}
    gone = [usage for usage in sample.usage if usage.run not in present]
    if len(gone) > MAX_ENDED:
        gone.sort(
            key=lambda u: u.memory_bytes if kind is DeviceKind.DRAM else u.cpu_us, reverse=True
        )
        machine = machine or NO_HOST_USAGE
        machine = machine._replace(busy_us=max(machine.busy_us, _used_us(sample)))
    stay = (usage for usage in sample.usage if usage.run in present)
    return sample._replace(usage=(*stay, *gone[:MAX_ENDED]), machine=machine)


def _used_us(sample: WorkloadSample) -> int:
    return sum(usage.cpu_us for usage in sample.usage)


def _busy_ratio(sample: WorkloadSample) -> float:
    """Fraction of CPU time in use; 1 if unknown.

    The runs' sum is a lower bound: the host's clocks are read slightly earlier and may be less.
    """
    machine = sample.machine
    if machine is None or machine.total_us <= 0:
        return 1.0
    return max(machine.busy_us, _used_us(sample)) / machine.total_us


def _exporter_energy_uj(active_uj: int, machine: HostUsage | None) -> int:
    """This daemon's part of the energy above idle, by CPU time."""
    if machine is None or not machine.exporter_us:
        return 0
    return active_uj * machine.exporter_us // max(machine.busy_us, machine.exporter_us)
