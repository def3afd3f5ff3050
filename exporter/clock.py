"""Time, as a parameter."""

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
