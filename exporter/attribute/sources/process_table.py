"""The table of all processes: their parents and runs, and CPU time and memory of the runs.

Only processes of runs that are not metered by a cgroup are read in each tick; for the others it is
enough to know their pids, so that new children can be assigned by their parent.
"""

import os
from collections.abc import Callable, Collection, Sequence
from collections.abc import Set as AbstractSet
from operator import attrgetter

from exporter.attribute.sources.procfs import Process, Procfs, settle_cpu_time
from exporter.model.runs import RunKey
from exporter.units import MICROSECONDS_PER_SECOND, NANOSECONDS_PER_SECOND

MEMORY_READ_TICKS = 10
"""Ticks in which the memory of all processes of runs is read at most once."""
MAX_NEW_READS = 50
"""Limit for new processes whose memory is read in one tick."""


class RunMemory:
    """Memory by run: the sum of anonymous memory, and the maximum of shared memory.

    Processes of one run mostly share the same pages, so shared memory is not summed.
    """

    def __init__(self, read: Callable[[Process], None]) -> None:
        self._read = read
        self._ticks = 0
        self._owned: Sequence[Process] = ()
        self._sums: dict[RunKey, int] = {}

    def collect(self, owned: Sequence[Process]) -> dict[RunKey, int]:
        """Bytes by run. `owned` must be a new object whenever its processes change.

        Only processes whose resident size has changed since their last reading are read again, a
        fraction in each call, least recently read ones first.
        """
        self._ticks += 1
        grown = [process for process in owned if process.resident != process.memory_resident]
        for process in self._due(grown, len(owned)):
            process.memory_read_tick = self._ticks
            process.memory_resident = process.resident
            self._read(process)
        if grown or owned is not self._owned:
            self._owned, self._sums = owned, _sums(owned)
        return dict(self._sums)

    def _due(self, grown: list[Process], owned: int) -> Sequence[Process]:
        grown.sort(key=attrgetter("memory_read_tick"))
        unread = sum(not process.memory_read_tick for process in grown)
        return grown[: max(-(-owned // MEMORY_READ_TICKS), min(unread, MAX_NEW_READS))]


def _sums(owned: Sequence[Process]) -> dict[RunKey, int]:
    anonymous: dict[RunKey, int] = {}
    shared: dict[RunKey, int] = {}
    for process in owned:
        run = process.run
        assert run is not None
        anonymous[run] = anonymous.get(run, 0) + process.anonymous_bytes
        shared[run] = max(shared.get(run, 0), process.shared_bytes)
    return {run: size + shared[run] for run, size in anonymous.items()}


EXEC_GRACE_TICKS = 1
"""Ticks in which a new process is checked again, since it may call exec after the fork."""

AssignRun = Callable[[Process, Process | None], RunKey | None]
"""Returns the run of a process, given its parent."""


class ProcessTable:
    """All processes of the machine, and the CPU time of those in runs."""

    def __init__(self, procfs: str, max_files: int, *, read_environments: bool) -> None:
        self._procfs = Procfs(procfs, max_files, read_environments=read_environments)
        self._ticks_per_second = os.sysconf("SC_CLK_TCK")
        self._us_per_tick = MICROSECONDS_PER_SECOND // self._ticks_per_second
        self._table: dict[str, Process] = {}
        self._memories = RunMemory(self._procfs.read_memory)
        self._listed: list[str] = []
        """The last listing of /proc; empty if the table must be compared again."""
        self._owned: list[Process] | None = None
        self._counted: list[Process] = []
        """The processes of runs that are read."""
        self._counted_input: tuple[object, AbstractSet[RunKey]] = (None, frozenset())
        self._skipped: dict[Process, None] = {}
        """The processes of runs that are not read, oldest first."""
        self._near_skipped: set[Process] = set()
        """Them and their parents."""
        self._hidden_environments = 0
        self._is_first_refresh = True

    def find(self, pid: int) -> Process | None:
        """The process with this pid, as of the last refresh."""
        return self._table.get(str(pid))

    def name(self, process: Process) -> bytes:
        """Its current name, truncated by the kernel; empty if it has exited."""
        return self._procfs.read_name(process)

    def parent(self, process: Process) -> Process | None:
        """Its parent as of the last refresh; never a later process with that pid."""
        parent = self._table.get(str(process.ppid))
        return parent if parent is not None and parent.start <= process.start else None

    def all(self) -> Collection[Process]:
        """All processes, oldest first."""
        return self._table.values()

    def owned(self) -> list[Process]:
        """The processes of runs, oldest first; a new list object after each change."""
        if self._owned is None:
            self._owned = [p for p in self._table.values() if p.run is not None]
        return self._owned

    def hidden_environments(self) -> int:
        """Number of processes whose environment cannot be read for lack of permission."""
        return self._hidden_environments

    def age_seconds(self, process: Process, at_ns: int) -> float:
        """Age of the process at `at_ns`, nanoseconds since boot."""
        return at_ns / NANOSECONDS_PER_SECOND - process.start / self._ticks_per_second

    def refresh(self, assign_run: AssignRun) -> None:
        """Update the table from /proc, calling `assign_run` for each new process.

        It is called in order of start time, parents first, and again for a young process whose
        environment changed by exec. Raises OSError if /proc itself cannot be listed.
        """
        listed = self._procfs.names()
        young = self._young()
        for process in young:
            self._check_exec(process, assign_run)
        if listed == self._listed and not young:
            return
        self._listed, self._owned = listed, None
        present = set(listed)
        for process in [p for name, p in self._table.items() if name not in present]:
            process.gone = True
            if process.run is None:
                self._forget(process)
        names = [name for name in listed if name.isdigit() and name not in self._table]
        found = [process for process in map(self._procfs.discover, names) if process is not None]
        found.sort(key=attrgetter("start", "pid"))
        for process in found:
            self._table[str(process.pid)] = process
            parent = self.parent(process)
            if process.claim is None and parent is not None:
                process.claim = parent.claim
            process.run = assign_run(process, parent)
        if len(found) < len(names):
            self._listed = []
        self._hidden_environments = sum(
            process.is_environment_hidden for process in self._table.values()
        )
        if self._is_first_refresh and found:
            self._initialize(found)

    def assign(self, processes: Collection[Process], run: RunKey | None) -> None:
        """Assign processes to `run`; CPU time that they used before in no run is not counted."""
        if run is not None:
            self._update([process for process in processes if process.run is None])
            if not self._near_skipped.isdisjoint(processes):
                self._update([process for process in self._skipped if not process.gone])
        self._owned = None
        for process in processes:
            process.run = run
            if run is None:
                self._procfs.close(process)

    def count(self, metered: AbstractSet[RunKey] = frozenset()) -> dict[RunKey, int]:
        """CPU microseconds used by each run's processes since the last call.

        Processes of `metered` runs are skipped, because their CPU time is that of a cgroup. One
        below a process that is not skipped is read: its CPU time reappears there when it exits.
        """
        owned = self.owned()
        if owned is not self._counted_input[0] or metered != self._counted_input[1]:
            self._counted_input = owned, metered
            self._select(owned, metered)
        self._read([process for process in self._counted if not process.gone])
        ticks = settle_cpu_time(self._counted, self.parent)
        for process in owned:
            if process.gone:
                self._forget(process)
        return {run: used * self._us_per_tick for run, used in ticks.items()}

    def lifetimes(self) -> dict[RunKey, int]:
        """CPU microseconds of each run's processes since their start, with ended children.

        Those of metered runs are out of date.
        """
        lifetimes: dict[RunKey, int] = {}
        for process in self.owned():
            assert process.run is not None
            lived_us = (process.own_ticks + process.ended_ticks) * self._us_per_tick
            lifetimes[process.run] = lifetimes.get(process.run, 0) + lived_us
        return lifetimes

    def memory_by_run(self) -> dict[RunKey, int]:
        """Bytes of memory of each run's processes, without those that are skipped."""
        return self._memories.collect(self._counted)

    def _select(self, owned: list[Process], metered: AbstractSet[RunKey]) -> None:
        """Select the processes to skip, and update those that are no longer skipped."""
        before = [p for p in self._skipped if p.run in metered and not p.gone]
        self._update([process for process in before if self._is_orphan(process)])
        self._skipped, self._near_skipped = {}, set()
        for process in owned:
            if process.run not in metered:
                continue
            parent = self.parent(process)
            if parent is None or parent.run is None or parent in self._skipped:
                self._skipped[process] = None
                self._near_skipped.update((process,) if parent is None else (process, parent))
        self._counted = [process for process in owned if process not in self._skipped]
        self._update([process for process in before if process not in self._skipped])

    def _initialize(self, found: list[Process]) -> None:
        """Initialize processes found in the first refresh: earlier CPU time is not counted.

        The start time of the youngest one, mostly this daemon itself, is used as the current time.
        """
        self._is_first_refresh = False
        second_ago = found[-1].start - self._ticks_per_second
        for process in found:
            process.discard_pending()
            if process.start < second_ago:
                process.ticks_seen = EXEC_GRACE_TICKS

    def _young(self) -> list[Process]:
        young = []
        for process in reversed(self._table.values()):
            if process.ticks_seen >= EXEC_GRACE_TICKS:
                break
            process.ticks_seen += 1
            young.append(process)
        return young

    def _check_exec(self, process: Process, assign_run: AssignRun) -> None:
        claim = self._procfs.read_claim(process)
        if claim is None or claim == process.claim:
            return
        process.claim = claim
        run = assign_run(process, self.parent(process))
        if run != process.run:
            self.assign([process], run)

    def _read(self, oldest_first: list[Process]) -> None:
        """Read clocks, parents before children; repeat until no process exits meanwhile.

        Then all remaining processes were read after the last exit, and no parent after a living
        child, as `settle_cpu_time` requires.
        """
        read = self._procfs.read_clocks
        while (left := [process for process in oldest_first if read(process)]) != oldest_first:
            oldest_first = left

    def _is_orphan(self, process: Process) -> bool:
        """Whether its parent has exited, so that it has another one, unless that is hidden."""
        return process.ppid > 0 and self.parent(process) is None

    def _update(self, oldest_first: list[Process]) -> None:
        """Read clocks without counting the CPU time used so far."""
        self._read(oldest_first)
        for process in oldest_first:
            process.discard_pending()
            if process.gone and process.run is None:
                self._forget(process)

    def _forget(self, process: Process) -> None:
        del self._table[str(process.pid)]
        self._procfs.close(process)
        self._listed, self._owned = [], None
