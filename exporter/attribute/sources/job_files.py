"""What the scheduler's prolog wrote down of each job: whose it is, and which GPUs it was given."""

import logging
import os
import stat
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from exporter.attribute.identity import ARRAY_LABEL, TASK_LABEL, sanitize, sanitize_labels

log = logging.getLogger(__name__)

FILE_BYTES = 65_536
MAX_FILES = 10_000
"""Files that are read; the names of those beyond come last in the alphabet."""
MAX_NUMBER = 1 << 32
ROOT_UID = 0


class JobAllocation(NamedTuple):
    """One job of this node."""

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
    """When it was written down, wall clock."""
    sluid: str = ""
    """What Slurm calls this run of the job; a job that is queued again gets another one."""
    boot_id: str = ""
    """Of the boot in which it was written down; "": unknown."""
    end_time: float = 0.0
    """When the job has to end at the latest, wall clock; 0: unknown."""


class JobFiles:
    """Reads the directory whenever something in it has changed.

    Only what root, or the daemon's own user, has written there is believed.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._known: dict[str, tuple[int, JobAllocation]] = {}
        self._read_ns = -1
        """When the directory had changed that was read last."""
        self._settled_ns = -1
        """The same, once it was read twice: the file system's clock stands still for milliseconds,
        so what was put there right after the first time may not show."""
        self._refused: set[str] = set()
        self._unread = ""
        """Why a file could not be read at the last time."""
        self._surplus = ""
        """That there are more files than are read."""
        self.why = ""
        """Why not all of the directory could be read at the last look."""

    def collect(self) -> Mapping[str, JobAllocation]:
        """The jobs that are written down, by id.

        What cannot be read now is as it was read last.
        """
        try:
            status = os.stat(self._directory)
            if self._is_trusted(status, "."):
                self._refresh(status.st_mtime_ns)
                self.why = self._unread or self._surplus
            else:
                self.why = (
                    f"{self._directory}: others than root may write to it, so its files are "
                    "not used; let root own it, with mode 755"
                )
        except FileNotFoundError:
            self._known, self._read_ns, self._settled_ns, self.why = {}, -1, -1, ""
        except OSError as error:
            self._settled_ns = -1
            self.why = (
                f"{self._directory}: {error.strerror}; jobs that the prolog wrote down are as they "
                "were last read. Let the daemon's user list this directory, or set "
                "attribute.jobs_directory in the settings file (--config.file) to the one that the "
                "prolog writes to"
            )
        return {job_id: allocation for job_id, (_, allocation) in self._known.items()}

    def _refresh(self, changed_ns: int) -> None:
        """Read the directory if it has changed. Raises OSError."""
        if changed_ns == self._settled_ns:
            return
        self._unread = ""
        self._known = dict(self._read())
        has_answered_once = changed_ns == self._read_ns and not self._unread
        self._settled_ns = changed_ns if has_answered_once else -1
        self._read_ns = changed_ns

    def _read(self) -> Iterator[tuple[str, tuple[int, JobAllocation]]]:
        with os.scandir(self._directory) as entries:
            found = sorted(entries, key=lambda each: each.name)
        listed = found[:MAX_FILES]
        self._surplus = (
            f"{self._directory}: has {len(found)} files, of which {MAX_FILES} are read; remove "
            "those of "
            "jobs that have ended, and let slurmd call deploy/slurm/epilog.sh"
            if len(found) > MAX_FILES
            else ""
        )
        self._refused &= {".", *(entry.name for entry in listed)}
        for entry in listed:
            if not entry.name.startswith("."):  # one that is being written
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
                f"{self._directory}/{sanitize(entry.name)}: {error.strerror}; let the "
                "daemon's user read what the prolog wrote down of jobs"
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
        self._refuse(name, "others than root could have written it")
        return False

    def _refuse(self, name: str, why: str) -> None:
        if name not in self._refused:
            self._refused.add(name)
            log.warning("%s/%s is not used: %s", self._directory, name, why)


def parse_job_file(content: bytes) -> JobAllocation:
    """The lines `key=value` of one file. Raises ValueError."""
    fields = {}
    for line in content.decode("utf-8", "replace").splitlines():
        key, _, value = line.partition("=")
        fields[key.strip()] = value.strip()
    job_id = sanitize(fields.get("job_id", ""))
    if not job_id or not _is_number(fields.get("uid", "")):
        raise ValueError("job_id and uid are not both there")
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
