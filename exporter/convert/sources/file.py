"""Intensities over time from a file that something else keeps up to date."""

import bisect
import logging
import os
from collections.abc import Sequence
from typing import NamedTuple

from exporter.clock import Clock
from exporter.convert.rows import Row, parse
from exporter.errors import ConfigError, SourceError
from exporter.model.intensity import Accounting, Basis, Factor, Signal
from exporter.model.workload import CollectorState
from exporter.units import seconds

log = logging.getLogger(__name__)

LARGEST_BYTES = 16 << 20


class Values(NamedTuple):
    """What the file said when it was last good."""

    starts: tuple[float, ...] = ()
    factors: tuple[Factor, ...] = ()


class IntensityFile:
    """A step of the chain that follows a file; `exporter.convert.rows` says what may stand in it.

    Each row holds until the next one, the last for `max_age_seconds`. `refresh` may block and
    belongs to a worker; all else looks at values in memory. Whoever writes the file should rename
    a new one onto it, so that it is never read half written.

    Raises ConfigError if the file cannot be used at the start.
    """

    name = "file"

    def __init__(
        self,
        path: str,
        *,
        zone: str,
        basis: Basis,
        accounting: Accounting,
        source: str,
        max_age_seconds: float,
        clock: Clock,
    ) -> None:
        self.kind = Signal.AVERAGE, basis, accounting
        self.why = ""
        self._path = path
        self._zone = zone
        self._source = source or os.path.basename(path)
        self._max_age_seconds = max_age_seconds
        self._clock = clock
        self._read_seconds = 0.0
        self._stamp: tuple[int, ...] = ()
        self._values = Values()
        try:
            self._update()
        except SourceError as error:
            raise ConfigError(f"convert.file: {error}") from None

    def covering(self, t0: float, t1: float) -> Sequence[Factor]:
        """The rows that hold somewhere in [t0, t1), wall clock seconds."""
        starts, factors = self._values
        first = max(0, bisect.bisect_right(starts, t0) - 1)
        rows = factors[first : bisect.bisect_left(starts, t1)]
        return [row for row in rows if row.valid_until > max(t0, row.valid_from)]

    def refresh(self) -> None:
        """Read the file again if it changed; a bad one leaves the last good values in force."""
        try:
            self._update()
        except SourceError as error:
            why = f"{error}; its last good values stay in force"
            if why != self.why:
                log.warning("intensity file not used", extra={"why": why})
            self.why = why

    def state(self) -> CollectorState:
        """Whether the file was good at the last look."""
        return CollectorState("intensity_file", not self.why, self._read_seconds, self.why)

    def _update(self) -> None:
        began_ns = self._clock.monotonic_ns()
        try:
            status = os.stat(self._path)
            stamp = status.st_mtime_ns, status.st_size, status.st_ino
            if stamp == self._stamp:
                return
            with open(self._path, "rb") as file:
                data = file.read(LARGEST_BYTES + 1)
        except OSError as error:
            self._stamp = ()
            raise SourceError(
                f"{self._path}: cannot be read: {error.strerror}; "
                "check that it exists and that the exporter's user may read it"
            ) from None
        self._stamp = stamp
        if len(data) > LARGEST_BYTES:
            raise SourceError(f"{self._path}: is over 16 MiB; keep only rows that are still needed")
        self._values = self._values_of(parse(data, self._path))
        self._read_seconds = seconds(self._clock.monotonic_ns() - began_ns)
        self.why = ""

    def _values_of(self, rows: Sequence[Row]) -> Values:
        starts = tuple(row.time for row in rows)
        ends = (*starts[1:], starts[-1] + self._max_age_seconds)
        signal, basis, accounting = self.kind
        factors = tuple(
            Factor(
                zone=self._zone,
                source=self._source,
                grams_per_kwh=row.grams_per_kwh,
                pue=1.0,
                valid_from=row.time,
                valid_until=end,
                as_of=row.time,
                signal=signal,
                basis=basis,
                accounting=accounting,
            )
            for row, end in zip(rows, ends, strict=True)
        )
        return Values(starts, factors)
