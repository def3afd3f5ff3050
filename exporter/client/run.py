"""One run as the program that does it sees it."""

import math
import threading
from collections.abc import Callable
from typing import Any

from exporter.client.errors import BudgetExceeded
from exporter.client.forks import Forkable
from exporter.client.words import warn

JOULES_PER_KWH = 3.6e6
MOST_PENDING = 1_000
"""Results that are kept while no daemon can be reached."""


class Run(Forkable):
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
        self.over_budget: BudgetExceeded | None = None
        """To be raised where the program asks next."""
        self.wake: Callable[[], None] = lambda: None
        """Called when there is something to be sent."""
        self.nudge: Callable[[], None] = lambda: None
        """Called when it should be sent soon."""
        self.look: Callable[[], object] = lambda: None
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
        noted = {name: _plain(name, value) for name, value in values.items()}
        with self._lock:
            if len(self._values) < MOST_PENDING:
                self._values.update({k: v for k, v in noted.items() if v is not None})
        self._told()

    def count(self, **amounts: float) -> None:
        """Add to what the run counts: tokens, requests, samples, or any other unit."""
        with self._lock:
            for unit, amount in amounts.items():
                number = _plain(unit, amount)
                if isinstance(number, float) and number >= 0:
                    self._counts[unit] = self._counts.get(unit, 0.0) + number
        self._told()

    def progress(self, done: float, total: float) -> None:
        """Say how much of the work is done; the daemon then says what it will come to."""
        numbers = _plain("done", done), _plain("total", total)
        if isinstance(numbers[0], float) and isinstance(numbers[1], float):
            with self._lock:
                self._progress = numbers[0], numbers[1]
        self._told()
        self.nudge()

    def refresh(self) -> dict[str, Any]:
        """The record as it stands now; the last known one where the daemon does not answer."""
        self.look()
        self.check_budget()
        return self.record

    def take(self) -> dict[str, Any]:
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

    def give_back(self, said: dict[str, Any]) -> None:
        """Keep what could not be sent, under what was said since."""
        with self._lock:
            self._values = {**said.get("values", {}), **self._values}
            for unit, amount in said.get("count", {}).items():
                self._counts[unit] = self._counts.get(unit, 0.0) + amount
            if self._progress is None and "progress" in said:
                self._progress = said["progress"]["done"], said["progress"]["total"]

    def check_budget(self) -> None:
        """Raise BudgetExceeded, once, if the run was to be stopped by that and is over it."""
        error, self.over_budget = self.over_budget, None
        if error is not None:
            raise error

    def _told(self) -> None:
        self.wake()
        self.check_budget()

    def begin_anew(self) -> None:
        """In a forked child: what was not sent yet is sent by the parent."""
        self._lock = threading.Lock()
        self._values, self._counts, self._progress = {}, {}, None


def _plain(name: str, value: Any) -> float | str | None:
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
