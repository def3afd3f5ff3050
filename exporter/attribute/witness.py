"""Who runs on this machine: joins processes, cgroups, registrations and environments to runs."""

import time
from collections.abc import Callable, Iterable, Mapping

from exporter.attribute.identity import Claim
from exporter.attribute.runbook import Runbook
from exporter.attribute.sources.allocations import Allocations
from exporter.attribute.sources.cgroup_runs import CgroupRuns
from exporter.attribute.sources.containers import Containers
from exporter.attribute.sources.gpu_holders import GpuHolders
from exporter.attribute.sources.gpu_names import names_of
from exporter.attribute.sources.grants import Grants
from exporter.attribute.sources.jobs import Jobs
from exporter.attribute.sources.kube.pods import Pods
from exporter.attribute.sources.machine import MachineTotals
from exporter.attribute.sources.membership import Membership
from exporter.attribute.sources.processes import ProcessTable
from exporter.attribute.sources.scheduled import Scheduled
from exporter.clock import Clock
from exporter.model.books import MachineCpu, RunCpu
from exporter.model.commands import End, Log, Start
from exporter.model.readings import NO_OCCUPANCIES, Device, DeviceInfo, Occupancy
from exporter.model.runs import Mark, RunInfo, RunKey
from exporter.model.workload import CollectorState, Machine, Sighting, Usage
from exporter.privileges import lacking_for_environments, read_capabilities


class LiveWitness:
    """Sees the machine's own processes.

    `claim` is a run that the daemon itself was started for: it owns the whole machine. `run_cpu`
    is what the runs' processes had used when the journal was last written, at `left_wall`.
    """

    def __init__(
        self,
        *,
        runbook: Runbook,
        processes: ProcessTable,
        machine: MachineTotals,
        procfs: str,
        clock: Clock,
        user_name: Callable[[int], str],
        claim: Claim | None,
        run_cpu: tuple[RunCpu, ...],
        left_wall: float = 0.0,
        jobs_directory: str = "",
        read_environments: bool = True,
        pods: Callable[[CgroupRuns], Pods] | None = None,
    ) -> None:
        self._runbook = runbook
        self._processes = processes
        self._machine = machine
        self._procfs = procfs
        self._lacking = lacking_for_environments(read_capabilities(procfs))
        self._clock = clock
        self._before = {seen.run: seen.cpu_us for seen in run_cpu}
        self._left_wall = left_wall
        self._cgroups = CgroupRuns(procfs, runbook)
        self._cgroups.find_again(runbook.running(), self._before)
        jobs = Jobs(
            procfs=procfs,
            allocations=Allocations(jobs_directory),
            runbook=runbook,
            processes=processes,
            cgroup_runs=self._cgroups,
            clock=clock,
            user_name=user_name,
            read_environments=read_environments,
        )
        self._scheduled = Scheduled(jobs, pods(self._cgroups) if pods is not None else None)
        self._membership = Membership(
            runbook, processes, self._cgroups, Containers(procfs), self._scheduled, clock, user_name
        )
        if claim:
            self._membership.hold(claim)
        self._grants = Grants(runbook.is_in)
        self._gpus = GpuHolders(processes, self._membership.run_of)
        self._memories: Mapping[RunKey, int] = {}
        self._states: tuple[CollectorState, ...] = ()

    def look(
        self,
        occupancies: Mapping[Device, Occupancy] = NO_OCCUPANCIES,
        infos: Iterable[DeviceInfo] = (),
    ) -> Sighting:
        """Who used what since the last call; runs whose last process is gone are ended.

        `occupancies` say which process is on which GPU, `infos` which GPU has which index.
        """
        at_ns = self._clock.boottime_ns()
        started = time.perf_counter()
        why = ""
        used: dict[RunKey, int] = {}
        self._membership.name_users()
        try:
            self._scheduled.look()
            self._processes.refresh(self._membership.adopt)
            self._scheduled.claim_processes()
            used = self._processes.count()
        except OSError as error:
            why = f"{error.filename or self._procfs}: {error.strerror}; check sample.procfs"
        else:
            self._add_absence(used)
            self._cgroups.charge(used)
            memories = self._processes.memories()
            self._cgroups.hold(memories)
            self._memories = memories
        took = time.perf_counter() - started
        machine, machine_why = self._look_at_machine(at_ns)
        holder = self._membership.holder
        held_threads = self._scheduled.held_threads()
        usage = tuple(
            Usage(
                run.key,
                used.get(run.key, 0),
                self._memories.get(run.key, 0),
                held_threads.get(run.key, 0),
            )
            for run in self._runbook.running()
            if run.key != holder
        )
        self._states = (
            CollectorState("processes", not why, took, why or self._secrets()),
            CollectorState("machine", not machine_why, 0.0, machine_why),
            *self._scheduled.states(),
        )
        # Before runs without processes are ended: until now they held what they held.
        used_gpus = self._gpus.look(occupancies, at_ns)
        grants = self._scheduled.grants(names_of(infos, occupancies))
        holdings = self._grants.merge(used_gpus, grants, occupancies, at_ns)
        if not why:
            # What is gone at the first look was last seen when the journal was last written.
            self._membership.end_deserted(self._left_wall or self._clock.wall())
            self._before, self._left_wall = {}, 0.0
        gpus = self._gpus
        return Sighting(at_ns, usage, machine, holder, holdings, gpus.owners, gpus.servers)

    def members(self) -> Mapping[RunKey, tuple[tuple[str, str], ...]]:
        """Pods and containers of each run that has some."""
        return self._scheduled.members()

    def states(self) -> tuple[CollectorState, ...]:
        """How the last look fared."""
        return self._states

    def run_cpu(self) -> tuple[RunCpu, ...]:
        """What the open runs' processes have used so far, for the journal; always in one order."""
        lifetimes = {**self._processes.lifetimes(), **self._cgroups.clocks_us()}
        return tuple(RunCpu(run.key, lifetimes.get(run.key, 0)) for run in self._runbook.running())

    def machine_cpu(self) -> MachineCpu | None:
        """The machine's clocks at the last look, for the journal."""
        return self._machine.clocks

    def start(self, command: Start) -> RunInfo:
        """Open the run that a process asks for. Raises Refused."""
        return self._membership.start(command)

    def log(self, command: Log, mark_of: Callable[[RunKey, float], Mark]) -> RunInfo:
        """Add to what a run says of itself. Raises Refused."""
        return self._membership.log(command, mark_of)

    def end(self, command: End) -> RunInfo:
        """Close a run. Raises Refused."""
        return self._membership.end(command)

    def _add_absence(self, used: dict[RunKey, int]) -> None:
        """Put in what runs provably used while no daemon looked: once, at the first look.

        What an inner run's clocks have lost is inside those of the run around it.
        """
        if not self._before:
            return
        lifetimes = self._processes.lifetimes()
        owed: dict[RunKey | None, int] = {}
        for run in self._runbook.innermost_first():
            if run.key in self._before:
                lived_us = lifetimes.get(run.key, 0) - self._before[run.key] - owed.get(run.key, 0)
                used[run.key] = max(0, lived_us)
                owed[run.enclosing] = owed.get(run.enclosing, 0) + max(0, -lived_us)

    def _look_at_machine(self, at_ns: int) -> tuple[Machine | None, str]:
        try:
            return self._machine.look(at_ns), ""
        except OSError as error:
            return None, f"{error.filename or self._procfs}: {error.strerror}"
        except ValueError as error:
            return None, f"{self._procfs}/stat: {error}"

    def _secrets(self) -> str:
        """What cannot be known for lack of privilege, with the remedy; no failure."""
        secrets = self._processes.secrets()
        if not secrets:
            return ""
        remedy = (
            f"To read them give the daemon {' and '.join(self._lacking)}"
            if self._lacking
            else "The daemon has the capabilities for it: the processes are in another user "
            "namespace, or a security module (AppArmor, SELinux) denies it"
        )
        return (
            f"the environments of {secrets} processes may not be read, so a run id in them is not "
            f"seen; runs that register are. {remedy}"
        )
