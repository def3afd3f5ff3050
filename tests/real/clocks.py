"""What CPU time must be charged, where a made-up package draws constant power."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

WATTS = 100.0
THREADS = os.cpu_count() or 1


class Clocks:
    """The clocks of all processors, since this was made.

    Power is split by them. In a virtual machine on a busy host they run some hundredths slower
    or faster than time does, and not evenly.
    """

    def __init__(self) -> None:
        self._began = _read()

    @property
    def pace(self) -> float:
        """How fast they ran; 1: as time did."""
        elapsed, counted = (now - then for then, now in zip(self._began, _read(), strict=True))
        return counted / elapsed

    def joules(self, cpu_seconds: float) -> float:
        """Of so much CPU time, while no floor is known."""
        return WATTS * cpu_seconds / THREADS / self.pace

    def add_cpu_time(self, cpu_seconds: float, rel: float) -> Any:
        """About the same."""
        return pytest.approx(self.joules(cpu_seconds), rel=rel + abs(self.pace - 1))


def _read() -> tuple[float, float]:
    """Seconds of time, and of the processors, busy or not."""
    line = Path("/proc/stat").read_text().partition("\n")[0]
    user_to_softirq = map(int, line.split()[1:8])
    return time.monotonic(), sum(user_to_softirq) / os.sysconf("SC_CLK_TCK") / THREADS
