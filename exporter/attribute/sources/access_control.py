"""Who may begin, end and add to which run."""

import os
import re

from exporter.attribute.identity import OTHER_RUN_ID, sanitize
from exporter.attribute.run_registry import OTHER_RUN, RunRegistry
from exporter.attribute.sources.cgroups import cgroup_paths
from exporter.attribute.sources.kube.pod_cgroups import split_at_pod
from exporter.attribute.sources.process_table import ProcessTable
from exporter.attribute.sources.procfs import Process
from exporter.clock import Clock
from exporter.errors import RequestRefused
from exporter.model.commands import EndRun, LogRun, StartRun
from exporter.model.runs import RunInfo, RunKey

UNKNOWN_CONTAINER = "unknown"
CONTAINER_PATTERN = re.compile(
    r"(?P<id>[0-9a-f]{64})|/lxc(?:\.payload)?[./](?P<lxc>[^/]+)|/machine-(?P<nspawn>[^/]+)\.scope"
)
"""docker, containerd, CRI-O and podman name a cgroup by the 64 digits of the container's id, with
and without systemd; LXC and systemd-nspawn by its name."""


class ContainerLookup:
    """The containers of callers. What is in the daemon's own one counts as outside."""

    def __init__(self, procfs: str) -> None:
        self._procfs = procfs
        self._own = self._read("self")

    def of(self, pid: int) -> str:
        """The container that confines a process: its id, "" for none."""
        found = self._read(str(pid))
        return "" if found == self._own else found

    def _read(self, pid: str) -> str:
        try:
            found = [_container(path) for path in cgroup_paths(self._procfs, pid).values()]
        except OSError:
            return UNKNOWN_CONTAINER
        return next((match[match.lastgroup or 0] for match in found if match), "")


def _container(path: str) -> "re.Match[str] | None":
    """The outermost container of the pod, whose node may be a container too; else of the path."""
    return CONTAINER_PATTERN.search(split_at_pod(path)[1]) or CONTAINER_PATTERN.search(path)


ROOT_UID = 0


class AccessControl:
    """Users have their own runs, containers those of their own processes, root has all."""

    def __init__(
        self,
        run_registry: RunRegistry,
        processes: ProcessTable,
        containers: ContainerLookup,
        clock: Clock,
    ) -> None:
        self._run_registry = run_registry
        self._processes = processes
        self._containers = containers
        self._clock = clock

    def check_scope(self, command: StartRun, holder: RunKey | None) -> None:
        """Raises Refused where the whole machine is asked for by who may not have it."""
        if command.scope != "machine":
            return
        if command.uid not in (ROOT_UID, os.geteuid()) or self._containers.of(command.pid):
            raise RequestRefused(
                403,
                "scope machine is for root and for the user that the daemon runs as; use scope "
                "tree, or start a daemon of your own",
            )
        if holder is not None:
            held = self._run_registry.get(holder)
            if (held.key.uid, held.key.run_id) != (command.uid, sanitize(command.run_id)):
                raise RequestRefused(
                    409,
                    f"run {held.shown_id!r} has the whole machine already, and it can be had once; "
                    "use scope tree",
                )

    def check_container(self, key: RunKey, process: Process) -> None:
        """Raises Refused where a run of another container would be joined."""
        place = self._containers.of(process.pid)
        if place and self._run_registry.is_open(key) and not self._is_in(key, place):
            raise RequestRefused(
                409,
                f"run id {key.run_id!r} is in use outside of this container; choose another one, "
                "or give a job id as well",
            )

    def authorized_run(
        self, command: EndRun | LogRun, registered_runs: tuple[RunKey, ...]
    ) -> RunInfo:
        """The run that is meant; `leads` are those of the caller. Raises Refused."""
        run_id = sanitize(command.run_id)
        if run_id == OTHER_RUN_ID and OTHER_RUN in registered_runs:
            return self._run_registry.get(OTHER_RUN)
        place = self._containers.of(command.pid) if command.pid else ""
        run = self._run_registry.find(command.uid, run_id, command.job_id)
        if run is None and command.uid == ROOT_UID and not place:
            run = self._run_registry.find(None, run_id, command.job_id)
        if (
            run is not None
            and place
            and run.key not in registered_runs
            and not self._is_in(run.key, place)
        ):
            raise RequestRefused(
                403,
                f"run {run_id!r} is not in this container; only its own processes, and those "
                "outside of containers, may end it or add to it",
            )
        if run is None:
            ended = self._run_registry.ended_at(command.uid, run_id, command.job_id)
            was = f"; it ended {self._clock.wall() - ended:.0f} s ago" if ended is not None else ""
            raise RequestRefused(
                404,
                f"user {command.uid} has no run {command.run_id!r} that is running{was}; "
                "`emissions-exporter runs` lists them",
            )
        if run.key == OTHER_RUN:
            raise RequestRefused(409, "`other` gathers the runs beyond the cap, and never ends")
        return run

    def _is_in(self, key: RunKey, place: str) -> bool:
        """Whether a process of the run is in a container."""
        run = self._run_registry.get(key)
        pids = [process.pid for process in self._processes.owned() if process.run == key]
        return any(self._containers.of(pid) == place for pid in (run.lead_pid, *pids))
