"""DVC: energy and emissions of a stage as a metrics file for `dvc metrics`; requires no library.

cmd: emissions-exporter run --dvc emissions.json -- python train.py
metrics:
  - emissions.json: {cache: false}
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from exporter.client import Run, track
from exporter.client.log import warn
from exporter.client.receipts import replace_json
from exporter.report import quantities


def write(path: str, record: Mapping[str, Any]) -> None:
    """Replace a metrics file atomically; an empty record gives a file without numbers.

    DVC fails a stage whose file is missing, so it is also written if the stage was not measured.
    Raises OSError.
    """
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    replace_json(path, quantities.tracker_metrics(record))


@contextmanager
def stage(path: str, name: str = "", **options: Any) -> Iterator[Run]:
    """Context manager that measures a Python stage and writes its metrics file.

    `options` are those of `track`.
    """
    path = os.path.abspath(path)  # the program may change its working directory
    tracker = track(name, **{"receipts": None, **options})
    try:
        with tracker as run:
            yield run
    finally:
        try:
            write(path, tracker.run.record)
        except OSError as error:
            warn("metrics file %s not written: %s", path, error.strerror)
