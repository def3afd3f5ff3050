"""Which intensity holds when: the first step of a chain that has one for that time. Pure."""

import bisect
import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from exporter.model.intensity import Basis, Factor, IntensityInterval, IntensityKind
from exporter.model.snapshot import IntensityState


class ChainStep(Protocol):
    """A place of the chain: one source of factors."""

    @property
    def name(self) -> str:
        """What a person calls it."""

    @property
    def why(self) -> str:
        """What is wrong with it and how to mend it; empty if nothing is."""

    @property
    def kind(self) -> IntensityKind:
        """What all its factors count."""

    def factors_between(self, t0: float, t1: float) -> Sequence[Factor]:
        """Its factors that hold somewhere in [t0, t1), wall clock seconds; earliest first.

        No two of them hold at the same time.
        """


def is_comparable(first: ChainStep, later: ChainStep) -> bool:
    """Whether `later` may stand in for `first`: they count the same, or a basis is not stated."""
    signal, basis, accounting = first.kind
    later_signal, later_basis, later_accounting = later.kind
    return (
        signal is later_signal
        and accounting is later_accounting
        and (basis is later_basis or Basis.UNSTATED in (basis, later_basis))
    )


class IntensityChain:
    """Steps in order of preference.

    Every factor that it hands out carries its step and `pue`. A step that does not count what the
    first one counts is never used, unless `any_kind` may; such steps are in `left_out`.
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
        """[t0, t1), wall clock seconds, cut wherever the factor in force changes.

        In order, without gap or overlap, at least one; where no step has a factor it is None.
        """
        if t1 <= t0:
            return (IntensityInterval(t0, t1, self.factor_at(t0)),)
        return tuple(self._fill(t0, t1, 0))

    def factor_at(self, now: float) -> Factor | None:
        """The factor that holds at `now`, wall clock seconds."""
        return self._fill(now, math.nextafter(now, math.inf), 0)[0].factor

    def state_at(self, now: float) -> IntensityState:
        """The factor that holds at `now`, its age, and where it comes from."""
        factor = self.factor_at(now)
        if factor is None:
            return IntensityState(
                None, None, f"{self._missing_text(len(self.steps))}; grams stand still"
            )
        says = (
            f"{self.steps[factor.step].name}: {factor.grams_per_kwh:.4g} g/kWh "
            f"({_basis_text(factor.basis)}), {factor.source}"
        )
        reasons = [self._missing_text(factor.step), self.steps[factor.step].why]
        age_seconds = now - factor.as_of if factor.as_of else None
        return IntensityState(factor, age_seconds, "; ".join([says, *filter(None, reasons)]))

    def _fill(self, t0: float, t1: float, place: int) -> list[IntensityInterval]:
        """[t0, t1) by the step at `place`, and what it leaves open by those after it."""
        if place == len(self.steps):
            return [IntensityInterval(t0, t1, None)]
        spells: list[IntensityInterval] = []
        at = t0
        for factor in self.steps[place].factors_between(t0, t1):
            start, end = max(factor.valid_from, t0), min(factor.valid_until, t1)
            if start > at:
                spells += self._fill(at, start, place + 1)
            spells.append(IntensityInterval(start, end, self._with_step(factor, place)))
            at = end
        if at < t1:
            spells += self._fill(at, t1, place + 1)
        return spells

    def _with_step(self, factor: Factor, place: int) -> Factor:
        """The factor with its place and PUE; the same object for the same factor, tick by tick."""
        given, placed = self._last.get(place, (None, factor))
        if given is not factor:
            placed = factor._replace(step=place, pue=self._pue)
            self._last[place] = (factor, placed)
        return placed

    def _missing_text(self, before: int) -> str:
        """Why the steps up to `before` have no factor."""
        return "; ".join(
            f"{step.name} has none for now" + (f": {step.why}" if step.why else "")
            for step in self.steps[:before]
        )


def _basis_text(basis: Basis) -> str:
    return "basis unstated" if basis is Basis.UNSTATED else basis.value


class FactorTimeline(NamedTuple):
    """Factors that follow each other; no two hold at one time."""

    starts: tuple[float, ...] = ()
    factors: tuple[Factor, ...] = ()

    @classmethod
    def of(cls, factors: Sequence[Factor]) -> "FactorTimeline":
        """The factors, which are in order."""
        return cls(tuple([factor.valid_from for factor in factors]), tuple(factors))

    def factors_between(self, t0: float, t1: float) -> Sequence[Factor]:
        """Those that hold somewhere in [t0, t1), wall clock seconds; earliest first."""
        first = max(0, bisect.bisect_right(self.starts, t0) - 1)
        found = self.factors[first : bisect.bisect_left(self.starts, t1)]
        return [factor for factor in found if factor.valid_until > max(t0, factor.valid_from)]
