"""Which process belongs to which run: by registration, by its environment, or by birth."""

import os
import time
from collections.abc import Callable
from itertools import chain, count

from exporter.attribute.identity import OTHER_ID, Claim, clean, clean_labels
from exporter.attribute.runbook import ENDED, EXITED, OTHER_RUN, Runbook, is_foreign
from exporter.attribute.sources.cgroup_runs import CgroupRuns
from exporter.attribute.sources.containers import Containers
from exporter.attribute.sources.processes import ProcessTable
from exporter.attribute.sources.procfs import Process
from exporter.attribute.sources.rights import Rights
from exporter.attribute.sources.scheduled import Scheduled
from exporter.clock import Clock
from exporter.errors import Refused
from exporter.model.commands import End, Log, Start
from exporter.model.runs import REGISTERED, Mark, RunInfo, RunKey


class Membership:
    """Opens and closes runs, and gives them their processes.

    A process that registers a run leads it. Of the leads of a run that several processes have
    registered, only the first is known again after a restart: its end is then that of the run.
    """

    def __init__(
        self,
        runbook: Runbook,
        processes: ProcessTable,
        cgroup_runs: CgroupRuns,
        containers: Containers,
        scheduled: Scheduled,
        clock: Clock,
        user_name: Callable[[int], str],
    ) -> None:
        self._runbook = runbook
        self._processes = processes
        self._cgroup_runs = cgroup_runs
        self._clock = clock
        self._user_name = user_name
        self._own: RunKey | None = None
        self._rights = Rights(runbook, processes, containers, clock)
        self._scheduled = scheduled
        self._returning = _leads(runbook)

    def hold(self, claim: Claim) -> RunKey:
        """Open the run that the daemon was started for; it owns the machine until the end."""
        info = self._info(os.geteuid(), claim, "machine")._replace(scope="machine")
        self._own = self._runbook.open(info).key
        return self._own

    @property
    def holder(self) -> RunKey | None:
        """The run that pays for what nobody else used; None: there is none."""
        if self._own is not None:
            return self._own
        scopes = (run.key for run in self._runbook.running() if run.scope == "machine")
        return next(scopes, None)

    def adopt(self, process: Process, parent: Process | None) -> RunKey | None:
        """The run of a new or changed process: as a lead, by its own claim, or its parent's."""
        process.leads = process.leads or self._returning.pop((process.pid, process.start), ())
        for lead in reversed(process.leads):
            if self._runbook.is_open(lead):
                return lead
        around = parent.run if parent and self._runbook.is_open(parent.run) else None
        claim = process.claim
        if claim is None or process.uid < 0 or (parent is not None and claim == parent.claim):
            return around or self._scheduled.adopts(process.pid)
        around = around or self._scheduled.run_of(process.pid)
        if around is not None and (_same(around, claim) or self._is_job(around, claim)):
            # It may know the job's name and account, which its cgroup does not.
            self._runbook.open(self._info(around.uid, claim, claim.origin)._replace(key=around))
            return around
        return self._claimed(process, claim, around or self._cgroup_runs.run_of(process.pid))

    def start(self, command: Start) -> RunInfo:
        """Open the run that a process asks for. Raises Refused."""
        process = self._processes.find(command.pid) or self._find_anew(command.pid)
        run_id = clean(command.run_id) or self._new_id(command.pid)
        if run_id == OTHER_ID:
            raise Refused(400, "run_id `other` is reserved for runs beyond the cap; choose another")
        self._rights.check_scope(command, self.holder)
        meter = self._cgroup_runs.meter(process.pid) if command.scope == "cgroup" else None
        wanted = RunInfo(
            key=RunKey(command.uid, run_id, clean(command.job_id)),
            name=clean(command.name),
            user=command.user or self._user_name(command.uid),
            origin=REGISTERED,
            started=self._clock.wall(),
            scope=command.scope,
            lead_pid=process.pid,
            lead_start=process.start,
            cgroup=meter.path if meter else "",
            labels=clean_labels(command.labels),
            budget_grams=command.budget_grams,
            nodes=command.nodes,
        )
        self._rights.check_place(wanted.key, process)
        around = self.run_of(process)
        run = self._runbook.open(wanted, around)
        if run.key not in process.leads:
            process.leads += (run.key,)
        if meter is not None and run.cgroup == meter.path:
            self._cgroup_runs.add(run.key, meter)
        self._give(process, process.run, run.key)
        return run

    def _new_id(self, pid: int) -> str:
        """An id for a run that was given none; no run on the page has it."""
        made = _made_id(self._clock.wall(), pid)
        taken = {run.key.run_id for run in self._runbook.shown()}
        others = (f"{made}-{number}" for number in count(2))
        return next(each for each in chain([made], others) if each not in taken)

    def log(self, command: Log, mark_of: Callable[[RunKey, float], Mark]) -> RunInfo:
        """Add to what a run says of itself; `mark_of` says what it has used. Raises Refused."""
        process = self._processes.find(command.pid)
        run = self._rights.run_asked_for(command, process.leads if process is not None else ())
        said = command._replace(
            values=tuple(
                (clean(name), clean(value) if isinstance(value, str) else value)
                for name, value in command.values
            ),
            counts=tuple((clean(name), amount) for name, amount in command.counts),
        )
        return self._runbook.note(said, run.key, mark_of(run.key, command.done or 0.0))

    def end(self, command: End) -> RunInfo:
        """Close a run, or where others lead it too, take the caller out of it. Raises Refused."""
        process = self._processes.find(command.pid)
        leads = process.leads if process is not None else ()
        run = self._rights.run_asked_for(command, leads)
        if run.key == self._own:
            raise Refused(409, "this run owns the machine until the daemon stops")
        if process is not None and run.key in leads:
            process.leads = tuple(key for key in leads if key != run.key)
            if run.key == OTHER_RUN or any(run.key in p.leads for p in self._processes.all()):
                self._give(process, run.key, self._outside(process, run))
                return run
        return self._close(run, self._clock.wall(), ENDED)

    def run_of(self, process: Process) -> RunKey | None:
        """The innermost run that a process is in, by birth or by its cgroup."""
        around = self._cgroup_runs.run_of(process.pid) or self._scheduled.run_of(process.pid)
        if around is None or process.run is None:
            return process.run or around
        return next(
            run.key for run in self._runbook.innermost_first() if run.key in (process.run, around)
        )

    def name_users(self) -> None:
        """Fill in the users of runs that came before their names were known."""
        self._runbook.name_users(self._user_name)

    def end_deserted(self, wall: float) -> None:
        """End the runs that have no process left: no lead, and none in the runs inside them."""
        owned = self._processes.owned()
        alive = {process.run for process in owned}
        alive.update(key for process in owned for key in process.leads)
        for run in self._runbook.innermost_first():
            is_here = self._scheduled.is_here(run.key)
            if run.key in alive or is_here or self._cgroup_runs.populated(run.key):
                alive.add(run.enclosing)
            elif run.key not in (self._own, OTHER_RUN):
                self._close(run, max(run.started, wall), EXITED)

    def _claimed(self, process: Process, claim: Claim, around: RunKey | None) -> RunKey | None:
        """The run that a process claims to be in, opened where there is none, inside `around`."""
        known = self._runbook.find(process.uid, claim.run_id, claim.job_id or None)
        if known is not None and not is_foreign(known, claim.origin):
            return known.key
        if self._outlived(process, claim):
            return around
        wanted = self._info(process.uid, claim, claim.origin)
        wanted = wanted._replace(lead_pid=process.pid, lead_start=process.start)
        return self._runbook.open(wanted, around).key

    def _is_job(self, around: RunKey, claim: Claim) -> bool:
        """Whether a claim names the job around it, as the scheduler tells it otherwise.

        Slurm tells the steps of a heterogeneous job's components the id of the first one, and one
        whose cgroup has a SLUID may be known by that alone. Where a process is, the kernel knows.
        """
        run = self._runbook.get(around)
        return run.scope == "cgroup" and not run.lead_pid and run.origin == claim.origin

    def _outlived(self, process: Process, claim: Claim) -> bool:
        """Whether somebody ended the run that it claims to be, and it has gone on since."""
        ended = self._runbook.ended_at(process.uid, claim.run_id, claim.job_id or None)
        if ended is None:
            return False
        age = self._processes.age_seconds(process, self._clock.boottime_ns())
        return self._clock.wall() - age <= ended

    def _info(self, uid: int, claim: Claim, origin: str) -> RunInfo:
        return RunInfo(
            key=RunKey(uid, claim.run_id, claim.job_id),
            name=claim.name,
            user=self._user_name(uid),
            origin=origin,
            started=self._clock.wall(),
            labels=claim.labels,
            account=claim.account,
        )

    def _find_anew(self, pid: int) -> Process:
        """A process that was not there at the last look. Raises Refused."""
        try:
            self._processes.refresh(self.adopt)
        except OSError as error:
            raise Refused(503, f"the processes cannot be listed now: {error}; try again") from None
        process = self._processes.find(pid)
        if process is None:
            raise Refused(
                409,
                f"the daemon sees no process {pid}; let it share the host's process namespace, or "
                "set EMISSIONS_RUN_ID for the job",
            )
        return process

    def _outside(self, process: Process, run: RunInfo) -> RunKey | None:
        """Where a lead goes that leaves its run: to what else it leads, or what is around it."""
        parent = self._processes.parent(process)
        for key in (*reversed(process.leads), parent.run if parent else None, run.enclosing):
            if self._runbook.is_open(key):
                return key
        return None

    def _close(self, run: RunInfo, wall: float, reason: str) -> RunInfo:
        around = run.enclosing if self._runbook.is_open(run.enclosing) else None
        self._processes.own([p for p in self._processes.owned() if p.run == run.key], around)
        for process in self._processes.all():
            if run.key in process.leads:
                process.leads = tuple(key for key in process.leads if key != run.key)
        self._cgroup_runs.remove(run.key)
        return self._runbook.close(run.key, wall, reason)

    def _give(self, lead: Process, before: RunKey | None, run: RunKey | None) -> None:
        """Give the lead and its descendants to `run`, as far as they were in `before`.

        Other leads of `before` stay in it, and their descendants with them.
        """
        tree = [lead] if lead.run == before else []
        known = set(tree)
        for process in self._processes.all():
            stays = process.run != before or before in process.leads
            if not stays and self._processes.parent(process) in known:
                known.add(process)
                tree.append(process)
        self._processes.own(tree, run)


def _leads(runbook: Runbook) -> dict[tuple[int, int], tuple[RunKey, ...]]:
    """The runs that processes had registered before a restart, by pid and start time."""
    leads: dict[tuple[int, int], tuple[RunKey, ...]] = {}
    for run in reversed(runbook.innermost_first()):
        if run.origin == REGISTERED:
            lead = run.lead_pid, run.lead_start
            leads[lead] = (*leads.get(lead, ()), run.key)
    return leads


def _same(run: RunKey, claim: Claim) -> bool:
    """Whether a claim names the run that its process is in already."""
    return claim.run_id == run.run_id and claim.job_id in ("", run.job_id)


def _made_id(wall: float, pid: int) -> str:
    """An id for a run that was given none: its time and its lead process."""
    return time.strftime("%Y%m%d-%H%M%S", time.gmtime(wall)) + f"-{pid}"
