"""Which intensity holds when: the first step of a chain that has one for that time. Pure."""

import math
from collections.abc import Sequence
from typing import Protocol

from exporter.model.intensity import Basis, Factor, Kind, Spell
from exporter.model.snapshot import GridState


class Step(Protocol):
    """A place of the chain: one source of factors."""

    @property
    def name(self) -> str:
        """What a person calls it."""

    @property
    def why(self) -> str:
        """What is wrong with it and how to mend it; empty if nothing is."""

    @property
    def kind(self) -> Kind:
        """What all its factors count."""

    def covering(self, t0: float, t1: float) -> Sequence[Factor]:
        """Its factors that hold somewhere in [t0, t1), wall clock seconds; earliest first.

        No two of them hold at the same time.
        """


def comparable(first: Step, later: Step) -> bool:
    """Whether `later` may stand in for `first`: they count the same, or a basis is not stated."""
    signal, basis, accounting = first.kind
    later_signal, later_basis, later_accounting = later.kind
    return (
        signal is later_signal
        and accounting is later_accounting
        and (basis is later_basis or Basis.UNSTATED in (basis, later_basis))
    )


class Chain:
    """Steps in order of preference.

    Every factor that it hands out carries its step and `pue`. A step that does not count what the
    first one counts is never used, unless `any_kind` may; such steps are in `left_out`.
    """

    def __init__(self, steps: Sequence[Step], pue: float, *, any_kind: bool = False) -> None:
        self.steps = tuple(step for step in steps if any_kind or comparable(steps[0], step))
        self.left_out = tuple(step for step in steps if step not in self.steps)
        self._pue = pue
        self._last: dict[int, tuple[Factor | None, Factor]] = {}

    def spells(self, t0: float, t1: float) -> tuple[Spell, ...]:
        """[t0, t1), wall clock seconds, cut wherever the factor in force changes.

        In order, without gap or overlap, at least one; where no step has a factor it is None.
        """
        if t1 <= t0:
            return (Spell(t0, t1, self.in_force(t0)),)
        return tuple(self._fill(t0, t1, 0))

    def in_force(self, now: float) -> Factor | None:
        """The factor that holds at `now`, wall clock seconds."""
        return self._fill(now, math.nextafter(now, math.inf), 0)[0].factor

    def grid(self, now: float) -> GridState:
        """The factor that holds at `now`, its age, and where it comes from."""
        factor = self.in_force(now)
        if factor is None:
            return GridState(None, None, f"{self._missed(len(self.steps))}; grams stand still")
        says = (
            f"{self.steps[factor.step].name}: {factor.grams_per_kwh:.4g} g/kWh "
            f"({_counts(factor.basis)}), {factor.source}"
        )
        reasons = [self._missed(factor.step), self.steps[factor.step].why]
        age_seconds = now - factor.as_of if factor.as_of else None
        return GridState(factor, age_seconds, "; ".join([says, *filter(None, reasons)]))

    def _fill(self, t0: float, t1: float, place: int) -> list[Spell]:
        """[t0, t1) by the step at `place`, and what it leaves open by those after it."""
        if place == len(self.steps):
            return [Spell(t0, t1, None)]
        spells: list[Spell] = []
        at = t0
        for factor in self.steps[place].covering(t0, t1):
            start, end = max(factor.valid_from, t0), min(factor.valid_until, t1)
            if start > at:
                spells += self._fill(at, start, place + 1)
            spells.append(Spell(start, end, self._placed(factor, place)))
            at = end
        if at < t1:
            spells += self._fill(at, t1, place + 1)
        return spells

    def _placed(self, factor: Factor, place: int) -> Factor:
        """The factor with its place and PUE; the same object for the same factor, tick by tick."""
        given, placed = self._last.get(place, (None, factor))
        if given is not factor:
            placed = factor._replace(step=place, pue=self._pue)
            self._last[place] = (factor, placed)
        return placed

    def _missed(self, before: int) -> str:
        """Why the steps up to `before` have no factor."""
        return "; ".join(
            f"{step.name} has none for now" + (f": {step.why}" if step.why else "")
            for step in self.steps[:before]
        )


def _counts(basis: Basis) -> str:
    return "basis unstated" if basis is Basis.UNSTATED else basis.value
