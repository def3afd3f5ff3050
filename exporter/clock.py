"""The clock as a parameter, and the id of the boot that it counts from."""

import os
import time
from typing import Protocol


class Clock(Protocol):
    """Source of time for all components, in place of the `time` module."""

    def boottime_ns(self) -> int:
        """Nanoseconds since boot, including time suspended; monotonic."""

    def monotonic_ns(self) -> int:
        """Nanoseconds since boot, excluding time suspended; monotonic."""

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
"""Prefix of the substitute id of a boot whose id cannot be read."""


def read_boot_id(procfs: str, clock: Clock) -> str:
    """Read the boot id of the running kernel from `{procfs}/sys/kernel/random/boot_id`.

    If it cannot be read, return `unknown-` and the wall clock, which no later process repeats, so
    that counters of two boots are never treated as one.
    """
    try:
        with open(os.path.join(procfs, "sys/kernel/random/boot_id"), encoding="ascii") as file:
            return file.read().strip() or _unknown_boot(clock)
    except (OSError, ValueError):
        return _unknown_boot(clock)


def _unknown_boot(clock: Clock) -> str:
    return f"{UNKNOWN_BOOT}{clock.wall():.6f}"
