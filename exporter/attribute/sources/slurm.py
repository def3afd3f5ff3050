"""Jobs of Slurm on this node, as its cgroups show them."""

import os
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from exporter.attribute.sources.cgroups import V2, mounts, paths

V1_ROOT = re.compile(r"slurm(_.+)?")
"""Directly under a controller; the suffix is the node's name where many share one kernel."""
V2_ROOT = re.compile(r"(.+_)?slurmstepd\.scope")
"""Under system.slice."""
USER, JOB = re.compile(r"uid_(\d+)"), re.compile(r"job_(\d+)")
IN_JOB = re.compile(
    r"/(?:slurm(?:_[^/]+)?/uid_(?P<uid>\d+)|(?:[^/]+_)?slurmstepd\.scope)/job_(?P<job>\d+)(?:/|$)"
)
LISTED = (V2, "freezer", "cpuacct", "memory", "cpuset", "devices")
"""Hierarchies that may show the jobs, best first; one of them is enough."""
ROOTS_LOOKS = 10
"""Looks between two searches for the roots, which slurmd makes before its first job."""


class SlurmCgroup(NamedTuple):
    """The cgroup of one job."""

    job_id: str
    uid: int | None
    """Version 2 does not name the user."""
    at: Mapping[str, str]
    """Its path in each hierarchy where it has one."""


class SlurmCgroups:
    """Lists the cgroups of jobs. Cheap where there are none."""

    def __init__(self, procfs: str) -> None:
        self._procfs = procfs
        self._mounts: Mapping[str, str] = {}
        self._hierarchy = V2
        self._roots: list[str] = []
        self._looks = 0
        self._known: dict[str, SlurmCgroup] = {}

    def look(self) -> Mapping[str, SlurmCgroup]:
        """The jobs that are here now, by id."""
        if self._looks % ROOTS_LOOKS == 0:
            self._find_roots()
        self._looks += 1
        here = dict(self._jobs())
        self._known = {
            job_id: self._known.get(job_id) or self._described(job_id, *place)
            for job_id, place in here.items()
        }
        return self._known

    def look_at(self, job_id: str) -> SlurmCgroup | None:
        """A job as it was at the last look."""
        return self._known.get(job_id)

    def job_of(self, pid: int) -> str:
        """The id of the job that a process is in; "" for none."""
        if not self._known:
            return ""
        try:
            found = map(IN_JOB.search, paths(self._procfs, pid).values())
        except OSError:
            return ""
        return next((match["job"] for match in found if match), "")

    def pids(self, job_id: str) -> Iterator[int]:
        """The processes of a job, those of slurmstepd included."""
        job = self._known.get(job_id)
        if job is None:
            return
        for directory, _, files in os.walk(self._mounts[self._hierarchy] + job.at[self._hierarchy]):
            if "cgroup.procs" in files:
                yield from _numbers(os.path.join(directory, "cgroup.procs"))

    def mounts(self) -> Mapping[str, str]:
        """Where the hierarchies are mounted."""
        return self._mounts

    def _find_roots(self) -> None:
        try:
            self._mounts = mounts(self._procfs)
        except OSError:
            self._mounts = {}
        for hierarchy in LISTED:
            point = self._mounts.get(hierarchy)
            if point is None:
                continue
            parent, name = ("/system.slice", V2_ROOT) if hierarchy == V2 else ("", V1_ROOT)
            self._roots = [f"{parent}/{each}" for each in _names(point + parent, name)]
            self._hierarchy = hierarchy
            if self._roots:
                return

    def _jobs(self) -> Iterator[tuple[str, tuple[str, int | None]]]:
        """Job ids, each with the path of its cgroup and its user."""
        for root in self._roots:
            point = self._mounts[self._hierarchy]
            if self._hierarchy == V2:
                for name in _names(point + root, JOB):
                    yield name.removeprefix("job_"), (f"{root}/{name}", None)
                continue
            for user in _names(point + root, USER):
                uid = int(user.removeprefix("uid_"))
                for name in _names(f"{point}{root}/{user}", JOB):
                    yield name.removeprefix("job_"), (f"{root}/{user}/{name}", uid)

    def _described(self, job_id: str, path: str, uid: int | None) -> SlurmCgroup:
        at = {name: path for name, point in self._mounts.items() if os.path.isdir(point + path)}
        return SlurmCgroup(job_id, uid, at)


def _names(directory: str, wanted: re.Pattern[str]) -> list[str]:
    try:
        return [name for name in os.listdir(directory) if wanted.fullmatch(name)]
    except OSError:
        return []


def _numbers(path: str) -> list[int]:
    try:
        with open(path, "rb", buffering=0) as file:
            return [int(line) for line in file.read().split()]
    except OSError:
        return []
