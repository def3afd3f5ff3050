"""The machine's own totals: CPU clocks from /proc/stat, memory from /proc/meminfo."""

import os
import time

from exporter.model.books import MachineCpu
from exporter.model.cpu_clocks import parse_cpu_clocks
from exporter.model.workload import Machine
from exporter.units import (
    BYTES_PER_KIB,
    MICROSECONDS_PER_SECOND,
    NANOSECONDS_PER_MICROSECOND,
    NANOSECONDS_PER_SECOND,
)

MEMORY_EVERY_NS = 10 * NANOSECONDS_PER_SECOND


class MachineTotals:
    """What runs are measured against. `before` are the clocks at a restart, if known."""

    def __init__(self, procfs: str, before: MachineCpu | None) -> None:
        self._stat = os.path.join(procfs, "stat")
        self._meminfo = os.path.join(procfs, "meminfo")
        self._us_per_tick = MICROSECONDS_PER_SECOND // os.sysconf("SC_CLK_TCK")
        self._threads = 0
        self._before = before
        self._exporter_us = _own_us()
        self._memory = (0, 0)
        self._memory_at_ns: int | None = None

    @property
    def clocks(self) -> MachineCpu | None:
        """CPU time since boot, as last seen."""
        return self._before

    def look(self, at_ns: int) -> Machine:
        """Time since the last look, and memory now. Raises OSError or ValueError."""
        now = self._read_clocks()
        before = self._before or now
        self._before = now
        if self._memory_at_ns is None or at_ns - self._memory_at_ns >= MEMORY_EVERY_NS:
            self._memory = self._read_memory()
            self._threads = os.cpu_count() or 0  # they may be added and taken away
            self._memory_at_ns = at_ns
        # Time of an idle processor may step back; what was busy meanwhile has passed all the same.
        busy_us = max(0, now.busy_us - before.busy_us)
        exporter_us = _own_us()
        used_us, self._exporter_us = exporter_us - self._exporter_us, exporter_us
        return Machine(
            busy_us,
            max(busy_us, now.total_us - before.total_us),
            *self._memory,
            used_us,
            self._threads,
        )

    def _read_clocks(self) -> MachineCpu:
        with open(self._stat, "rb", buffering=0) as file:
            return parse_cpu_clocks(file.read(4096), self._us_per_tick)

    def _read_memory(self) -> tuple[int, int]:
        """Bytes of anonymous and shared memory in use, and bytes in all."""
        wanted = {b"MemTotal:": 0, b"AnonPages:": 0, b"Shmem:": 0}
        with open(self._meminfo, "rb", buffering=0) as file:
            for line in file.read(8192).split(b"\n"):
                name, _, rest = line.partition(b" ")
                if name in wanted:
                    wanted[name] = int(rest.split()[0]) * BYTES_PER_KIB
        return wanted[b"AnonPages:"] + wanted[b"Shmem:"], wanted[b"MemTotal:"]


def _own_us() -> int:
    """CPU time of this process so far, all threads."""
    return time.process_time_ns() // NANOSECONDS_PER_MICROSECOND
