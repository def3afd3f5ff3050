"""Reads single processes from /proc: parent, CPU clocks, memory, and run id in the environment."""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from exporter.attribute.identity import RunClaim, claim_from_environment
from exporter.model.runs import RunKey
from exporter.units import BYTES_PER_KIB


@dataclass(slots=True, eq=False, kw_only=True)
class CpuClocks:
    """CPU clocks of one process in clock ticks, and the part of them that is not counted yet."""

    own_ticks: int = 0
    """CPU time of its own threads since its start."""
    ended_ticks: int = 0
    """CPU time of its waited-for descendants."""
    run: RunKey | None = None
    """The run that is charged; None: none."""
    gone: bool = False
    """It has exited, and is kept until its CPU time is settled with its parent."""
    new_own: int = 0
    new_ended: int = 0
    owed: int = 0
    """CPU time of exited descendants that was counted while they ran; not to be counted twice."""

    def advance(self, own_ticks: int, ended_ticks: int) -> None:
        """Add a new reading of both clocks; a lower one than the last is ignored."""
        if own_ticks > self.own_ticks:
            self.new_own += own_ticks - self.own_ticks
            self.own_ticks = own_ticks
        if ended_ticks > self.ended_ticks:
            self.new_ended += ended_ticks - self.ended_ticks
            self.ended_ticks = ended_ticks

    def discard_pending(self) -> None:
        """Discard CPU time that was not counted yet."""
        self.new_own = self.new_ended = self.owed = 0


ProcessT = TypeVar("ProcessT", bound=CpuClocks)


def settle_cpu_time(
    oldest_first: Sequence[ProcessT], parent_of: Callable[[ProcessT], ProcessT | None]
) -> dict[RunKey, int]:
    """Count the clock ticks that each run used since the last call.

    An exited process's time reappears in its parent's clock of ended children, where time already
    counted (`owed`) is subtracted. The part not covered there was waited for by an ancestor, as
    with orphans, and is subtracted there; a rest that no process of a run has waited for is
    dropped.
    """
    used: dict[RunKey, int] = {}
    for process in reversed(oldest_first):
        if not (process.new_own or process.new_ended or process.owed or process.gone):
            continue
        paid = min(process.owed, process.new_ended)
        fresh = process.new_own + process.new_ended - paid
        debt = process.owed - paid
        if process.gone:
            debt += process.own_ticks + process.ended_ticks
        process.discard_pending()
        if fresh:
            assert process.run is not None
            used[process.run] = used.get(process.run, 0) + fresh
        if debt:
            parent = parent_of(process)
            if parent is not None and parent.run is not None:
                parent.owed += debt
    return used


STAT_BYTES = 1024
STATUS_BYTES = 8192
ENVIRONMENT_BYTES = 1 << 20
NAME_BYTES = 64
STATUS_NUMBER = re.compile(rb"\s*(\d{1,18})\b")


@dataclass(slots=True, eq=False)
class Process(CpuClocks):
    """One process, identified by pid and start time, since pids are reused."""

    pid: int
    start: int
    """Clock ticks since boot."""
    ppid: int
    claim: RunClaim | None = None
    uid: int = -1
    """Known only if it has a claim."""
    registered_runs: tuple[RunKey, ...] = ()
    """The runs that it registered, innermost last."""
    ticks_seen: int = 0
    is_environment_hidden: bool = False
    """There is no permission to read its environment."""
    anonymous_bytes: int = 0
    shared_bytes: int = 0
    memory_read_tick: int = 0
    """Number of the tick in which its memory was read."""
    resident: int = 0
    """Resident pages by its stat line: approximate, but enough to detect a change."""
    memory_resident: int = -1
    """`resident` when its memory was last read."""
    is_proxy: bool | None = None
    """Whether it is an MPS server; None: not determined yet."""
    fd: int = -1
    raw: bytes = b""


class Procfs:
    """Reads processes; keeps up to `max_files` stat files open."""

    def __init__(self, root: str, max_files: int, *, read_environments: bool) -> None:
        self._root = root
        self._max_files = max_files
        self._open_files = 0
        self._read_environments = read_environments

    def names(self) -> list[str]:
        """All entries of /proc, processes and others. Raises OSError."""
        return os.listdir(self._root)

    def discover(self, name: str) -> Process | None:
        """Read a new process; None if it has exited or cannot be read."""
        try:
            with open(os.path.join(self._root, name, "stat"), "rb", buffering=0) as file:
                stat = _parse_stat(file.read(STAT_BYTES))
        except OSError:
            return None
        if stat is None:
            return None
        process = Process(int(name), stat.start, stat.ppid)
        process.advance(stat.own_ticks, stat.ended_ticks)
        process.claim = self.read_claim(process)
        return process

    def read_claim(self, process: Process) -> RunClaim | None:
        """Read the claim in its environment; None if there is none, or no permission."""
        if not self._read_environments:
            return None
        directory = self._directory(process)
        try:
            with open(os.path.join(directory, "environ"), "rb", buffering=0) as file:
                claim = claim_from_environment(file.read(ENVIRONMENT_BYTES))
            if claim is not None:
                # Its files may be owned by root though the process is not, see proc(5).
                process.uid = _number(_read_status(directory), b"Uid", -1)
        except PermissionError:
            process.is_environment_hidden = True
            return None
        except OSError:
            return None
        return claim

    def read_name(self, process: Process) -> bytes:
        """Its current name, of which the kernel keeps 15 bytes; empty if it has exited."""
        try:
            with open(os.path.join(self._directory(process), "comm"), "rb", buffering=0) as file:
                return file.read(NAME_BYTES).rstrip(b"\n")
        except OSError:
            return b""

    def read_clocks(self, process: Process) -> bool:
        """Update its clocks; False if it has exited, and then it is `gone`.

        A file that was kept open never shows a later process with the same pid.
        """
        try:
            fd = process.fd
            raw = os.pread(fd, STAT_BYTES, 0) if fd >= 0 else self._read_stat(process)
        except (FileNotFoundError, ProcessLookupError):
            raw = b""
        except OSError:  # a failed read does not mean that it has exited
            return True
        if raw == process.raw and raw:
            return True
        stat = _parse_stat(raw)
        if raw and stat is None:  # of another format: like a failed read
            return True
        if stat is None or stat.start != process.start:
            process.gone = True
            return False
        process.raw = raw
        process.ppid = stat.ppid
        process.resident = stat.resident
        process.advance(stat.own_ticks, stat.ended_ticks)
        return True

    def read_memory(self, process: Process) -> None:
        """Update its memory: RssAnon and RssShmem of proc_pid_status(5)."""
        try:
            status = _read_status(self._directory(process))
        except OSError:  # it has exited, which the next tick detects
            status = b""
        process.anonymous_bytes = _number(status, b"RssAnon", 0) * BYTES_PER_KIB
        process.shared_bytes = _number(status, b"RssShmem", 0) * BYTES_PER_KIB

    def close(self, process: Process) -> None:
        """Close its stat file, if it is open."""
        if process.fd >= 0:
            os.close(process.fd)
            process.fd = -1
            self._open_files -= 1

    def _read_stat(self, process: Process) -> bytes:
        """Read its stat line from a file that stays open within `max_files`."""
        fd = os.open(os.path.join(self._directory(process), "stat"), os.O_RDONLY)
        try:
            return os.pread(fd, STAT_BYTES, 0)
        finally:
            if self._open_files < self._max_files:
                process.fd = fd
                self._open_files += 1
            else:
                os.close(fd)

    def _directory(self, process: Process) -> str:
        return os.path.join(self._root, str(process.pid))


class _Stat(NamedTuple):
    """Used fields of proc_pid_stat(5); times in clock ticks, memory in pages."""

    ppid: int
    own_ticks: int
    ended_ticks: int
    start: int
    resident: int


def _parse_stat(raw: bytes) -> _Stat | None:
    """Parse a stat line; None if it has another format.

    The name before the fields may contain any bytes.
    """
    fields = raw[raw.rfind(b")") + 2 :].split(b" ", 22)
    try:
        own_ticks = int(fields[11]) + int(fields[12])
        ended_ticks = int(fields[13]) + int(fields[14])
        return _Stat(int(fields[1]), own_ticks, ended_ticks, int(fields[19]), int(fields[21]))
    except (ValueError, IndexError):
        return None


def _read_status(directory: str) -> bytes:
    """The rows of proc_pid_status(5). Raises OSError."""
    with open(os.path.join(directory, "status"), "rb", buffering=0) as file:
        return file.read(STATUS_BYTES)


def _number(status: bytes, name: bytes, absent: int) -> int:
    """The first number of a row; `absent` without the row, like memory rows of kernel threads."""
    _, _, rest = status.partition(b"\n" + name + b":")
    number = STATUS_NUMBER.match(rest)
    return int(number[1]) if number else absent
