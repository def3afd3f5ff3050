"""Splits one interval of CPU or DRAM energy between runs: pure, in exact integers."""

from collections.abc import Sequence

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
    energy_uj: int, idle_uj: int, sample: WorkloadSample, *, restart: bool
) -> list[EnergyShare]:
    """Split the energy of one CPU package.

    `idle_uj` of it is charged to the machine owner, else to the runs with exclusive hardware
    threads, by their number; the rest of it is `idle`. Active energy is split by CPU time, relative
    to the host's busy time (or the runs' sum, if larger); processes outside of runs are `other`.
    Shares of 0 are omitted; the sum is always `energy_uj`.

    Over a restart only runs that existed before it are charged. Without the host's CPU time, the
    use of runs cannot be compared with anything: all energy is `restart`.
    """
    machine = sample.machine or NO_HOST_USAGE
    if restart and (sample.machine is None or machine.is_partial):
        return _unattributed_shares(0, energy_uj, sample, restart)
    if restart:
        sample = _known_before(sample)
    users = [(usage.run, usage.cpu_us) for usage in sample.usage if usage.cpu_us]
    other_us = max(0, machine.busy_us - sum(used_us for _, used_us in users))
    if sample.machine is None and not users:
        other_us = 1
    held_uj = _held_thread_energy(idle_uj, machine, sample)
    idle_uj -= sum(held_uj.values())
    shares = _shares(
        energy_uj - idle_uj - sum(held_uj.values()),
        idle_uj,
        users,
        other_us,
        sample,
        SplitMethod.CPU_TIME,
        restart,
    )
    held = [
        EnergyShare(run, uj, SplitMethod.CPU_TIME, held_uj=uj) for run, uj in held_uj.items() if uj
    ]
    return [*shares, *held]


def _known_before(sample: WorkloadSample) -> WorkloadSample:
    """The sample without the usage of runs that began after the restart."""
    known = sample.known_runs
    if known is None:
        return sample
    return sample._replace(usage=tuple(usage for usage in sample.usage if usage.run in known))


def _held_thread_energy(
    idle_uj: int, machine: HostUsage, sample: WorkloadSample
) -> dict[RunKey, int]:
    """Idle energy of each run with exclusive hardware threads, uJ."""
    held = {usage.run: usage.held_threads for usage in sample.usage if usage.held_threads > 0}
    if not held or sample.machine_owner is not None:
        return {}
    free = max(0, machine.threads - sum(held.values()))
    return dict(zip(held, apportion(idle_uj, [*held.values(), free])[:-1], strict=True))


def split_dram(energy_uj: int, sample: WorkloadSample, *, restart: bool) -> list[EnergyShare]:
    """Split DRAM energy by anonymous and shared bytes in use; free memory is `idle`.

    Over a restart only runs that existed before it are charged.
    """
    machine = sample.machine or NO_HOST_USAGE
    if restart:
        sample = _known_before(sample)
    users = [(usage.run, usage.memory_bytes) for usage in sample.usage if usage.memory_bytes]
    held = sum(used_bytes for _, used_bytes in users)
    used = max(machine.memory_used_bytes, held)
    total = max(machine.memory_total_bytes, used)
    if not total:
        return _shares(energy_uj, 0, users, 1, sample, SplitMethod.MEMORY, restart)
    active_uj, idle_uj = apportion(energy_uj, [used, total - used])
    return _shares(active_uj, idle_uj, users, used - held, sample, SplitMethod.MEMORY, restart)


def split_rest(energy_uj: int, *, restart: bool) -> list[EnergyShare]:
    """Leave the rest of a node unattributed: nothing tells which run it was used for."""
    reason = UnattributedReason.RESTART if restart else UnattributedReason.OTHER
    return [EnergyShare(reason, energy_uj, SplitMethod.REST)] * bool(energy_uj)


def _shares(
    active_uj: int,
    idle_uj: int,
    users: Sequence[tuple[RunKey, int]],
    other: int,
    sample: WorkloadSample,
    split: SplitMethod,
    restart: bool,
) -> list[EnergyShare]:
    parts, other_uj = [], 0
    if other or users:
        *parts, other_uj = apportion(active_uj, [*[weight for _, weight in users], other])
    else:
        idle_uj += active_uj
    shares = [
        EnergyShare(run, part, split) for (run, _), part in zip(users, parts, strict=True) if part
    ]
    shares.extend(_unattributed_shares(idle_uj, other_uj, sample, restart))
    return shares


def _unattributed_shares(
    idle_uj: int, other_uj: int, sample: WorkloadSample, restart: bool
) -> list[EnergyShare]:
    """Energy of no run: charged to the machine owner, else unattributed with a reason."""
    if sample.machine_owner is not None:
        energy_uj = idle_uj + other_uj
        return [
            EnergyShare(sample.machine_owner, energy_uj, SplitMethod.EXCLUSIVE, held_uj=idle_uj)
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
    """Merge two consecutive samples.

    CPU time is added; memory is the last value seen. Holdings and proxies of both are kept, and
    the last run seen for a process applies.
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
        second.known_runs if first.known_runs is None else first.known_runs,
    )


def _merge_holdings(
    first: tuple[GpuHolding, ...], second: tuple[GpuHolding, ...]
) -> tuple[GpuHolding, ...]:
    """The holdings of both samples, each in its last state."""
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
        is_partial=first.is_partial or second.is_partial,
    )
