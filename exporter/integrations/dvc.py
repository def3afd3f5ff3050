"""DVC: what a stage used, as a file that `dvc metrics` reads; needs no library.

cmd: emissions-exporter run --dvc emissions.json -- python train.py
metrics:
  - emissions.json: {cache: false}
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from exporter.client import Run, track
from exporter.client.log import warn
from exporter.report import quantities


def write(path: str, record: Mapping[str, Any]) -> None:
    """Replace a metrics file; of an empty record, one without numbers. Raises OSError.

    DVC fails a stage without its file, so there is to be one also where nobody measured.
    """
    beside = f"{path}.{os.getpid()}.part"
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(beside, "w", encoding="utf-8") as file:
        json.dump(quantities.tracker_metrics(record), file, indent=2)
        file.write("\n")
    os.replace(beside, path)


@contextmanager
def stage(path: str, name: str = "", **options: Any) -> Iterator[Run]:
    """Measure a stage that is Python; in a `with`.

    `options` are those of `track`.
    """
    path = os.path.abspath(path)  # the program may change its directory
    tracker = track(name, **{"receipts": None, **options})
    try:
        with tracker as run:
            yield run
    finally:
        try:
            write(path, tracker.run.record)
        except OSError as error:
            warn("no metrics in %s: %s", path, error.strerror)
