"""`track`: the energy and emissions of a piece of a program, with two lines."""

import atexit
import functools
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, Self, TypeVar

from exporter.client.decorators import measure_calls
from exporter.client.environment import (
    OUR_JOB_ID_VARIABLE,
    RUN_ID_VARIABLE,
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
from exporter.client.run import OnBudget, Run, RunBudget, amount, checked

F = TypeVar("F", bound=Callable[..., Any])
SCOPES = ("tree", "cgroup", "machine")


class track:  # noqa: N801  reads as the verb it is
    """Measure what runs in it: `with track("bert"):`, `@track("bert")`, or `start()` and `stop()`.

    The tracker and the run that `start()` returns have the same methods.

    The node's daemon is asked, else the user's own, else one is started (`private`). All ranks of
    one launch are one run, and so are all programs that are given one `run_id`; a run inside
    another is counted apart from it. Where the environment names the run (`EMISSIONS_RUN_ID`,
    `MLFLOW_RUN_ID`, a launcher), the first tracker of a process has that id, and the later ones are
    runs of their own: ID.2, ID.3. The program is never stopped or slowed: what goes wrong is said
    in the log `emissions`. Only `strict` raises NotMeasured at the start, and `on_budget="raise"`
    (or `on_forecast`) raises BudgetExceeded, in the program's own calls of `run`.
    """

    _open: ClassVar[list["track"]] = []
    _ids_found: ClassVar[dict[tuple[int, str], int]] = {}
    """Trackers of this process that began with an id that they found, by rank and id."""
    _propagation: ClassVar[EnvironmentPropagation] = EnvironmentPropagation()
    _complained: ClassVar[set[str]] = set()

    def __new__(cls, name: Any = "", **_: Any) -> Any:
        """A tracker; or, as a bare `@track`, the function itself, tracked."""
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
        receipts: str | None = "emissions",
        codecarbon_csv: str | None = None,
        interval_seconds: float = 5.0,
        socket: str = "",
        private: bool = True,
        strict: bool = False,
    ) -> None:
        """`group` is a label that the runs of a sweep share; values of labels become texts.

        `scope` says what belongs to the run. `on_budget` is what is done when the budget is used
        up, `on_forecast` when it is sure to be, by what `run.progress` is told, or is used up
        before: "warn", "raise", or a function that is called with the run. "raise" raises
        BudgetExceeded from the next call of `run.log`, `count`, `progress` or `refresh`; the budget
        is compared every `interval_seconds`. A block that has ended is not failed by it.
        `progress` shows a line on the terminal; None: if there is one. A receipt is written into
        the directory `receipts` each minute and at the end; None: not. So is a row of the file
        `codecarbon_csv`, in the format of CodeCarbon. Raises TypeError and ValueError for arguments
        that mean nothing.
        """
        if scope not in SCOPES:
            raise ValueError(f"scope: expected 'tree', 'cgroup' or 'machine', found {scope!r:.100}")
        grams = amount(budget_grams)
        self._asked: dict[str, Any] = {
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
        self._progress = progress
        self._receipts = receipts
        self._codecarbon_csv = codecarbon_csv
        self._interval = interval_seconds
        self._socket = socket
        self._private = private
        self._strict = strict
        self._outside_id = ""
        """An id that is not in the environment and counts as if it were there."""
        self._pid = 0
        self._is_joined = False
        self._reporter: Reporter | None = None
        self._registration = Registration({}, socket, may_start=False)
        self.run = self._known(Run())

    def __enter__(self) -> Run:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.stop()
        error, self.run.pending_budget_error = self.run.pending_budget_error, None
        if error is not None and kind is None:
            warn("%s; its work had ended, so BudgetExceeded is not raised", error)

    def __call__(self, function: F) -> F:
        """As a decorator: each call is a run of its own, until its body has ended."""
        name = getattr(function, "__name__", "")
        return measure_calls(function, lambda: self._copy_for_call(name))  # type: ignore[return-value]

    def start(self) -> Run:
        """Begin the run, unless it has begun. Raises NotMeasured if that was asked for."""
        if self._pid:
            return self.run
        self._pid = os.getpid()
        launch = detect_launch(os.environ, str(self._asked["name"]))
        asked = {
            **self._asked,
            "run_id": self._asked["run_id"] or self._found_id(launch),
            "job_id": self._asked["job_id"] or launch.job_id,
            "nodes": launch.nodes,
        }
        self._registration = Registration(
            asked,
            self._socket,
            may_start=self._private,
            repeats=None if self._asked["run_id"] else is_restart(os.environ, launch),
        )
        self.run = self._known(Run())
        try:
            if self._receipts is not None:  # the program may change its directory
                self._receipts = os.path.abspath(self._receipts)
            if self._codecarbon_csv is not None:
                self._codecarbon_csv = os.path.abspath(self._codecarbon_csv)
            self._register()
            self._start_reporter()
        except Exception as error:  # whatever was asked for, the program goes on
            self._pid = 0
            if self._strict:
                raise NotMeasured(f"not measured: {error}") from error
            if str(error) not in self._complained:  # a decorated function may be called often
                self._complained.add(str(error))
                warn("not measured, the program goes on: %s", error)
            return self.run
        self._open.append(self)
        self._propagation.add(self, self.run.run_id, self.run.job_id, self._socket)
        return self.run

    def stop(self) -> Run:
        """End the run, if it is open, and wait for its last record."""
        reporter = self._reporter
        if reporter is None:
            return self.run
        if self._is_joined or os.getpid() != self._pid:  # the run is that of another process
            reporter.try_report()
            return self.run
        atexit.unregister(self.stop)
        self._reporter = None
        reporter.stop()
        from exporter.client.agent_client import RETRY_TIMEOUT_SECONDS

        deadline = time.monotonic() + RETRY_TIMEOUT_SECONDS
        reporter.finish(deadline)
        if self in self._open:
            self._open.remove(self)
        self._propagation.drop(self)
        self._end(reporter, deadline)
        self._pid = 0
        return self.run

    @property
    def run_id(self) -> str:
        """The id of the run; "" before its start."""
        return self.run.run_id

    @property
    def job_id(self) -> str:
        """The job of the run, if any."""
        return self.run.job_id

    @property
    def record(self) -> dict[str, Any]:
        """The last record that the daemon sent; see docs/record.md."""
        return self.run.record

    @property
    def is_measured(self) -> bool:
        """Whether a daemon measures the run."""
        return self.run.is_measured

    @property
    def energy_joules(self) -> float:
        """Energy of the run so far, on this node; nan where nothing is measured."""
        return self.run.energy_joules

    @property
    def energy_kwh(self) -> float:
        """The same in kilowatt hours."""
        return self.run.energy_kwh

    @property
    def emissions_grams(self) -> float:
        """Emissions of the run so far, CO2 equivalent."""
        return self.run.emissions_grams

    def log(self, **values: Any) -> None:
        """Log results of the run, numbers or texts; each replaces the one with its name."""
        self.run.log(**values)

    def count(self, **amounts: float) -> None:
        """Add to the units that the run counts: tokens, requests, samples, or any other."""
        self.run.count(**amounts)

    def progress(self, done: float, total: float) -> None:
        """Report how much of the work is done, for the forecast."""
        self.run.progress(done, total)

    def refresh(self) -> dict[str, Any]:
        """The record as it is now; the last known one where the daemon does not answer."""
        return self.run.refresh()

    @classmethod
    def current(cls) -> Run:
        """The innermost run of this program, or of the one that spawned it; else one of no effect.

        What a run of another process is told here is sent, but only that one ends it.
        """
        if cls._open:
            return cls._open[-1].run
        run_id = os.environ.get(RUN_ID_VARIABLE, "")
        if not run_id or not is_tracked(os.environ, run_id):
            return Run()
        joined = cls(receipts=None, progress=False)
        joined.run = joined._known(Run(run_id, os.environ.get(OUR_JOB_ID_VARIABLE, "")))
        joined.run.is_measured = joined._is_joined = True
        joined._start_reporter()
        cls._open.append(joined)
        return joined.run

    def _found_id(self, launch: LaunchContext) -> str:
        """The id that the environment gives; of a later tracker one of its own, in every rank."""
        found = launch.run_id or self._outside_id
        if not found:
            return ""
        key = launch.rank, found
        number = self._ids_found[key] = self._ids_found.get(key, 0) + 1
        return found if number == 1 else f"{found}.{number}"

    def _copy_for_call(self, name: str) -> Self:
        """Another tracker like this, for one call."""
        other = object.__new__(type(self))
        other.__dict__ = dict(self.__dict__)
        other._asked = {**self._asked, "name": self._asked["name"] or name}
        other._pid, other._reporter, other._budget = 0, None, self._budget.fresh_copy()
        other.run = other._known(Run())
        return other

    def _known(self, run: Run) -> Run:
        """The run, which can begin and end itself by this tracker."""
        run.begin = self.start
        run.finish = lambda: self.stop() if run is self.run else run
        return run

    def _register(self) -> None:
        """Begin the run with a daemon, or begin it again. Raises one of TROUBLE."""
        record = self._registration.register()
        self.run.run_id, self.run.job_id = record["run_id"], record["job_id"]
        self.run.record, self.run.is_measured = record, True

    def _start_reporter(self) -> None:
        """Keep the run's record from now on."""
        self._pid = self._pid or os.getpid()
        launch = detect_launch(os.environ, "")
        is_first = launch.rank == 0
        title = str(self._asked["name"]) or self.run.run_id
        reporter = self._reporter = Reporter(
            self.run,
            say=self._say,
            register_again=self._begin_again,
            on_record=functools.partial(self._budget.check, self.run) if is_first else lambda: None,
            receipts=self._receipts if launch.local_rank == 0 else None,
            interval_seconds=self._interval,
            title=title,
            shows_status=is_first and (is_terminal() if self._progress is None else self._progress),
            keep_only=self._add_row if launch.local_rank == 0 else lambda _: None,
        )
        self.run.on_pending, self.run.report_now = reporter.start, reporter.try_report
        self.run.on_progress = reporter.request_report
        reporter.start()
        atexit.register(self.stop)

    def _add_row(self, record: dict[str, Any]) -> None:
        if self._codecarbon_csv is not None:
            from exporter.integrations.codecarbon.csv_writer import write_record

            is_alone = detect_launch(os.environ, "").nodes == 1
            write_record(self._codecarbon_csv, record, is_alone=is_alone)

    def _begin_again(self) -> None:
        """The daemon knows the run no more: who began it, begins it again."""
        if not self._is_joined and os.getpid() == self._pid:
            self._register()

    def _say(self, said: dict[str, Any]) -> dict[str, Any]:
        return self._registration.send_update(self.run.run_id, self.run.job_id, said)

    def _end(self, reporter: Reporter, deadline: float) -> None:
        is_shared = any(
            (other.run.run_id, other.run.job_id) == (self.run.run_id, self.run.job_id)
            for other in self._open
        )
        if is_shared:  # an outer tracker of this program has the same run
            return
        try:
            self.run.record = self._registration.end(self.run.run_id, self.run.job_id, deadline)
        except EXPECTED_ERRORS as error:
            warn(
                "the last numbers of run %s are missing: %s; later: emissions-exporter report %s",
                *(self.run.run_id, error, self.run.run_id),
            )
        reporter.apply_record(self.run.record)
        reporter.write_receipt()
        if detect_launch(os.environ, "").rank == 0:
            self._say_basis(self.run.record)

    def _say_basis(self, record: Mapping[str, Any]) -> None:
        """Log what the run used and how that is known; warn of a zone that nobody has chosen."""
        from exporter.client.basis import basis, ignored_settings, is_world

        known = basis(record)
        inform(
            "run %s: %.4g J, %.4g g CO2eq; %s",
            *(self.run.run_id, self.run.energy_joules, self.run.emissions_grams, known),
        )
        remarks = [
            f"{setting} has no effect: a daemon reads it when it starts, and the one that measured "
            f"this run counts with other values ({known}); stop it, or set it there"
            for setting in ignored_settings(os.environ, record)
        ]
        if not remarks and is_world(record):
            text = (
                f"{known}: the grams are those of the world average, since no zone is set; set "
                "convert.zone of the daemon, or EMISSIONS_EXPORTER_CONVERT_ZONE for one that a "
                "tracker starts"
            )
            remarks.append(text)
        for text in remarks:
            if text not in self._complained:  # a sweep has many runs
                self._complained.add(text)
                warn("%s", text)


def _string_labels(labels: Mapping[str, Any]) -> dict[str, str]:
    """Labels as texts, without those of no value. Raises TypeError for what is not labels."""
    if not isinstance(labels, Mapping):
        raise TypeError(
            "labels: expected names with values, such as {'team': 'nlp'}, found " + repr(labels)
        )
    return {str(name): str(value) for name, value in labels.items() if value is not None}


def current_run() -> Run:
    """The innermost run of this program, or of the one that spawned it; else one of no effect."""
    return track.current()
