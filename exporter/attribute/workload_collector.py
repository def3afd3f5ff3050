"""Collects the workload: assigns processes, cgroups, registrations and environments to runs."""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from exporter.attribute.identity import RunClaim
from exporter.attribute.run_registry import RunRegistry
from exporter.attribute.sources.access_control import ContainerLookup
from exporter.attribute.sources.cgroups import RunCgroups
from exporter.attribute.sources.gpu_holdings import GpuGrants, GpuProcessHoldings, gpu_aliases
from exporter.attribute.sources.job_files import JobFiles
from exporter.attribute.sources.membership import RunMembership, ScheduledRuns
from exporter.attribute.sources.process_table import ProcessTable
from exporter.attribute.sources.slurm_jobs import SlurmJobs
from exporter.clock import Clock
from exporter.model.commands import EndRun, LogRun, StartRun
from exporter.model.cpu_clocks import parse_proc_stat
from exporter.model.ledger import HostCpuTime, RunCpuTime
from exporter.model.readings import NO_GPU_ACTIVITY, Device, DeviceInfo, GpuActivity
from exporter.model.runs import ProgressMark, RunInfo, RunKey
from exporter.model.workload import CollectorState, HostUsage, RunUsage, WorkloadSample
from exporter.privileges import missing_for_environments, read_capabilities
from exporter.units import (
    BYTES_PER_KIB,
    MICROSECONDS_PER_SECOND,
    NANOSECONDS_PER_MICROSECOND,
    NANOSECONDS_PER_SECOND,
)

if TYPE_CHECKING:
    from exporter.attribute.sources.kube.pod_runs import PodRuns

MEMORY_EVERY_NS = 10 * NANOSECONDS_PER_SECOND


class HostTotals:
    """CPU time and memory of the whole host. `before`: the clocks at a restart, if known."""

    def __init__(self, procfs: str, before: HostCpuTime | None) -> None:
        self._stat = os.path.join(procfs, "stat")
        self._meminfo = os.path.join(procfs, "meminfo")
        self._us_per_tick = MICROSECONDS_PER_SECOND // os.sysconf("SC_CLK_TCK")
        self._threads = 0
        self._before = before
        self._exporter_us = _exporter_cpu_us()
        self._memory = (0, 0)
        self._memory_at_ns: int | None = None

    @property
    def clocks(self) -> HostCpuTime | None:
        """CPU time since boot, at the last reading."""
        return self._before

    def collect(self, at_ns: int) -> HostUsage:
        """CPU time since the last call, and memory now. Raises OSError or ValueError."""
        now = self._read_clocks()
        is_partial = self._before is None
        before = self._before or now
        self._before = now
        if self._memory_at_ns is None or at_ns - self._memory_at_ns >= MEMORY_EVERY_NS:
            self._memory = self._read_memory()
            self._threads = os.cpu_count() or 0  # CPUs may be hotplugged
            self._memory_at_ns = at_ns
        # Idle time may step back, see proc_stat(5); the total is at least the busy time.
        busy_us = max(0, now.busy_us - before.busy_us)
        exporter_us = _exporter_cpu_us()
        used_us, self._exporter_us = exporter_us - self._exporter_us, exporter_us
        return HostUsage(
            busy_us,
            max(busy_us, now.total_us - before.total_us),
            *self._memory,
            used_us,
            self._threads,
            is_partial,
        )

    def _read_clocks(self) -> HostCpuTime:
        with open(self._stat, "rb", buffering=0) as file:
            return parse_proc_stat(file.read(4096), self._us_per_tick)

    def _read_memory(self) -> tuple[int, int]:
        """Bytes of anonymous and shared memory in use, and total bytes."""
        wanted = {b"MemTotal:": 0, b"AnonPages:": 0, b"Shmem:": 0}
        with open(self._meminfo, "rb", buffering=0) as file:
            for line in file.read(8192).split(b"\n"):
                name, _, rest = line.partition(b" ")
                if name in wanted:
                    wanted[name] = int(rest.split()[0]) * BYTES_PER_KIB
        return wanted[b"AnonPages:"] + wanted[b"Shmem:"], wanted[b"MemTotal:"]


def _exporter_cpu_us() -> int:
    """CPU time of this process so far, all threads."""
    return time.process_time_ns() // NANOSECONDS_PER_MICROSECOND


class LiveWorkloadCollector:
    """Collects the workload of this host from /proc, cgroups and schedulers.

    `claim` is the run that the daemon itself was started for: it owns the whole machine. `run_cpu`
    is the CPU time of the runs' processes when the journal was last written, at `left_wall`.
    """

    def __init__(
        self,
        *,
        run_registry: RunRegistry,
        processes: ProcessTable,
        machine: HostTotals,
        procfs: str,
        clock: Clock,
        user_name: Callable[[int], str],
        claim: RunClaim | None,
        run_cpu: tuple[RunCpuTime, ...],
        left_wall: float = 0.0,
        jobs_directory: str = "",
        read_environments: bool = True,
        pods: "Callable[[RunCgroups], PodRuns] | None" = None,
    ) -> None:
        self._run_registry = run_registry
        self._processes = processes
        self._machine = machine
        self._procfs = procfs
        self._missing_capabilities = missing_for_environments(read_capabilities(procfs))
        self._clock = clock
        self._before = {seen.run: seen.cpu_us for seen in run_cpu}
        self._known_runs: frozenset[RunKey] | None = frozenset(self._before)
        """Runs from before a restart, until the first sample."""
        self._left_wall = left_wall
        self._cgroups = RunCgroups(procfs, run_registry)
        self._cgroups.restore_meters(run_registry.running(), self._before)
        jobs = SlurmJobs(
            procfs=procfs,
            allocations=JobFiles(jobs_directory),
            run_registry=run_registry,
            processes=processes,
            cgroup_runs=self._cgroups,
            clock=clock,
            user_name=user_name,
            read_environments=read_environments,
        )
        self._scheduled = ScheduledRuns(jobs, pods(self._cgroups) if pods is not None else None)
        self._membership = RunMembership(
            run_registry,
            processes,
            self._cgroups,
            ContainerLookup(procfs),
            self._scheduled,
            clock,
            user_name,
        )
        if claim:
            self._membership.own_machine(claim)
        self._grants = GpuGrants(run_registry.is_within)
        self._gpus = GpuProcessHoldings(processes, self._membership.run_of)
        self._memories: Mapping[RunKey, int] = {}
        self._states: tuple[CollectorState, ...] = ()

    def collect(
        self,
        activities: Mapping[Device, GpuActivity] = NO_GPU_ACTIVITY,
        infos: Iterable[DeviceInfo] = (),
    ) -> WorkloadSample:
        """Measure usage and holdings since the last call; end runs without processes.

        `activities` have the processes of each GPU, `infos` the indices of GPUs.
        """
        at_ns = self._clock.boottime_ns()
        started = time.perf_counter()
        error_message = ""
        used: dict[RunKey, int] = {}
        self._membership.fill_user_names()
        try:
            self._scheduled.collect()
            self._processes.refresh(self._membership.assign_run)
            self._scheduled.assign_processes()
            used = self._processes.count(self._cgroups.metered_runs())
        except OSError as error:
            error_message = (
                f"{error.filename or self._procfs}: {error.strerror}; check sample.procfs"
            )
        else:
            self._add_absence(used)
            self._cgroups.add_cpu_time(used)
            memory_by_run = self._processes.memory_by_run()
            self._cgroups.add_memory(memory_by_run)
            self._memories = memory_by_run
        seconds = time.perf_counter() - started
        machine, machine_error = self._collect_host(at_ns)
        holder = self._membership.machine_owner
        held_threads = self._scheduled.held_threads()
        usage = tuple(
            RunUsage(
                run.key,
                used.get(run.key, 0),
                self._memories.get(run.key, 0),
                held_threads.get(run.key, 0),
            )
            for run in self._run_registry.running()
            if run.key != holder
        )
        self._states = (
            CollectorState(
                "processes",
                not error_message,
                seconds,
                error_message or self._hidden_environments_note(),
            ),
            CollectorState("machine", not machine_error, 0.0, machine_error),
            *self._scheduled.states(),
        )
        # Before runs without processes are ended: their holdings last until now.
        used_gpus = self._gpus.collect(activities, at_ns)
        grants = self._scheduled.grants(gpu_aliases(infos, activities))
        holdings = self._grants.merge(used_gpus, grants, activities, at_ns)
        if not error_message:
            # Runs that are gone in the first sample ended when the journal was last written.
            self._membership.end_deserted(self._left_wall or self._clock.wall())
            self._before, self._left_wall = {}, 0.0
        gpus = self._gpus
        known_runs, self._known_runs = self._known_runs, None
        return WorkloadSample(
            at_ns,
            usage,
            machine,
            holder,
            holdings,
            gpus.run_of_pid,
            gpus.proxy_pids,
            known_runs,
        )

    def members(self) -> Mapping[RunKey, tuple[tuple[str, str], ...]]:
        """Pods and containers by run."""
        return self._scheduled.members()

    def states(self) -> tuple[CollectorState, ...]:
        """Collector states of the last sample."""
        return self._states

    def run_cpu(self) -> tuple[RunCpuTime, ...]:
        """CPU time of the open runs' processes so far, for the journal; in a stable order."""
        lifetimes = {**self._processes.lifetimes(), **self._cgroups.clocks_us()}
        return tuple(
            RunCpuTime(run.key, lifetimes.get(run.key, 0)) for run in self._run_registry.running()
        )

    def machine_cpu(self) -> HostCpuTime | None:
        """The host's CPU clocks in the last sample, for the journal."""
        return self._machine.clocks

    def start(self, command: StartRun) -> RunInfo:
        """Open a run for a process. Raises RequestRefused."""
        return self._membership.start(command)

    def log(self, command: LogRun, mark_of: Callable[[RunKey, float], ProgressMark]) -> RunInfo:
        """Add counts, results and progress to a run. Raises RequestRefused."""
        return self._membership.log(command, mark_of)

    def end(self, command: EndRun) -> RunInfo:
        """End a run. Raises RequestRefused."""
        return self._membership.end(command)

    def _add_absence(self, used: dict[RunKey, int]) -> None:
        """Add CPU time that runs used while no daemon ran: once, in the first sample.

        Time lost from the clocks of an inner run is contained in those of its enclosing run.
        """
        if not self._before:
            return
        lifetimes = self._processes.lifetimes()
        owed: dict[RunKey | None, int] = {}
        for run in self._run_registry.innermost_first():
            if run.key in self._before:
                lived_us = lifetimes.get(run.key, 0) - self._before[run.key] - owed.get(run.key, 0)
                used[run.key] = max(0, lived_us)
                owed[run.enclosing] = owed.get(run.enclosing, 0) + max(0, -lived_us)

    def _collect_host(self, at_ns: int) -> tuple[HostUsage | None, str]:
        try:
            return self._machine.collect(at_ns), ""
        except OSError as error:
            return None, f"{error.filename or self._procfs}: {error.strerror}"
        except ValueError as error:
            return None, f"{self._procfs}/stat: {error}"

    def _hidden_environments_note(self) -> str:
        """A note on environments that cannot be read, with the remedy; not a failure."""
        hidden_environments = self._processes.hidden_environments()
        if not hidden_environments:
            return ""
        remedy = (
            f"To read them, grant the daemon {' and '.join(self._missing_capabilities)}"
            if self._missing_capabilities
            else "The daemon has the required capabilities: the processes are in another user "
            "namespace, or a security module (AppArmor, SELinux) denies access"
        )
        return (
            f"no permission to read the environments of {hidden_environments} processes, so run "
            f"ids in them are not detected; registered runs are not affected. {remedy}"
        )
