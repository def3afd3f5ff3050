"""Job files written by the Slurm prolog: user, account and allocated GPUs of each job."""

import logging
import os
import stat
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from exporter.attribute.identity import sanitize, sanitize_labels
from exporter.job_variables import ARRAY_LABEL, TASK_LABEL

log = logging.getLogger(__name__)

FILE_BYTES = 65_536
MAX_FILES = 10_000
"""Limit for the files that are read, in alphabetical order of names."""
MAX_NUMBER = 1 << 32
ROOT_UID = 0


class JobAllocation(NamedTuple):
    """The content of one job file."""

    job_id: str
    uid: int
    user: str = ""
    account: str = ""
    name: str = ""
    nodes: int = 0
    gpus: tuple[str, ...] = ()
    """UUIDs of devices, or of MIG instances."""
    labels: tuple[tuple[str, str], ...] = ()
    since: float = 0.0
    """When the file was written, wall clock."""
    sluid: str = ""
    """Slurm's id of this run of the job; a requeued job gets another one."""
    boot_id: str = ""
    """Boot in which the file was written; "": unknown."""
    end_time: float = 0.0
    """Time limit of the job, wall clock; 0: unknown."""


class JobFiles:
    """Reads the directory of job files whenever it has changed.

    Only files written by root or by the daemon's own user are used.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._known: dict[str, tuple[int, JobAllocation]] = {}
        self._read_ns = -1
        """Modification time of the directory at its last reading."""
        self._settled_ns = -1
        """The same, once read twice: file system timestamps have a granularity of milliseconds, so
        the first reading may miss a file written right after it with the same timestamp."""
        self._refused: set[str] = set()
        self._unread = ""
        """Error of the last file that could not be read."""
        self._surplus = ""
        """Message if there are more than `MAX_FILES` files."""
        self.why = ""
        """Why the directory was not read completely in the last tick."""

    def collect(self) -> Mapping[str, JobAllocation]:
        """The jobs with a file, by id.

        Files that cannot be read now keep the content of their last reading.
        """
        try:
            status = os.stat(self._directory)
            if self._is_trusted(status, "."):
                self._refresh(status.st_mtime_ns)
                self.why = self._unread or self._surplus
            else:
                self.why = (
                    f"{self._directory}: others than root may write to it, so its files are not "
                    "used; make root its owner, with mode 755"
                )
        except FileNotFoundError:
            self._known, self._read_ns, self._settled_ns, self.why = {}, -1, -1, ""
        except OSError as error:
            self._settled_ns = -1
            self.why = (
                f"{self._directory}: {error.strerror}; the job files of the prolog count as last "
                "read. Allow the daemon's user to list this directory, or set "
                "attribute.jobs_directory in the settings file (--config.file) to the directory "
                "that the prolog writes to"
            )
        return {job_id: allocation for job_id, (_, allocation) in self._known.items()}

    def _refresh(self, changed_ns: int) -> None:
        """Read the directory if it has changed. Raises OSError."""
        if changed_ns == self._settled_ns:
            return
        self._unread = ""
        self._known = dict(self._read())
        is_settled = changed_ns == self._read_ns and not self._unread
        self._settled_ns = changed_ns if is_settled else -1
        self._read_ns = changed_ns

    def _read(self) -> Iterator[tuple[str, tuple[int, JobAllocation]]]:
        with os.scandir(self._directory) as entries:
            found = sorted(entries, key=lambda each: each.name)
        listed = found[:MAX_FILES]
        self._surplus = (
            f"{self._directory}: has {len(found)} files, of which {MAX_FILES} are read; remove "
            "those of ended jobs, and set deploy/slurm/epilog.sh as Epilog in slurm.conf"
            if len(found) > MAX_FILES
            else ""
        )
        self._refused &= {".", *(entry.name for entry in listed)}
        for entry in listed:
            if not entry.name.startswith("."):  # skip files that are being written
                yield from self._one(entry)

    def _one(self, entry: "os.DirEntry[str]") -> Iterator[tuple[str, tuple[int, JobAllocation]]]:
        known = self._known.get(entry.name)
        try:
            status = entry.stat(follow_symlinks=False)
            if known is not None and known[0] == status.st_mtime_ns:
                yield entry.name, known
                return
            if not stat.S_ISREG(status.st_mode) or not self._is_trusted(status, entry.name):
                return
            with open(entry.path, "rb") as file:
                content = file.read(FILE_BYTES)
        except FileNotFoundError:
            return
        except OSError as error:
            self._unread = (
                f"{self._directory}/{sanitize(entry.name)}: {error.strerror}; allow the daemon's "
                "user to read the job files of the prolog"
            )
            if known is not None:
                yield entry.name, known
            return
        try:
            allocation = parse_job_file(content)._replace(since=status.st_mtime)
            yield allocation.job_id, (status.st_mtime_ns, allocation)
        except ValueError as error:
            self._refuse(entry.name, str(error))

    def _is_trusted(self, status: os.stat_result, name: str) -> bool:
        if status.st_uid in (ROOT_UID, os.geteuid()) and not status.st_mode & stat.S_IWOTH:
            return True
        self._refuse(
            name, "others than root could have written it; make root its owner, with mode 644"
        )
        return False

    def _refuse(self, name: str, why: str) -> None:
        if name not in self._refused:
            self._refused.add(name)
            path = f"{self._directory}/{name}"
            log.warning("job file not used", extra={"path": path, "error": why})


def parse_job_file(content: bytes) -> JobAllocation:
    """Parse the `key=value` lines of one file. Raises ValueError."""
    fields = {}
    for line in content.decode("utf-8", "replace").splitlines():
        key, _, value = line.partition("=")
        fields[key.strip()] = value.strip()
    job_id = sanitize(fields.get("job_id", ""))
    if not job_id or not _is_number(fields.get("uid", "")):
        raise ValueError("job_id or uid is missing or invalid")
    nodes, end_time = fields.get("nodes", ""), fields.get("end_time", "")
    array, task = fields.get("array_job_id", ""), fields.get("array_task_id", "")
    labels = ((ARRAY_LABEL, array), (TASK_LABEL, task)) if array else ()
    return JobAllocation(
        job_id,
        int(fields["uid"]),
        user=sanitize(fields.get("user", "")),
        account=sanitize(fields.get("account", "")),
        name=sanitize(fields.get("name", "")),
        nodes=int(nodes) if _is_number(nodes) else 0,
        gpus=tuple(part.strip() for part in fields.get("gpus", "").split(",") if part.strip()),
        labels=sanitize_labels(labels),
        sluid=sanitize(fields.get("sluid", "")),
        boot_id=fields.get("boot_id", ""),
        end_time=float(end_time) if _is_number(end_time) else 0.0,
    )


def _is_number(text: str) -> bool:
    is_short = len(text) <= len(str(MAX_NUMBER))
    return is_short and text.isascii() and text.isdecimal() and int(text) < MAX_NUMBER
