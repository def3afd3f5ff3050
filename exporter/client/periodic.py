"""A function that a thread calls at an interval."""

import threading
from collections.abc import Callable
from contextlib import suppress

from exporter.client.fork_safety import ForkAware

SHORTEST_SECONDS = 0.05
"""Between two calls, whatever interval is requested."""


class PeriodicCall(ForkAware):
    """Calls a function every `interval_seconds` until it is stopped; not in a forked child.

    `lock` is held during each call. Once `stop` has returned and the lock was acquired, no call is
    in progress and none follows.
    """

    def __init__(self, interval_seconds: float, function: Callable[[], object]) -> None:
        super().__init__()
        self.lock = threading.RLock()
        self._interval_seconds = max(SHORTEST_SECONDS, min(interval_seconds, threading.TIMEOUT_MAX))
        self._function = function
        self._stopped = threading.Event()

    def start(self) -> None:
        """Begin the calls, the first one after an interval; again after `stop`."""
        self.stop()
        self._stopped = threading.Event()
        thread = threading.Thread(
            target=self._call, args=(self._stopped,), name="emissions-periodic", daemon=True
        )
        with suppress(RuntimeError):  # no thread can be started, as at the very end of a program
            thread.start()

    def stop(self) -> None:
        """End the calls. A call in progress is not waited for, since it may be the caller."""
        self._stopped.set()

    def reset_after_fork(self) -> None:
        """In a forked child: the thread is its parent's, and so may be the lock's holder."""
        self.lock, self._stopped = threading.RLock(), threading.Event()

    def _call(self, stopped: threading.Event) -> None:
        while not stopped.wait(self._interval_seconds):
            with self.lock:
                if not stopped.is_set():
                    self._function()
