"""The greenest stretch of time ahead. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from exporter.model.intensity import Value


class Window(NamedTuple):
    """A stretch of time, wall clock seconds, and its mean intensity."""

    start: float
    end: float
    grams_per_kwh: float


def greenest(values: Sequence[Value], duration_seconds: float, until: float) -> Window | None:
    """The stretch of that duration with the lowest mean that ends by `until`; of equals the first.

    `values` are in order and begin now. None where no stretch is covered without a gap.
    """
    if not values:
        return None
    now = values[0].start
    last = until - duration_seconds
    # The mean bends only where one of its ends meets that of a value.
    bends = {at for value in values for at in (value.start, value.end - duration_seconds)}
    windows = [
        window
        for start in sorted({*bends, last})
        if now <= start <= last
        if (window := mean(values, start, start + duration_seconds)) is not None
    ]
    return min(windows, key=lambda window: (window.grams_per_kwh, window.start), default=None)


def mean(values: Sequence[Value], start: float, end: float) -> Window | None:
    """The mean by time over [start, end); None where something of it is not covered."""
    covered = total = 0.0
    for value in values:
        seconds = min(value.end, end) - max(value.start, start)
        if seconds > 0:
            covered += seconds
            total += seconds * value.grams_per_kwh
    # Ends and starts of neighbours are equal, but sums of them are rounded.
    if end <= start or covered < (end - start) * (1 - 1e-9):
        return None
    return Window(start, end, total / covered)


def ahead(forecast: Sequence[Value], now: float, grams_per_kwh: float | None) -> tuple[Value, ...]:
    """The forecast from `now` on, with what is in force now up to its first value."""
    rest = [value._replace(start=max(value.start, now)) for value in forecast if value.end > now]
    if rest and grams_per_kwh is not None and rest[0].start > now:
        rest.insert(0, Value(now, rest[0].start, grams_per_kwh))
    return tuple(rest)
