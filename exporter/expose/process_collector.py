"""Resource usage of the daemon itself, from /proc/self."""

import os
from typing import NamedTuple


class ProcessState(NamedTuple):
    """Resource usage of the daemon."""

    cpu_seconds: float
    resident_bytes: int
    open_fds: int
    started: float
    """Start time in seconds since the Unix epoch."""


class ProcessCollector:
    """Reads the `ProcessState` of this process."""

    def __init__(self, procfs: str = "/proc") -> None:
        self._stat = os.path.join(procfs, "self", "stat")
        self._fds = os.path.join(procfs, "self", "fd")
        self._ticks = os.sysconf("SC_CLK_TCK")
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")
        self._boot = _boot_time(os.path.join(procfs, "stat"))
        self._is_size_count = _is_size_count(self._fds)

    def read(self) -> ProcessState | None:
        """Return the current state; None if procfs cannot be read, or has another format.

        Fields as numbered in proc(5): utime 14, stime 15, starttime 22, rss 24.
        """
        try:
            with open(self._stat, "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
            fds = os.stat(self._fds).st_size if self._is_size_count else _list_fds(self._fds)
            return ProcessState(
                cpu_seconds=(int(fields[11]) + int(fields[12])) / self._ticks,
                resident_bytes=int(fields[21]) * self._page_bytes,
                open_fds=fds,
                started=self._boot + int(fields[19]) / self._ticks,
            )
        except (OSError, ValueError, IndexError, OverflowError):
            return None


def _is_size_count(path: str) -> bool:
    """Whether the size of the directory is the number of descriptors, as since Linux 6.2.

    Listing them takes a microsecond for each.
    """
    try:
        return os.stat(path).st_size == _list_fds(path)
    except OSError:
        return False


def _list_fds(path: str) -> int:
    return len(os.listdir(path)) - 1  # without the descriptor of this listing


def _boot_time(path: str) -> float:
    """Return the boot time in seconds since the Unix epoch; 0 if it cannot be read."""
    try:
        with open(path, "rb") as file:
            for line in file:
                if line.startswith(b"btime "):
                    return float(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    return 0.0
