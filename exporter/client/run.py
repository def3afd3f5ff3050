"""One run as the program that does it sees it."""

import math
import threading
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

from exporter.client.errors import BudgetExceeded
from exporter.client.fork_safety import ForkAware
from exporter.client.log import warn

JOULES_PER_KWH = 3.6e6
MAX_PENDING_VALUES = 1_000
"""Results that are kept while no daemon can be reached."""


class Run(ForkAware):
    """The run of `with track(...) as run` and of `track(...).start()`.

    Its tracker has the same methods. Only `start`, `stop` and `refresh` wait for a daemon, and none
    fails. Energies are nan as long as nothing is measured. What `log`, `count` and `progress` are
    told is sent every few seconds, from another thread.
    """

    def __init__(self, run_id: str = "", job_id: str = "") -> None:
        super().__init__()
        self.run_id = run_id
        self.job_id = job_id
        self.record: dict[str, Any] = {}
        """The last that the daemon said; see docs/record.md."""
        self.is_measured = False
        """Whether a daemon counts for this run."""
        self.pending_budget_error: BudgetExceeded | None = None
        """To be raised where the program asks next."""
        self.on_pending: Callable[[], None] = lambda: None
        """Called when there is something to be sent."""
        self.on_progress: Callable[[], None] = lambda: None
        """Called when it should be sent soon."""
        self.report_now: Callable[[], object] = lambda: None
        """Called to send it, and to get the record, at once."""
        self.begin: Callable[[], Run] | None = None
        self.finish: Callable[[], Run] | None = None
        """Called to begin and to end it; None where it has no tracker."""
        self._lock = threading.Lock()
        self._values: dict[str, float | str] = {}
        self._counts: dict[str, float] = {}
        self._progress: tuple[float, float] | None = None

    def start(self) -> "Run":
        """Begin the run, unless it is open; after `stop`, begin the next one, which is returned.

        Raises NotMeasured if the tracker is strict.
        """
        return self.begin() if self.begin else self

    def stop(self) -> "Run":
        """End the run, unless it has ended, and wait for its last record."""
        return self.finish() if self.finish else self

    @property
    def energy_joules(self) -> float:
        """What the run has used so far, on this node."""
        return float(self.record.get("energy_joules", math.nan))

    @property
    def energy_kwh(self) -> float:
        """The same in kilowatt hours."""
        return self.energy_joules / JOULES_PER_KWH

    @property
    def emissions_grams(self) -> float:
        """What that emitted, CO2 equivalent."""
        return float(self.record.get("carbon_grams", math.nan))

    def log(self, **values: Any) -> None:
        """Note results, numbers or texts; each replaces the one before with its name."""
        noted = {name: _loggable(name, value) for name, value in values.items()}
        with self._lock:
            if len(self._values) < MAX_PENDING_VALUES:
                self._values.update({k: v for k, v in noted.items() if v is not None})
        self._after_update()

    def count(self, **amounts: float) -> None:
        """Add to what the run counts: tokens, requests, samples, or any other unit."""
        with self._lock:
            for unit, amount in amounts.items():
                number = _loggable(unit, amount)
                if isinstance(number, float) and number >= 0:
                    self._counts[unit] = self._counts.get(unit, 0.0) + number
        self._after_update()

    def progress(self, done: float, total: float) -> None:
        """Say how much of the work is done; the daemon then says what it will come to."""
        numbers = _loggable("done", done), _loggable("total", total)
        if isinstance(numbers[0], float) and isinstance(numbers[1], float):
            with self._lock:
                self._progress = numbers[0], numbers[1]
        self._after_update()
        self.on_progress()

    def refresh(self) -> dict[str, Any]:
        """The record as it stands now; the last known one where the daemon does not answer."""
        self.report_now()
        self.check_budget()
        return self.record

    def take_pending(self) -> dict[str, Any]:
        """What is to be sent; it is forgotten here."""
        with self._lock:
            said: dict[str, Any] = {}
            if self._values:
                said["values"], self._values = self._values, {}
            if self._counts:
                said["count"], self._counts = self._counts, {}
            if self._progress is not None:
                done, total = self._progress
                said["progress"], self._progress = {"done": done, "total": total}, None
            return said

    def restore_pending(self, said: dict[str, Any]) -> None:
        """Keep what could not be sent, under what was said since."""
        with self._lock:
            self._values = {**said.get("values", {}), **self._values}
            for unit, amount in said.get("count", {}).items():
                self._counts[unit] = self._counts.get(unit, 0.0) + amount
            if self._progress is None and "progress" in said:
                self._progress = said["progress"]["done"], said["progress"]["total"]

    def check_budget(self) -> None:
        """Raise BudgetExceeded, once, if the run was to be stopped by that and is over it."""
        error, self.pending_budget_error = self.pending_budget_error, None
        if error is not None:
            raise error

    def _after_update(self) -> None:
        self.on_pending()
        self.check_budget()

    def reset_after_fork(self) -> None:
        """In a forked child: what was not sent yet is sent by the parent."""
        self._lock = threading.Lock()
        self._values, self._counts, self._progress = {}, {}, None


def _loggable(name: str, value: Any) -> float | str | None:
    """A text, or the number that something is; None, and a word of it, for all else."""
    if isinstance(value, str):
        return value
    try:
        number = float(value)
    except Exception:  # noqa: BLE001  whatever a tensor raises that is no scalar
        number = math.nan
    if math.isfinite(number):
        return number
    warn("%s=%.50r is not noted: it is no finite number", name, value)
    return None


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


class RunBudget:
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

    def fresh_copy(self) -> "RunBudget":
        """The same for another run."""
        return RunBudget(self._grams, self._when_exceeded, self._when_foreseen)

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
            run.pending_budget_error = BudgetExceeded(text)
        elif callable(action):
            action(run)
        else:
            warn("%s", text)
