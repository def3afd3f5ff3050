"""The only concurrency primitives: a cell with the latest value, and a worker that fills it."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")


class Cell(Generic[T]):
    """Latest value of one producer. Written by one attribute store; readers never wait."""

    def __init__(self, value: T) -> None:
        self.value = value

    def set(self, value: T) -> None:
        """Replace the value."""
        self.value = value

    def get(self) -> T:
        """The latest value."""
        return self.value


class Worker:
    """A daemon thread that calls one function, which may block, again and again.

    A call that outlasts `deadline_seconds` makes the worker `stalled`; it is reported and left
    alone, never joined without a limit, since a thread stuck in a driver or a disk cannot be ended.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[], None],
        period_seconds: float,
        deadline_seconds: float = 30.0,
    ) -> None:
        self._work = work
        self._period = period_seconds
        self._deadline = deadline_seconds
        self._wake = threading.Event()
        self._stopping = False
        self._busy_since: float | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin; the first call happens at once."""
        self._thread.start()

    def poke(self) -> None:
        """Do not wait for the period to end."""
        self._wake.set()

    def stop(self, timeout_seconds: float) -> bool:
        """Ask for one last call and wait for it; False if it did not end in time.

        A worker that never began is stopped as it is.
        """
        if not self._thread.ident:
            return True
        self._stopping = True
        self._wake.set()
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    @property
    def stalled(self) -> bool:
        """Whether the call under way is older than its deadline."""
        since = self._busy_since
        return since is not None and time.monotonic() - since > self._deadline

    def _run(self) -> None:
        while True:
            stopping = self._stopping
            self._busy_since = time.monotonic()
            try:
                self._work()
            except Exception:
                log.exception("worker failed", extra={"worker": self._thread.name})
            self._busy_since = None
            if stopping:
                return
            self._wake.wait(self._period)
            self._wake.clear()
