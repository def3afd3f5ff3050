"""What a process costs, from /proc: CPU time to the nanosecond, memory, bytes written."""

import statistics
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from tests.real.parts import Daemon

NANOSECONDS_PER_SECOND = 1_000_000_000
NANOSECONDS_PER_MS = 1_000_000
CPUCLOCK_SCHED = 2
BEFORE_NEXT_NS = 400_000_000
"""How long before the next tick the clock is read: the last one is long over by then."""
FLOOR_AFTER_NS = 500_000_000
"""How long after each tick the floor reads: as long before the next one, for caches as cold."""


class Step(NamedTuple):
    """The cost of a daemon in one state of its host; CPU time in ms."""

    size: int
    """Processes or pods."""
    ticks: Sequence[float]
    """Of the main thread, each second."""
    floor: Sequence[float]
    """Of the C program that only reads, in the same seconds."""
    whole_ms: float
    """Per second, of all threads."""
    rss_mb: float

    @property
    def median(self) -> float:
        return statistics.median(self.ticks)

    @property
    def floor_median(self) -> float:
        return statistics.median(self.floor)


def step(size: int, daemon: Daemon, count: int, floor: str, files: Iterable[str]) -> Step:
    """Measure `count` ticks, and after each one the floor: the program `floor` reads `files`."""
    assert daemon.process is not None
    pid = daemon.process.pid
    at_ns = daemon.json("/api/v1/snapshot")["at_ns"]
    phase_ns = (at_ns + FLOOR_AFTER_NS) % NANOSECONDS_PER_SECOND
    with subprocess.Popen(
        [floor, str(count), str(phase_ns)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as reader:
        assert reader.stdin is not None
        reader.stdin.write("\n".join(files).encode())
        reader.stdin.close()
        began, before = time.monotonic(), process_ms(pid)
        measured = list(ticks(pid, at_ns, count))
        whole_ms = (process_ms(pid) - before) / (time.monotonic() - began)
        assert reader.stdout is not None
        floors = [int(line) / NANOSECONDS_PER_MS for line in reader.stdout]
    return Step(size, measured, floors, whole_ms, resident_mb(pid))


def main_thread_ms(pid: int) -> float:
    """Time on a CPU of the first thread, by the scheduler's own clock."""
    with open(f"/proc/{pid}/schedstat", encoding="ascii") as file:
        return int(file.read().split()[0]) / NANOSECONDS_PER_MS


def process_ms(pid: int) -> float:
    """Time on a CPU of all its threads, those that have ended included.

    What clock_getcpuclockid(3) gives is spelled out, since Python has no such function.
    """
    return time.clock_gettime_ns(~pid << 3 | CPUCLOCK_SCHED) / NANOSECONDS_PER_MS


def per_second(pid: int, seconds: float) -> float:
    """CPU time in ms per second of all threads, over so many seconds from now."""
    began, before = time.monotonic(), process_ms(pid)
    time.sleep(seconds)
    return (process_ms(pid) - before) / (time.monotonic() - began)


def resident_mb(pid: int) -> float:
    """Memory that is resident now, in 10^6 bytes."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        (row,) = [line for line in file if line.startswith("VmRSS:")]
    return int(row.split()[1]) * 1024 / 1e6


def written_bytes(pid: int) -> int:
    """Bytes that are to go to a disk because of this process."""
    with open(f"/proc/{pid}/io", encoding="ascii") as file:
        (row,) = [line for line in file if line.startswith("write_bytes:")]
    return int(row.split()[1])


def ticks(pid: int, at_ns: int, count: int) -> Iterator[float]:
    """CPU time in ms of the first thread in each of the next `count` seconds.

    `at_ns` is the CLOCK_BOOTTIME of any tick; the second is cut well after the tick, so that each
    holds one.
    """
    now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    due_ns = now_ns + (at_ns - BEFORE_NEXT_NS - now_ns) % NANOSECONDS_PER_SECOND
    before = None
    for _ in range(count + 1):
        until(due_ns)
        now = main_thread_ms(pid)
        if before is not None:
            yield now - before
        before = now
        due_ns += NANOSECONDS_PER_SECOND


def until(at_ns: int) -> None:
    """Sleep until CLOCK_BOOTTIME is `at_ns`."""
    rest_ns = at_ns - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    time.sleep(max(0, rest_ns) / NANOSECONDS_PER_SECOND)
