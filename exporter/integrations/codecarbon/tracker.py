"""CodeCarbon-compatible trackers that measure with the daemon."""

import os
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, ClassVar, NamedTuple, Self

from exporter.client import track
from exporter.client.atomic_file import replace_file
from exporter.client.decorators import Function, measure_calls
from exporter.client.log import warn
from exporter.client.periodic import PeriodicCall
from exporter.integrations.codecarbon.csv_validation import label
from exporter.integrations.codecarbon.csv_writer import (
    Utilization,
    machine_facts,
    write_row_with_warning,
)
from exporter.integrations.codecarbon.data import (
    TASK_COLUMNS,
    EmissionsData,
    Energy,
    Task,
    emissions_data,
    subtract_rows,
    sum_rows,
    task_data,
    task_row,
    unmeasured,
)
from exporter.integrations.codecarbon.settings import (
    ARGUMENTS,
    LEVELS,
    OF_DECORATOR,
    read_tracker_settings,
    resolve_overrides,
)
from exporter.model.record import FIRST_TASK_LABEL, GROUP_LABEL, TASK_LABEL
from exporter.report.forms.codecarbon import EXPERIMENT_COLUMN, Row, csv_row, csv_text


class _OpenTask(NamedTuple):
    """Run of an open task, with the rows of it and of the enclosing run at its start."""

    name: str
    tracker: track
    begun: Row | None
    around: Row | None
    utilization: Utilization


class EmissionsTracker:
    """Measures between `start` and `stop`, which returns kilograms of CO2 equivalent.

    The arguments are those of CodeCarbon; arguments without effect are logged once to the logger
    `emissions`. The whole machine is measured unless `tracking_mode` is `process`. No method
    raises. Without a daemon, and if none can be started, nothing is measured: all methods return
    None, and the numbers in `final_emissions_data` are nan.
    """

    _warned: ClassVar[set[str]] = set()

    def __init__(self, *given: Any, **named: Any) -> None:
        self._settings = read_tracker_settings(ARGUMENTS, given, named, os.environ)
        self.final_emissions: float | None = None
        """Emissions in kilograms after `stop`."""
        self.final_emissions_data: EmissionsData | None = None
        self._facts = machine_facts()
        self._track: track | None = None
        self._before: Row | None = None
        """Usage of the run at the start of this tracker, which may continue an existing run."""
        self._task: _OpenTask | None = None
        self._task_rows: dict[str, Row] = {}
        """Usage of the tasks' own runs."""
        self._reported_tasks: dict[str, Row] = {}
        """The same with the enclosing run's usage during the task, as files and handlers get it."""
        self._task_counts: dict[str, int] = {}
        """Number of tasks started with each name."""
        self._tasks: dict[str, Task] = {}
        """Ended tasks; read by programs."""
        self._flushed: Row | None = None
        self._utilization: Utilization | None = None
        self._run_id = ""
        self._live = PeriodicCall(self._settings.interval_seconds, self._measure)
        self._measurements = 0
        """Measurements since the last `live_out`."""
        self._pid = 0
        """Process that started measuring; a forked child writes no output of its parent."""
        for text in self._settings.remarks:
            self._warn_once(text)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def run_id(self) -> str:
        """Id of the daemon's run; "" before the start."""
        return self._track.run.run_id if self._track is not None else self._run_id

    @property
    def force_carbon_intensity_g_co2e_kwh(self) -> float | None:
        """Given carbon intensity; None if it is missing or invalid."""
        return self._settings.price.grams_per_kwh

    def start(self) -> None:
        """Start measuring, unless started."""
        if self._track is None:
            self._begin()
            self._track = self._tracked(self._settings.project_name)
            self._before = self._row_of(self._track.start().record)
            if self._has_live:
                self._measure()
                self._live.start()

    def flush(self) -> float | None:
        """Write the usage so far; return the emissions in kilograms."""
        with self._live.lock:
            self._measure()
            row = self._row()
            if row is None:
                return None
            self._write_outputs(row)
            return float(row["emissions"])

    def stop(self) -> float | None:
        """Stop measuring and write the usage; return the emissions in kilograms."""
        self._live.stop()
        with self._live.lock:
            self._end_task()
            if self._track is not None:
                self._track.stop()
            row = self._row()
            self._before = None
            if row is None:
                if not self._pid:
                    self._warn_once("stop() without start(): nothing was measured; call start()")
                self._track = None
                self.final_emissions_data = self.final_emissions_data or unmeasured()
                return self.final_emissions
            self._measure()
            self._track, self._run_id = None, str(row["run_id"])
            self._write_outputs(row)
            self._call_handlers("exit")
            self.final_emissions = float(row["emissions"])
            self.final_emissions_data = emissions_data(row)
            self._task_rows, self._reported_tasks, self._flushed = {}, {}, None
            return self.final_emissions

    def start_task(self, task_name: str | None = None) -> None:
        """Start a task, which is a separate run; ignored, with a warning, if a task is open."""
        with self._live.lock:
            if self._task is not None:
                self._warn_once("another task is open; the new task is not measured")
                return
            name = shown = task_name or str(uuid.uuid4())
            self._begin()
            number = self._task_counts[name] = self._task_counts.get(name, 0) + 1
            if name in self._task_rows:
                name, shown = f"{name}_{uuid.uuid4()}", f"{name} #{number}"
            inner = self._tracked(shown, is_task=True)
            begun = self._row_of(inner.start().record)
            self._task = _OpenTask(name, inner, begun, self._outer_row(), Utilization())

    def stop_task(self, task_name: str | None = None) -> EmissionsData | None:
        """End the open task and return its usage.

        The name of an earlier task also ends the open task, so that a loop can use one name for all
        its tasks.
        """
        with self._live.lock:
            if self._task is None or (
                task_name and task_name != self._task.name and task_name not in self._task_rows
            ):
                self._warn_once("no such task is open")
                return None
            data = self._end_task()
            self._measure()
            return data

    def service_shutdown(self, signum: int, frame: object) -> None:  # noqa: ARG002
        """Stop measuring; a handler for `signal.signal`."""
        self.stop()

    def get_detected_hardware(self) -> dict[str, Any]:
        """Return facts about the machine; GPUs are those of this tracker's run after its start."""
        import psutil  # as in `Utilization`

        data = self._prepare_emissions_data()
        return {
            "ram_total_size": self._facts.ram_total_gib,
            "cpu_count": self._facts.cpu_count,
            "cpu_physical_count": psutil.cpu_count(logical=False),
            "cpu_model": self._facts.cpu_model,
            "gpu_count": data.gpu_count if data is not None else None,
            "gpu_model": data.gpu_model if data is not None else None,
            "gpu_ids": None,
        }

    # Programs use these private names of CodeCarbon's trackers; see the documentation.

    def _prepare_emissions_data(self) -> EmissionsData | None:
        """Return the usage so far, or the final data after `stop`."""
        with self._live.lock:
            row = self._row()
            return self.final_emissions_data if row is None else emissions_data(row)

    def _measure_power_and_energy(self) -> None:
        """Do nothing: the daemon measures."""

    @property
    def _total_energy(self) -> Energy:
        return self._energy("energy_consumed")

    @property
    def _total_cpu_energy(self) -> Energy:
        return self._energy("cpu_energy")

    @property
    def _total_gpu_energy(self) -> Energy:
        return self._energy("gpu_energy")

    @property
    def _total_ram_energy(self) -> Energy:
        return self._energy("ram_energy")

    def _energy(self, column: str) -> Energy:
        data = self._prepare_emissions_data()
        return Energy(getattr(data, column) if data is not None else 0.0)

    @property
    def _has_live(self) -> bool:
        return self._settings.live_every > 0 and any(
            hasattr(handler, "live_out") for handler in self._settings.handlers
        )

    def _measure(self) -> None:
        """Count a measurement, as CodeCarbon does, and call `live_out` if it is due."""
        self._measurements += 1
        if not self._has_live or self._measurements < self._settings.live_every:
            return
        row = self._row()
        if row is not None:
            self._measurements = 0
            self._call_handlers("live_out", *self._total_and_new(row))

    def _total_and_new(self, row: Row) -> tuple[EmissionsData, EmissionsData]:
        """Return the data of a row, and the difference to the last row passed to handlers."""
        new = row if self._flushed is None else subtract_rows(row, self._flushed)
        self._flushed = row
        return emissions_data(row), emissions_data(new)

    def _begin(self) -> None:
        if self._track is None and not self._task_rows:
            self._pid = os.getpid()
            self._utilization = Utilization()
            self._tasks, self._task_counts, self._measurements = {}, {}, 0

    def _tracked(self, name: str, *, is_task: bool = False) -> track:
        """Create a tracker; inside another run it measures only its processes."""
        has_machine = self._settings.is_machine and not (is_task and self._track is not None)
        labels = {
            GROUP_LABEL: self._settings.project_name,
            EXPERIMENT_COLUMN: self._settings.experiment_id,
        }
        if is_task:
            labels[TASK_LABEL] = name
            if self._track is None and self._task_rows:  # the row has the id of the first task
                labels[FIRST_TASK_LABEL] = str(next(iter(self._task_rows.values()))["run_id"])
        tracker = track(
            label(f"{self._settings.project_name}: {name}" if is_task else name),
            labels={key: label(text) for key, text in labels.items() if text},
            scope="machine" if has_machine else "tree",
            receipts=None,
            progress=False,
        )
        price = self._settings.price
        tracker.has_own_intensity = price.zone is not None or price.grams_per_kwh is not None
        return tracker

    def _end_task(self) -> EmissionsData | None:
        """End the open task; its usage is its run's plus the enclosing run's during the task."""
        if self._task is None:
            return None
        task, self._task = self._task, None
        own = _since(self._row_of(task.tracker.stop().record), task.begun)
        if own is None:
            return None
        own.update(task.utilization.columns())
        around = None if task.around is None else _since(self._outer_row(), task.around)
        self._task_rows[task.name] = own
        reported = own
        if around is not None:
            both = sum_rows([own, around], own, float(own["duration"]))
            reported = {**both, "tracking_mode": around["tracking_mode"]}
        self._reported_tasks[task.name] = reported
        data = emissions_data(reported)
        self._tasks[task.name] = Task(task.name, data)
        return data

    def _outer_row(self) -> Row | None:
        """Return the usage so far of the run that encloses a task."""
        if self._track is None:
            return None
        return _since(self._row_of(self._track.run.refresh()), self._before)

    def _row(self) -> Row | None:
        """Return the total usage so far."""
        around = None
        if self._track is not None:
            run = self._track.run
            record = run.record if run.record.get("ended") else run.refresh()
            around = _since(self._row_of(record), self._before)
        rows = [*([around] if around is not None else []), *self._task_rows.values()]
        if not rows:
            return None
        duration_seconds = None if around is None else float(around["duration"])
        total = sum_rows(rows, rows[0], duration_seconds)
        made = {
            **total,
            "project_name": self._settings.project_name,
            "timestamp": max(str(row["timestamp"]) for row in rows),
        }
        if self._utilization is not None:
            made.update(self._utilization.columns())
        return made

    def _row_of(self, record: dict[str, Any]) -> Row | None:
        if not record:
            return None
        row = csv_row(record, self._facts, resolve_overrides(record, self._settings.price))
        # Not from the labels: the experiment's is truncated, and the group is the project.
        row["experiment_id"] = self._settings.experiment_id or record["job_id"]
        if row["gpu_count"] == 0:  # no GPU has no utilization, as it has no power
            row["gpu_utilization_percent"] = 0.0
        return row

    def _write_outputs(self, row: Row) -> None:
        if os.getpid() != self._pid:
            return
        if self._settings.path:
            replacing = self._settings.replace_rows
            self._attempt(
                partial(write_row_with_warning, self._settings.path, row, replacing=replacing)
            )
            if self._task_rows:
                self._attempt(partial(self._write_tasks, str(row["run_id"])))
        self._call_handlers("out", *self._total_and_new(row))
        if self._task_rows:
            tasks = [task_data(*each) for each in self._reported_tasks.items()]
            self._call_handlers("task_out", tasks, self._settings.experiment_name)

    def _write_tasks(self, run_id: str) -> None:
        rows = [task_row(*each).values() for each in self._reported_tasks.items()]
        name = f"emissions_{self._settings.experiment_name}_{run_id}.csv".replace("/", "_")
        path = os.path.join(os.path.dirname(self._settings.path), name)
        replace_file(path, csv_text([TASK_COLUMNS, *rows]), sync=True)

    def _call_handlers(self, method: str, *values_of: Any) -> None:
        for handler in self._settings.handlers if os.getpid() == self._pid else ():
            self._attempt(partial(_call, handler, method, values_of))

    def _attempt(self, do: Callable[[], object]) -> None:
        try:
            do()
        except Exception as error:  # noqa: BLE001  logged; the user's program continues
            self._warn_once(f"output not written: {error}", LEVELS["ERROR"])

    def _warn_once(self, text: str, level: int = LEVELS["WARNING"]) -> None:
        if level >= self._settings.log_level and text not in self._warned:
            self._warned.add(text)
            warn("%s", text)


def _since(row: Row | None, before: Row | None) -> Row | None:
    """Return the usage of a run since an earlier row."""
    return row if row is None or before is None else subtract_rows(row, before)


def _call(handler: Any, method: str, arguments: tuple[Any, ...]) -> None:
    """Call a handler; all methods except `out` are optional."""
    if method == "out" or hasattr(handler, method):
        getattr(handler, method)(*arguments)


class OfflineEmissionsTracker(EmissionsTracker):
    """Tracker for a given location: `country_iso_code`, `region`, `cloud_provider`."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        if not self._settings.has_place:
            self._warn_once("country_iso_code is missing: the daemon's carbon intensity is used")


class TaskEmissionsTracker:
    """Context manager for a task, of the given tracker or of a new one."""

    def __init__(self, task_name: str, tracker: EmissionsTracker | None = None) -> None:
        self.task_name = task_name
        self.is_default_tracker = tracker is None
        self.tracker = tracker if tracker is not None else EmissionsTracker()

    def __enter__(self) -> Self:
        self.tracker.start_task(self.task_name)
        return self

    def __exit__(self, *_: object) -> None:
        self.tracker.stop_task()
        if self.is_default_tracker:
            self.tracker.stop()


def track_emissions(fn: Function | None = None, *given: Any, **named: Any) -> Any:
    """Measure each call of a function; the arguments are those of a tracker, and `offline`."""
    arguments = {**dict(zip(OF_DECORATOR, given, strict=False)), **named}
    kind = OfflineEmissionsTracker if arguments.pop("offline", False) else EmissionsTracker
    return _decorator(fn, lambda: kind(**arguments))


def track_task_emissions(
    fn: Function | None = None, tracker: EmissionsTracker | None = None, task_name: str = ""
) -> Any:
    """Measure each call of a function as a task of the given tracker, or of a new one."""
    return _decorator(fn, lambda: TaskEmissionsTracker(task_name, tracker))


def _decorator(fn: Function | None, measured: Callable[[], AbstractContextManager[Any]]) -> Any:
    def decorate(function: Function) -> Function:
        return measure_calls(function, measured)

    return decorate if fn is None else decorate(fn)
