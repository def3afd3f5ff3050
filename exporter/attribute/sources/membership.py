"""Assigns processes to runs: by registration, environment, parent process or cgroup."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, count
from typing import TYPE_CHECKING

from exporter.attribute.identity import OTHER_RUN_ID, RunClaim, sanitize, sanitize_run
from exporter.attribute.run_registry import (
    ENDED,
    EXITED,
    OTHER_RUN,
    RunRegistry,
    is_other_scheduler,
)
from exporter.attribute.sources.access_control import AccessControl, ContainerLookup
from exporter.attribute.sources.cgroups import RunCgroups
from exporter.attribute.sources.gpu_holdings import GpuGrant
from exporter.attribute.sources.process_table import ProcessTable
from exporter.attribute.sources.procfs import Process
from exporter.attribute.sources.slurm_jobs import SlurmJobs
from exporter.clock import Clock
from exporter.errors import RequestRefused
from exporter.model.commands import EndRun, LogRun, StartRun
from exporter.model.runs import REGISTERED, ProgressMark, RunInfo, RunKey
from exporter.model.workload import CollectorState

if TYPE_CHECKING:
    from exporter.attribute.sources.kube.pod_runs import PodRuns


class ScheduledRuns:
    """Runs of the schedulers on this node: Slurm jobs and Kubernetes pods."""

    def __init__(self, jobs: SlurmJobs, pods: "PodRuns | None") -> None:
        self._jobs = jobs
        self._pods = pods
        self._sources: Sequence[SlurmJobs | PodRuns] = (jobs,) if pods is None else (jobs, pods)

    def collect(self) -> None:
        """Open the runs of new jobs and pods; call it before the process table refresh."""
        for source in self._sources:
            source.collect()

    def assign_processes(self) -> None:
        """Assign processes that are counted individually; call it after the refresh."""
        for source in self._sources:
            source.assign_processes()

    def run_of_new_process(self, pid: int) -> RunKey | None:
        """The run of a new process, if its processes are counted individually."""
        return next(
            filter(None, (source.run_of_new_process(pid) for source in self._sources)), None
        )

    def run_of(self, pid: int) -> RunKey | None:
        """The job or pod that contains a process, by its cgroup."""
        return next(filter(None, (source.run_of(pid) for source in self._sources)), None)

    def is_active(self, key: RunKey) -> bool:
        """Whether the run is a job that has not ended, or has a pod that has not."""
        return self._jobs.is_active(key) or (self._pods is not None and self._pods.is_active(key))

    def grants(self, names: Mapping[str, str]) -> Iterator[GpuGrant]:
        """GPUs allocated by the schedulers; `names` maps other names of GPUs to UUIDs."""
        yield from self._jobs.grants(names)
        if self._pods is not None:
            yield from self._pods.grants(names)

    def held_threads(self) -> Mapping[RunKey, int]:
        """Exclusive hardware threads by run."""
        return self._pods.held_threads() if self._pods is not None else {}

    def members(self) -> Mapping[RunKey, tuple[tuple[str, str], ...]]:
        """Pods and containers by run."""
        return self._pods.members() if self._pods is not None else {}

    def states(self) -> tuple[CollectorState, ...]:
        """States of the collectors."""
        pods = self._pods.states() if self._pods is not None else ()
        return (*self._jobs.states(), *pods)


class RunMembership:
    """Opens and ends runs, and assigns processes to them.

    A process that registers a run is its lead. If several processes registered the same run, only
    the first lead is restored after a restart, and the run then ends with it.
    """

    def __init__(
        self,
        run_registry: RunRegistry,
        processes: ProcessTable,
        cgroup_runs: RunCgroups,
        containers: ContainerLookup,
        scheduled: ScheduledRuns,
        clock: Clock,
        user_name: Callable[[int], str],
    ) -> None:
        self._run_registry = run_registry
        self._processes = processes
        self._cgroup_runs = cgroup_runs
        self._clock = clock
        self._user_name = user_name
        self._own: RunKey | None = None
        self._access = AccessControl(run_registry, processes, containers, clock)
        self._scheduled = scheduled
        self._returning = _registered_leads(run_registry)

    def own_machine(self, claim: RunClaim) -> RunKey:
        """Open the run that the daemon was started for, which owns the machine until it stops."""
        info = self._info(os.geteuid(), claim, "machine")._replace(scope="machine")
        self._own = self._run_registry.open(info).key
        return self._own

    @property
    def machine_owner(self) -> RunKey | None:
        """The run that is charged for all energy of no other run, or None."""
        if self._own is not None:
            return self._own
        scopes = (run.key for run in self._run_registry.running() if run.scope == "machine")
        return next(scopes, None)

    def assign_run(self, process: Process, parent: Process | None) -> RunKey | None:
        """The run of a new or changed process: as its lead, by its own claim, or its parent's."""
        process.registered_runs = process.registered_runs or self._returning.pop(
            (process.pid, process.start), ()
        )
        for lead in reversed(process.registered_runs):
            if self._run_registry.is_open(lead):
                return lead
        around = parent.run if parent and self._run_registry.is_open(parent.run) else None
        claim = process.claim
        if claim is None or process.uid < 0 or (parent is not None and claim == parent.claim):
            return around or self._scheduled.run_of_new_process(process.pid)
        around = around or self._scheduled.run_of(process.pid)
        if around is not None and (_claims_run(around, claim) or self._is_job(around, claim)):
            # The claim may have the job's name and account, which the cgroup does not.
            self._run_registry.open(
                self._info(around.uid, claim, claim.origin)._replace(key=around)
            )
            return around
        return self._claimed(process, claim, around or self._cgroup_runs.run_of(process.pid))

    def start(self, command: StartRun) -> RunInfo:
        """Open a run for a process. Raises RequestRefused."""
        process = self._processes.find(command.pid) or self._find_new_process(command.pid)
        described = command.run
        uid, run_id, job_id = described.key
        run_id = sanitize(run_id) or self._new_id(command.pid)
        if run_id == OTHER_RUN_ID:
            raise RequestRefused(
                400, "run_id `other` is reserved for runs beyond max_runs; choose another"
            )
        self._access.check_scope(command, self.machine_owner)
        meter = self._cgroup_runs.meter(process.pid) if described.scope == "cgroup" else None
        wanted = sanitize_run(described)._replace(
            key=RunKey(uid, run_id, sanitize(job_id)),
            user=described.user or self._user_name(uid),
            started=self._clock.wall(),
            lead_pid=process.pid,
            lead_start=process.start,
            cgroup=meter.path if meter else "",
        )
        self._access.check_container(wanted.key, process)
        around = self.run_of(process)
        run = self._run_registry.open(wanted, around)
        if run.key not in process.registered_runs:
            process.registered_runs += (run.key,)
        if meter is not None and run.cgroup == meter.path:
            self._cgroup_runs.add(run.key, meter)
        self._assign_tree(process, process.run, run.key)
        return run

    def _new_id(self, pid: int) -> str:
        """Generate an id that no published run has."""
        made = _generated_id(self._clock.wall(), pid)
        taken = {run.key.run_id for run in self._run_registry.visible()}
        others = (f"{made}-{number}" for number in count(2))
        return next(each for each in chain([made], others) if each not in taken)

    def log(self, command: LogRun, mark_of: Callable[[RunKey, float], ProgressMark]) -> RunInfo:
        """Add counts, results and progress to a run. Raises RequestRefused.

        `mark_of` returns a progress mark with the run's energy so far.
        """
        process = self._processes.find(command.pid)
        run = self._access.authorized_run(
            command, process.registered_runs if process is not None else ()
        )
        sanitized = command._replace(
            values=tuple(
                (sanitize(name), sanitize(value) if isinstance(value, str) else value)
                for name, value in command.values
            ),
            counts=tuple((sanitize(name), amount) for name, amount in command.counts),
        )
        return self._run_registry.log_results(
            sanitized, run.key, mark_of(run.key, command.done or 0.0)
        )

    def end(self, command: EndRun) -> RunInfo:
        """End a run, or remove the caller from a run with other leads. Raises RequestRefused."""
        process = self._processes.find(command.pid)
        registered_runs = process.registered_runs if process is not None else ()
        run = self._access.authorized_run(command, registered_runs)
        if run.key == self._own:
            raise RequestRefused(409, "this run owns the machine until the daemon stops")
        if process is not None and run.key in registered_runs:
            process.registered_runs = tuple(key for key in registered_runs if key != run.key)
            if run.key == OTHER_RUN or any(
                run.key in p.registered_runs for p in self._processes.all()
            ):
                self._assign_tree(process, run.key, self._outside(process, run))
                return run
        return self._close(run, self._clock.wall(), ENDED)

    def run_of(self, process: Process) -> RunKey | None:
        """The innermost run that contains a process, by its parents or its cgroup."""
        around = self._cgroup_runs.run_of(process.pid) or self._scheduled.run_of(process.pid)
        if around is None or process.run is None:
            return process.run or around
        return next(
            run.key
            for run in self._run_registry.innermost_first()
            if run.key in (process.run, around)
        )

    def fill_user_names(self) -> None:
        """Set the users of runs that were opened before the names were known."""
        self._run_registry.fill_user_names(self._user_name)

    def end_deserted(self, wall: float) -> None:
        """End the runs without a process: no lead, and none in an inner run."""
        owned = self._processes.owned()
        alive = {process.run for process in owned}
        alive.update(key for process in owned for key in process.registered_runs)
        for run in self._run_registry.innermost_first():
            if (
                run.key in alive
                or self._scheduled.is_active(run.key)
                or self._cgroup_runs.has_processes(run.key)
            ):
                alive.add(run.enclosing)
            elif run.key not in (self._own, OTHER_RUN):
                self._close(run, max(run.started, wall), EXITED)

    def _claimed(self, process: Process, claim: RunClaim, around: RunKey | None) -> RunKey | None:
        """The run that a process claims; if it does not exist, opened inside `around`."""
        known = self._run_registry.find(process.uid, claim.run_id, claim.job_id or None)
        if known is not None and not is_other_scheduler(known, claim.origin):
            return known.key
        if self._outlived(process, claim):
            return around
        wanted = self._info(process.uid, claim, claim.origin)
        wanted = wanted._replace(lead_pid=process.pid, lead_start=process.start)
        return self._run_registry.open(wanted, around).key

    def _is_job(self, around: RunKey, claim: RunClaim) -> bool:
        """Whether a claim of another id refers to the enclosing job; the cgroup is authoritative.

        Slurm sets the id of the first component in the steps of all components of a heterogeneous
        job, and a job with a SLUID as cgroup name may have only that as id.
        """
        run = self._run_registry.get(around)
        return run.scope == "cgroup" and not run.lead_pid and run.origin == claim.origin

    def _outlived(self, process: Process, claim: RunClaim) -> bool:
        """Whether the claimed run was ended explicitly after the process had started."""
        ended = self._run_registry.ended_at(process.uid, claim.run_id, claim.job_id or None)
        if ended is None:
            return False
        age = self._processes.age_seconds(process, self._clock.boottime_ns())
        return self._clock.wall() - age <= ended

    def _info(self, uid: int, claim: RunClaim, origin: str) -> RunInfo:
        return RunInfo(
            key=RunKey(uid, claim.run_id, claim.job_id),
            name=claim.name,
            user=self._user_name(uid),
            origin=origin,
            started=self._clock.wall(),
            labels=claim.labels,
            account=claim.account,
        )

    def _find_new_process(self, pid: int) -> Process:
        """A process that started after the last refresh. Raises RequestRefused."""
        try:
            self._processes.refresh(self.assign_run)
        except OSError as error:
            raise RequestRefused(
                503, f"the processes cannot be listed: {error}; try again"
            ) from None
        process = self._processes.find(pid)
        if process is None:
            raise RequestRefused(
                409,
                f"process {pid} is not visible to the daemon; run the daemon in the host's process "
                "namespace, or set EMISSIONS_RUN_ID for the job",
            )
        return process

    def _outside(self, process: Process, run: RunInfo) -> RunKey | None:
        """The run of a lead that leaves its run: another run that it leads, or an enclosing one."""
        parent = self._processes.parent(process)
        for key in (
            *reversed(process.registered_runs),
            parent.run if parent else None,
            run.enclosing,
        ):
            if self._run_registry.is_open(key):
                return key
        return None

    def _close(self, run: RunInfo, wall: float, reason: str) -> RunInfo:
        around = run.enclosing if self._run_registry.is_open(run.enclosing) else None
        self._processes.assign([p for p in self._processes.owned() if p.run == run.key], around)
        for process in self._processes.all():
            if run.key in process.registered_runs:
                process.registered_runs = tuple(
                    key for key in process.registered_runs if key != run.key
                )
        self._cgroup_runs.remove(run.key)
        return self._run_registry.close(run.key, wall, reason)

    def _assign_tree(self, lead: Process, before: RunKey | None, run: RunKey | None) -> None:
        """Assign the lead and its descendants to `run`, if they were in `before`.

        Other leads of `before` stay in it, with their descendants.
        """
        tree = [lead] if lead.run == before else []
        known = set(tree)
        for process in self._processes.all():
            stays = process.run != before or before in process.registered_runs
            if not stays and self._processes.parent(process) in known:
                known.add(process)
                tree.append(process)
        self._processes.assign(tree, run)


def _registered_leads(run_registry: RunRegistry) -> dict[tuple[int, int], tuple[RunKey, ...]]:
    """The runs that processes had registered before a restart, by pid and start time."""
    registered_runs: dict[tuple[int, int], tuple[RunKey, ...]] = {}
    for run in reversed(run_registry.innermost_first()):
        if run.origin == REGISTERED:
            lead = run.lead_pid, run.lead_start
            registered_runs[lead] = (*registered_runs.get(lead, ()), run.key)
    return registered_runs


def _claims_run(run: RunKey, claim: RunClaim) -> bool:
    """Whether a claim names the run that already contains its process."""
    return claim.run_id == run.run_id and claim.job_id in ("", run.job_id)


def _generated_id(wall: float, pid: int) -> str:
    """An id made from the time and the pid of the lead process."""
    return time.strftime("%Y%m%d-%H%M%S", time.gmtime(wall)) + f"-{pid}"
