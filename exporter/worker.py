"""The only concurrency primitive: a worker that calls what may block."""

import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)


class Worker:
    """A daemon thread that calls one function, which may block, again and again.

    A call that outlasts `deadline_seconds` is to be reported and left alone, never joined without a
    limit, since a thread stuck in a driver or a disk cannot be ended.
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
    def stalled_seconds(self) -> float:
        """How long the call under way has taken, if that is beyond its deadline; else 0."""
        since = self._busy_since
        busy = time.monotonic() - since if since is not None else 0.0
        return busy if busy > self._deadline else 0.0

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
