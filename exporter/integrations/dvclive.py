"""DVCLive: energy and grams at each step, beside the program's own metrics.

with Live() as live, track(live, "train") as run:
    for epoch in range(10):
        log(live)
        live.next_step()
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from exporter import client
from exporter.client import Run, current_run
from exporter.client.words import warn
from exporter.report import figures

PREFIX = "emissions/"


@contextmanager
def track(live: Any, name: str = "", **options: Any) -> Iterator[Run]:
    """A run whose last figures are in DVCLive's summary. `options` are those of `track`."""
    tracker = client.track(name, **{"progress": False, **options})
    try:
        with tracker as run:
            yield run
    finally:
        _log(live, tracker.run.record, plot=False)


def log(live: Any) -> None:
    """Log what the innermost run has come to; before `next_step`."""
    _log(live, current_run().refresh(), plot=True)


def _log(live: Any, record: dict[str, Any], *, plot: bool) -> None:
    try:
        for metric, value in figures.tracked(record).items():
            live.log_metric(f"{PREFIX}{metric}", value, plot=plot)
    except Exception as error:  # noqa: BLE001  a disk that is full is no reason to stop
        warn("not logged with DVCLive: %s", error)
