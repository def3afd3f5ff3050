"""From values to places on an axis, and the values that an axis names. Pure."""

import math
from collections.abc import Sequence
from typing import NamedTuple

DECADE = 10
MANTISSAS = (1, 2, 5)


class Scale(NamedTuple):
    """An axis from `low` to `high`, by values or by their logarithms."""

    low: float
    high: float
    is_log: bool = False

    def place(self, value: float) -> float:
        """Where a value is: 0 at `low`, 1 at `high`."""
        low, high = self._bent(self.low), self._bent(self.high)
        return (self._bent(value) - low) / (high - low)

    def ticks(self, most: int) -> list[float]:
        """Round values within the axis, about `most` of them at the most."""
        return _decades(self, most) if self.is_log else _steps(self, most)

    def _bent(self, value: float) -> float:
        return math.log10(value) if self.is_log else value


def scale(values: Sequence[float], margin: float, *, may_be_log: bool = False) -> Scale:
    """An axis for at least one value, with a margin, as a share of it, at each end.

    By decades where all are above 0 and far apart.
    """
    low, high = min(values), max(values)
    beyond = margin / (1 - 2 * margin)
    if may_be_log and low > 0 and high > DECADE * low:
        more = (high / low) ** beyond
        return Scale(low / more, high * more, is_log=True)
    away = beyond * (high - low) or abs(high) / DECADE or 1.0
    return Scale(low - away, high + away)


def _steps(axis: Scale, most: int) -> list[float]:
    rough = (axis.high - axis.low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((m * power for m in MANTISSAS if m * power >= rough), DECADE * power)
    first, last = math.ceil(axis.low / step), math.floor(axis.high / step)
    digits = max(0, -math.floor(math.log10(step)))
    return [round(number * step, digits) for number in range(first, last + 1)]


def _decades(axis: Scale, most: int) -> list[float]:
    """Decades, with twos and fives between them where there is room."""
    exponents = range(math.floor(math.log10(axis.low)), math.ceil(math.log10(axis.high)) + 1)
    fine = [m * 10.0**n for n in exponents for m in MANTISSAS]
    fine = [value for value in fine if axis.low <= value <= axis.high]
    coarse = [10.0**n for n in exponents if axis.low <= 10.0**n <= axis.high]
    if len(fine) <= most or not coarse:
        return fine
    return coarse[:: max(1, math.ceil(len(coarse) / most))]
