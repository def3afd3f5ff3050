"""The thread of a tracker: sends what the run says, and keeps its record, receipt and line."""

import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from exporter.client.errors import AgentRefusal, AgentUnreachable
from exporter.client.fork_safety import ForkAware
from exporter.client.log import warn
from exporter.client.run import Run

RECEIPT_INTERVAL_SECONDS = 60.0
STATUS_LINE_SECONDS = 1.0
CLEAR_LINE = "\r\x1b[K"
MIN_INTERVAL_SECONDS = 0.05
"""Between two looks, whatever is asked for."""
RETRY_INTERVAL_SECONDS = 0.2
NOT_FOUND, TOO_MANY = 404, 429
EXPECTED_ERRORS = (AgentRefusal, AgentUnreachable, OSError, ValueError, KeyError)


class Reporter(ForkAware):
    """Looks every `interval_seconds`; never raises, and says each trouble once."""

    def __init__(
        self,
        run: Run,
        *,
        say: Callable[[dict[str, Any]], dict[str, Any]],
        register_again: Callable[[], None],
        on_record: Callable[[], None],
        receipts: str | None,
        interval_seconds: float,
        title: str,
        shows_status: bool,
        keep_only: Callable[[dict[str, Any]], object] = lambda _: None,
    ) -> None:
        """`say` sends something and gives the record; `begin_again` registers the run anew.

        `keep` is given the record whenever a receipt is due.
        """
        super().__init__()
        self._run = run
        self._say = say
        self._begin_again = register_again
        self._on_record = on_record
        self._receipts = receipts
        most = STATUS_LINE_SECONDS if shows_status else interval_seconds
        self._interval = max(MIN_INTERVAL_SECONDS, min(interval_seconds, most))
        self._title = title
        self._has_line = shows_status
        self._power: float | None = None
        self._keep = keep_only
        self._began = time.monotonic()
        self._receipt_due = self._began + RECEIPT_INTERVAL_SECONDS
        self._complained: set[str] = set()
        self._writing = threading.Lock()
        """A look that the program asks for may fall together with one of the thread."""
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._due = threading.Event()
        self._next_nudge = 0.0
        self._at_end: Any = None

    def start(self) -> None:
        """Begin, once; in a forked child as well."""
        if self._thread is not None or self._stopping.is_set():
            return
        if (util := sys.modules.get("multiprocessing.util")) is not None:
            # Its children end without what `atexit` knows.
            self._at_end = util.Finalize(None, self.try_report, exitpriority=0)
        self._thread = threading.Thread(target=self._run_loop, name="emissions", daemon=True)
        with suppress(RuntimeError):  # no thread is to be had, as at the very end of a program
            self._thread.start()

    def request_report(self) -> None:
        """Look at once, unless that was asked for less than an interval ago.

        So work is marked when it is done, and not up to an interval later.
        """
        now = time.monotonic()
        if now >= self._next_nudge:
            self._next_nudge = now + self._interval
            self._due.set()

    def stop(self) -> None:
        """End the thread. Something that is under way is waited for."""
        self._stopping.set()
        self._due.set()
        if self._at_end is not None:
            self._at_end.cancel()
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(timeout=2 * self._interval + 1)
        self._thread = None
        if self._has_line:
            _write_status_line("")

    def finish(self, deadline: float) -> None:
        """Send what is left; until `deadline`, a daemon that is just restarting is waited for."""
        while not self.try_report() and time.monotonic() < deadline:
            time.sleep(RETRY_INTERVAL_SECONDS)

    def try_report(self) -> bool:
        """Look, whatever happens there; whether nothing is left to be sent."""
        try:
            return self.report_once()
        except Exception as error:  # noqa: BLE001  said; the user's program goes on
            self.warn_once(str(error))
            return True

    def report_once(self) -> bool:
        """Send what there is to be sent, and take in what the daemon says.

        The answer is whether that was done; else the same is sent at the next look.
        """
        said = self._run.take_pending()
        try:
            record = self._say(said)
        except AgentRefusal as refusal:
            if refusal.status not in (NOT_FOUND, TOO_MANY):
                self.warn_once(str(refusal))
                if said.pop("values", None) is None or not said:
                    return True
                self._run.restore_pending(said)  # what is refused takes nothing else with it
                return False
            self._run.restore_pending(said)
            return refusal.status == NOT_FOUND and self._is_hopeless()
        except EXPECTED_ERRORS as error:
            self._run.restore_pending(said)
            self.warn_once(f"the daemon does not answer; it is tried again: {error}")
            return False
        self.apply_record(record)
        if self._has_line:
            # What answers a report of progress says nothing of the power.
            self._power = record.get("power_watts", self._power)
            known = {**record, "power_watts": self._power}
            _write_status_line(status_line(self._title, time.monotonic() - self._began, known))
        if time.monotonic() >= self._receipt_due:
            self._receipt_due += RECEIPT_INTERVAL_SECONDS
            self.write_receipt()
        return True

    def apply_record(self, record: dict[str, Any]) -> None:
        """Let the tracker see a record; what the program's own function raises there is said."""
        self._run.record = record
        try:
            self._on_record()
        except Exception as error:  # noqa: BLE001  the run goes on, and is ended
            self.warn_once(f"on_budget or on_forecast raised: {error!r}")

    def _is_hopeless(self) -> bool:
        """Begin the run again, which the daemon does not know; whether that is refused."""
        try:
            self._begin_again()
        except EXPECTED_ERRORS as error:
            self.warn_once(str(error))
            return isinstance(error, AgentRefusal)
        return False

    def write_receipt(self) -> None:
        """Write the record to its file, if there is to be one, and have it kept elsewhere."""
        with self._writing:
            if self._run.record:
                self._write_receipt()

    def _write_receipt(self) -> None:
        if self._receipts is not None:
            from exporter.client.receipts import write_receipt

            try:
                write_receipt(self._receipts, self._run.record)
            except OSError as error:
                self.warn_once(f"no receipt in {self._receipts}: {error.strerror}")
        try:
            self._keep(self._run.record)
        except Exception as error:  # noqa: BLE001  said; the user's program goes on
            self.warn_once(f"the record is not kept: {error}")

    def warn_once(self, text: str) -> None:
        """Say it, unless it was said before."""
        if text not in self._complained:
            self._complained.add(text)
            warn("%s", text)

    def _run_loop(self) -> None:
        while True:
            self._due.wait(self._interval)
            self._due.clear()
            if self._stopping.is_set():
                return
            self.try_report()

    def reset_after_fork(self) -> None:
        """In a forked child: it sends what it is told, and all else is its parent's."""
        self._thread, self._at_end = None, None
        self._writing = threading.Lock()
        self._stopping, self._due, self._next_nudge = threading.Event(), threading.Event(), 0.0
        self._has_line, self._receipts, self._on_record = False, None, lambda: None
        self._keep = lambda _: None


def status_line(title: str, seconds: float, record: dict[str, Any]) -> str:
    """What a terminal shows while the run goes on."""
    parts = [title, f"{seconds // 60:.0f}:{seconds % 60:02.0f}"]
    if (watts := record.get("power_watts")) is not None:
        parts.append(f"{watts:.4g} W")
    parts.append(f"{record['energy_joules'] / 3600:.4g} Wh")
    parts.append(f"{record['carbon_grams']:.4g} g CO2eq")
    if ahead := record.get("forecast"):
        rest = max(0.0, ahead["end"] - record["at"])
        wide = ""
        if (low := ahead.get("low")) and (high := ahead.get("high")):
            wide = f" ({low['carbon_grams']:.3g} to {high['carbon_grams']:.3g})"
        parts.append(f"in {rest // 60:.0f}:{rest % 60:02.0f}: {ahead['carbon_grams']:.4g} g{wide}")
    return "".join(c if c.isprintable() else "?" for c in "  ".join(parts))


def is_terminal() -> bool:
    """Whether somebody sees what is written there."""
    try:
        return sys.stderr.isatty()
    except (AttributeError, ValueError):  # None or closed: a program may end it
        return False


def _write_status_line(text: str) -> None:
    """One line, cut to the terminal's width. A terminal that is gone is no reason to stop."""
    with suppress(OSError, ValueError, AttributeError):
        width = os.get_terminal_size(sys.stderr.fileno()).columns if is_terminal() else 0
        sys.stderr.write(CLEAR_LINE + (text[: width - 1] if width > 1 else text))
        sys.stderr.flush()
