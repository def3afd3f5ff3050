"""All processes of the machine: who was born of whom, and what those in runs use.

Only processes that belong to a run are read each tick; of the others it is enough to know that
they are there, so that their children are known when they are born.
"""

import os
from collections.abc import Callable, Collection
from operator import attrgetter

from exporter.attribute.cpu_time import settle
from exporter.attribute.sources.procfs import Process, Procfs
from exporter.model.runs import RunKey
from exporter.units import MICROSECONDS_PER_SECOND, NANOSECONDS_PER_SECOND

YOUNG_LOOKS = 1
"""Looks after the first: a process may call exec after its birth was seen."""
MEMORY_LOOKS = 10
"""In how many looks the memory of everything in a run is read once."""
NEW_MEMORIES = 50
"""How many processes are read in one look because they are new."""

Adopt = Callable[[Process, Process | None], RunKey | None]
"""Names the run of a process, given its parent."""


class ProcessTable:
    """Every process of the machine, and the CPU time of those that a run owns."""

    def __init__(self, procfs: str, max_files: int, *, read_environments: bool) -> None:
        self._procfs = Procfs(procfs, max_files, read_environments=read_environments)
        self._ticks_per_second = os.sysconf("SC_CLK_TCK")
        self._us_per_tick = MICROSECONDS_PER_SECOND // self._ticks_per_second
        self._table: dict[str, Process] = {}
        self._memory_look = 0
        self._first = True

    def find(self, pid: int) -> Process | None:
        """The process with this pid, if it was there at the last look."""
        return self._table.get(str(pid))

    def parent(self, process: Process) -> Process | None:
        """Its parent, if that was there at the last look; never a later process with that pid."""
        parent = self._table.get(str(process.ppid))
        return parent if parent is not None and parent.start <= process.start else None

    def all(self) -> Collection[Process]:
        """Every process, older ones first."""
        return self._table.values()

    def owned(self) -> list[Process]:
        """The processes that a run owns, older ones first."""
        return [process for process in self._table.values() if process.run is not None]

    def secrets(self) -> int:
        """How many processes have an environment that may not be read."""
        return sum(process.secret for process in self._table.values())

    def age_seconds(self, process: Process, at_ns: int) -> float:
        """How long before `at_ns`, counted from boot, the process was born."""
        return at_ns / NANOSECONDS_PER_SECOND - process.start / self._ticks_per_second

    def refresh(self, adopt: Adopt) -> None:
        """Look who is there, and ask `adopt` for the run of each process that is new.

        It is asked in order of birth, parents first, and again for a young process whose
        environment has changed by exec. Raises OSError if /proc itself cannot be listed.
        """
        listed = self._procfs.names()
        present = set(listed)
        for process in [p for name, p in self._table.items() if name not in present]:
            process.gone = True
            if process.run is None:
                self._forget(process)
        for process in self._young():
            self._look_again(process, adopt)
        names = [name for name in listed if name.isdigit() and name not in self._table]
        found = [process for process in map(self._procfs.discover, names) if process is not None]
        found.sort(key=attrgetter("start", "pid"))
        for process in found:
            self._table[str(process.pid)] = process
            parent = self.parent(process)
            if process.claim is None and parent is not None:
                process.claim = parent.claim
            process.run = adopt(process, parent)
        if self._first and found:
            self._begin(found)

    def own(self, processes: Collection[Process], run: RunKey | None) -> None:
        """Give processes to `run` from now on; what they used in no run before is not counted."""
        if run is not None:
            newcomers = [process for process in processes if process.run is None]
            self._read(newcomers)
            for process in newcomers:
                process.skip()
                if process.gone:
                    self._forget(process)
        for process in processes:
            process.run = run
            if run is None:
                self._procfs.close(process)

    def count(self) -> dict[RunKey, int]:
        """CPU time in microseconds that each run's processes used since the last call."""
        owned = self.owned()
        self._read([process for process in owned if not process.gone])
        ticks = settle(owned, self.parent)
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

    def memories(self) -> dict[RunKey, int]:
        """Anonymous memory of each run's processes, and the largest of their shared memories.

        Processes of one run mostly share the same pages, so those are not added up. Bytes. Each
        call reads a part of the processes, those first that were read longest ago.
        """
        self._memory_look += 1
        owned = self.owned()
        stalest = sorted(owned, key=attrgetter("memory_look"))
        unread = sum(not process.memory_look for process in owned)
        for process in stalest[: max(-(-len(owned) // MEMORY_LOOKS), min(unread, NEW_MEMORIES))]:
            process.memory_look = self._memory_look
            self._procfs.read_memory(process)
        anonymous: dict[RunKey, int] = {}
        shared: dict[RunKey, int] = {}
        for process in owned:
            run = process.run
            assert run is not None
            anonymous[run] = anonymous.get(run, 0) + process.anonymous_bytes
            shared[run] = max(shared.get(run, 0), process.shared_bytes)
        return {run: size + shared[run] for run, size in anonymous.items()}

    def _begin(self, found: list[Process]) -> None:
        """After the first look: what was used before is not counted, and few are young.

        The youngest of them, mostly this daemon itself, stands for now.
        """
        self._first = False
        second_ago = found[-1].start - self._ticks_per_second
        for process in found:
            process.skip()
            if process.start < second_ago:
                process.looks = YOUNG_LOOKS

    def _young(self) -> list[Process]:
        young = []
        for process in reversed(self._table.values()):
            if process.looks >= YOUNG_LOOKS:
                break
            process.looks += 1
            young.append(process)
        return young

    def _look_again(self, process: Process, adopt: Adopt) -> None:
        claim = self._procfs.read_claim(process)
        if claim is None or claim == process.claim:
            return
        process.claim = claim
        run = adopt(process, self.parent(process))
        if run != process.run:
            self.own([process], run)

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
