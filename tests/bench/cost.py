"""What a process costs, from /proc: CPU time to the nanosecond, memory, bytes written."""

import time
from collections.abc import Iterator

NANOSECONDS_PER_SECOND = 1_000_000_000
NANOSECONDS_PER_MS = 1_000_000
CPUCLOCK_SCHED = 2
BEFORE_NEXT_NS = 400_000_000
"""How long before the next tick the clock is read: the last one is long over by then."""


def main_thread_ms(pid: int) -> float:
    """Time on a CPU of the first thread, by the scheduler's own clock."""
    with open(f"/proc/{pid}/schedstat", encoding="ascii") as file:
        return int(file.read().split()[0]) / NANOSECONDS_PER_MS


def process_ms(pid: int) -> float:
    """Time on a CPU of all its threads, those that have ended included.

    What clock_getcpuclockid(3) gives is spelled out, since Python has no such function.
    """
    return time.clock_gettime_ns(~pid << 3 | CPUCLOCK_SCHED) / NANOSECONDS_PER_MS


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
