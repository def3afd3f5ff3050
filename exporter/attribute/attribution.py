"""The attribute stage: from intervals and sightings to shares."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from exporter import units
from exporter.attribute.split import NO_HOST_USAGE, merge_samples, split_cpu, split_dram
from exporter.attribute.split_gpu import split_gpu
from exporter.model.readings import Device, DeviceKind, GpuActivity, Interval
from exporter.model.workload import NO_PROCESS_RUNS, EnergyShare, HostUsage, WorkloadSample
from exporter.units import NANOSECONDS_PER_SECOND

MAX_AGE_NS = 30 * NANOSECONDS_PER_SECOND
"""A look older than this says nothing of processes and activity any more."""


def combine_activity(device: Device, looks: Sequence[GpuActivity], at_ns: int) -> GpuActivity:
    """The looks at one device as one, as seen from `at_ns`; oldest first.

    Activity, coverage and utilization are means over those that are fresh. The layout is that of
    the last. Where no fresh one says who is there, the answer has a reason and no activity.
    """
    if not looks:
        return GpuActivity(device, 0, why="it was not looked at yet")
    last = looks[-1]
    fresh = [look for look in looks if not look.why and at_ns - look.at_ns <= MAX_AGE_NS]
    if not fresh:
        silent = tuple(part._replace(active=None) for part in last.partitions)
        why = last.why or "the last look at it is too long ago"
        return GpuActivity(device, last.at_ns, partitions=silent, slices=last.slices, why=why)
    if len(fresh) == 1:
        return fresh[0]._replace(partitions=last.partitions, slices=last.slices)
    return _mean_activity(last, fresh)


def is_gpu_idle(occupancy: GpuActivity) -> bool:
    """Whether it is known that no process has a context on the device."""
    return not (
        occupancy.why
        or occupancy.gpu_processes
        or occupancy.utilization
        or any(part.active for part in occupancy.partitions)
    )


def _mean_activity(last: GpuActivity, fresh: Sequence[GpuActivity]) -> GpuActivity:
    parts: dict[str, list[float]] = {}
    active: dict[tuple[int, str], float] = {}
    for look in fresh:
        for occupant in look.gpu_processes:
            key = occupant.pid, occupant.partition
            active[key] = active.get(key, 0.0) + occupant.active / len(fresh)
        for part in look.partitions:
            if part.active is not None:
                parts.setdefault(part.id, []).append(part.active)
    gpu_processes = {
        (seen.pid, seen.partition): seen for look in fresh for seen in look.gpu_processes
    }
    used = [look.utilization for look in fresh if look.utilization is not None]
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
        coverage=sum(look.coverage for look in fresh) / len(fresh),
        utilization=sum(used) / len(used) if used else None,
        why="",
    )


IDLE_CPU_RATIO = 0.05
LEARNING_NS = 60 * units.NANOSECONDS_PER_SECOND


class IdlePower(NamedTuple):
    """What is known of one device's floor. `watts` is None until the first quiet minute."""

    watts: float | None = None
    idle_ns: int = 0
    idle_uj: int = 0
    last_idle_ns: int = 0
    """Of a GPU: when it was last seen that nobody was on it."""
    unconfirmed_ns: int = 0
    unconfirmed_uj: int = 0
    """Since then, and not known to be quiet until the next look says the same."""


def learn_idle_power(
    floor: IdlePower, energy_uj: int, duration_ns: int, busy_share: float
) -> IdlePower:
    """The floor after one more interval.

    Intervals at 5 % busy or less are gathered; each full minute of them is the new floor.
    """
    if busy_share > IDLE_CPU_RATIO or duration_ns <= 0:
        return floor
    idle_ns = floor.idle_ns + duration_ns
    idle_uj = floor.idle_uj + energy_uj
    if idle_ns < LEARNING_NS:
        return IdlePower(floor.watts, idle_ns, idle_uj)
    return IdlePower(units.watts(idle_uj, idle_ns))


def idle_energy_uj(floor: IdlePower, energy_uj: int, duration_ns: int, busy_share: float) -> int:
    """The part of an interval's energy that the device would have drawn anyway.

    Until the floor is known: the part of CPU time that nobody used. Otherwise the first sleeping
    process on a quiet machine would be charged the whole package.
    """
    if floor.watts is None:
        return round(energy_uj * (1 - min(1.0, max(0.0, busy_share))))
    return min(energy_uj, units.energy_uj(floor.watts, duration_ns))


def learn_gpu_idle_power(
    floor: IdlePower, energy_uj: int, duration_ns: int, quiet_at_ns: int | None
) -> IdlePower:
    """The floor of a GPU after one more interval; None: a process may have a context on it.

    `quiet_at_ns` is when the look was that saw none. Quiet minutes are without a break here, and
    what was drawn after a look counts when the next one has seen nobody either.
    """
    if quiet_at_ns is None:
        return IdlePower(floor.watts)
    if quiet_at_ns != floor.last_idle_ns:
        learnt = learn_idle_power(floor, floor.unconfirmed_uj, floor.unconfirmed_ns, busy_share=0.0)
        floor = learnt._replace(last_idle_ns=quiet_at_ns, unconfirmed_ns=0, unconfirmed_uj=0)
    return floor._replace(
        unconfirmed_ns=floor.unconfirmed_ns + duration_ns,
        unconfirmed_uj=floor.unconfirmed_uj + energy_uj,
    )


def gpu_idle_energy_uj(
    floor: IdlePower, energy_uj: int, duration_ns: int, *, is_quiet: bool
) -> int | None:
    """The part of an interval's energy that a GPU draws with no process on it; None: not known.

    All of it where there is none.
    """
    if is_quiet:
        return energy_uj
    if floor.watts is None:
        return None
    return min(energy_uj, units.energy_uj(floor.watts, duration_ns))


MAX_ENDED_RUNS = 100
"""Runs that are gone, of which a device that cannot be read keeps what they used or held."""


class _PendingSamples(NamedTuple):
    """What was seen since a device's last interval."""

    workload: WorkloadSample
    activities: tuple[GpuActivity, ...]
    """At the device, oldest first; more than one only where it was not read meanwhile."""


class Attribution:
    """Splits each device's intervals by what was seen since ITS last interval.

    Keeps, per device, the sightings that no interval has used yet (a device whose counter could
    not be read is settled by all that ran meanwhile) and the idle floor. Of runs that are gone it
    keeps those that used or held most; the energy of the rest is `other`, or `unallocated`.
    """

    def __init__(self, floors: Mapping[Device, float]) -> None:
        self._floors = {device: IdlePower(watts) for device, watts in floors.items()}
        self._waiting: dict[Device, _PendingSamples] = {}
        self.exporter_uj = 0
        """CPU energy of this daemon since it began; counted in whatever party it runs as."""

    def shares(
        self,
        intervals: Sequence[Interval],
        devices: Iterable[Device],
        sighting: WorkloadSample,
        occupancies: Mapping[Device, GpuActivity],
    ) -> list[tuple[Interval, list[EnergyShare]]]:
        """Each interval with its shares; `devices` are all that are known, read or not.

        `occupancies` are those that the sighting was made with: a process that is newer than it
        would be taken for one of no run.
        """
        done = []
        settled = set()
        for interval in intervals:
            seen = self._seen(interval.device, sighting, occupancies)
            self._waiting.pop(interval.device, None)
            settled.add(interval.device)
            done.append((interval, self._split(interval, seen)))
        for device in devices:
            if device not in settled:
                now = _relevant_to(device, sighting)
                self._waiting[device] = _limit_pending(
                    self._seen(device, now, occupancies), now, device
                )
        return done

    def floors(self) -> dict[Device, float]:
        """The floors known so far, watts."""
        return {
            device: floor.watts for device, floor in self._floors.items() if floor.watts is not None
        }

    def _seen(
        self, device: Device, sighting: WorkloadSample, occupancies: Mapping[Device, GpuActivity]
    ) -> _PendingSamples:
        """What is waiting, and what is new."""
        look = occupancies.get(device)
        looks = () if look is None else (look,)
        waiting = self._waiting.get(device)
        if waiting is None:
            return _PendingSamples(sighting, looks)
        earlier = (
            old
            for old in waiting.activities
            if (look is None or old.at_ns != look.at_ns)
            and sighting.at_ns - old.at_ns <= MAX_AGE_NS
        )
        return _PendingSamples(merge_samples(waiting.workload, sighting), (*earlier, *looks))

    def _split(self, interval: Interval, seen: _PendingSamples) -> list[EnergyShare]:
        match interval.device.kind:
            case DeviceKind.GPU:
                return self._split_gpu(interval, seen)
            case DeviceKind.CPU:
                return self._split_cpu(interval, seen.workload)
            case DeviceKind.DRAM:
                return split_dram(interval.energy_uj, seen.workload, restart=interval.restart)

    def _split_cpu(self, interval: Interval, sighting: WorkloadSample) -> list[EnergyShare]:
        duration_ns = interval.t1_ns - interval.t0_ns
        busy = _busy_ratio(sighting)
        floor = self._floors.get(interval.device, IdlePower())
        idle = idle_energy_uj(floor, interval.energy_uj, duration_ns, busy)
        if not interval.restart:
            self._floors[interval.device] = learn_idle_power(
                floor, interval.energy_uj, duration_ns, busy
            )
        self.exporter_uj += _exporter_energy_uj(interval.energy_uj - idle, sighting.machine)
        return split_cpu(interval.energy_uj, idle, sighting, restart=interval.restart)

    def _split_gpu(self, interval: Interval, seen: _PendingSamples) -> list[EnergyShare]:
        duration_ns = interval.t1_ns - interval.t0_ns
        occupancy = combine_activity(interval.device, seen.activities, interval.t1_ns)
        quiet = is_gpu_idle(occupancy) and not interval.restart
        floor = self._floors.get(interval.device, IdlePower())
        idle = gpu_idle_energy_uj(floor, interval.energy_uj, duration_ns, is_quiet=quiet)
        self._floors[interval.device] = learn_gpu_idle_power(
            floor, interval.energy_uj, duration_ns, occupancy.at_ns if quiet else None
        )
        return split_gpu(interval, idle, seen.workload, occupancy)


def _relevant_to(device: Device, sighting: WorkloadSample) -> WorkloadSample:
    """What has to be kept of a sighting for one device, which may be away for long."""
    if device.kind is not DeviceKind.GPU:
        return sighting._replace(holdings=(), run_of_pid=NO_PROCESS_RUNS, proxy_pids=frozenset())
    holdings = tuple(row for row in sighting.holdings if row.device == device)
    return sighting._replace(usage=(), machine=None, holdings=holdings)


def _limit_pending(seen: _PendingSamples, now: WorkloadSample, device: Device) -> _PendingSamples:
    """What was seen, however long that takes, in a space that the present runs bound."""
    if device.kind is DeviceKind.GPU:
        return seen._replace(workload=_limit_holdings(seen, now))
    return seen._replace(workload=_limit_usage(seen.workload, now, device.kind))


def _limit_holdings(seen: _PendingSamples, now: WorkloadSample) -> WorkloadSample:
    """Without processes that no look shows, and the shortest of what is not held any more."""
    sighting = seen.workload
    pids = {occupant.pid for look in seen.activities for occupant in look.gpu_processes}
    held = set(now.holdings)
    gone = [row for row in sighting.holdings if row not in held]
    if len(gone) > MAX_ENDED_RUNS:
        gone.sort(key=lambda row: (row.until_ns or now.at_ns) - row.since_ns, reverse=True)
    return sighting._replace(
        holdings=(*gone[:MAX_ENDED_RUNS], *now.holdings),
        run_of_pid={pid: run for pid, run in sighting.run_of_pid.items() if pid in pids},
        proxy_pids=sighting.proxy_pids & pids,
    )


def _limit_usage(sighting: WorkloadSample, now: WorkloadSample, kind: DeviceKind) -> WorkloadSample:
    """Without those that used least of what is gone; the machine was busy all the same."""
    machine = sighting.machine
    if machine is not None and now.machine is None:  # its clocks do not have what runs used now
        machine = machine._replace(busy_us=machine.busy_us + _used_us(now))
    present = {usage.run for usage in now.usage}
    gone = [usage for usage in sighting.usage if usage.run not in present]
    if len(gone) > MAX_ENDED_RUNS:
        gone.sort(
            key=lambda u: u.memory_bytes if kind is DeviceKind.DRAM else u.cpu_us, reverse=True
        )
        machine = machine or NO_HOST_USAGE
        machine = machine._replace(busy_us=max(machine.busy_us, _used_us(sighting)))
    stay = (usage for usage in sighting.usage if usage.run in present)
    return sighting._replace(usage=(*stay, *gone[:MAX_ENDED_RUNS]), machine=machine)


def _used_us(sighting: WorkloadSample) -> int:
    return sum(usage.cpu_us for usage in sighting.usage)


def _busy_ratio(sighting: WorkloadSample) -> float:
    """Part of the CPU time that was used; all of it where that is not known.

    What the runs used was used, though the machine's clocks, read a moment before, say less.
    """
    machine = sighting.machine
    if machine is None or machine.total_us <= 0:
        return 1.0
    return max(machine.busy_us, _used_us(sighting)) / machine.total_us


def _exporter_energy_uj(active_uj: int, machine: HostUsage | None) -> int:
    """This daemon's part of the energy above the floor, by CPU time."""
    if machine is None or not machine.exporter_us:
        return 0
    return active_uj * machine.exporter_us // max(machine.busy_us, machine.exporter_us)
