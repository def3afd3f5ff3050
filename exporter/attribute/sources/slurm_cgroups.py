"""Discovers the Slurm jobs of this node by their cgroups."""

import errno
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import chain
from types import MappingProxyType
from typing import NamedTuple

from exporter.attribute.sources.cgroups import V2, cgroup_mounts, cgroup_paths

PID = re.compile(rb"\d{1,10}")
V1_ROOT = re.compile(r"slurm(_.+)?")
"""Directly below a controller; the suffix is the node name if slurmds share one kernel."""
V2_ROOT = re.compile(r"(.+_)?slurmstepd\.scope")
"""Below system.slice, or the slice set by `CgroupSlice` of cgroup.conf(5)."""
SLUID = r"s[0-9A-Za-z]{13}"
"""`print_sluid` of Slurm's src/common/sluid.c writes 64 bits in Crockford's base32, in upper case.

Any letter is accepted, as by `str2sluid` there: only Slurm creates cgroups in these directories.
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
"""Process title of slurmstepd, set by `_set_job_log_prefix` of Slurm's slurmstepd.c."""
TASK_CGROUP = re.compile(r"/task_\d+(/|$)")
"""Of a task in a step; `task_special` contains root's sleep process of an extern step."""
USER_CGROUP = re.compile(r"/step_[^/]+/user(/|$)")
"""The cgroup of the user's processes, which cannot leave it; Slurm's own are outside of it."""
NO_JOB_IDS: Mapping[str, str] = MappingProxyType({})
MAX_ENVIRONMENTS_READ = 8
"""Limit for the environments read per job to find its id."""
ENVIRONMENT_BYTES = 1 << 20
LISTED_HIERARCHIES = (V2, "freezer", "cpuacct", "memory", "cpuset", "devices")
"""Hierarchies in which jobs are searched, in order of preference; the first with jobs is used."""
ROOT_SEARCH_TICKS = 10
"""Ticks between searches for the roots, which slurmd creates before its first job."""
MAX_SLICE_DEPTH, MAX_SLICES = 5, 256
"""Limits of the search of slices for slurmstepd's scope."""
SYSTEMD_UNIT = re.compile(r".+\.(slice|scope)")
SKIPPED_SLICES = re.compile(r"/(user|machine|kubepods[^/]*)\.slice")
"""Slices of other software, with many units."""


class SlurmCgroup(NamedTuple):
    """The cgroup of one job."""

    job_id: str
    """Its SLUID if its id is unknown."""
    uid: int | None
    """None with cgroup version 2, whose paths do not contain the user."""
    at: Mapping[str, str]
    """Its path by hierarchy; the same path in all of them."""
    sluid: str = ""
    """Set if the cgroup is named by it."""

    @property
    def lacks_job_id(self) -> bool:
        """Whether its job id is unknown."""
        return self.job_id == self.sluid


class _JobPath(NamedTuple):
    """Path of a job's cgroup, and its user if the path has it."""

    path: str
    uid: int | None = None


class SlurmCgroups:
    """Lists the cgroups of Slurm jobs. Cheap on a node without Slurm."""

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
        self._populated: dict[str, str] = {}
        """The directory with a process that was found last, by job; with version 1 only."""
        self.why = ""
        """Why the jobs could not be listed in the last tick."""

    def collect(self, written: Mapping[str, str] = NO_JOB_IDS) -> Mapping[str, SlurmCgroup]:
        """The current jobs by id; `written` maps SLUIDs to ids known from job files.

        If listing fails, the jobs of the last successful listing are returned.
        """
        if self._looks % ROOT_SEARCH_TICKS == 0:
            self._find_roots()
        self._looks += 1
        try:
            found = dict(self._jobs())
        except OSError as error:
            self.why = (
                f"{error.filename}: {error.strerror}; Slurm's jobs remain as last listed; allow "
                "the daemon's user to list the cgroups"
            )
            return self._known
        self.why = ""
        self._known = dict(self._described(found, written))
        self._ids = {job.sluid: job.job_id for job in self._known.values() if job.sluid}
        for job_id in self._populated.keys() - self._known.keys():
            del self._populated[job_id]
        return self._known

    def has_jobs_root(self) -> bool:
        """Whether there is a cgroup root of slurmd on this node."""
        return bool(self._roots)

    def get_job(self, job_id: str) -> SlurmCgroup | None:
        """A job as of the last tick."""
        return self._known.get(job_id)

    def lacks_job_id(self, job_id: str) -> bool:
        """Whether this id is a SLUID because the job id is unknown."""
        return job_id in self._known and self._known[job_id].lacks_job_id

    def job_of(self, pid: int) -> str:
        """The id of the job that contains a process; "" for none."""
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
        """The processes of a job, including those of slurmstepd."""
        job = self._known.get(job_id)
        if job is not None:
            yield from chain.from_iterable(pids for _, pids in _cgroup_pids(self._top(job)))

    def is_empty(self, job_id: str) -> bool:
        """Whether a job's cgroup has no process; False if it cannot be read."""
        job = self._known.get(job_id)
        if job is None:
            return True
        top = self._top(job)
        try:
            if self._hierarchy == V2:
                return b"populated 1" not in _content(f"{top}/cgroup.events")
            if _listed_pids(f"{self._populated.get(job_id, top)}/cgroup.procs"):
                return False
            for directory, _, files in os.walk(top, onerror=_raise_unless_missing):
                if "cgroup.procs" in files and _listed_pids(f"{directory}/cgroup.procs"):
                    self._populated[job_id] = directory
                    return False
        except OSError:
            return False
        self._populated.pop(job_id, None)
        return True

    def task_pids(self, job_id: str) -> Iterator[int]:
        """The processes started by the job's user, without Slurm's own."""
        job = self._known.get(job_id)
        if job is None:
            return
        top = self._top(job)
        for directory, pids in _cgroup_pids(top):
            if TASK_CGROUP.search(directory[len(top) :]):
                yield from pids

    def mounts(self) -> Mapping[str, str]:
        """Mount points by hierarchy."""
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
        """The directory of a job's cgroup in the hierarchy used for listing."""
        return self._mounts[self._hierarchy] + next(iter(job.at.values()))

    def _jobs(self) -> Iterator[tuple[str, _JobPath]]:
        """Names and paths of the cgroups of jobs. Raises OSError."""
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
        """The jobs by id; of two jobs with the same id, the later is identified by its SLUID."""
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
        """The id of a job with a SLUID, from its file or its processes; "": unknown."""
        if job.sluid in written:
            return written[job.sluid]
        slurm_pids, user_pids = self._by_owner(job)
        with_environment = user_pids[:MAX_ENVIRONMENTS_READ] if self._read_environments else []
        ids = chain(
            map(self._id_in_title, slurm_pids),
            (self._id_in_environment(pid, job) for pid in with_environment),
        )
        return next(filter(None, ids), "")

    def _by_owner(self, job: SlurmCgroup) -> tuple[list[int], list[int]]:
        """The processes of a job: those of Slurm, and those whose title its user may have set."""
        slurm_pids: list[int] = []
        user_pids: list[int] = []
        top = self._top(job)
        for directory, pids in _cgroup_pids(top):
            is_slurm_process = self._hierarchy == V2 and not USER_CGROUP.search(
                directory[len(top) :]
            )
            (slurm_pids if is_slurm_process else user_pids).extend(pids)
        return slurm_pids, user_pids

    def _id_in_title(self, pid: int) -> str:
        match = SLURMSTEPD_TITLE.match(self._read(pid, "cmdline"))
        return match[1].decode() if match else ""

    def _id_in_environment(self, pid: int, job: SlurmCgroup) -> str:
        """The job id in a process's environment; "" for a component of a heterogeneous job.

        There the variable has the id of the first component.
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
    """The scopes of slurmstepd in the slices of a version 2 hierarchy."""
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
    """Matching names in a directory; none if it does not exist. Raises OSError."""
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
    """The processes in a cgroup and its descendants, by directory."""
    for directory, _, files in os.walk(top):
        if "cgroup.procs" in files:
            yield directory, _pids_or_none(os.path.join(directory, "cgroup.procs"))


def _pids_or_none(path: str) -> list[int]:
    try:
        return _listed_pids(path)
    except OSError:
        return []


def _listed_pids(path: str) -> list[int]:
    """The pids in a cgroup.procs file; none if it is gone. Raises OSError."""
    return [int(line) for line in _content(path).split() if PID.fullmatch(line)]


def _content(path: str) -> bytes:
    """Content of a file of a cgroup; nothing if it is gone. Raises OSError."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError):
        return b""
    except OSError as error:
        if error.errno == errno.ENODEV:  # kernfs, for a cgroup that was just removed
            return b""
        raise


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
