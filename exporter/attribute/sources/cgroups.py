"""CPU time and memory of a cgroup, version 2 or 1; exited processes are included by the kernel."""

import os
import re
import weakref
from collections.abc import Iterator, Mapping

from exporter.errors import Unavailable
from exporter.units import NANOSECONDS_PER_MICROSECOND

V2 = ""
"""How /proc/PID/cgroup names the one hierarchy of version 2."""
FILE_BYTES = 16384
CLOCK_FLAGS = os.O_RDONLY | os.O_CLOEXEC
CLOCK_BYTES = 64
"""Enough for what comes first in cpu.stat."""


def mounts(procfs: str) -> dict[str, str]:
    """The first mount point of each cgroup hierarchy: `""` for version 2, else by controller.

    Raises OSError.
    """
    found: dict[str, str] = {}
    for hierarchy, point in mount_points(procfs):
        found.setdefault(hierarchy, point)
    return found


def mount_points(procfs: str) -> Iterator[tuple[str, str]]:
    """Every mount of a cgroup hierarchy, named like in `mounts`, in order. Raises OSError."""
    for line in _lines(os.path.join(procfs, "self", "mountinfo")):
        left, _, right = line.partition(" - ")
        point, kind = _unescaped(left.split(" ")[4]), right.split(" ")[0]
        if kind == "cgroup2":
            yield V2, point
        elif kind == "cgroup":
            for controller in right.split(" ")[2].split(","):
                yield controller, point


def paths(procfs: str, pid: int | str) -> dict[str, str]:
    """The cgroup of a process in each hierarchy, keyed like `mounts`. Raises OSError."""
    found = {}
    for line in _lines(os.path.join(procfs, str(pid), "cgroup")):
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            found[controller] = path
    return found


def _lines(path: str) -> list[str]:
    """Lines of a file of the kernel, whose names may be of any bytes."""
    with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        return [line for line in file.read().split("\n") if line]


def _unescaped(field: str) -> str:
    """A field of proc_pid_mountinfo(5): blanks and backslashes in it are written in octal."""
    return re.sub(r"\\([0-7]{3})", lambda digits: chr(int(digits[1], 8)), field)


class CgroupMeter:
    """One cgroup's clocks. Raises Unavailable if it has none of its own."""

    def __init__(self, mounted: Mapping[str, str], at: Mapping[str, str]) -> None:
        own = {name: path for name, path in at.items() if path != "/" and name in mounted}
        if not own.keys() & {V2, "cpuacct"}:
            raise Unavailable(
                "the process is in no cgroup of its own, so its cgroup is the whole machine; "
                "use scope tree, or start it in a cgroup, for example by systemd-run --scope"
            )
        self._files = {name: mounted[name] + path for name, path in own.items()}
        self._hierarchy = V2 if V2 in own else "cpuacct"
        self._clock: int | None = None
        """Kept open: to open it costs as much as to read it."""
        self._path = path = own[self._hierarchy]
        self.path = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        """Which cgroup it is, as valid text."""
        self.last_us = self.cpu_us()

    def advance_us(self) -> int:
        """CPU time since the last call; 0 once the cgroup is gone."""
        try:
            now_us = self.cpu_us()
        except OSError:
            return 0
        used, self.last_us = max(0, now_us - self.last_us), now_us
        return used

    def cpu_us(self) -> int:
        """CPU time since the cgroup was made, microseconds. Raises OSError when it is gone."""
        if self._clock is None:
            name = "cpu.stat" if V2 in self._files else "cpuacct.usage"
            self._clock = os.open(f"{self._files[self._hierarchy]}/{name}", CLOCK_FLAGS)
            weakref.finalize(self, os.close, self._clock)
        text = os.pread(self._clock, CLOCK_BYTES, 0)
        if V2 in self._files:
            return int(text.split(None, 2)[1])
        return int(text) // NANOSECONDS_PER_MICROSECOND

    def memory_bytes(self) -> int:
        """Anonymous and shared memory; 0 where no hierarchy accounts for it."""
        for hierarchy, names in (
            (V2, (b"anon", b"shmem")),
            ("memory", (b"total_rss", b"total_shmem")),
        ):
            try:
                rows = dict(
                    row.split() for row in self._read(hierarchy, "memory.stat").splitlines()
                )
            except (KeyError, OSError):
                continue
            return sum(int(rows.get(name, 0)) for name in names)
        return 0

    def holds(self, at: Mapping[str, str]) -> bool:
        """Whether a process with these cgroups is in it, or in one below it."""
        path = at.get(self._hierarchy, "")
        return path == self._path or path.startswith(self._path + "/")

    def populated(self) -> bool:
        """Whether a process is left in it or, in version 2, in a cgroup below it."""
        try:
            if V2 in self._files:
                return b"populated 1" in self._read(V2, "cgroup.events")
            return bool(self._read("cpuacct", "cgroup.procs"))
        except OSError:
            return False

    def _read(self, hierarchy: str, name: str) -> bytes:
        with open(f"{self._files[hierarchy]}/{name}", "rb", buffering=0) as file:
            return file.read(FILE_BYTES)
