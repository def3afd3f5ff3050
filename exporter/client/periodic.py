"""Thread that calls a function periodically."""

import threading
from collections.abc import Callable
from contextlib import suppress

from exporter.client.fork_safety import ForkAware

SHORTEST_SECONDS = 0.05
"""Minimum interval between two calls."""


class PeriodicCall(ForkAware):
    """Calls a function every `interval_seconds` until stopped; stops in a forked child.

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
        """Start the calls, the first one after an interval. May be called again after `stop`."""
        self.stop()
        self._stopped = threading.Event()
        thread = threading.Thread(
            target=self._call, args=(self._stopped,), name="emissions-periodic", daemon=True
        )
        with suppress(RuntimeError):  # no thread can be started during interpreter shutdown
            thread.start()

    def stop(self) -> None:
        """Stop the calls. Does not wait for a call in progress, which may be the caller."""
        self._stopped.set()

    def reset_after_fork(self) -> None:
        """Reset in a forked child, where the thread does not exist and the lock may be held."""
        self.lock, self._stopped = threading.RLock(), threading.Event()

    def _call(self, stopped: threading.Event) -> None:
        while not stopped.wait(self._interval_seconds):
            with self.lock:
                if not stopped.is_set():
                    self._function()
