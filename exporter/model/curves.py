"""Curves of made-up hosts: piecewise linear in time, repeating with a period, exactly summable."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise


class Curve:
    """A value over time through `points` of (seconds, value), the same in every period.

    From the last point the curve runs straight to the first of the next period. Two points at
    one time make a step. Raises ValueError if there are no points, or they are not in order
    within the period.
    """

    def __init__(self, points: Sequence[tuple[float, float]], period_seconds: float) -> None:
        if not points or period_seconds <= 0:
            raise ValueError("a curve needs at least one point and a period above 0 s")
        times = [0.0, *(time for time, _ in points), period_seconds]
        if any(later < earlier for earlier, later in pairwise(times)):
            raise ValueError(f"times must rise from 0 to the period, {period_seconds:g} s")
        edge = _edge(points, period_seconds)
        knots = [(0.0, edge), *points, (period_seconds, edge)]
        self._period = period_seconds
        self._times = [time for time, _ in knots]
        self._values = [value for _, value in knots]
        areas = ((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(knots))
        self._areas = list(accumulate(areas, initial=0.0))

    def at(self, seconds: float) -> float:
        """The value at a time; right of a step where there is one."""
        _, value = self._within(seconds % self._period)
        return value

    def integral(self, begin_seconds: float, end_seconds: float) -> float:
        """Value times seconds between two times."""
        return self._area(end_seconds) - self._area(begin_seconds)

    def _area(self, seconds: float) -> float:
        periods, rest = divmod(seconds, self._period)
        area, _ = self._within(rest)
        return periods * self._areas[-1] + area

    def _within(self, seconds: float) -> tuple[float, float]:
        """Area from the period's start, and value, at a time inside the period."""
        index = min(bisect_right(self._times, seconds), len(self._times) - 1) - 1
        begin, value = self._times[index], self._values[index]
        span = self._times[index + 1] - begin
        passed = seconds - begin
        if span == 0:
            return self._areas[index], value
        slope = (self._values[index + 1] - value) / span
        now = value + slope * passed
        return self._areas[index] + passed * (value + now) / 2, now


def _edge(points: Sequence[tuple[float, float]], period_seconds: float) -> float:
    """The value where one period meets the next."""
    (first_time, first), (last_time, last) = points[0], points[-1]
    before = period_seconds - last_time
    span = before + first_time
    return last if span == 0 else last + (first - last) * before / span
