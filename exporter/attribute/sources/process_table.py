"""All processes of the machine: who was born of whom, and what those in runs use.

Only processes that belong to a run are read each tick; of the others it is enough to know that
they are there, so that their children are known when they are born.
"""

import os
from collections.abc import Callable, Collection, Sequence
from operator import attrgetter

from exporter.attribute.sources.procfs import Process, Procfs, settle_cpu_time
from exporter.model.runs import RunKey
from exporter.units import MICROSECONDS_PER_SECOND, NANOSECONDS_PER_SECOND

MEMORY_READ_TICKS = 10
"""In how many looks the memory of everything in a run is read once, at most."""
MAX_NEW_READS = 50
"""How many processes are read in one look because they are new."""


class RunMemory:
    """Anonymous memory of each run's processes, and the largest of their shared memories.

    Processes of one run mostly share the same pages, so those are not added up.
    """

    def __init__(self, read: Callable[[Process], None]) -> None:
        self._read = read
        self._look = 0
        self._owned: Sequence[Process] = ()
        self._sums: dict[RunKey, int] = {}

    def collect(self, owned: Sequence[Process]) -> dict[RunKey, int]:
        """Bytes of each run. `owned` is another sequence whenever it holds other processes.

        Only processes whose clocks line told of another resident size since they were read are
        read again, a part in each call, those first that were read longest ago.
        """
        self._look += 1
        grown = [process for process in owned if process.resident != process.memory_resident]
        for process in self._due(grown, len(owned)):
            process.memory_read_tick = self._look
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
"""Looks after the first: a process may call exec after its birth was seen."""

AssignRun = Callable[[Process, Process | None], RunKey | None]
"""Names the run of a process, given its parent."""


class ProcessTable:
    """Every process of the machine, and the CPU time of those that a run owns."""

    def __init__(self, procfs: str, max_files: int, *, read_environments: bool) -> None:
        self._procfs = Procfs(procfs, max_files, read_environments=read_environments)
        self._ticks_per_second = os.sysconf("SC_CLK_TCK")
        self._us_per_tick = MICROSECONDS_PER_SECOND // self._ticks_per_second
        self._table: dict[str, Process] = {}
        self._memories = RunMemory(self._procfs.read_memory)
        self._listed: list[str] = []
        """What was listed last; empty where the table has to be compared with it again."""
        self._owned: list[Process] | None = None
        self._secrets = 0
        self._first = True

    def find(self, pid: int) -> Process | None:
        """The process with this pid, if it was there at the last look."""
        return self._table.get(str(pid))

    def name(self, process: Process) -> bytes:
        """Its name now, as far as the kernel keeps it; empty if it is gone."""
        return self._procfs.read_name(process)

    def parent(self, process: Process) -> Process | None:
        """Its parent, if that was there at the last look; never a later process with that pid."""
        parent = self._table.get(str(process.ppid))
        return parent if parent is not None and parent.start <= process.start else None

    def all(self) -> Collection[Process]:
        """Every process, older ones first."""
        return self._table.values()

    def owned(self) -> list[Process]:
        """The processes that a run owns, older ones first; another list once it has changed."""
        if self._owned is None:
            self._owned = [p for p in self._table.values() if p.run is not None]
        return self._owned

    def hidden_environments(self) -> int:
        """How many processes have an environment that may not be read."""
        return self._secrets

    def age_seconds(self, process: Process, at_ns: int) -> float:
        """How long before `at_ns`, counted from boot, the process was born."""
        return at_ns / NANOSECONDS_PER_SECOND - process.start / self._ticks_per_second

    def refresh(self, assign_run: AssignRun) -> None:
        """Look who is there, and ask `adopt` for the run of each process that is new.

        It is asked in order of birth, parents first, and again for a young process whose
        environment has changed by exec. Raises OSError if /proc itself cannot be listed.
        """
        listed = self._procfs.names()
        young = self._young()
        for process in young:
            self._look_again(process, assign_run)
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
        self._secrets = sum(process.is_environment_hidden for process in self._table.values())
        if self._first and found:
            self._begin(found)

    def assign(self, processes: Collection[Process], run: RunKey | None) -> None:
        """Give processes to `run` from now on; what they used in no run before is not counted."""
        if run is not None:
            pop_opened = [process for process in processes if process.run is None]
            self._read(pop_opened)
            for process in pop_opened:
                process.discard_pending()
                if process.gone:
                    self._forget(process)
        self._owned = None
        for process in processes:
            process.run = run
            if run is None:
                self._procfs.close(process)

    def count(self) -> dict[RunKey, int]:
        """CPU time in microseconds that each run's processes used since the last call."""
        owned = self.owned()
        self._read([process for process in owned if not process.gone])
        ticks = settle_cpu_time(owned, self.parent)
        for process in owned:
            if process.gone:
                self._forget(process)
        return {run: used * self._us_per_tick for run, used in ticks.items()}

    def lifetimes(self) -> dict[RunKey, int]:
        """CPU microseconds of each run's live processes since birth, ended children included."""
        lifetimes: dict[RunKey, int] = {}
        for process in self.owned():
            assert process.run is not None
            lived_us = (process.own_ticks + process.ended_ticks) * self._us_per_tick
            lifetimes[process.run] = lifetimes.get(process.run, 0) + lived_us
        return lifetimes

    def memory_by_run(self) -> dict[RunKey, int]:
        """Bytes of memory that each run's processes hold."""
        return self._memories.collect(self.owned())

    def _begin(self, found: list[Process]) -> None:
        """After the first look: what was used before is not counted, and few are young.

        The youngest of them, mostly this daemon itself, stands for now.
        """
        self._first = False
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

    def _look_again(self, process: Process, assign_run: AssignRun) -> None:
        claim = self._procfs.read_claim(process)
        if claim is None or claim == process.claim:
            return
        process.claim = claim
        run = assign_run(process, self.parent(process))
        if run != process.run:
            self.assign([process], run)

    def _read(self, oldest_first: list[Process]) -> None:
        """Read clocks, parents before children, and all again as long as one vanishes meanwhile.

        Then all that is left was read after the last of the others had vanished, and no parent
        after a child of it that was alive: so `settle` holds.
        """
        read = self._procfs.read_clocks
        while (left := [process for process in oldest_first if read(process)]) != oldest_first:
            oldest_first = left

    def _forget(self, process: Process) -> None:
        del self._table[str(process.pid)]
        self._procfs.close(process)
        self._listed, self._owned = [], None
