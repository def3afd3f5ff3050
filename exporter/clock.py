"""Time, as a parameter, and which boot it is counted from."""

import os
import time
from typing import Protocol


class Clock(Protocol):
    """What every part is given instead of the `time` module."""

    def boottime_ns(self) -> int:
        """Nanoseconds since boot, suspend included; never steps."""

    def monotonic_ns(self) -> int:
        """Nanoseconds since boot, suspend left out; never steps."""

    def wall(self) -> float:
        """Seconds since the epoch, UTC; may step."""


class SystemClock:
    """The machine's own clocks."""

    def boottime_ns(self) -> int:
        """CLOCK_BOOTTIME."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def monotonic_ns(self) -> int:
        """CLOCK_MONOTONIC."""
        return time.clock_gettime_ns(time.CLOCK_MONOTONIC)

    def wall(self) -> float:
        """CLOCK_REALTIME."""
        return time.time()


UNKNOWN_BOOT = "unknown-"
"""What an id begins with that stands for a boot which does not say its own."""


def read_boot_id(procfs: str, clock: Clock) -> str:
    """The id of the running kernel's boot, from `{procfs}/sys/kernel/random/boot_id`.

    Where that cannot be read: `unknown-` and the wall clock, which no later process will repeat,
    so that counters of two boots are never taken for one.
    """
    try:
        with open(os.path.join(procfs, "sys/kernel/random/boot_id"), encoding="ascii") as file:
            return file.read().strip() or _unknown_boot(clock)
    except (OSError, ValueError):
        return _unknown_boot(clock)


def _unknown_boot(clock: Clock) -> str:
    return f"{UNKNOWN_BOOT}{clock.wall():.6f}"
