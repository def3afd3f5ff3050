"""Reporter thread of a tracker: sends updates, refreshes record, receipt and status line."""

import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from exporter.client.basis import are_grams_unknown
from exporter.client.errors import AgentRefusal, AgentUnreachable
from exporter.client.fork_safety import ForkAware
from exporter.client.log import warn
from exporter.client.run import Run

RECEIPT_INTERVAL_SECONDS = 60.0
STATUS_LINE_SECONDS = 1.0
CLEAR_LINE = "\r\x1b[K"
MIN_INTERVAL_SECONDS = 0.05
"""Minimum interval between two reports."""
MAX_INTERVAL_SECONDS = 86_400.0
"""Maximum interval; no lock waits as long as a number may be large."""
RETRY_INTERVAL_SECONDS = 0.2
NOT_FOUND, TOO_MANY = 404, 429
EXPECTED_ERRORS = (AgentRefusal, AgentUnreachable, OSError, ValueError, KeyError)


class Reporter(ForkAware):
    """Reports every `interval_seconds`; never raises, and logs each error once."""

    def __init__(
        self,
        run: Run,
        *,
        send: Callable[[dict[str, Any]], dict[str, Any]],
        register_again: Callable[[], None],
        on_record: Callable[[], None],
        receipts: str | None,
        interval_seconds: float,
        title: str,
        shows_status: bool,
        keep_only: Callable[[dict[str, Any]], object] = lambda _: None,
    ) -> None:
        """Create the reporter without starting its thread.

        `send` sends an update and returns the record. `register_again` registers the run again if
        the daemon no longer knows it. `on_record` is called after each record, `keep_only` with the
        record whenever a receipt is due.
        """
        super().__init__()
        self._run = run
        self._send = send
        self._register_again = register_again
        self._on_record = on_record
        self._receipts = receipts
        longest = STATUS_LINE_SECONDS if shows_status else MAX_INTERVAL_SECONDS
        self._interval = max(MIN_INTERVAL_SECONDS, min(interval_seconds, longest))
        self._title = title
        self._has_line = shows_status
        self._power: float | None = None
        self._keep = keep_only
        self._began = time.monotonic()
        self._receipt_due = self._began + RECEIPT_INTERVAL_SECONDS
        self._warned: set[str] = set()
        self._receipt_lock = threading.RLock()
        """The program, or its signal handler, may request a report during another one."""
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._due: queue.SimpleQueue[None] = queue.SimpleQueue()
        """Requests of reports; unlike an event, it may be used by signal handlers."""
        self._next_nudge = 0.0
        self._at_end: Any = None

    def start(self) -> None:
        """Start the thread if it is not running; also called in a forked child."""
        if self._thread is not None or self._stopping.is_set():
            return
        if (util := sys.modules.get("multiprocessing.util")) is not None:
            # Children of multiprocessing exit without running atexit handlers.
            self._at_end = util.Finalize(None, self.try_report, exitpriority=0)
        self._thread = threading.Thread(target=self._run_loop, name="emissions", daemon=True)
        with suppress(RuntimeError):  # no thread can be started during interpreter shutdown
            self._thread.start()

    def request_report(self) -> None:
        """Report at once, unless this was requested less than an interval ago.

        Progress is then timed when the work is done, not up to an interval later.
        """
        now = time.monotonic()
        if now >= self._next_nudge:
            self._next_nudge = now + self._interval
            self._due.put(None)

    def stop(self) -> None:
        """Stop the thread, and wait for a report in progress."""
        self._stopping.set()
        self._due.put(None)
        if self._at_end is not None:
            self._at_end.cancel()
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(timeout=2 * self._interval + 1)
        self._thread = None
        if self._has_line:
            _write_status_line("")

    def finish(self, deadline: float) -> None:
        """Send pending updates; retry until `deadline`, because the daemon may be restarting."""
        while not self.try_report() and time.monotonic() < deadline:
            time.sleep(RETRY_INTERVAL_SECONDS)

    def try_report(self) -> bool:
        """Report and log any exception; return whether no update is pending."""
        try:
            return self.report_once()
        except Exception as error:  # noqa: BLE001  logged; the user's program continues
            self.warn_once(str(error))
            return True

    def report_once(self) -> bool:
        """Send pending updates and apply the daemon's record.

        Returns False if the updates were not sent; they are sent with the next report.
        """
        update = self._run.take_pending()
        try:
            record = self._send(update)
        except AgentRefusal as refusal:
            if refusal.status not in (NOT_FOUND, TOO_MANY):
                self.warn_once(str(refusal))
                if update.pop("values", None) is None or not update:
                    return True
                self._run.restore_pending(update)  # refused values must not block counts
                return False
            self._run.restore_pending(update)
            return refusal.status == NOT_FOUND and self._is_reregistration_refused()
        except EXPECTED_ERRORS as error:
            self._run.restore_pending(update)
            self.warn_once(f"the daemon does not answer, retrying: {error}")
            return False
        self.apply_record(record)
        if self._has_line:
            # The response to an update does not contain the power.
            self._power = record.get("power_watts", self._power)
            shown = {**record, "power_watts": self._power}
            _write_status_line(status_line(self._title, time.monotonic() - self._began, shown))
        if time.monotonic() >= self._receipt_due:
            self._receipt_due += RECEIPT_INTERVAL_SECONDS
            self.write_receipt()
        return True

    def apply_record(self, record: dict[str, Any]) -> None:
        """Store a record and call `on_record`; exceptions of the program's functions are logged."""
        self._run.record = record
        try:
            self._on_record()
        except Exception as error:  # noqa: BLE001  the run continues, and is ended normally
            self.warn_once(f"on_budget or on_forecast raised: {error!r}")

    def _is_reregistration_refused(self) -> bool:
        """Register a run that the daemon does not know again; return whether that is refused."""
        try:
            self._register_again()
        except EXPECTED_ERRORS as error:
            self.warn_once(str(error))
            return isinstance(error, AgentRefusal)
        return False

    def write_receipt(self) -> None:
        """Write the receipt, if receipts are enabled, and pass the record to `keep_only`."""
        with self._receipt_lock:
            if self._run.record:
                self._write_receipt()

    def _write_receipt(self) -> None:
        if self._receipts is not None:
            from exporter.client.receipts import write_receipt

            try:
                write_receipt(self._receipts, self._run.record)
            except OSError as error:
                self.warn_once(f"receipt in {self._receipts} not written: {error.strerror}")
        try:
            self._keep(self._run.record)
        except Exception as error:  # noqa: BLE001  logged; the user's program continues
            self.warn_once(f"record not written: {error}")

    def warn_once(self, text: str) -> None:
        """Log a warning, unless it was logged before."""
        if text not in self._warned:
            self._warned.add(text)
            warn("%s", text)

    def _run_loop(self) -> None:
        while True:
            with suppress(queue.Empty):
                self._due.get(timeout=self._interval)
            if self._stopping.is_set():
                return
            self.try_report()

    def reset_after_fork(self) -> None:
        """Reset in a forked child, which sends updates but writes no receipt and no status line."""
        self._thread, self._at_end = None, None
        self._receipt_lock = threading.RLock()
        self._stopping, self._due, self._next_nudge = threading.Event(), queue.SimpleQueue(), 0.0
        self._has_line, self._receipts, self._on_record = False, None, lambda: None
        self._keep = lambda _: None


def status_line(title: str, seconds: float, record: dict[str, Any]) -> str:
    """Return the line that a terminal shows during the run."""
    parts = [title, _minutes(seconds)]
    if (watts := record.get("power_watts")) is not None:
        parts.append(f"{watts:.4g} W")
    parts.append(f"{record['energy_joules'] / 3600:.4g} Wh")
    grams = "\u2013" if are_grams_unknown(record) else f"{record['carbon_grams']:.4g} g"
    parts.append(f"{grams} CO2eq")
    if ahead := record.get("forecast"):
        rest = max(0.0, ahead["end"] - record["at"])
        wide = ""
        if (low := ahead.get("low")) and (high := ahead.get("high")):
            wide = f" ({low['carbon_grams']:.3g} to {high['carbon_grams']:.3g})"
        parts.append(f"in {_minutes(rest)}: {ahead['carbon_grams']:.4g} g{wide}")
    return "".join(c if c.isprintable() else "?" for c in "  ".join(parts))


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"


def is_terminal() -> bool:
    """Whether standard error is a terminal."""
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # None, or closed by the program
        return False


def _write_status_line(text: str) -> None:
    """Write one line, cut to the terminal's width. Errors are ignored: it may have been closed."""
    with suppress(OSError, ValueError, AttributeError):
        width = os.get_terminal_size(sys.stderr.fileno()).columns if is_terminal() else 0
        sys.stderr.write(CLEAR_LINE + (text[: width - 1] if width > 1 else text))
        sys.stderr.flush()
