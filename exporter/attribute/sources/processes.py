"""Processes from /proc: who was born of whom, and the CPU time and memory of those in runs.

Only processes that belong to a run are read each tick; of the others it is enough to know that
they are there, so that their children are known when they are born.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from exporter.attribute.identity import Claim, claim_of
from exporter.model.runs import RunKey
from exporter.units import MICROSECONDS_PER_SECOND

STAT_BYTES = 1024
ENVIRONMENT_BYTES = 1 << 20
YOUNG_LOOKS = 1
"""Looks after the first: a process may call exec after its birth was seen."""


@dataclass(slots=True, eq=False)
class Process:
    """One process, told apart from a later one with its pid by its start time."""

    pid: int
    start: int
    """Clock ticks since boot."""
    ppid: int
    self_ticks: int
    """CPU time of its own threads."""
    children_ticks: int
    """CPU time of its children that ended and were waited for."""
    claim: Claim | None = None
    uid: int = -1
    run: RunKey | None = None
    fd: int = -1
    raw: bytes = b""
    looks: int = 0
    secret: bool = False
    """Its environment may not be read."""
    owed_ticks: int = 0
    """Time of ended children that was counted while they lived; not to be counted again."""
    fresh_ticks: int = 0
    """CPU time since the last look, unseen children's included."""


class ProcessTable:
    """Every process of the machine, and the CPU time of those that a run owns."""

    def __init__(self, procfs: str, max_files: int, *, read_environments: bool) -> None:
        self._procfs = procfs
        self._max_files = max_files
        self._open_files = 0
        self._read_environments = read_environments
        self._us_per_tick = MICROSECONDS_PER_SECOND // os.sysconf("SC_CLK_TCK")
        self._table: dict[str, Process] = {}
        self._owned: list[Process] = []
        self._first = True

    def find(self, pid: int) -> Process | None:
        """The process with this pid, if it was there at the last look."""
        return self._table.get(str(pid))

    def parent(self, process: Process) -> Process | None:
        """Its parent, if that was there at the last look."""
        return self._table.get(str(process.ppid))

    def members(self) -> dict[RunKey, list[Process]]:
        """The processes that each run owns."""
        members: dict[RunKey, list[Process]] = {}
        for process in self._owned:
            assert process.run is not None
            members.setdefault(process.run, []).append(process)
        return members

    def all(self) -> Iterable[Process]:
        """Every process, older ones first."""
        return self._table.values()

    def secrets(self) -> int:
        """How many processes have an environment that may not be read."""
        return sum(process.secret for process in self._table.values())

    def refresh(self, adopt: Callable[[Process, Process | None], RunKey | None]) -> None:
        """Look who is there. `adopt(process, parent)` names the run of one that is new.

        It is called in order of birth, parents first, and again for a young process whose
        environment has changed by exec. Raises OSError if /proc itself cannot be listed.
        """
        listed = os.listdir(self._procfs)
        present = set(listed)
        for name in [name for name in self._table if name not in present]:
            self._drop(self._table[name])
        for process in self._young():
            self._look_again(process, adopt)
        born = [
            self._discover(name) for name in listed if name.isdigit() and name not in self._table
        ]
        for process in sorted((p for p in born if p), key=lambda p: (p.start, p.pid)):
            self._table[str(process.pid)] = process
            parent = self.parent(process)
            if process.claim is None and parent is not None:
                process.claim = parent.claim
            process.run = adopt(process, parent)
            if process.run is not None:
                self._owned.append(process)
            if self._first:
                process.fresh_ticks = 0
        self._first = False

    def own(self, process: Process, run: RunKey | None) -> None:
        """Give a process to `run` from now on; what it used before is not counted."""
        if process.run is None and run is not None:
            self._read(process)
            process.fresh_ticks = 0
            self._owned.append(process)
            self._owned.sort(key=lambda p: (p.start, p.pid))
        elif run is None and process.run is not None:
            self._owned.remove(process)
            self._close(process)
        process.run = run

    def count(self) -> dict[RunKey, int]:
        """CPU time in microseconds that each run's processes used since the last call.

        A child's time moves to its parent when it has ended and was waited for, so time is
        counted once whether or not the child was seen alive. Parents are read before their
        children: a child that is waited for in between is then missing, never there twice.
        """
        before = [(p, p.self_ticks, p.children_ticks) for p in self._owned]
        for process in [process for process in self._owned if not self._read(process)]:
            self._drop(process)
        used: dict[RunKey, int] = {}
        for process, own_ticks, children_ticks in before:
            waited = process.children_ticks - children_ticks
            repaid = min(waited, process.owed_ticks)
            process.owed_ticks -= repaid
            fresh = process.self_ticks - own_ticks + waited - repaid + process.fresh_ticks
            process.fresh_ticks = 0
            assert process.run is not None
            used[process.run] = used.get(process.run, 0) + fresh * self._us_per_tick
        return used

    def lifetimes(self) -> dict[RunKey, int]:
        """CPU microseconds of each run's live processes since birth, ended children included."""
        lifetimes: dict[RunKey, int] = {}
        for process in self._owned:
            assert process.run is not None
            ticks = process.self_ticks + process.children_ticks
            lifetimes[process.run] = lifetimes.get(process.run, 0) + ticks * self._us_per_tick
        return lifetimes

    def memories(self) -> dict[RunKey, int]:
        """Anonymous memory of each run's processes, and the largest of their shared memories.

        Processes of one run mostly share the same pages, so those are not added up. Bytes.
        """
        memories = {}
        for run, processes in self.members().items():
            sizes = [self._memory(process) for process in processes]
            memories[run] = sum(own for own, _ in sizes) + max(shared for _, shared in sizes)
        return memories

    def _young(self) -> list[Process]:
        young = []
        for process in reversed(self._table.values()):
            if process.looks >= YOUNG_LOOKS:
                break
            process.looks += 1
            young.append(process)
        return young

    def _look_again(
        self, process: Process, adopt: Callable[[Process, Process | None], RunKey | None]
    ) -> None:
        claim = self._claim(process)
        if claim is None or claim == process.claim:
            return
        process.claim = claim
        run = adopt(process, self.parent(process))
        if run != process.run:
            self.own(process, run)

    def _discover(self, name: str) -> Process | None:
        try:
            with open(os.path.join(self._procfs, name, "stat"), "rb", buffering=0) as file:
                raw = file.read(STAT_BYTES)
        except OSError:
            return None
        ppid, own_ticks, children_ticks, start = _parse(raw)
        process = Process(int(name), start, ppid, own_ticks, children_ticks)
        process.fresh_ticks = own_ticks + children_ticks
        process.claim = self._claim(process)
        return process

    def _claim(self, process: Process) -> Claim | None:
        """What its own environment says; None where it may not be read."""
        if not self._read_environments:
            return None
        path = os.path.join(self._procfs, str(process.pid), "environ")
        try:
            with open(path, "rb", buffering=0) as file:
                process.uid = os.fstat(file.fileno()).st_uid
                block = file.read(ENVIRONMENT_BYTES)
        except PermissionError:
            process.secret = True
            return None
        except OSError:
            return None
        return claim_of(block)

    def _read(self, process: Process) -> bool:
        """Its clocks now; False if it is gone. A file kept open never shows a reused pid."""
        try:
            if process.fd >= 0:
                raw = os.pread(process.fd, STAT_BYTES, 0)
            else:
                raw = self._open_and_read(process)
        except OSError:
            return False
        if raw == process.raw:
            return True
        if not raw:
            return False
        ppid, own_ticks, children_ticks, start = _parse(raw)
        if start != process.start:
            return False
        process.raw = raw
        process.ppid = ppid
        process.self_ticks = max(process.self_ticks, own_ticks)
        process.children_ticks = max(process.children_ticks, children_ticks)
        return True

    def _open_and_read(self, process: Process) -> bytes:
        fd = os.open(os.path.join(self._procfs, str(process.pid), "stat"), os.O_RDONLY)
        try:
            return os.pread(fd, STAT_BYTES, 0)
        finally:
            if self._open_files < self._max_files:
                process.fd = fd
                self._open_files += 1
            else:
                os.close(fd)

    def _memory(self, process: Process) -> tuple[int, int]:
        """RssAnon and RssShmem of proc_pid_status(5), bytes."""
        try:
            with open(os.path.join(self._procfs, str(process.pid), "status"), "rb") as file:
                lines = dict(line.split(b":", 1) for line in file if line.startswith(b"Rss"))
        except OSError:
            return 0, 0
        return _kilobytes(lines, b"RssAnon"), _kilobytes(lines, b"RssShmem")

    def _drop(self, process: Process) -> None:
        """Forget a process that is gone; what it used was counted, and will come by its parent."""
        del self._table[str(process.pid)]
        self._close(process)
        if process.run is None:
            return
        self._owned.remove(process)
        parent = self.parent(process)
        if parent is not None:
            parent.owed_ticks += process.self_ticks + process.children_ticks

    def _close(self, process: Process) -> None:
        if process.fd >= 0:
            os.close(process.fd)
            process.fd = -1
            self._open_files -= 1


def _parse(raw: bytes) -> tuple[int, int, int, int]:
    """Parent, own ticks, waited-for children's ticks and start of a proc_pid_stat(5) line."""
    fields = raw[raw.rindex(b")") + 2 :].split(b" ", 20)
    own = int(fields[11]) + int(fields[12])
    children = int(fields[13]) + int(fields[14])
    return int(fields[1]), own, children, int(fields[19])


def _kilobytes(lines: dict[bytes, bytes], name: bytes) -> int:
    return int(lines[name].split()[0]) * 1024 if name in lines else 0
