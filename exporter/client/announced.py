"""What the processes that a program starts find of its open runs in their environment."""

import os
import threading
from collections.abc import Mapping

from exporter.client.forks import Forkable
from exporter.client.launch import JOB_IDS, RUN_IDS, TRACKED, tracked
from exporter.client.sockets import VARIABLE

RUN_ID, JOB_ID = RUN_IDS[0], JOB_IDS[0]
ANNOUNCED = (RUN_ID, JOB_ID, TRACKED, VARIABLE)


class Announced(Forkable):
    """The ids of the innermost run stand there; when the last has ended, what stood there first.

    Runs may end in any order: those of threads do.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._open: dict[object, Mapping[str, str]] = {}
        self._outside: dict[str, str] = {}

    def add(self, owner: object, run_id: str, job_id: str, socket: str) -> None:
        """Announce the run of `owner`; "" says nothing of that kind."""
        with self._lock:
            around = tracked(os.environ, run_id)
            ids = {RUN_ID: run_id, TRACKED: around, JOB_ID: job_id, VARIABLE: socket}
            if not self._open:
                self._outside = {name: os.environ[name] for name in ANNOUNCED if name in os.environ}
            self._open[owner] = {name: value for name, value in ids.items() if value}
            self._write()

    def drop(self, owner: object) -> None:
        """The run of `owner` is over."""
        with self._lock:
            if self._open.pop(owner, None) is not None:
                self._write()

    def begin_anew(self) -> None:
        """In a forked child: another thread may have had the lock."""
        self._lock = threading.Lock()

    def _write(self) -> None:
        innermost = next(reversed(self._open.values()), {})
        wanted = {**self._outside, **innermost}
        for name in ANNOUNCED:
            if name in wanted:
                os.environ[name] = wanted[name]
            else:
                os.environ.pop(name, None)
