"""Who runs on this machine: joins processes, cgroups, registrations and environments to runs."""

import os
import time
from collections.abc import Callable, Mapping

from exporter.attribute.identity import OTHER_ID, Claim, clean
from exporter.attribute.runbook import OTHER_RUN, Runbook
from exporter.attribute.sources import cgroups
from exporter.attribute.sources.machine import MachineTotals
from exporter.attribute.sources.processes import Process, ProcessTable
from exporter.clock import Clock
from exporter.errors import Refused, Unavailable
from exporter.model.books import MachineCpu, RunCpu
from exporter.model.commands import End, Start
from exporter.model.runs import RunInfo, RunKey
from exporter.model.workload import CollectorState, Machine, Sighting, Usage

MEMORY_EVERY_NS = 10_000_000_000
ROOT = 0


class LiveWitness:
    """Sees the machine's own processes.

    `claim` is a run that the daemon itself was started for: it owns the whole machine.
    `run_cpu` is what the runs' processes had used when the journal was last written.
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
    ) -> None:
        self._runbook = runbook
        self._processes = processes
        self._machine = machine
        self._procfs = procfs
        self._clock = clock
        self._user_name = user_name
        self._before = {seen.run: seen.cpu_us for seen in run_cpu}
        self._leads = {
            (run.lead_pid, run.lead_start): run.key
            for run in runbook.running()
            if run.origin == "registered"
        }
        self._cgroups = self._find_cgroups()
        self._memories: Mapping[RunKey, int] = {}
        self._memories_at_ns: int | None = None
        self._states: tuple[CollectorState, ...] = ()
        self._holder = self._hold(claim) if claim else None

    def look(self) -> Sighting:
        """Who used what since the last call; runs whose last process is gone are ended."""
        at_ns = self._clock.boottime_ns()
        started = time.perf_counter()
        why = ""
        used: dict[RunKey, int] = {}
        try:
            self._processes.refresh(self._adopt)
            used = self._processes.count()
        except OSError as error:
            why = f"{self._procfs}: {error.strerror}"
        took = time.perf_counter() - started
        self._add_absence(used)
        self._add_cgroups(used)
        self._refresh_memory(at_ns)
        machine, machine_why = self._look_at_machine(at_ns)
        usage = tuple(
            Usage(run.key, used.get(run.key, 0), self._memories.get(run.key, 0))
            for run in self._runbook.running()
            if run.key != self._holder
        )
        self._states = (
            CollectorState("processes", not why, took, why or self._secrets()),
            CollectorState("machine", not machine_why, 0.0, machine_why),
        )
        if not why:
            self._end_deserted()
        return Sighting(at_ns, usage, machine, self._holder)

    def states(self) -> tuple[CollectorState, ...]:
        """How the last look fared."""
        return self._states

    def run_cpu(self) -> tuple[RunCpu, ...]:
        """What the open runs' processes have used so far, for the journal."""
        lifetimes = self._processes.lifetimes()
        for key, meter in self._cgroups.items():
            lifetimes[key] = meter.last_us
        return tuple(RunCpu(key, cpu_us) for key, cpu_us in lifetimes.items())

    def machine_cpu(self) -> MachineCpu | None:
        """The machine's clocks at the last look, for the journal."""
        return self._machine.clocks

    def start(self, command: Start) -> RunInfo:
        """Open the run that a process asks for. Raises Refused."""
        process = self._processes.find(command.pid)
        if process is None:
            self._processes.refresh(self._adopt)
            process = self._processes.find(command.pid)
        if process is None:
            raise Refused(
                409,
                f"process {command.pid} is not in the daemon's {self._procfs}; let the daemon "
                "share the host's process namespace, or set EMISSIONS_RUN_ID for the job",
            )
        run_id = clean(command.run_id) or _made_id(self._clock.wall(), command.pid)
        if run_id == OTHER_ID:
            raise Refused(400, "run_id `other` is reserved for runs beyond the cap; choose another")
        meter = self._cgroup_of(process.pid) if command.scope == "cgroup" else None
        wanted = RunInfo(
            key=RunKey(command.uid, run_id, clean(command.job_id)),
            name=clean(command.name),
            user=command.user,
            origin="registered",
            started=self._clock.wall(),
            scope=command.scope,
            lead_pid=process.pid,
            lead_start=process.start,
            cgroup=meter.path if meter else "",
            labels=tuple(sorted((clean(k), clean(v)) for k, v in command.labels)),
            budget_grams=command.budget_grams,
        )
        around = process.run
        run = self._runbook.open(wanted, around)
        self._leads[process.pid, process.start] = run.key
        if meter is not None and run.key not in self._cgroups:
            self._cgroups[run.key] = meter
        self._give(process, around, run.key)
        return run

    def end(self, command: End) -> RunInfo:
        """Close a run. Raises Refused."""
        run_id = clean(command.run_id)
        run = self._runbook.find(command.uid, run_id, command.job_id)
        if run is None and command.uid == ROOT:
            run = self._runbook.find(None, run_id, command.job_id)
        if run is None:
            raise Refused(
                404,
                f"user {command.uid} has no open run {command.run_id!r}; "
                "`emissions-exporter runs` lists them",
            )
        if run.key == self._holder:
            raise Refused(409, "this run owns the machine until the daemon stops")
        return self._close(run, "ended")

    def _close(self, run: RunInfo, reason: str) -> RunInfo:
        around = self._runbook.enclosing(run.key)
        for process in self._processes.members().get(run.key, []):
            self._processes.own(process, around)
        self._leads = {lead: key for lead, key in self._leads.items() if key != run.key}
        self._cgroups.pop(run.key, None)
        return self._runbook.close(run.key, self._clock.wall(), reason)

    def _hold(self, claim: Claim) -> RunKey:
        uid = os.geteuid()
        return self._runbook.open(self._info(uid, claim, "machine", scope="machine")).key

    def _adopt(self, process: Process, parent: Process | None) -> RunKey | None:
        """The run of a new or changed process: as a lead, by its own claim, or its parent's."""
        lead = self._leads.get((process.pid, process.start))
        if self._runbook.is_open(lead):
            return lead
        around = parent.run if parent and self._runbook.is_open(parent.run) else None
        claim = process.claim
        if claim is None or (parent is not None and claim == parent.claim):
            return around
        if around is not None and _same(around, claim):
            return around
        if process.uid < 0:
            return around
        known = self._runbook.find(process.uid, claim.run_id, claim.job_id or None)
        if known is not None:
            return known.key
        wanted = self._info(process.uid, claim, "environment")
        wanted = wanted._replace(lead_pid=process.pid, lead_start=process.start)
        return self._runbook.open(wanted, around).key

    def _info(self, uid: int, claim: Claim, origin: str, scope: str = "tree") -> RunInfo:
        return RunInfo(
            key=RunKey(uid, claim.run_id, claim.job_id),
            name=claim.name,
            user=self._user_name(uid),
            origin=origin,
            started=self._clock.wall(),
            scope=scope,
            labels=claim.labels,
        )

    def _give(self, lead: Process, around: RunKey | None, run: RunKey) -> None:
        """Give the lead and its descendants to the run, but for those of runs inside it."""
        tree = {lead.pid}
        self._processes.own(lead, run)
        for process in list(self._processes.all()):
            if process.ppid in tree and process.run == around:
                tree.add(process.pid)
                self._processes.own(process, run)

    def _end_deserted(self) -> None:
        """End the runs that have no process left."""
        members = self._processes.members()
        for run in self._runbook.running():
            meter = self._cgroups.get(run.key)
            alive = run.key in members or (meter is not None and not meter.empty())
            if not alive and run.key not in (self._holder, OTHER_RUN):
                self._close(run, "exited")

    def _add_absence(self, used: dict[RunKey, int]) -> None:
        """Add what runs provably used while no daemon looked: once, at the first look."""
        if not self._before:
            return
        lifetimes = self._processes.lifetimes()
        for run, before_us in self._before.items():
            if run in lifetimes:
                used[run] = used.get(run, 0) + max(0, lifetimes[run] - before_us)
        self._before = {}

    def _add_cgroups(self, used: dict[RunKey, int]) -> None:
        """Take the cgroup's clock for runs that own one, less what runs inside it used."""
        for key, meter in self._cgroups.items():
            inner = sum(us for run, us in used.items() if self._runbook.enclosing(run) == key)
            used[key] = max(0, meter.advance_us() - inner)

    def _refresh_memory(self, at_ns: int) -> None:
        """Look at memory now and then, and as soon as there is a new run."""
        last = self._memories_at_ns
        known = all(run.key in self._memories for run in self._runbook.running())
        if known and last is not None and at_ns - last < MEMORY_EVERY_NS:
            return
        memories = {run.key: 0 for run in self._runbook.running()}
        memories.update(self._processes.memories())
        memories.update({key: meter.memory_bytes() for key, meter in self._cgroups.items()})
        self._memories, self._memories_at_ns = memories, at_ns

    def _look_at_machine(self, at_ns: int) -> tuple[Machine | None, str]:
        try:
            return self._machine.look(at_ns), ""
        except OSError as error:
            return None, f"{self._procfs}/stat: {error.strerror}"

    def _secrets(self) -> str:
        """What cannot be known for lack of privilege, with the remedy; no failure."""
        secrets = self._processes.secrets()
        if not secrets:
            return ""
        return (
            f"the environments of {secrets} processes may not be read, so a run id in them is not "
            "seen; runs that register are. To read them give the daemon CAP_SYS_PTRACE and "
            "CAP_DAC_READ_SEARCH"
        )

    def _cgroup_of(self, pid: int) -> cgroups.CgroupMeter:
        try:
            at = cgroups.paths(self._procfs, pid)
            return cgroups.CgroupMeter(cgroups.mounts(self._procfs), at)
        except (OSError, Unavailable) as error:
            raise Refused(409, f"scope cgroup is not possible: {error}") from None

    def _find_cgroups(self) -> dict[RunKey, cgroups.CgroupMeter]:
        """Meters of the cgroup runs that were open before a restart and are still there."""
        found = {}
        for run in self._runbook.running():
            if run.scope != "cgroup":
                continue
            try:
                meter = self._cgroup_of(run.lead_pid)
            except Refused:
                continue
            if meter.path == run.cgroup:
                meter.last_us = self._before.pop(run.key, meter.last_us)
                found[run.key] = meter
        return found


def _same(run: RunKey, claim: Claim) -> bool:
    """Whether a claim names the run that its process is in already."""
    return claim.run_id == run.run_id and claim.job_id in ("", run.job_id)


def _made_id(wall: float, pid: int) -> str:
    """An id for a run that was given none: its time and its lead process."""
    return time.strftime("%Y%m%d-%H%M%S", time.gmtime(wall)) + f"-{pid}"
