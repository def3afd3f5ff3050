"""What a tracker does when its run has emitted more than it was to, or will have."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

from exporter.client.errors import BudgetExceeded
from exporter.client.run import Run
from exporter.client.words import warn

OnBudget: TypeAlias = Literal["warn", "raise"] | Callable[[Run], None]


def checked(name: str, action: Any) -> OnBudget:
    """What is to be done. Raises ValueError for what is none of it."""
    if action in ("warn", "raise") or callable(action):
        return action  # type: ignore[no-any-return]
    raise ValueError(f"{name}: expected 'warn', 'raise' or a function, found {action!r:.100}")


def amount(grams: Any) -> float | None:
    """Grams; None, and a warning, for what is no amount."""
    if grams is None:
        return None
    try:
        number = float(grams)
    except (TypeError, ValueError):
        number = math.nan
    if 0 <= number < math.inf:
        return number
    warn("budget_grams=%.100r is ignored: expected a number of grams, such as 500", grams)
    return None


class Budget:
    """The budget of one run, with what is done, once each, when it is and when it will be used up.

    A forecast counts when even the low end of its range is over the budget.
    """

    def __init__(
        self, grams: float | None, when_exceeded: OnBudget, when_foreseen: OnBudget
    ) -> None:
        self._grams = grams
        self._when_exceeded = when_exceeded
        self._when_foreseen = when_foreseen
        self._is_exceeded = False
        self._is_foreseen = False

    def anew(self) -> "Budget":
        """The same for another run."""
        return Budget(self._grams, self._when_exceeded, self._when_foreseen)

    def check(self, run: Run) -> None:
        """Act on what the run's record says; what a function of the program raises goes on."""
        if self._grams is None or self._is_exceeded:
            return
        if run.emissions_grams > self._grams:
            self._is_exceeded = True
            said = f"has emitted {run.emissions_grams:.4g} g CO2eq of"
            self._act(self._when_exceeded, run, said)
            if not self._is_foreseen and self._when_foreseen not in ("warn", self._when_exceeded):
                self._act(self._when_foreseen, run, said)  # there was no forecast before
        elif not self._is_foreseen and (said := self._foreseen(run.record.get("forecast"))):
            self._is_foreseen = True
            self._act(self._when_foreseen, run, said)

    def _foreseen(self, ahead: Mapping[str, Any] | None) -> str:
        low, high = (ahead or {}).get("low"), (ahead or {}).get("high")
        if not ahead or not low or not high or not low["carbon_grams"] > self._grams:
            return ""
        least, most = low["carbon_grams"], high["carbon_grams"]
        return (
            f"will have emitted {ahead['carbon_grams']:.4g} g CO2eq ({least:.3g} to {most:.3g}) "
            "when its work is done, of"
        )

    def _act(self, action: OnBudget, run: Run, said: str) -> None:
        text = f"run {run.run_id} {said} a budget of {self._grams:g} g"
        if action == "raise":
            run.over_budget = BudgetExceeded(text)
        elif callable(action):
            action(run)
        else:
            warn("%s", text)
