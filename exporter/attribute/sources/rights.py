"""Who may begin, end and add to which run."""

import os

from exporter.attribute.identity import OTHER_ID, clean
from exporter.attribute.runbook import OTHER_RUN, Runbook
from exporter.attribute.sources.containers import Containers
from exporter.attribute.sources.processes import ProcessTable
from exporter.attribute.sources.procfs import Process
from exporter.clock import Clock
from exporter.errors import Refused
from exporter.model.commands import End, Log, Start
from exporter.model.runs import RunInfo, RunKey

ROOT = 0


class Rights:
    """Users have their own runs, containers those of their own processes, root has all."""

    def __init__(
        self, runbook: Runbook, processes: ProcessTable, containers: Containers, clock: Clock
    ) -> None:
        self._runbook = runbook
        self._processes = processes
        self._containers = containers
        self._clock = clock

    def check_scope(self, command: Start, holder: RunKey | None) -> None:
        """Raises Refused where the whole machine is asked for by who may not have it."""
        if command.scope != "machine":
            return
        if command.uid not in (ROOT, os.geteuid()) or self._containers.of(command.pid):
            raise Refused(
                403,
                "scope machine is for root and for the user that the daemon runs as; use scope "
                "tree, or start a daemon of your own",
            )
        if holder is not None:
            held = self._runbook.get(holder)
            if (held.key.uid, held.key.run_id) != (command.uid, clean(command.run_id)):
                raise Refused(
                    409,
                    f"run {held.shown_id!r} has the whole machine already, and it can be had once; "
                    "use scope tree",
                )

    def check_place(self, key: RunKey, process: Process) -> None:
        """Raises Refused where a run of another container would be joined."""
        place = self._containers.of(process.pid)
        if place and self._runbook.is_open(key) and not self._is_in(key, place):
            raise Refused(
                409,
                f"run id {key.run_id!r} is in use outside of this container; choose another one, "
                "or give a job id as well",
            )

    def run_asked_for(self, command: End | Log, leads: tuple[RunKey, ...]) -> RunInfo:
        """The run that is meant; `leads` are those of the caller. Raises Refused."""
        run_id = clean(command.run_id)
        if run_id == OTHER_ID and OTHER_RUN in leads:
            return self._runbook.get(OTHER_RUN)
        place = self._containers.of(command.pid) if command.pid else ""
        run = self._runbook.find(command.uid, run_id, command.job_id)
        if run is None and command.uid == ROOT and not place:
            run = self._runbook.find(None, run_id, command.job_id)
        if run is not None and place and run.key not in leads and not self._is_in(run.key, place):
            raise Refused(
                403,
                f"run {run_id!r} is not in this container; only its own processes, and those "
                "outside of containers, may end it or add to it",
            )
        if run is None:
            ended = self._runbook.ended_at(command.uid, run_id, command.job_id)
            was = f"; it ended {self._clock.wall() - ended:.0f} s ago" if ended is not None else ""
            raise Refused(
                404,
                f"user {command.uid} has no run {command.run_id!r} that is running{was}; "
                "`emissions-exporter runs` lists them",
            )
        if run.key == OTHER_RUN:
            raise Refused(409, "`other` gathers the runs beyond the cap, and never ends")
        return run

    def _is_in(self, key: RunKey, place: str) -> bool:
        """Whether a process of the run is in a container."""
        run = self._runbook.get(key)
        pids = [process.pid for process in self._processes.owned() if process.run == key]
        return any(self._containers.of(pid) == place for pid in (run.lead_pid, *pids))
