"""Intensities over time from a file that something else keeps up to date."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass

from exporter.clock import Clock
from exporter.convert import regular_file
from exporter.convert.counting import Counting
from exporter.convert.rows import Row, parse
from exporter.convert.sources.static import UNSTATED_ZONE
from exporter.convert.timeline import Timeline
from exporter.errors import ConfigError, SourceError
from exporter.model.intensity import Factor
from exporter.model.workload import CollectorState
from exporter.setting import key
from exporter.units import seconds

log = logging.getLogger(__name__)

LARGEST_BYTES = 16 << 20


@dataclass(frozen=True, kw_only=True)
class File(Counting):
    """A file that something else keeps up to date: own meters, contracts, solar on the roof."""

    path: str = key("", "path", "CSV or JSON; see above. Empty: `convert.file`.")
    zone: str = key("", "", "What place that is. Empty: `convert.zone`.")
    source: str = key("", "", "Who says so; shown beside every gram. Empty: the file's name.")
    max_age_seconds: float = key(7200, "seconds", "How long the last row holds.", least=0)

    def open(self, clock: Clock) -> "IntensityFile":
        """The step. Raises ConfigError where the file cannot be used."""
        if not self.path:
            raise ConfigError(
                "path: expected the path of the file, here or as the setting convert.file"
            )
        return IntensityFile(self, clock)


class IntensityFile:
    """A step of the chain that follows a file; `exporter.convert.rows` says what may stand in it.

    Each row holds until the next one, the last for `max_age_seconds`. `refresh` may block and
    belongs to a worker; all else looks at values in memory. Whoever writes the file should rename
    a new one onto it, so that it is never read half written.

    Raises ConfigError if the file cannot be used at the start.
    """

    name = "file"

    def __init__(self, options: File, clock: Clock) -> None:
        self.kind = options.kind
        self._unit_error = options.unit_error
        self.why = ""
        self._path = options.path
        self._zone = options.zone or UNSTATED_ZONE
        self._source = options.source or os.path.basename(options.path)
        self._max_age_seconds = options.max_age_seconds
        self._clock = clock
        self._read_seconds = 0.0
        self._stamp: tuple[int, ...] = ()
        self._timeline = Timeline()
        try:
            self._update()
        except SourceError as error:
            raise ConfigError(str(error)) from None

    def covering(self, t0: float, t1: float) -> Sequence[Factor]:
        """The rows that hold somewhere in [t0, t1), wall clock seconds."""
        return self._timeline.covering(t0, t1)

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
            data = regular_file.read(self._path, LARGEST_BYTES + 1)
        except (OSError, ValueError) as error:
            self._stamp = ()
            raise SourceError(f"{self._path}: {regular_file.reason(self._path, error)}") from None
        except SourceError as error:
            self._stamp = ()
            raise SourceError(f"{self._path}: {error}") from None
        self._stamp = stamp
        if len(data) > LARGEST_BYTES:
            raise SourceError(f"{self._path}: is over 16 MiB; keep only rows that are still needed")
        rows = parse(data, self._path)
        unit_error = self._unit_error(row.grams_per_kwh for row in rows)
        if unit_error:
            raise SourceError(f"{self._path}: {unit_error}")
        self._timeline = self._timeline_of(rows)
        self._read_seconds = seconds(self._clock.monotonic_ns() - began_ns)
        self.why = ""

    def _timeline_of(self, rows: Sequence[Row]) -> Timeline:
        ends = [row.time for row in rows[1:]] + [rows[-1].time + self._max_age_seconds]
        signal, basis, accounting = self.kind
        factors = [
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
        ]
        return Timeline.of(factors)
