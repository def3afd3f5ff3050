"""CodeCarbon's trackers, over runs of the daemon."""

import os
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NamedTuple, Self

from exporter.client import track
from exporter.client.words import warn
from exporter.integrations.codecarbon.data import (
    TASK_COLUMNS,
    EmissionsData,
    difference,
    emissions_data,
    task_data,
    task_row,
    total,
    unmeasured,
)
from exporter.integrations.codecarbon.emissions_csv import replace_whole
from exporter.integrations.codecarbon.machine import facts
from exporter.integrations.codecarbon.prices import priced
from exporter.integrations.codecarbon.receipts import write_row
from exporter.integrations.codecarbon.settings import ARGUMENTS, OF_PLACES, asked
from exporter.report.forms.codecarbon import EXPERIMENT, Row, text, values


class _Task(NamedTuple):
    """The open task: its run with what that had used before, and the run around it by then."""

    name: str
    tracker: track
    begun: Row | None
    around: Row | None


class EmissionsTracker:
    """Measures between `start` and `stop`, which gives kilograms of CO2 equivalent.

    The arguments are those of CodeCarbon; what has no meaning here is said once in the log
    `emissions`. The whole machine is measured unless `tracking_mode` is `process`. Nothing raises,
    and nothing is measured where there is no daemon and none can be started: then all methods
    give None, and the numbers of `final_emissions_data` are nan.
    """

    _said: ClassVar[set[str]] = set()

    def __init__(self, *given: Any, **named: Any) -> None:
        self._asked = asked(ARGUMENTS, given, named, os.environ)
        self.final_emissions: float | None = None
        """Kilograms, once it has stopped."""
        self.final_emissions_data: EmissionsData | None = None
        self._facts = facts()
        self._track: track | None = None
        self._before: Row | None = None
        """What the run had used when this tracker began: one that is named from outside goes on."""
        self._task: _Task | None = None
        self._tasks: dict[str, Row] = {}
        self._flushed: Row | None = None
        self._pid = 0
        """Of the process that began to measure; a forked child writes nothing of its parent's."""
        for remark in self._asked.remarks:
            self._say(remark)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def run_id(self) -> str:
        """The id of the run with the daemon; "" before it has begun."""
        return self._track.run.run_id if self._track is not None else ""

    def start(self) -> None:
        """Begin, unless it has begun."""
        if self._track is None:
            self._begin()
            self._track = self._tracked(self._asked.project_name)
            self._before = self._row_of(self._track.start().record)

    def flush(self) -> float | None:
        """Write what was used so far; kilograms."""
        row = self._row()
        if row is None:
            return None
        self._put_out(row)
        return float(row["emissions"])

    def stop(self) -> float | None:
        """End, and write what was used; kilograms."""
        self._end_task()
        if self._track is not None:
            self._track.stop()
        row = self._row()
        self._track = self._before = None
        if row is None:
            self.final_emissions_data = self.final_emissions_data or unmeasured()
            return self.final_emissions
        self._put_out(row)
        self._each_handler("exit")
        self.final_emissions = float(row["emissions"])
        self.final_emissions_data = emissions_data(row)
        self._tasks, self._flushed = {}, None
        return self.final_emissions

    def start_task(self, task_name: str | None = None) -> None:
        """Begin a task, which is a run of its own; of several at once the first goes on."""
        if self._task is not None:
            self._say("a task is measured already; the one that was to begin is not")
            return
        name = task_name or str(uuid.uuid4())
        if name in self._tasks:
            name = f"{name}_{uuid.uuid4()}"
        self._begin()
        inner = self._tracked(name, is_task=True)
        begun = self._row_of(inner.start().record)
        self._task = _Task(name, inner, begun, self._around())

    def stop_task(self, task_name: str | None = None) -> EmissionsData | None:
        """End the open task and return what was used during it.

        A name that was used before also ends the task that is open, so that a loop may use one name
        for each of its tasks.
        """
        if self._task is None or (
            task_name and task_name != self._task.name and task_name not in self._tasks
        ):
            self._say("there is no such task to stop")
            return None
        row = self._end_task()
        return emissions_data(row) if row is not None else None

    def get_detected_hardware(self) -> dict[str, Any]:
        """What is known of the machine."""
        return {
            "ram_total_size": self._facts.ram_total_gib,
            "cpu_count": self._facts.cpu_count,
            "cpu_model": self._facts.cpu_model,
        }

    def _begin(self) -> None:
        if self._track is None and not self._tasks:
            self._pid = os.getpid()

    def _tracked(self, name: str, *, is_task: bool = False) -> track:
        """A run like this tracker's; inside another one it has what its processes use."""
        has_machine = self._asked.is_machine and not (is_task and self._track is not None)
        labels = {EXPERIMENT: self._asked.experiment_id} if self._asked.experiment_id else {}
        if is_task:
            labels["task"] = name
        return track(
            f"{self._asked.project_name}: {name}" if is_task else name,
            labels=labels,
            scope="machine" if has_machine else "tree",
            receipts=None,
            progress=False,
        )

    def _end_task(self) -> Row | None:
        """A task used what its run did, and what the run around it did meanwhile."""
        if self._task is None:
            return None
        task, self._task = self._task, None
        own = _since(self._row_of(task.tracker.stop().record), task.begun)
        if own is None:
            return None
        after = self._around()
        around = None if task.around is None else _since(after, task.around)
        both = [own] if around is None else [own, around]
        self._tasks[task.name] = own
        return {**total(both, own), "duration": own["duration"]}

    def _around(self) -> Row | None:
        """What was used so far by the run around a task."""
        if self._track is None:
            return None
        return _since(self._row_of(self._track.run.refresh()), self._before)

    def _row(self) -> Row | None:
        """All that was used so far."""
        around = None
        if self._track is not None:
            run = self._track.run
            record = run.record if run.record.get("ended") else run.refresh()
            around = _since(self._row_of(record), self._before)
        rows = [*([around] if around is not None else []), *self._tasks.values()]
        if not rows:
            return None
        made = {**total(rows, rows[0]), "project_name": self._asked.project_name}
        return made if around is None else {**made, "duration": around["duration"]}

    def _row_of(self, record: dict[str, Any]) -> Row | None:
        return values(record, self._facts, priced(record, self._asked.price)) if record else None

    def _put_out(self, row: Row) -> None:
        if os.getpid() != self._pid:
            return
        if self._asked.path:
            replacing = self._asked.is_replacing
            self._attempt(partial(write_row, self._asked.path, row, replacing=replacing))
            if self._tasks:
                self._attempt(partial(self._write_tasks, str(row["run_id"])))
        since = row if self._flushed is None else difference(row, self._flushed)
        self._flushed = row
        self._each_handler("out", emissions_data(row), emissions_data(since))
        if self._tasks:
            tasks = [task_data(*each) for each in self._tasks.items()]
            self._each_handler("task_out", tasks, self._asked.experiment_name)

    def _write_tasks(self, run_id: str) -> None:
        rows = [task_row(*each).values() for each in self._tasks.items()]
        name = f"emissions_{self._asked.experiment_name}_{run_id}.csv".replace("/", "_")
        path = os.path.join(os.path.dirname(self._asked.path), name)
        replace_whole(path, text([TASK_COLUMNS, *rows]))

    def _each_handler(self, method: str, *values_of: Any) -> None:
        for handler in self._asked.handlers if os.getpid() == self._pid else ():
            self._attempt(partial(_call, handler, method, values_of))

    def _attempt(self, do: Callable[[], object]) -> None:
        try:
            do()
        except Exception as error:  # noqa: BLE001  said; the user's program goes on
            self._say(f"not written: {error}")

    def _say(self, remark: str) -> None:
        if remark not in self._said:
            self._said.add(remark)
            warn("%s", remark)


def _since(row: Row | None, before: Row | None) -> Row | None:
    """What a run used since an earlier row of it."""
    return row if row is None or before is None else difference(row, before)


def _call(handler: Any, method: str, arguments: tuple[Any, ...]) -> None:
    getattr(handler, method)(*arguments)


class OfflineEmissionsTracker(EmissionsTracker):
    """The same, of a place that is told: `country_iso_code`, `region`, `cloud_provider`."""

    def __init__(self, *given: Any, **named: Any) -> None:
        if not any(named.get(name) for name in OF_PLACES):
            self._say("no country_iso_code is given: grams are counted as the daemon does")
        super().__init__(*given, **named)


class TaskEmissionsTracker:
    """A task as a block, of a tracker that is given or of one of its own."""

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
