"""A run and its budget, as seen by the measured program."""

import math
import os
import threading
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

from exporter.client.basis import are_grams_unknown
from exporter.client.errors import BudgetExceeded
from exporter.client.fork_safety import ForkAware
from exporter.client.log import warn

JOULES_PER_KWH = 3.6e6
MAX_PENDING_VALUES = 1_000
"""Maximum number of results kept while no daemon can be reached."""


class Run(ForkAware):
    """Run returned by `with track(...) as run` and by `track(...).start()`.

    The tracker has the same methods. Only `start`, `stop` and `refresh` wait for the daemon, and
    none of them fails without it. Energies are nan while the run is not measured. Values passed to
    `log`, `count` and `progress` are sent every few seconds from another thread.
    """

    def __init__(self, run_id: str = "", job_id: str = "") -> None:
        super().__init__()
        self.run_id = run_id
        self.job_id = job_id
        self.record: dict[str, Any] = {}
        """Last record received from the daemon; see docs/record.md."""
        self.is_measured = False
        """Whether a daemon measures this run."""
        self.pending_budget_error: BudgetExceeded | None = None
        """Raised from the next call of the program."""
        self.on_pending: Callable[[], None] = lambda: None
        """Called when an update is pending."""
        self.on_progress: Callable[[], None] = lambda: None
        """Called when an update should be sent soon."""
        self.report_now: Callable[[], object] = lambda: None
        """Called to send the update and receive the record at once."""
        self.begin: Callable[[], Run] | None = None
        self.finish: Callable[[], Run] | None = None
        """Called to start and to stop the run; None if it has no tracker."""
        self._lock = threading.RLock()
        """Reentrant, because a signal handler may update the run during an update."""
        self._values: dict[str, float | str] = {}
        self._counts: dict[str, float] = {}
        self._progress: tuple[float, float] | None = None

    def start(self) -> "Run":
        """Start the run unless it is open; after `stop`, start and return a new run.

        Raises NotMeasured if the tracker is strict.
        """
        return self.begin() if self.begin else self

    def stop(self) -> "Run":
        """End the run unless it has ended, and wait for its final record."""
        return self.finish() if self.finish else self

    @property
    def energy_joules(self) -> float:
        """Energy of the run so far on this node, in joules; nan if it is not measured."""
        return float(self.record.get("energy_joules", math.nan))

    @property
    def energy_kwh(self) -> float:
        """Energy of the run so far on this node, in kilowatt hours; nan if it is not measured."""
        return self.energy_joules / JOULES_PER_KWH

    @property
    def emissions_grams(self) -> float:
        """Emissions of the run so far on this node, in grams of CO2 equivalent; nan if unknown."""
        if are_grams_unknown(self.record):
            return math.nan
        return float(self.record.get("carbon_grams", math.nan))

    def log(self, **values: Any) -> None:
        """Log results, numbers or texts; a value replaces an earlier one of the same name."""
        accepted = {name: _loggable(name, value) for name, value in values.items()}
        with self._lock:
            if len(self._values) < MAX_PENDING_VALUES:
                self._values.update({k: v for k, v in accepted.items() if v is not None})
        self._after_update()

    def count(self, **amounts: float) -> None:
        """Add to the units counted by the run: tokens, requests, samples, or any other unit."""
        with self._lock:
            for unit, amount in amounts.items():
                number = _loggable(unit, amount)
                if isinstance(number, float) and number >= 0:
                    self._counts[unit] = self._counts.get(unit, 0.0) + number
        self._after_update()

    def progress(self, done: float, total: float) -> None:
        """Report how much of the work is done; the daemon forecasts the totals from it."""
        numbers = _loggable("done", done), _loggable("total", total)
        if isinstance(numbers[0], float) and isinstance(numbers[1], float):
            with self._lock:
                self._progress = numbers[0], numbers[1]
        self._after_update()
        self.on_progress()

    def refresh(self) -> dict[str, Any]:
        """Return the current record, or the last one if the daemon does not answer."""
        self.report_now()
        self.check_budget()
        return self.record

    def take_pending(self) -> dict[str, Any]:
        """Remove and return the pending update."""
        with self._lock:
            update: dict[str, Any] = {}
            if self._values:
                update["values"], self._values = self._values, {}
            if self._counts:
                update["count"], self._counts = self._counts, {}
            if self._progress is not None:
                done, total = self._progress
                update["progress"], self._progress = {"done": done, "total": total}, None
            return update

    def restore_pending(self, update: dict[str, Any]) -> None:
        """Merge an update that could not be sent into the pending one; newer values win."""
        with self._lock:
            self._values = {**update.get("values", {}), **self._values}
            for unit, amount in update.get("count", {}).items():
                self._counts[unit] = self._counts.get(unit, 0.0) + amount
            if self._progress is None and "progress" in update:
                self._progress = update["progress"]["done"], update["progress"]["total"]

    def check_budget(self) -> None:
        """Raise BudgetExceeded, once, if the budget is exceeded and the action is "raise"."""
        error, self.pending_budget_error = self.pending_budget_error, None
        if error is not None:
            raise error

    def _after_update(self) -> None:
        self.on_pending()
        self.check_budget()

    def reset_after_fork(self) -> None:
        """Reset in a forked child: the parent sends the pending update."""
        self._lock = threading.RLock()
        self._values, self._counts, self._progress = {}, {}, None


def _loggable(name: str, value: Any) -> float | str | None:
    """Convert a value to a text or a finite number; return None, with a warning, for others."""
    if isinstance(value, str):
        return value
    try:
        number = float(value)
    except Exception:  # noqa: BLE001  tensors that are not scalars raise various exceptions
        number = math.nan
    if math.isfinite(number):
        return number
    warn("%s=%.50r is ignored: it is not a finite number", name, value)
    return None


OnBudget: TypeAlias = Literal["warn", "raise"] | Callable[[Run], None]


def checked(name: str, action: Any) -> OnBudget:
    """Validate the action of a budget. Raises ValueError."""
    if action in ("warn", "raise") or callable(action):
        return action  # type: ignore[no-any-return]
    raise ValueError(f"{name}: expected 'warn', 'raise' or a function, found {action!r:.100}")


def amount(grams: Any) -> float | None:
    """Validate an amount of grams; None is no amount. Raises ValueError."""
    if grams is None:
        return None
    number = _number(grams)
    if 0 <= number < math.inf:
        return number
    raise ValueError(f"budget_grams: expected a number of grams, such as 500, found {grams!r:.100}")


def interval(seconds: Any) -> float:
    """Validate an interval in seconds. Raises ValueError."""
    number = math.nan if isinstance(seconds, str) else _number(seconds)
    if 0 < number < math.inf:
        return number
    raise ValueError(
        f"interval_seconds: expected a number of seconds above 0, such as 5, found {seconds!r:.100}"
    )


def _number(value: Any) -> float:
    """Convert to a number; nan if that is not possible."""
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return math.nan


def path(name: str, value: Any) -> str | None:
    """Validate a path; None is no path. Raises TypeError."""
    found = os.fspath(value) if isinstance(value, os.PathLike) else value
    if found is None or isinstance(found, str):
        return found
    raise TypeError(f"{name}: expected a path, found {value!r:.100}")


class RunBudget:
    """Budget of one run, with the actions when it is exceeded and when that is forecast.

    Each action is taken once. A forecast counts if the low end of its range exceeds the budget.
    """

    def __init__(
        self, grams: float | None, when_exceeded: OnBudget, when_foreseen: OnBudget
    ) -> None:
        self._grams = grams
        self._when_exceeded = when_exceeded
        self._when_foreseen = when_foreseen
        self._is_exceeded = False
        self._is_foreseen = False

    def fresh_copy(self) -> "RunBudget":
        """Return the same budget for another run."""
        return RunBudget(self._grams, self._when_exceeded, self._when_foreseen)

    def check(self, run: Run) -> None:
        """Act on the run's record. Exceptions of the program's functions propagate."""
        if self._grams is None or self._is_exceeded:
            return
        if run.emissions_grams > self._grams:
            self._is_exceeded = True
            message = f"has emitted {run.emissions_grams:.4g} g CO2eq of"
            self._act(self._when_exceeded, run, message)
            if not self._is_foreseen and self._when_foreseen not in ("warn", self._when_exceeded):
                self._act(self._when_foreseen, run, message)  # there was no forecast before
        elif not self._is_foreseen and (message := self._foreseen(run.record.get("forecast"))):
            self._is_foreseen = True
            self._act(self._when_foreseen, run, message)

    def _foreseen(self, forecast: Mapping[str, Any] | None) -> str:
        low, high = (forecast or {}).get("low"), (forecast or {}).get("high")
        if not forecast or not low or not high or not low["carbon_grams"] > self._grams:
            return ""
        least, most = low["carbon_grams"], high["carbon_grams"]
        return (
            f"is forecast to emit {forecast['carbon_grams']:.4g} g CO2eq ({least:.3g} to "
            f"{most:.3g}) in total, of"
        )

    def _act(self, action: OnBudget, run: Run, message: str) -> None:
        text = f"run {run.run_id} {message} a budget of {self._grams:g} g"
        if action == "raise":
            run.pending_budget_error = BudgetExceeded(text)
        elif callable(action):
            action(run)
        else:
            warn("%s", text)
