"""The time that is drawn, and what `$__interval` and its kin stand for in it."""

import math
import re
from dataclasses import dataclass

UNIT_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31536000}
PART = re.compile(r"(\d+)(ms|[smhdwy])")
NICE_SECONDS = (
    *(0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600),
    *(7200, 10800, 21600, 43200, 86400, 604800),
)
POINTS = 400
"""As many as can be told apart in a panel of half the width."""


def seconds(duration: str) -> float:
    """What a duration of Prometheus or Grafana is in seconds; 0 of one that is not set."""
    return sum(int(number) * UNIT_SECONDS[unit] for number, unit in PART.findall(duration))


def duration(seconds: float) -> str:
    """The same the other way round, as Prometheus reads it."""
    return f"{seconds:.0f}s" if seconds >= 1 and seconds % 1 == 0 else f"{seconds * 1000:.0f}ms"


@dataclass(frozen=True)
class Span:
    """From and to in unix seconds, and how often the drawn Prometheus scrapes."""

    start: float
    end: float
    scrape_seconds: float
    rules_seconds: float = 60
    """How often its rules record; a least step in minutes is so many of these."""

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.end - self.start

    def step_seconds(self, least: str = "") -> float:
        """The time between two points, no less than `least`, or else a scrape."""
        wanted = max(self.seconds / POINTS, self._least(least))
        return next((nice for nice in NICE_SECONDS if nice >= wanted), wanted)

    def _least(self, least: str) -> float:
        wanted = seconds(least)
        if wanted >= UNIT_SECONDS["m"]:
            wanted *= self.rules_seconds / UNIT_SECONDS["m"]
        return wanted or self.scrape_seconds

    def aligned(self, step_seconds: float) -> tuple[float, float]:
        """Start and end as Grafana asks for them: on whole steps."""
        ends = (self.start, self.end)
        return (
            math.ceil(ends[0] / step_seconds) * step_seconds,
            math.floor(ends[1] / step_seconds) * step_seconds,
        )

    def builtins(self, least: str = "") -> dict[str, str]:
        """The variables that Grafana sets itself."""
        step, scrape = self.step_seconds(least), self._least(least)
        return {
            "__interval": duration(step),
            "__interval_ms": f"{step * 1000:.0f}",
            "__rate_interval": duration(max(step + scrape, 4 * scrape)),
            "__range": duration(round(self.seconds)),
            "__range_s": f"{self.seconds:.0f}",
            "__range_ms": f"{self.seconds * 1000:.0f}",
            "__from": f"{self.start * 1000:.0f}",
            "__to": f"{self.end * 1000:.0f}",
        }
