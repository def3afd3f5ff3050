"""Jobs of Slurm on this node, as its cgroups show them."""

import errno
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import chain
from types import MappingProxyType
from typing import NamedTuple

from exporter.attribute.sources.cgroups import V2, cgroup_mounts, cgroup_paths

V1_ROOT = re.compile(r"slurm(_.+)?")
"""Directly under a controller; the suffix is the node's name where many share one kernel."""
V2_ROOT = re.compile(r"(.+_)?slurmstepd\.scope")
"""Under system.slice, or the slice that `CgroupSlice` of cgroup.conf(5) names."""
SLUID = r"s[0-9A-Za-z]{13}"
"""`print_sluid` of Slurm's src/common/sluid.c writes 64 bits in Crockford's base32, in upper case.

Any letter is accepted, as `str2sluid` there does: only Slurm makes cgroups beside it.
"""
USER_DIRECTORY, JOB_DIRECTORY = (
    re.compile(r"uid_(\d+)"),
    re.compile(rf"job_(?P<job>\d+)|(?P<sluid>{SLUID})"),
)
"""Version 2 names a job by its SLUID since Slurm 26.05, unless `CgroupJobIdPaths=yes`."""
JOB_IN_PATH = re.compile(
    r"^(?:/\.\.)*"
    r"(?:/slurm(?:_[^/]+)?/uid_(?P<uid>\d+)|(?:/[^/]+\.slice)*/(?:[^/]+_)?slurmstepd\.scope)"
    rf"/(?:{JOB_DIRECTORY.pattern})(?:/|$)"
)
SLURMSTEPD_TITLE = re.compile(rb"slurmstepd: \[(\d+)[.\] ]")
"""What slurmstepd calls itself: `_set_job_log_prefix` of Slurm's slurmstepd.c."""
TASK_CGROUP = re.compile(r"/task_\d+(/|$)")
"""In a step; `task_special` holds the sleeper of an extern step, which is root's."""
USER_CGROUP = re.compile(r"/step_[^/]+/user(/|$)")
"""In a job, the cgroup that its user's processes cannot leave; beside it are Slurm's own."""
NO_JOB_IDS: Mapping[str, str] = MappingProxyType({})
MAX_ENVIRONMENTS_READ = 8
"""Processes of a job whose environment is read for its id."""
ENVIRONMENT_BYTES = 1 << 20
LISTED_HIERARCHIES = (V2, "freezer", "cpuacct", "memory", "cpuset", "devices")
"""Hierarchies that may show the jobs, best first; one of them is enough."""
ROOT_SEARCH_TICKS = 10
"""Looks between two searches for the roots, which slurmd makes before its first job."""
MAX_SLICE_DEPTH, MAX_SLICES = 5, 256
"""How far the slices are searched for slurmstepd's scope."""
SYSTEMD_UNIT = re.compile(r".+\.(slice|scope)")
SKIPPED_SLICES = re.compile(r"/(user|machine|kubepods[^/]*)\.slice")
"""Slices of others, which have many in them."""


class SlurmCgroup(NamedTuple):
    """The cgroup of one job."""

    job_id: str
    """Its SLUID where its id is not known."""
    uid: int | None
    """Version 2 does not name the user."""
    at: Mapping[str, str]
    """Its path, by each hierarchy where it has one; the same in all of them."""
    sluid: str = ""
    """Where the cgroup is named by it."""

    @property
    def lacks_job_id(self) -> bool:
        """Whether its job id is not known."""
        return self.job_id == self.sluid


class _JobPath(NamedTuple):
    """Where a job was found."""

    path: str
    uid: int | None = None


class SlurmCgroups:
    """Lists the cgroups of jobs. Cheap where there are none."""

    def __init__(self, procfs: str, *, read_environments: bool = True) -> None:
        self._procfs = procfs
        self._read_environments = read_environments
        self._mounts: Mapping[str, str] = {}
        self._hierarchy = V2
        self._roots: list[str] = []
        self._looks = 0
        self._known: dict[str, SlurmCgroup] = {}
        self._ids: dict[str, str] = {}
        """Job ids by SLUID."""
        self.why = ""
        """Why the jobs could not be listed at the last look."""

    def collect(self, written: Mapping[str, str] = NO_JOB_IDS) -> Mapping[str, SlurmCgroup]:
        """The jobs that are here now, by id; `written` has ids by SLUID, as far as known.

        What cannot be listed now is as it was at the last look.
        """
        if self._looks % ROOT_SEARCH_TICKS == 0:
            self._find_roots()
        self._looks += 1
        try:
            found = dict(self._jobs())
        except OSError as error:
            self.why = (
                f"{error.filename}: {error.strerror}; Slurm's jobs are as they were last seen, let "
                "the daemon's user list the cgroups"
            )
            return self._known
        self.why = ""
        self._known = dict(self._described(found, written))
        self._ids = {job.sluid: job.job_id for job in self._known.values() if job.sluid}
        return self._known

    def has_jobs_root(self) -> bool:
        """Whether slurmd runs jobs on this node, as its cgroups show."""
        return bool(self._roots)

    def get_job(self, job_id: str) -> SlurmCgroup | None:
        """A job as it was at the last look."""
        return self._known.get(job_id)

    def lacks_job_id(self, job_id: str) -> bool:
        """Whether this is a SLUID, for want of the job's id."""
        return job_id in self._known and self._known[job_id].lacks_job_id

    def job_of(self, pid: int) -> str:
        """The id of the job that a process is in; "" for none."""
        if not self._known:
            return ""
        try:
            found = map(JOB_IN_PATH.search, cgroup_paths(self._procfs, pid).values())
        except OSError:
            return ""
        match = next(filter(None, found), None)
        if match is None:
            return ""
        return match["job"] or self._ids.get(match["sluid"], match["sluid"])

    def pids(self, job_id: str) -> Iterator[int]:
        """The processes of a job, those of slurmstepd included."""
        job = self._known.get(job_id)
        if job is not None:
            yield from chain.from_iterable(pids for _, pids in _cgroup_pids(self._top(job)))

    def is_empty(self, job_id: str) -> bool:
        """Whether a job's cgroup has no process, as far as it can be read."""
        job = self._known.get(job_id)
        if job is None:
            return True
        try:
            for directory, _, files in os.walk(self._top(job), onerror=_raise_unless_missing):
                if "cgroup.procs" in files and _listed_pids(
                    os.path.join(directory, "cgroup.procs")
                ):
                    return False
        except OSError:
            return False
        return True

    def task_pids(self, job_id: str) -> Iterator[int]:
        """The processes of a job that its user began: none of Slurm's own."""
        job = self._known.get(job_id)
        if job is None:
            return
        top = self._top(job)
        for directory, pids in _cgroup_pids(top):
            if TASK_CGROUP.search(directory[len(top) :]):
                yield from pids

    def mounts(self) -> Mapping[str, str]:
        """Where the hierarchies are mounted."""
        return self._mounts

    def _find_roots(self) -> None:
        with suppress(OSError):
            self._mounts = cgroup_mounts(self._procfs)
        found = {
            hierarchy: list(_scopes(point) if hierarchy == V2 else _v1_roots(point))
            for hierarchy in LISTED_HIERARCHIES
            if (point := self._mounts.get(hierarchy)) is not None
        }
        for self._hierarchy, self._roots in found.items():
            with suppress(OSError):
                if any(self._jobs()):
                    return
        self._hierarchy, self._roots = next(
            ((hierarchy, roots) for hierarchy, roots in found.items() if roots), (V2, [])
        )

    def _top(self, job: SlurmCgroup) -> str:
        """The directory of a job's cgroup, where the jobs are listed."""
        return self._mounts[self._hierarchy] + next(iter(job.at.values()))

    def _jobs(self) -> Iterator[tuple[str, _JobPath]]:
        """Names of jobs' cgroups, each with its place. Raises OSError."""
        for root in self._roots:
            point = self._mounts[self._hierarchy]
            if self._hierarchy == V2:
                for name in _matching_names(point + root, JOB_DIRECTORY):
                    yield name, _JobPath(f"{root}/{name}")
                continue
            for user in _matching_names(point + root, USER_DIRECTORY):
                uid = int(user.removeprefix("uid_"))
                for name in _matching_names(f"{point}{root}/{user}", JOB_DIRECTORY):
                    yield name, _JobPath(f"{root}/{user}/{name}", uid)

    def _described(
        self, found: Mapping[str, _JobPath], written: Mapping[str, str]
    ) -> Iterator[tuple[str, SlurmCgroup]]:
        """The jobs by id; of two with one id, the later is named by its SLUID."""
        known = {job.sluid or f"job_{job.job_id}": job for job in self._known.values()}
        taken: set[str] = set()
        for name, place in sorted(found.items(), key=lambda each: each[0] not in known):
            job = known.get(name)
            if job is None or place.path not in job.at.values():
                job = self._new(name, place)
            if job.lacks_job_id:
                job = job._replace(job_id=self._job_id(job, written) or job.sluid)
            if job.job_id in taken:
                job = job._replace(job_id=job.sluid)
            taken.add(job.job_id)
            yield job.job_id, job

    def _new(self, name: str, place: _JobPath) -> SlurmCgroup:
        at = {
            hierarchy: place.path
            for hierarchy, point in self._mounts.items()
            if hierarchy == self._hierarchy or os.path.isdir(point + place.path)
        }
        job_id = name.removeprefix("job_")
        return SlurmCgroup(job_id, place.uid, at, "" if job_id != name else name)

    def _job_id(self, job: SlurmCgroup, written: Mapping[str, str]) -> str:
        """The id of a job with a SLUID, as written down or by its processes; "": unknown."""
        if job.sluid in written:
            return written[job.sluid]
        slurms, users = self._by_owner(job)
        asked = users[:MAX_ENVIRONMENTS_READ] if self._read_environments else []
        ids = chain(
            map(self._id_in_title, slurms), (self._id_in_environment(pid, job) for pid in asked)
        )
        return next(filter(None, ids), "")

    def _by_owner(self, job: SlurmCgroup) -> tuple[list[int], list[int]]:
        """The processes of a job: those of Slurm, and those that its user may have named."""
        slurms: list[int] = []
        users: list[int] = []
        top = self._top(job)
        for directory, pids in _cgroup_pids(top):
            is_slurms = self._hierarchy == V2 and not USER_CGROUP.search(directory[len(top) :])
            (slurms if is_slurms else users).extend(pids)
        return slurms, users

    def _id_in_title(self, pid: int) -> str:
        match = SLURMSTEPD_TITLE.match(self._read(pid, "cmdline"))
        return match[1].decode() if match else ""

    def _id_in_environment(self, pid: int, job: SlurmCgroup) -> str:
        """The job id in a process's environment.

        In those of all components of a heterogeneous job, that is the id of the first.
        """
        block = self._read(pid, "environ")
        variables = dict(part.split(b"=", 1) for part in block.split(b"\0") if b"=" in part)
        if {b"SLURM_HET_SIZE", b"SLURM_PACK_SIZE"} & variables.keys():
            return ""
        if variables.get(b"SLURM_JOB_SLUID", job.sluid.encode()) != job.sluid.encode():
            return ""
        job_id = variables.get(b"SLURM_JOB_ID", b"")
        return job_id.decode() if job_id.isdigit() else ""

    def _read(self, pid: int, name: str) -> bytes:
        try:
            with open(os.path.join(self._procfs, str(pid), name), "rb", buffering=0) as file:
                return file.read(ENVIRONMENT_BYTES)
        except OSError:
            return b""


def _scopes(point: str) -> Iterator[str]:
    """The scopes of slurmstepd in the slices of a hierarchy of version 2."""
    slices = [""]
    for _ in range(MAX_SLICE_DEPTH):
        inner: list[str] = []
        for parent in slices:
            for name in _names(point + parent, SYSTEMD_UNIT):
                if V2_ROOT.fullmatch(name):
                    yield f"{parent}/{name}"
                elif name.endswith(".slice") and not SKIPPED_SLICES.search(parent):
                    inner.append(f"{parent}/{name}")
        slices = inner[:MAX_SLICES]


def _v1_roots(point: str) -> Iterator[str]:
    return (f"/{name}" for name in _names(point, V1_ROOT))


def _matching_names(directory: str, wanted: re.Pattern[str]) -> list[str]:
    """Names in a directory; none where it is not there. Raises OSError if it cannot be listed."""
    try:
        return [name for name in os.listdir(directory) if wanted.fullmatch(name)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _names(directory: str, wanted: re.Pattern[str]) -> list[str]:
    try:
        return _matching_names(directory, wanted)
    except OSError:
        return []


def _cgroup_pids(top: str) -> Iterator[tuple[str, list[int]]]:
    """The processes in a cgroup and in those below it, by directory."""
    for directory, _, files in os.walk(top):
        if "cgroup.procs" in files:
            yield directory, _pids_or_none(os.path.join(directory, "cgroup.procs"))


def _pids_or_none(path: str) -> list[int]:
    try:
        return _listed_pids(path)
    except OSError:
        return []


def _listed_pids(path: str) -> list[int]:
    """The numbers in a file; none where it is gone. Raises OSError."""
    try:
        with open(path, "rb", buffering=0) as file:
            return [int(line) for line in file.read().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
    except OSError as error:
        if error.errno == errno.ENODEV:  # kernfs, of a cgroup that has just gone
            return []
        raise


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
