"""The token bucket of `rate_limit`."""

from exporter.clock import Clock
from exporter.expose.http.gate.schema import Rate
from exporter.units import NANOSECONDS_PER_SECOND


class Bucket:
    """Gives one token per interval, and keeps a burst of them at most; full at first."""

    def __init__(self, rate: Rate, clock: Clock) -> None:
        self.rate = rate
        self._clock = clock
        self._tokens = float(rate.burst)
        self._at_ns = clock.monotonic_ns()

    def take(self) -> bool:
        """Whether there was one."""
        now_ns = self._clock.monotonic_ns()
        passed_seconds = (now_ns - self._at_ns) / NANOSECONDS_PER_SECOND
        self._at_ns = now_ns
        gained = passed_seconds / self.rate.interval_seconds
        self._tokens = min(float(self.rate.burst), self._tokens + gained)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
