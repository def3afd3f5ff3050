"""Factors in the order of time, found by when they hold. Pure."""

import bisect
from collections.abc import Sequence
from typing import NamedTuple

from exporter.model.intensity import Factor


class Timeline(NamedTuple):
    """Factors that follow each other; no two hold at one time."""

    starts: tuple[float, ...] = ()
    factors: tuple[Factor, ...] = ()

    @classmethod
    def of(cls, factors: Sequence[Factor]) -> "Timeline":
        """The factors, which are in order."""
        return cls(tuple([factor.valid_from for factor in factors]), tuple(factors))

    def covering(self, t0: float, t1: float) -> Sequence[Factor]:
        """Those that hold somewhere in [t0, t1), wall clock seconds; earliest first."""
        first = max(0, bisect.bisect_right(self.starts, t0) - 1)
        found = self.factors[first : bisect.bisect_left(self.starts, t1)]
        return [factor for factor in found if factor.valid_until > max(t0, factor.valid_from)]
