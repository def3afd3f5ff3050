"""Worker threads for functions that may block."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")
POLL_SECONDS = 0.005


def deadline(seconds: float) -> float:
    """Return the value of time.monotonic() in `seconds` seconds."""
    return time.monotonic() + seconds


def seconds_until(until: float) -> float:
    """Return the seconds until time.monotonic() is `until`; 0 if it has passed."""
    return max(0.0, until - time.monotonic())


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait up to `seconds` seconds for a condition; return whether it was met."""
    until = deadline(seconds)
    while not (is_met := condition()) and time.monotonic() < until:
        time.sleep(POLL_SECONDS)
    return is_met


class _FailureLog:
    """Logs failures of a thread with their traceback; a repeated failure is logged once."""

    def __init__(self) -> None:
        self._last: tuple[object, ...] = ()

    def log(self, event: str, worker: str, error: Exception) -> None:
        """Log the error, unless the previous one had the same type and line."""
        frame = error.__traceback__
        while frame is not None and frame.tb_next is not None:
            frame = frame.tb_next
        origin = frame and (frame.tb_frame.f_code.co_filename, frame.tb_lineno)
        if self._last != (type(error), origin):
            log.error(event, exc_info=error, extra={"worker": worker})
        self._last = (type(error), origin)

    def forget(self) -> None:
        """Reset after a success, so that the next failure is logged."""
        self._last = ()


class Worker:
    """A daemon thread that periodically calls a function, which may block.

    A call that takes longer than `deadline_seconds` is reported by `stalled_seconds`. It is never
    joined without a timeout, because a thread that hangs in a driver or on a disk cannot be ended.
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
        self._failures = _FailureLog()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread; the first call happens immediately."""
        self._thread.start()

    def wake(self) -> None:
        """Make the next call immediately."""
        self._wake.set()

    def stop(self, timeout_seconds: float) -> bool:
        """Request one last call and wait for it; return False on timeout.

        Returns True at once if the worker was never started.
        """
        if not self._thread.ident:
            return True
        self._stopping = True
        self._wake.set()
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    @property
    def stalled_seconds(self) -> float:
        """Duration of the current call if it exceeds the deadline; else 0."""
        since = self._busy_since
        busy = time.monotonic() - since if since is not None else 0.0
        return busy if busy > self._deadline else 0.0

    def _run(self) -> None:
        while True:
            stopping = self._stopping
            self._busy_since = time.monotonic()
            try:
                self._work()
            except Exception as error:  # noqa: BLE001  logged and retried
                self._failures.log("worker failed", self._thread.name, error)
            else:
                self._failures.forget()
            self._busy_since = None
            if stopping:
                return
            self._wake.wait(self._period)
            self._wake.clear()


class OnDemandWorker(Generic[T]):
    """A daemon thread that calls a function, which may block, on request.

    Only one thread may make requests.
    """

    def __init__(self, name: str, work: Callable[[], T]) -> None:
        self._work = work
        self._wanted = threading.Event()
        self._answered = threading.Event()
        self._answered.set()
        self._answer: T | None = None
        self._stopping = False
        self._requested_at = 0.0
        self._late = False
        self._failures = _FailureLog()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def request(self) -> None:
        """Request one call, unless an earlier one is still running."""
        self._late = not self._answered.is_set()
        if self._late:
            return
        if not self._thread.ident:
            self._thread.start()
        self._requested_at = time.monotonic()
        self._answered.clear()
        self._wanted.set()

    def result(self, until: float) -> T | None:
        """Return the result, once; None if there is none by time.monotonic() `until`.

        A call that was already running at the last request is not waited for.
        """
        timeout = 0.0 if self._late else seconds_until(until)
        if not self._answered.wait(timeout):
            return None
        answer, self._answer = self._answer, None
        return answer

    @property
    def busy_seconds(self) -> float:
        """Duration of the current call; 0 if there is none."""
        return 0.0 if self._answered.is_set() else time.monotonic() - self._requested_at

    def stop(self, timeout_seconds: float) -> bool:
        """End the thread; return False on timeout."""
        self._stopping = True
        self._wanted.set()
        if self._thread.ident:
            self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._stopping:
                return
            try:
                self._answer = self._work()
            except Exception as error:  # noqa: BLE001  logged and retried
                self._answer = None  # discard an earlier result that was not fetched
                self._failures.log("worker call failed", self._thread.name, error)
            else:
                self._failures.forget()
            self._answered.set()


class SharedCall(Generic[T]):
    """A function whose result several threads share, such as a scan of all processes.

    While one thread calls the function, the others wait for its result.
    """

    def __init__(self, work: Callable[[], T], max_age_seconds: float) -> None:
        """`max_age_seconds`: time for which a result is used."""
        self._work = work
        self._max_age_seconds = max_age_seconds
        self._lock = threading.Lock()
        self._results: list[T] = []
        """The last result; empty: none."""
        self._until = 0.0

    def result(self) -> T:
        """Return the result of the last call, or of a new one. Raises what the function raises."""
        with self._lock:
            if not self._results or time.monotonic() >= self._until:
                self._results.clear()
                self._results.append(self._work())
                self._until = deadline(self._max_age_seconds)
            return self._results[0]
