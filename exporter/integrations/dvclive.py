"""DVCLive: energy and emissions at each step, together with the program's own metrics.

with Live() as live, track(live, "train") as run:
    for epoch in range(10):
        log(live)
        live.next_step()
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from exporter import client
from exporter.client import Run, current_run
from exporter.client.environment import detect_launch
from exporter.client.log import warn
from exporter.client.receipts import replace_json
from exporter.report import quantities

GROUP = "emissions"
METRICS_FILE = "emissions.json"
"""File in DVCLive's directory with the metrics of each run, by `quantities.run_fingerprint`."""


@contextmanager
def track(live: Any, name: str = "", **options: Any) -> Iterator[Run]:
    """Measure a run and log its final metrics to DVCLive. `options` are those of `track`.

    The metrics are the sum of all runs that log to the same `Live`. With `Live(resume=True)`, the
    earlier run with this name continues, unless `run_id` or the launcher sets another id.
    """
    if _is_resumed(live) and not detect_launch(os.environ, name).run_id:
        earlier = [part["run_id"] for part in _parts(live).values() if part["name"] == name]
        options = {"run_id": earlier[-1] if earlier else "", **options}
    tracker = client.track(name, **{"progress": False, **options})
    try:
        with tracker as run:
            yield run
    finally:
        _log(live, name, tracker.run.record, plot=False)


def log(live: Any) -> None:
    """Log the current metrics of the runs of this `Live`; call it before `next_step`.

    Of the open runs, only the innermost is refreshed.
    """
    record = current_run().refresh()
    _log(live, str(record.get("name", "")), record, plot=True)


def _log(live: Any, name: str, record: dict[str, Any], *, plot: bool) -> None:
    own = quantities.tracker_metrics(record)
    if not own:
        return
    try:
        key, parts = quantities.run_fingerprint(record), _parts(live)
        parts.pop(key, None)
        parts[key] = {"run_id": record["run_id"], "name": name, "figures": own}
        replace_json(_path(live), parts)
        sums = quantities.sum_metrics(part["figures"] for part in parts.values())
        if quantities.POWER_METRIC in own:
            sums[quantities.POWER_METRIC] = own[quantities.POWER_METRIC]
        for metric, value in sums.items():
            live.log_metric(f"{GROUP}/{metric}", value, plot=plot)
    except Exception as error:  # noqa: BLE001  a full disk must not stop the program
        warn("not logged with DVCLive: %s", error)


def _is_resumed(live: Any) -> bool:
    return bool(getattr(live, "_resume", False))


def _parts(live: Any) -> dict[str, dict[str, Any]]:
    """Return what runs logged to this `Live`; ignore the file of an earlier `Live`."""
    summary = live.summary.get(GROUP)
    if summary is None and not _is_resumed(live):
        return {}
    with suppress(FileNotFoundError), open(_path(live), encoding="utf-8") as file:
        return dict(json.load(file))
    if isinstance(summary, dict) and "energy_kwh" in summary:  # written by an older version
        return {"earlier": {"run_id": "", "name": "", "figures": summary}}
    return {}


def _path(live: Any) -> str:
    return os.path.join(live.dir, METRICS_FILE)
