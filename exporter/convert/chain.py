"""Intensity chain: the factor of the first source that has one, for any time. Pure."""

import bisect
import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from exporter.model.intensity import Basis, Factor, IntensityInterval, IntensityKind
from exporter.model.snapshot import IntensityState


class ChainStep(Protocol):
    """Protocol of a source of factors in the chain."""

    @property
    def name(self) -> str:
        """Name in messages."""

    @property
    def why(self) -> str:
        """The source's error and its remedy; empty if there is none."""

    @property
    def kind(self) -> IntensityKind:
        """Signal, basis and accounting of all its factors."""

    def factors_between(self, t0: float, t1: float) -> Sequence[Factor]:
        """Return the factors in force at any time in [t0, t1), Unix seconds; earliest first.

        No two of them are in force at the same time.
        """


def is_comparable(first: ChainStep, later: ChainStep) -> bool:
    """Return whether `later` may replace `first`: same kind, except for an unstated basis."""
    signal, basis, accounting = first.kind
    later_signal, later_basis, later_accounting = later.kind
    return (
        signal is later_signal
        and accounting is later_accounting
        and (basis is later_basis or Basis.UNSTATED in (basis, later_basis))
    )


class IntensityChain:
    """Sources in order of preference.

    Every factor that it returns has the number of its step and `pue`. Steps of a kind that is not
    comparable with the first one are in `excluded` and not used, unless `allow_mixed_kinds`.
    """

    def __init__(
        self, steps: Sequence[ChainStep], pue: float, *, allow_mixed_kinds: bool = False
    ) -> None:
        self.steps = tuple(
            step for step in steps if allow_mixed_kinds or is_comparable(steps[0], step)
        )
        self.excluded = tuple(step for step in steps if step not in self.steps)
        self._pue = pue
        self._last: dict[int, tuple[Factor | None, Factor]] = {}

    def intervals(self, t0: float, t1: float) -> tuple[IntensityInterval, ...]:
        """Return the intensity intervals of [t0, t1), Unix seconds.

        They are in order, without gap or overlap, and at least one. Where no step has a factor, the
        factor is None.
        """
        if t1 <= t0:
            return (IntensityInterval(t0, t1, self.factor_at(t0)),)
        return tuple(self._fill(t0, t1, 0))

    def factor_at(self, now: float) -> Factor | None:
        """Return the factor in force at `now`, Unix seconds; None if no step has one."""
        return self._fill(now, math.nextafter(now, math.inf), 0)[0].factor

    def state_at(self, now: float) -> IntensityState:
        """Return the factor in force at `now`, its age, and a text with its source and errors."""
        factor = self.factor_at(now)
        if factor is None:
            missing = self._missing_text(len(self.steps))
            return IntensityState(None, None, f"{missing}; the carbon counter does not increase")
        summary = (
            f"{self.steps[factor.step].name}: {factor.grams_per_kwh:.4g} g/kWh "
            f"({_basis_text(factor.basis)}), {factor.source}"
        )
        reasons = [self._missing_text(factor.step), self.steps[factor.step].why]
        age_seconds = now - factor.as_of if factor.as_of else None
        return IntensityState(factor, age_seconds, "; ".join([summary, *filter(None, reasons)]))

    def _fill(self, t0: float, t1: float, step: int) -> list[IntensityInterval]:
        """Return the intervals of [t0, t1) by step `step`, with gaps filled by later steps."""
        if step == len(self.steps):
            return [IntensityInterval(t0, t1, None)]
        intervals: list[IntensityInterval] = []
        at = t0
        for factor in self.steps[step].factors_between(t0, t1):
            start, end = max(factor.valid_from, t0), min(factor.valid_until, t1)
            if start > at:
                intervals += self._fill(at, start, step + 1)
            intervals.append(IntensityInterval(start, end, self._with_step(factor, step)))
            at = end
        if at < t1:
            intervals += self._fill(at, t1, step + 1)
        return intervals

    def _with_step(self, factor: Factor, step: int) -> Factor:
        """Return the factor with its step and PUE; the same object for the same factor."""
        source, result = self._last.get(step, (None, factor))
        if source is not factor:
            result = factor._replace(step=step, pue=self._pue)
            self._last[step] = (factor, result)
        return result

    def _missing_text(self, before: int) -> str:
        """Return why the steps before number `before` have no factor."""
        return "; ".join(
            f"{step.name} has no value" + (f": {step.why}" if step.why else "")
            for step in self.steps[:before]
        )


def _basis_text(basis: Basis) -> str:
    return "basis unstated" if basis is Basis.UNSTATED else basis.value


class FactorTimeline(NamedTuple):
    """Factors in order of time that do not overlap."""

    starts: tuple[float, ...] = ()
    factors: tuple[Factor, ...] = ()

    @classmethod
    def of(cls, factors: Sequence[Factor]) -> "FactorTimeline":
        """Create a timeline of factors that are in order."""
        return cls(tuple([factor.valid_from for factor in factors]), tuple(factors))

    def factors_between(self, t0: float, t1: float) -> Sequence[Factor]:
        """Return the factors in force at any time in [t0, t1), Unix seconds; earliest first."""
        first = max(0, bisect.bisect_right(self.starts, t0) - 1)
        found = self.factors[first : bisect.bisect_left(self.starts, t1)]
        return [factor for factor in found if factor.valid_until > max(t0, factor.valid_from)]
