"""What the scheduler's prolog wrote down of each job: whose it is, and which GPUs it was given."""

import logging
import os
import stat
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from exporter.attribute.identity import clean, clean_labels
from exporter.attribute.schedulers import ARRAY_LABEL, TASK_LABEL

log = logging.getLogger(__name__)

FILE_BYTES = 65_536
MOST = 10_000
ROOT = 0


class Allocation(NamedTuple):
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


class Allocations:
    """Reads the directory whenever something in it has changed.

    Only what root, or the daemon's own user, has written there is believed.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._known: dict[str, tuple[int, Allocation]] = {}
        self._read_ns = -1
        """When the directory had changed that was read last."""
        self._settled_ns = -1
        """The same, once it was read twice: the file system's clock stands still for milliseconds,
        so what was put there right after the first time may not show."""
        self._refused: set[str] = set()

    def look(self) -> Mapping[str, Allocation]:
        """The jobs that are written down, by id."""
        try:
            status = os.stat(self._directory)
        except OSError:
            self._known, self._read_ns, self._settled_ns = {}, -1, -1
        else:
            changed_ns = status.st_mtime_ns
            if changed_ns != self._settled_ns and self._is_trusted(status, "."):
                self._known = dict(self._read())
                self._settled_ns = changed_ns if changed_ns == self._read_ns else -1
                self._read_ns = changed_ns
        return {job_id: allocation for job_id, (_, allocation) in self._known.items()}

    def _read(self) -> Iterator[tuple[str, tuple[int, Allocation]]]:
        with os.scandir(self._directory) as entries:
            listed = sorted(entries, key=lambda each: each.name)[:MOST]
        self._refused &= {".", *(entry.name for entry in listed)}
        for entry in listed:
            if not entry.name.startswith("."):  # one that is being written
                yield from self._one(entry)

    def _one(self, entry: "os.DirEntry[str]") -> Iterator[tuple[str, tuple[int, Allocation]]]:
        try:
            status = entry.stat(follow_symlinks=False)
            known = self._known.get(entry.name)
            if known is not None and known[0] == status.st_mtime_ns:
                yield entry.name, known
                return
            if not stat.S_ISREG(status.st_mode) or not self._is_trusted(status, entry.name):
                return
            with open(entry.path, "rb") as file:
                content = file.read(FILE_BYTES)
        except OSError as error:
            self._refuse(entry.name, str(error.strerror))
            return
        try:
            allocation = parse(content)._replace(since=status.st_mtime)
            yield allocation.job_id, (status.st_mtime_ns, allocation)
        except ValueError as error:
            self._refuse(entry.name, str(error))

    def _is_trusted(self, status: os.stat_result, name: str) -> bool:
        if status.st_uid in (ROOT, os.geteuid()) and not status.st_mode & stat.S_IWOTH:
            return True
        self._refuse(name, "others than root could have written it")
        return False

    def _refuse(self, name: str, why: str) -> None:
        if name not in self._refused:
            self._refused.add(name)
            log.warning("%s/%s is not used: %s", self._directory, name, why)


def parse(content: bytes) -> Allocation:
    """The lines `key=value` of one file. Raises ValueError."""
    fields = {}
    for line in content.decode("utf-8", "replace").splitlines():
        key, _, value = line.partition("=")
        fields[key.strip()] = value.strip()
    job_id = clean(fields.get("job_id", ""))
    if not job_id or not fields.get("uid", "").isdecimal():
        raise ValueError("job_id and uid are not both there")
    nodes = fields.get("nodes", "")
    array, task = fields.get("array_job_id", ""), fields.get("array_task_id", "")
    labels = ((ARRAY_LABEL, array), (TASK_LABEL, task)) if array else ()
    return Allocation(
        job_id,
        int(fields["uid"]),
        user=clean(fields.get("user", "")),
        account=clean(fields.get("account", "")),
        name=clean(fields.get("name", "")),
        nodes=int(nodes) if nodes.isdecimal() else 0,
        gpus=tuple(part.strip() for part in fields.get("gpus", "").split(",") if part.strip()),
        labels=clean_labels(labels),
    )
