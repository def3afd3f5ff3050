"""Splitting one interval's energy over the parties: pure, exact in integers."""

from exporter.model.apportion import apportion
from exporter.model.runs import RunKey
from exporter.model.workload import (
    EnergyShare,
    GpuHolding,
    HostUsage,
    SplitMethod,
    UnattributedReason,
    WorkloadSample,
)

NO_HOST_USAGE = HostUsage(0, 0, 0, 0)


def split_cpu(
    energy_uj: int, idle_uj: int, sighting: WorkloadSample, *, restart: bool
) -> list[EnergyShare]:
    """Split a package's energy.

    `idle_uj` of it goes to whoever holds the machine, else to the runs that have hardware threads
    alone, by their number, and what nobody has to `idle`. The rest is split by CPU
    time over what the machine was busy (or the runs' sum, where that is more): the runs' parts are
    theirs, what else ran is `other`. Shares of 0 are left out; the sum is `energy_uj`, always.
    """
    machine = sighting.machine or NO_HOST_USAGE
    weights = [usage.cpu_us for usage in sighting.usage]
    other_us = max(0, machine.busy_us - sum(weights))
    if sighting.machine is None and not any(weights):
        other_us = 1
    held_uj = _held_thread_energy(idle_uj, machine, sighting)
    idle_uj -= sum(held_uj.values())
    shares = _shares(
        energy_uj - idle_uj - sum(held_uj.values()),
        idle_uj,
        weights,
        other_us,
        sighting,
        SplitMethod.CPU_TIME,
        restart,
    )
    held = [
        EnergyShare(run, uj, SplitMethod.CPU_TIME, held_uj=uj) for run, uj in held_uj.items() if uj
    ]
    return [*shares, *held]


def _held_thread_energy(
    idle_uj: int, machine: HostUsage, sighting: WorkloadSample
) -> dict[RunKey, int]:
    """What runs pay of an idle processor for the threads that they have alone."""
    held = {usage.run: usage.held_threads for usage in sighting.usage if usage.held_threads > 0}
    if not held or sighting.machine_owner is not None:
        return {}
    free = max(0, machine.threads - sum(held.values()))
    return dict(zip(held, apportion(idle_uj, [*held.values(), free])[:-1], strict=True))


def split_dram(energy_uj: int, sighting: WorkloadSample, *, restart: bool) -> list[EnergyShare]:
    """Split a memory's energy by anonymous and shared bytes held; free memory is `idle`."""
    machine = sighting.machine or NO_HOST_USAGE
    weights = [usage.memory_bytes for usage in sighting.usage]
    held = sum(weights)
    used = max(machine.memory_used_bytes, held)
    total = max(machine.memory_total_bytes, used)
    if not total:
        return _shares(energy_uj, 0, weights, 1, sighting, SplitMethod.MEMORY, restart)
    active_uj, idle_uj = apportion(energy_uj, [used, total - used])
    return _shares(active_uj, idle_uj, weights, used - held, sighting, SplitMethod.MEMORY, restart)


def _shares(
    active_uj: int,
    idle_uj: int,
    weights: list[int],
    other: int,
    sighting: WorkloadSample,
    split: SplitMethod,
    restart: bool,
) -> list[EnergyShare]:
    if other or any(weights):
        *parts, other_uj = apportion(active_uj, [*weights, other])
    else:
        parts, other_uj = [0] * len(weights), 0
        idle_uj += active_uj
    shares = [
        EnergyShare(usage.run, part, split)
        for usage, part in zip(sighting.usage, parts, strict=True)
        if part
    ]
    shares.extend(_unattributed_shares(idle_uj, other_uj, sighting, restart))
    return shares


def _unattributed_shares(
    idle_uj: int, other_uj: int, sighting: WorkloadSample, restart: bool
) -> list[EnergyShare]:
    """What no run used: the holder's, or unattributed with the reason."""
    if sighting.machine_owner is not None:
        energy_uj = idle_uj + other_uj
        return [
            EnergyShare(sighting.machine_owner, energy_uj, SplitMethod.EXCLUSIVE, held_uj=idle_uj)
        ] * bool(energy_uj)
    if restart:
        idle_uj, other_uj = 0, idle_uj + other_uj
    rest = [
        EnergyShare(UnattributedReason.IDLE, idle_uj, SplitMethod.REST),
        EnergyShare(
            UnattributedReason.RESTART if restart else UnattributedReason.OTHER,
            other_uj,
            SplitMethod.REST,
        ),
    ]
    return [share for share in rest if share.energy_uj]


def merge_samples(first: WorkloadSample, second: WorkloadSample) -> WorkloadSample:
    """Two looks as one.

    CPU time adds up, memory is the later one's, or the last that was seen. What was held at any
    time is there, so are all servers, and who a process belongs to is what was seen last.
    """
    usage = {row.run: row for row in first.usage}
    for row in second.usage:
        before = usage.get(row.run)
        cpu_us = row.cpu_us + (before.cpu_us if before else 0)
        usage[row.run] = row._replace(cpu_us=cpu_us)
    return WorkloadSample(
        second.at_ns,
        tuple(usage.values()),
        _merge_machine(first.machine, second.machine),
        second.machine_owner,
        _merge_holdings(first.holdings, second.holdings),
        {**first.run_of_pid, **second.run_of_pid} if first.run_of_pid else second.run_of_pid,
        first.proxy_pids | second.proxy_pids,
    )


def _merge_holdings(
    first: tuple[GpuHolding, ...], second: tuple[GpuHolding, ...]
) -> tuple[GpuHolding, ...]:
    """All that were held in either, as they were last seen."""
    if not first:
        return second
    by_place = {(*held[:3], held.since_ns): held for held in (*first, *second)}
    return tuple(by_place.values())


def _merge_machine(first: HostUsage | None, second: HostUsage | None) -> HostUsage | None:
    if first is None or second is None:
        return second or first
    return second._replace(
        busy_us=first.busy_us + second.busy_us,
        total_us=first.total_us + second.total_us,
        exporter_us=first.exporter_us + second.exporter_us,
    )
