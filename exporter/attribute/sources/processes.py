"""All processes of the machine: who was born of whom, and what those in runs use.

Only processes that belong to a run are read each tick; of the others it is enough to know that
they are there, so that their children are known when they are born.
"""

import os
from collections.abc import Callable, Collection
from operator import attrgetter

from exporter.attribute.cpu_time import settle
from exporter.attribute.sources.memory import Memories
from exporter.attribute.sources.procfs import Process, Procfs
from exporter.model.runs import RunKey
from exporter.units import MICROSECONDS_PER_SECOND, NANOSECONDS_PER_SECOND

YOUNG_LOOKS = 1
"""Looks after the first: a process may call exec after its birth was seen."""

Adopt = Callable[[Process, Process | None], RunKey | None]
"""Names the run of a process, given its parent."""


class ProcessTable:
    """Every process of the machine, and the CPU time of those that a run owns."""

    def __init__(self, procfs: str, max_files: int, *, read_environments: bool) -> None:
        self._procfs = Procfs(procfs, max_files, read_environments=read_environments)
        self._ticks_per_second = os.sysconf("SC_CLK_TCK")
        self._us_per_tick = MICROSECONDS_PER_SECOND // self._ticks_per_second
        self._table: dict[str, Process] = {}
        self._memories = Memories(self._procfs.read_memory)
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

    def secrets(self) -> int:
        """How many processes have an environment that may not be read."""
        return self._secrets

    def age_seconds(self, process: Process, at_ns: int) -> float:
        """How long before `at_ns`, counted from boot, the process was born."""
        return at_ns / NANOSECONDS_PER_SECOND - process.start / self._ticks_per_second

    def refresh(self, adopt: Adopt) -> None:
        """Look who is there, and ask `adopt` for the run of each process that is new.

        It is asked in order of birth, parents first, and again for a young process whose
        environment has changed by exec. Raises OSError if /proc itself cannot be listed.
        """
        listed = self._procfs.names()
        young = self._young()
        for process in young:
            self._look_again(process, adopt)
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
            process.run = adopt(process, parent)
        if len(found) < len(names):
            self._listed = []
        self._secrets = sum(process.secret for process in self._table.values())
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
        self._owned = None
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
        """Bytes of memory that each run's processes hold."""
        return self._memories.look(self.owned())

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
        self._listed, self._owned = [], None
