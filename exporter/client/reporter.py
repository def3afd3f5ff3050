"""The thread of a tracker: sends what the run says, and keeps its record, receipt and line."""

import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from exporter.client.errors import AgentRefusal, AgentUnreachable
from exporter.client.run import Run
from exporter.client.words import warn

RECEIPT_SECONDS = 60.0
LINE_SECONDS = 1.0
CLEAR_LINE = "\r\x1b[K"
NOT_FOUND = 404
TROUBLE = (AgentRefusal, AgentUnreachable, OSError, ValueError, KeyError)


class Reporter:
    """Looks every `interval_seconds`; never raises, and says each trouble once."""

    def __init__(
        self,
        run: Run,
        *,
        say: Callable[[dict[str, Any]], dict[str, Any]],
        begin_again: Callable[[], None],
        on_record: Callable[[], None],
        receipts: str | None,
        interval_seconds: float,
        title: str,
        has_line: bool,
    ) -> None:
        """`say` sends something and gives the record; `begin_again` registers the run anew."""
        self._run = run
        self._say = say
        self._begin_again = begin_again
        self._on_record = on_record
        self._receipts = receipts
        self._interval = min(interval_seconds, LINE_SECONDS) if has_line else interval_seconds
        self._title = title
        self._has_line = has_line
        self._began = time.monotonic()
        self._receipt_due = self._began + RECEIPT_SECONDS
        self._complained: set[str] = set()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        os.register_at_fork(after_in_child=self._reset)

    def start(self) -> None:
        """Begin, once; in a forked child as well."""
        if self._thread is None:
            if (util := sys.modules.get("multiprocessing.util")) is not None:
                # Its children end without what `atexit` knows.
                util.Finalize(None, self._try, (self.look,), exitpriority=0)
            self._thread = threading.Thread(target=self._turn, name="emissions", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread. Something that is under way is waited for."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=2 * self._interval + 1)
            self._thread = None
        if self._has_line:
            _write("")

    def look(self) -> None:
        """Send what there is to be sent, and take in what the daemon says."""
        said = self._run.take()
        try:
            self._run.record = self._say(said)
        except AgentRefusal as refusal:
            if refusal.status == NOT_FOUND:
                self._run.give_back(said)
                self._try(self._begin_again)
            else:
                self.complain(str(refusal))
            return
        except TROUBLE as error:
            self._run.give_back(said)
            self.complain(f"the daemon does not answer; it is tried again: {error}")
            return
        self._on_record()
        if self._has_line:
            _write(line(self._title, time.monotonic() - self._began, self._run.record))
        if time.monotonic() >= self._receipt_due:
            self._receipt_due += RECEIPT_SECONDS
            self.write_receipt()

    def write_receipt(self) -> None:
        """Write the record to its file, if there is to be one."""
        if self._receipts is None or not self._run.record:
            return
        from exporter.client.receipts import write

        try:
            write(self._receipts, self._run.record)
        except OSError as error:
            self.complain(f"no receipt in {self._receipts}: {error.strerror}")

    def complain(self, text: str) -> None:
        """Say it, unless it was said before."""
        if text not in self._complained:
            self._complained.add(text)
            warn("%s", text)

    def _turn(self) -> None:
        while not self._stopping.wait(self._interval):
            self._try(self.look)

    def _try(self, step: Callable[[], None]) -> None:
        """The user's program goes on, whatever happens here."""
        try:
            step()
        except Exception as error:  # noqa: BLE001  said, and tried again
            self.complain(str(error))

    def _reset(self) -> None:
        self._thread, self._stopping = None, threading.Event()


def line(title: str, seconds: float, record: dict[str, Any]) -> str:
    """What a terminal shows while the run goes on."""
    parts = [title, f"{seconds // 60:.0f}:{seconds % 60:02.0f}"]
    if (watts := record.get("power_watts")) is not None:
        parts.append(f"{watts:.4g} W")
    parts.append(f"{record['energy_joules'] / 3600:.4g} Wh")
    parts.append(f"{record['carbon_grams']:.4g} g CO2eq")
    if ahead := record.get("forecast"):
        rest = max(0.0, ahead["end"] - record["at"])
        parts.append(f"in {rest // 60:.0f}:{rest % 60:02.0f}: {ahead['carbon_grams']:.4g} g")
    return "".join(c if c.isprintable() else "?" for c in "  ".join(parts))


def _write(text: str) -> None:
    """A terminal that is gone is no reason to stop."""
    with suppress(OSError, ValueError):
        sys.stderr.write(CLEAR_LINE + text)
        sys.stderr.flush()
