"""`track`: measures energy and emissions of a block, a function or a whole program."""

import atexit
import functools
import os
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, ClassVar, Literal, Self, TypeVar

from exporter.client.decorators import measure_calls
from exporter.client.environment import (
    EnvironmentPropagation,
    LaunchContext,
    detect_launch,
    is_restart,
    is_tracked,
)
from exporter.client.errors import NotMeasured
from exporter.client.log import inform, warn
from exporter.client.registration import Registration
from exporter.client.reporter import EXPECTED_ERRORS, Reporter, is_terminal
from exporter.client.run import OnBudget, Run, RunBudget, amount, checked, interval, path
from exporter.job_variables import JOB_ID_VARIABLE, RUN_ID_VARIABLE

F = TypeVar("F", bound=Callable[..., Any])
SCOPES = ("tree", "cgroup", "machine")


class track:  # noqa: N801  reads as the verb it is
    """Measure code as a run: `with track("bert"):`, `@track("bert")`, or `start()` and `stop()`.

    The tracker and the run that `start()` returns have the same methods.

    The run is registered with the node's daemon, else with the user's daemon, else with a private
    daemon that is started for it (`private`). All ranks of a launch are one run, and so are all
    programs with the same `run_id`. A run inside another one is counted separately. If the
    environment sets the run id (`EMISSIONS_RUN_ID`, `MLFLOW_RUN_ID`, a launcher), the first tracker
    of a process has that id, and later ones are separate runs: ID.2, ID.3. Errors never stop or
    slow down the program: they are logged to the logger `emissions`. Only `strict` raises
    NotMeasured at the start, and `on_budget="raise"` (or `on_forecast`) raises BudgetExceeded from
    the program's own calls of `run`.
    """

    has_own_intensity = False
    """Whether the caller converts energy itself, so that a missing zone causes no warning."""

    _open: ClassVar[list["track"]] = []
    """Open trackers of the program, the last one started last."""
    _opened_here: ClassVar[ContextVar[tuple["track", ...]]] = ContextVar("opened", default=())
    """Trackers that this thread or asyncio task and its parents have started, innermost last."""
    _ids_found: ClassVar[dict[tuple[int, str], int]] = {}
    """Number of trackers of this process that used an id from the environment, by rank and id."""
    _propagation: ClassVar[EnvironmentPropagation] = EnvironmentPropagation()
    _warned: ClassVar[set[str]] = set()

    def __new__(cls, name: Any = "", **_: Any) -> Any:
        """Create a tracker or, as a bare `@track`, wrap the function."""
        return cls()(name) if callable(name) else super().__new__(cls)

    def __init__(
        self,
        name: str = "",
        *,
        run_id: str = "",
        job_id: str = "",
        labels: Mapping[str, Any] | None = None,
        group: str = "",
        scope: Literal["tree", "cgroup", "machine"] = "tree",
        budget_grams: float | str | None = None,
        on_budget: OnBudget = "warn",
        on_forecast: OnBudget = "warn",
        progress: bool | None = None,
        receipts: str | os.PathLike[str] | None = "emissions",
        codecarbon_csv: str | os.PathLike[str] | None = None,
        interval_seconds: float = 5.0,
        socket: str = "",
        private: bool = True,
        strict: bool = False,
    ) -> None:
        """Configure the run; it starts with `start` or the `with` block.

        `group` is a label shared by the runs of a sweep; label values are converted to text.
        `scope` selects the processes that belong to the run. `on_budget` is the action when the
        budget is exceeded; `on_forecast` when the forecast from `run.progress` exceeds it with
        certainty, or when it is exceeded before any forecast: "warn", "raise", or a function that
        is called with the run. "raise" raises BudgetExceeded from the next call of `run.log`,
        `count`, `progress` or `refresh`; the budget is checked every `interval_seconds`. A block
        that has ended does not fail.
        `progress` shows a status line; None shows it if standard error is a terminal. A receipt is
        written to the directory `receipts` every minute and at the end, unless it is None. A row is
        written to the file `codecarbon_csv`, in CodeCarbon's format, at the same times.
        Raises TypeError and ValueError for invalid arguments.
        """
        if scope not in SCOPES:
            raise ValueError(f"scope: expected 'tree', 'cgroup' or 'machine', found {scope!r:.100}")
        grams = amount(budget_grams)
        self._arguments: dict[str, Any] = {
            "run_id": str(run_id),
            "job_id": str(job_id),
            "name": str(name),
            "labels": {**_string_labels(labels or {}), **({"group": str(group)} if group else {})},
            "scope": scope,
            "budget_grams": grams,
        }
        self._budget = RunBudget(
            grams, checked("on_budget", on_budget), checked("on_forecast", on_forecast)
        )
        if grams is None:
            self._warn_of_actions(on_budget=on_budget, on_forecast=on_forecast)
        self._progress = progress
        self._receipts = path("receipts", receipts)
        self._codecarbon_csv = path("codecarbon_csv", codecarbon_csv)
        self._interval = interval(interval_seconds)
        self._socket = socket
        self._private = private
        self._strict = strict
        self._outside_id = ""
        """A run id that is used as if it were set in the environment."""
        self._pid = 0
        self._is_joined = False
        self._reporter: Reporter | None = None
        self._registration = Registration({}, socket, may_start=False)
        self.run = self._bind(Run())

    def __enter__(self) -> Run:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.stop()
        error, self.run.pending_budget_error = self.run.pending_budget_error, None
        if error is not None and kind is None:
            warn("%s; BudgetExceeded is not raised because the block has ended", error)

    def __call__(self, function: F) -> F:
        """Decorate a function: each call is a separate run that ends with the function's body."""
        name = getattr(function, "__name__", "")
        return measure_calls(function, lambda: self._copy_for_call(name))  # type: ignore[return-value]

    def start(self) -> Run:
        """Start the run unless it is open. Raises NotMeasured if the tracker is strict."""
        if self._pid:
            return self.run
        self._pid = os.getpid()
        launch = detect_launch(os.environ, str(self._arguments["name"]))
        request = {
            **self._arguments,
            "run_id": self._arguments["run_id"] or self._environment_id(launch),
            "job_id": self._arguments["job_id"] or launch.job_id,
            "nodes": launch.nodes,
        }
        self._registration = Registration(
            request,
            self._socket,
            may_start=self._private,
            repeats=None if self._arguments["run_id"] else is_restart(os.environ, launch),
        )
        self.run = self._bind(Run())
        try:
            if self._receipts is not None:  # the program may change its working directory
                self._receipts = os.path.abspath(self._receipts)
            if self._codecarbon_csv is not None:
                self._codecarbon_csv = os.path.abspath(self._codecarbon_csv)
            self._register()
            self._start_reporter()
        except Exception as error:  # the program continues without measurement
            self._pid = 0
            if self._strict:
                raise NotMeasured(f"not measured: {error}") from error
            if str(error) not in self._warned:  # a decorated function may be called often
                self._warned.add(str(error))
                warn("not measured, the program continues: %s", error)
            return self.run
        self._open.append(self)
        self._opened_here.set((*self._open_here(), self))
        self._propagation.add(self, self.run.run_id, self.run.job_id, self._socket)
        return self.run

    def stop(self) -> Run:
        """End the run if it is open, and wait for its final record."""
        reporter = self._reporter
        if reporter is None:
            return self.run
        if self._is_joined or os.getpid() != self._pid:  # the run belongs to another process
            reporter.try_report()
            return self.run
        atexit.unregister(self.stop)
        self._reporter = None
        reporter.stop()
        from exporter.client.agent_client import RETRY_TIMEOUT_SECONDS

        deadline = time.monotonic() + RETRY_TIMEOUT_SECONDS
        reporter.finish(deadline)
        if self in self._open:
            self._warn_of_overlap()
            self._open.remove(self)
            self._opened_here.set(self._open_here())
        self._propagation.drop(self)
        self._end(reporter, deadline)
        self._pid = 0
        return self.run

    @property
    def run_id(self) -> str:
        """Id of the run; "" before its start."""
        return self.run.run_id

    @property
    def job_id(self) -> str:
        """Job id of the run, if any."""
        return self.run.job_id

    @property
    def record(self) -> dict[str, Any]:
        """Last record received from the daemon; see docs/record.md."""
        return self.run.record

    @property
    def is_measured(self) -> bool:
        """Whether a daemon measures the run."""
        return self.run.is_measured

    @property
    def energy_joules(self) -> float:
        """Energy of the run so far on this node, in joules; nan if it is not measured."""
        return self.run.energy_joules

    @property
    def energy_kwh(self) -> float:
        """Energy of the run so far on this node, in kilowatt hours; nan if it is not measured."""
        return self.run.energy_kwh

    @property
    def emissions_grams(self) -> float:
        """Emissions of the run so far on this node, in grams of CO2 equivalent; nan if unknown."""
        return self.run.emissions_grams

    def log(self, **values: Any) -> None:
        """Log results, numbers or texts; a value replaces an earlier one of the same name."""
        self.run.log(**values)

    def count(self, **amounts: float) -> None:
        """Add to the units counted by the run: tokens, requests, samples, or any other unit."""
        self.run.count(**amounts)

    def progress(self, done: float, total: float) -> None:
        """Report how much of the work is done; the daemon forecasts the totals from it."""
        self.run.progress(done, total)

    def refresh(self) -> dict[str, Any]:
        """Return the current record, or the last one if the daemon does not answer."""
        return self.run.refresh()

    @classmethod
    def _warn_of_actions(cls, **actions: OnBudget) -> None:
        """Warn, once per program, about actions without a budget."""
        given = ", ".join(name for name, action in actions.items() if action != "warn")
        text = f"{given} without budget_grams has no effect"
        if given and text not in cls._warned:
            cls._warned.add(text)
            warn("%s", text)

    def _warn_of_overlap(self) -> None:
        """Warn, once per program, if a tracker that began later is still open."""
        later = self._open[-1]
        if later is not self and "overlap" not in self._warned:
            self._warned.add("overlap")
            warn(
                "run %s ended while run %s, which began later, is open: energy of this process is "
                "attributed to the open run that began last, so these runs cannot be compared; use "
                "a process for each of them",
                *(self.run.run_id, later.run.run_id),
            )

    @classmethod
    def _open_here(cls) -> tuple["track", ...]:
        return tuple(each for each in cls._opened_here.get() if each in cls._open)

    @classmethod
    def current(cls) -> Run:
        """Return what `current_run` returns.

        Updates of another process's run are sent, but only that process ends the run.
        """
        if trackers := cls._open_here() or cls._open:
            return trackers[-1].run
        run_id = os.environ.get(RUN_ID_VARIABLE, "")
        if not run_id or not is_tracked(os.environ, run_id):
            return Run()
        joined = cls(receipts=None, progress=False)
        joined.run = joined._bind(Run(run_id, os.environ.get(JOB_ID_VARIABLE, "")))
        joined.run.is_measured = joined._is_joined = True
        joined._start_reporter()
        cls._open.append(joined)
        return joined.run

    def _environment_id(self, launch: LaunchContext) -> str:
        """Return the id set in the environment; later trackers of this process get a number."""
        found = launch.run_id or self._outside_id
        if not found:
            return ""
        key = launch.rank, found
        number = self._ids_found[key] = self._ids_found.get(key, 0) + 1
        return found if number == 1 else f"{found}.{number}"

    def _copy_for_call(self, name: str) -> Self:
        """Return a copy of this tracker for one call of the decorated function."""
        other = object.__new__(type(self))
        other.__dict__ = dict(self.__dict__)
        other._arguments = {**self._arguments, "name": self._arguments["name"] or name}
        other._pid, other._reporter, other._budget = 0, None, self._budget.fresh_copy()
        other.run = other._bind(Run())
        return other

    def _bind(self, run: Run) -> Run:
        """Bind `start` and `stop` of a run to this tracker; return the run."""
        run.begin = self.start
        run.finish = lambda: self.stop() if run is self.run else run
        return run

    def _register(self) -> None:
        """Register the run with a daemon, or register it again. Raises EXPECTED_ERRORS."""
        record = self._registration.register()
        self.run.run_id, self.run.job_id = record["run_id"], record["job_id"]
        self.run.record, self.run.is_measured = record, True

    def _start_reporter(self) -> None:
        """Start the thread that sends updates and refreshes the record."""
        self._pid = self._pid or os.getpid()
        launch = detect_launch(os.environ, "")
        is_first = launch.rank == 0
        title = str(self._arguments["name"]) or self.run.run_id
        reporter = self._reporter = Reporter(
            self.run,
            send=self._send_update,
            register_again=self._register_again,
            on_record=functools.partial(self._budget.check, self.run) if is_first else lambda: None,
            receipts=self._receipts if launch.local_rank == 0 else None,
            interval_seconds=self._interval,
            title=title,
            shows_status=is_first and (is_terminal() if self._progress is None else self._progress),
            keep_only=self._write_csv_row if launch.local_rank == 0 else lambda _: None,
        )
        self.run.on_pending, self.run.report_now = reporter.start, reporter.try_report
        self.run.on_progress = reporter.request_report
        reporter.start()
        atexit.register(self.stop)

    def _write_csv_row(self, record: dict[str, Any]) -> None:
        if self._codecarbon_csv is not None:
            from exporter.integrations.codecarbon.csv_writer import write_record

            is_alone = detect_launch(os.environ, "").nodes == 1
            write_record(self._codecarbon_csv, record, is_alone=is_alone)

    def _register_again(self) -> None:
        """Register the run again if the daemon lost it and this process started it."""
        if not self._is_joined and os.getpid() == self._pid:
            self._register()

    def _send_update(self, update: dict[str, Any]) -> dict[str, Any]:
        return self._registration.send_update(self.run.run_id, self.run.job_id, update)

    def _end(self, reporter: Reporter, deadline: float) -> None:
        is_shared = any(
            (other.run.run_id, other.run.job_id) == (self.run.run_id, self.run.job_id)
            for other in self._open
        )
        if is_shared:  # an outer tracker of this program measures the same run
            return
        try:
            self.run.record = self._registration.end(self.run.run_id, self.run.job_id, deadline)
        except EXPECTED_ERRORS as error:
            warn(
                "final record of run %s not received: %s; to get it later, use: "
                "emissions-exporter report %s",
                *(self.run.run_id, error, self.run.run_id),
            )
        reporter.apply_record(self.run.record)
        reporter.write_receipt()
        if detect_launch(os.environ, "").rank == 0:
            self._log_summary(self.run.record)

    def _log_summary(self, record: Mapping[str, Any]) -> None:
        """Log the run's totals and their basis; warn about ignored settings or a missing zone."""
        from exporter.client.basis import basis, ignored_settings, is_world

        basis_text = basis(record)
        inform(
            "run %s: %.4g J, %.4g g CO2eq; %s",
            *(self.run.run_id, self.run.energy_joules, self.run.emissions_grams, basis_text),
        )
        warnings = ignored_settings(os.environ, record)
        if not warnings and is_world(record) and not self.has_own_intensity:
            text = (
                f"{basis_text}: emissions are based on the world average because no zone is set; "
                "set convert.zone of the daemon, or EMISSIONS_EXPORTER_CONVERT_ZONE for a private "
                "daemon"
            )
            warnings.append(text)
        for text in warnings:
            if text not in self._warned:  # a sweep has many runs
                self._warned.add(text)
                warn("%s", text)


def _string_labels(labels: Mapping[str, Any]) -> dict[str, str]:
    """Convert label values to text and drop None. Raises TypeError if it is not a mapping."""
    if not isinstance(labels, Mapping):
        raise TypeError(
            "labels: expected names with values, such as {'team': 'nlp'}, found " + repr(labels)
        )
    return {str(name): str(value) for name, value in labels.items() if value is not None}


def current_run() -> Run:
    """Return the innermost open run of this thread or asyncio task, else of the program.

    Without one, return the run of the parent process, else a run without effect.
    """
    return track.current()
