"""Access control for runs: who may start, update and end them; containers of callers."""

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
"""Docker, containerd, CRI-O and Podman name a cgroup by the container's id of 64 digits, with and
without systemd; LXC and systemd-nspawn by the container's name."""


class ContainerLookup:
    """Finds the containers of callers. The daemon's own container counts as none."""

    def __init__(self, procfs: str) -> None:
        self._procfs = procfs
        self._own = self._read("self")

    def of(self, pid: int) -> str:
        """Id of the container of a process; "" for none."""
        found = self._read(str(pid))
        return "" if found == self._own else found

    def _read(self, pid: str) -> str:
        try:
            found = [_container(path) for path in cgroup_paths(self._procfs, pid).values()]
        except OSError:
            return UNKNOWN_CONTAINER
        return next((match[match.lastgroup or 0] for match in found if match), "")


def _container(path: str) -> "re.Match[str] | None":
    """The outermost container below the pod (a node may be a container too), else of the path."""
    return CONTAINER_PATTERN.search(split_at_pod(path)[1]) or CONTAINER_PATTERN.search(path)


ROOT_UID = 0


class AccessControl:
    """Users may access their own runs, containers those of their processes, and root all runs."""

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

    def check_scope(self, command: StartRun, machine_owner: RunKey | None) -> None:
        """Check that the caller may open a run of this scope. Raises RequestRefused."""
        if command.run.scope != "machine":
            return
        uid, run_id, _ = command.run.key
        if uid not in (ROOT_UID, os.geteuid()) or self._containers.of(command.pid):
            raise RequestRefused(
                403,
                "scope machine is allowed only for root and for the user that the daemon runs as, "
                "outside of containers; use scope tree, or start a daemon of your own",
            )
        if machine_owner is not None:
            other = self._run_registry.get(machine_owner)
            if (other.key.uid, other.key.run_id) != (uid, sanitize(run_id)):
                raise RequestRefused(
                    409,
                    f"run {other.shown_id!r} already has scope machine, which only one run can "
                    "have; use scope tree",
                )

    def check_container(self, key: RunKey, process: Process) -> None:
        """Check that a run to be joined is of the same container. Raises RequestRefused."""
        container = self._containers.of(process.pid)
        if container and self._run_registry.is_open(key) and not self._is_in(key, container):
            raise RequestRefused(
                409,
                f"run id {key.run_id!r} is in use outside of this container; choose another id, "
                "or add a job id",
            )

    def authorized_run(
        self, command: EndRun | LogRun, registered_runs: tuple[RunKey, ...]
    ) -> RunInfo:
        """Find the run of a command and check access to it. Raises RequestRefused.

        `registered_runs` are those that the calling process registered.
        """
        run_id = sanitize(command.run_id)
        if run_id == OTHER_RUN_ID and OTHER_RUN in registered_runs:
            return self._run_registry.get(OTHER_RUN)
        container = self._containers.of(command.pid) if command.pid else ""
        run = self._run_registry.find(command.uid, run_id, command.job_id)
        if run is None and command.uid == ROOT_UID and not container:
            run = self._run_registry.find(None, run_id, command.job_id)
        if (
            run is not None
            and container
            and run.key not in registered_runs
            and not self._is_in(run.key, container)
        ):
            raise RequestRefused(
                403,
                f"run {run_id!r} is not in this container; only its own processes and processes "
                "outside of containers may update or end it",
            )
        if run is None:
            ended = self._run_registry.ended_at(command.uid, run_id, command.job_id)
            note = f"; it ended {self._clock.wall() - ended:.0f} s ago" if ended is not None else ""
            raise RequestRefused(
                404,
                f"user {command.uid} has no open run {command.run_id!r}{note}; "
                "`emissions-exporter runs` lists the open runs",
            )
        if run.key == OTHER_RUN:
            raise RequestRefused(
                409, "run `other` collects the runs beyond max_runs and never ends"
            )
        return run

    def _is_in(self, key: RunKey, container: str) -> bool:
        """Whether a process of the run is in a container."""
        run = self._run_registry.get(key)
        pids = [process.pid for process in self._processes.owned() if process.run == key]
        return any(self._containers.of(pid) == container for pid in (run.lead_pid, *pids))
