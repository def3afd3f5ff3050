"""The only concurrency primitives: threads that call what may block."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")
POLL_SECONDS = 0.005


def deadline(seconds: float) -> float:
    """The time.monotonic() that is so many seconds ahead."""
    return time.monotonic() + seconds


def seconds_until(until: float) -> float:
    """Seconds from now to time.monotonic() `until`; 0 if that is over."""
    return max(0.0, until - time.monotonic())


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for a condition for so long at most; whether it came."""
    until = deadline(seconds)
    while not (is_met := condition()) and time.monotonic() < until:
        time.sleep(POLL_SECONDS)
    return is_met


class _FailureLog:
    """Logs failures of a thread's work: each with its traceback once, not at every repetition."""

    def __init__(self) -> None:
        self._last: tuple[object, ...] = ()

    def log(self, event: str, worker: str, error: Exception) -> None:
        """Log the error, unless the last one was of the same kind from the same line."""
        frame = error.__traceback__
        while frame is not None and frame.tb_next is not None:
            frame = frame.tb_next
        origin = frame and (frame.tb_frame.f_code.co_filename, frame.tb_lineno)
        if self._last != (type(error), origin):
            log.error(event, exc_info=error, extra={"worker": worker})
        self._last = (type(error), origin)

    def forget(self) -> None:
        """The work succeeded: the next failure is new."""
        self._last = ()


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
        self._failures = _FailureLog()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin; the first call happens at once."""
        self._thread.start()

    def wake(self) -> None:
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
            except Exception as error:  # noqa: BLE001  logged, and tried again
                self._failures.log("worker failed", self._thread.name, error)
            else:
                self._failures.forget()
            self._busy_since = None
            if stopping:
                return
            self._wake.wait(self._period)
            self._wake.clear()


class OnDemandWorker(Generic[T]):
    """A daemon thread that calls a function, which may block, whenever it is asked to.

    Only one thread may ask.
    """

    def __init__(self, name: str, work: Callable[[], T]) -> None:
        self._work = work
        self._wanted = threading.Event()
        self._answered = threading.Event()
        self._answered.set()
        self._answer: T | None = None
        self._stopping = False
        self._asked_at = 0.0
        self._late = False
        self._failures = _FailureLog()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def request(self) -> None:
        """Ask for one call, unless an earlier one is still under way."""
        self._late = not self._answered.is_set()
        if self._late:
            return
        if not self._thread.ident:
            self._thread.start()
        self._asked_at = time.monotonic()
        self._answered.clear()
        self._wanted.set()

    def result(self, until: float) -> T | None:
        """The answer, once; None if there is none by time.monotonic() `until`.

        What was under way already when it was asked for is not waited for.
        """
        rest = 0.0 if self._late else seconds_until(until)
        if not self._answered.wait(rest):
            return None
        answer, self._answer = self._answer, None
        return answer

    @property
    def busy_seconds(self) -> float:
        """How long the call under way has taken; 0 if there is none."""
        return 0.0 if self._answered.is_set() else time.monotonic() - self._asked_at

    def stop(self, timeout_seconds: float) -> bool:
        """End the thread; False if it did not end in time."""
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
            except Exception as error:  # noqa: BLE001  logged, and tried again
                self._answer = None  # there may be one of before that nobody took
                self._failures.log("call failed", self._thread.name, error)
            else:
                self._failures.forget()
            self._answered.set()
