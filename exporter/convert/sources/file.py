"""Intensities over time from a CSV or JSON file that another program updates."""

import csv
import io
import json
import logging
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any, NamedTuple

from exporter.clock import Clock
from exporter.convert import regular_file
from exporter.convert.chain import FactorTimeline
from exporter.convert.sources.base import KindOptions
from exporter.convert.sources.static import UNSTATED_ZONE
from exporter.errors import ConfigError, SourceError
from exporter.model.intensity import Factor
from exporter.model.workload import CollectorState
from exporter.setting import setting
from exporter.units import seconds

MAX_UNIX_SECONDS = 1e11
"""Above it (the year 5138) a number is in milliseconds, not in Unix seconds."""
EXPECTED_COLUMNS = "expected time (ISO 8601 with a time zone, or Unix seconds) and grams_per_kwh"


class FileRow(NamedTuple):
    """An intensity and the Unix time in seconds from which it is in force."""

    time: float
    grams_per_kwh: float


def parse_rows(data: bytes, path: str) -> list[FileRow]:
    """Parse the rows in `data`; return at least one, earliest first.

    CSV with the header `time,grams_per_kwh`, or JSON: a list of objects with these keys, or such
    a list under the key `values`. Raises SourceError naming `path`, the row and what is expected.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SourceError(f"{path}: is not UTF-8 text; write CSV or JSON") from None
    if not text.strip():
        raise SourceError(f"{path}: is empty; {EXPECTED_COLUMNS} in each row")
    located = _json_rows(text, path) if text.lstrip()[:1] in ("[", "{") else _csv_rows(text, path)
    rows = []
    for where, cells in located:
        try:
            rows.append(
                FileRow(_parse_row_time(cells["time"]), _parse_intensity(cells["grams_per_kwh"]))
            )
        except KeyError as error:
            raise SourceError(f"{path}: {where}: {error} is missing; {EXPECTED_COLUMNS}") from None
        except (ValueError, OverflowError) as error:
            raise SourceError(f"{path}: {where}: {error}; {EXPECTED_COLUMNS}") from None
    if not rows:
        raise SourceError(f"{path}: has no rows; {EXPECTED_COLUMNS} in each")
    rows.sort()
    for row, following in pairwise(rows):
        if row.time == following.time:
            raise SourceError(f"{path}: two rows for the time {row.time:.0f}; keep one of them")
    return rows


def _csv_rows(text: str, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text), skipinitialspace=True)
    try:
        if not {"time", "grams_per_kwh"} <= set(reader.fieldnames or ()):
            raise SourceError(f"{path}: line 1: the header must be `time,grams_per_kwh`")
        for cells in reader:
            yield f"line {reader.line_num}", cells
    except csv.Error as error:
        raise SourceError(
            f"{path}: line {reader.line_num + 1}: {error}; {EXPECTED_COLUMNS}"
        ) from None


def _json_rows(text: str, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path}: is not valid JSON: {error}") from None
    rows = document.get("values") if isinstance(document, dict) else document
    if not isinstance(rows, list):
        raise SourceError(f"{path}: expected a list of rows, alone or under the key `values`")
    for number, cells in enumerate(rows, 1):
        yield f"row {number}", cells if isinstance(cells, dict) else {}


def _parse_row_time(value: object) -> float:
    """Return the time in Unix seconds."""
    try:
        time = _to_float(value)
    except ValueError:
        moment = datetime.fromisoformat(str(value).strip())
        if moment.tzinfo is None:
            raise ValueError(f"the time {value!r} has no time zone, add Z or +00:00") from None
        time = moment.timestamp()
    if not 0 <= time < MAX_UNIX_SECONDS:
        raise ValueError(f"the time {value!r} is not in seconds since 1970")
    return time


def _parse_intensity(value: object) -> float:
    try:
        number = _to_float(value)
    except ValueError:
        raise ValueError(f"{value!r} is not a number of g/kWh") from None
    if not 0 <= number < math.inf:
        raise ValueError(f"{value!r} is not an intensity, which is 0 or more")
    return number


def _to_float(value: object) -> float:
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        return float(value)
    raise ValueError(f"{value!r} is not a number")


log = logging.getLogger(__name__)

MAX_FILE_BYTES = 16 << 20


@dataclass(frozen=True, kw_only=True)
class FileSource(KindOptions):
    """A file that another program updates: own meters, contracts, solar panels on site."""

    path: str = setting("", "path", "CSV or JSON file; see above. Defaults to `convert.file`.")
    zone: str = setting("", "", "Zone of the values. Defaults to `convert.zone`.")
    source: str = setting(
        "", "", "Publisher of the values, shown with the emissions. Defaults to the file name."
    )
    max_age_seconds: float = setting(7200, "seconds", "How long the last row is used.", least=0)

    def open(self, clock: Clock) -> "IntensityFileStep":
        """Open the step. Raises ConfigError if the file cannot be used."""
        if not self.path:
            raise ConfigError(
                "path: expected the path of the file, in this option or in convert.file"
            )
        return IntensityFileStep(self, clock)


class IntensityFileStep:
    """A step of the chain with the values of a file; `parse_rows` describes the format.

    Each row is in force until the next one, the last one for `max_age_seconds`. `refresh` may
    block and is called by a worker; all else uses values in memory. Replace the file by renaming
    a new one, so that an incomplete file is never read.

    Raises ConfigError if the file cannot be used at start.
    """

    name = "file"

    def __init__(self, options: FileSource, clock: Clock) -> None:
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
        self._timeline = FactorTimeline()
        try:
            self._update()
        except SourceError as error:
            raise ConfigError(str(error)) from None

    def factors_between(self, t0: float, t1: float) -> Sequence[Factor]:
        """Return the factors in force at any time in [t0, t1), Unix seconds."""
        return self._timeline.factors_between(t0, t1)

    def refresh(self) -> None:
        """Read the file again if it changed; with an invalid file the last values are kept."""
        try:
            self._update()
        except SourceError as error:
            why = f"{error}; the last valid values stay in force"
            if why != self.why:
                log.warning("intensity file not used", extra={"error": why})
            self.why = why

    def state(self) -> CollectorState:
        """Return whether the file was valid at the last refresh."""
        return CollectorState("intensity_file", not self.why, self._read_seconds, self.why)

    def _update(self) -> None:
        began_ns = self._clock.monotonic_ns()
        try:
            status = os.stat(self._path)
            stamp = status.st_mtime_ns, status.st_size, status.st_ino
            if stamp == self._stamp:
                return
            data = regular_file.read(self._path, MAX_FILE_BYTES + 1)
        except (OSError, ValueError) as error:
            self._stamp = ()
            raise SourceError(f"{self._path}: {regular_file.reason(self._path, error)}") from None
        except SourceError as error:
            self._stamp = ()
            raise SourceError(f"{self._path}: {error}") from None
        self._stamp = stamp
        if len(data) > MAX_FILE_BYTES:
            raise SourceError(f"{self._path}: is over 16 MiB; keep only rows that are still needed")
        rows = parse_rows(data, self._path)
        unit_error = self._unit_error(row.grams_per_kwh for row in rows)
        if unit_error:
            raise SourceError(f"{self._path}: {unit_error}")
        self._timeline = self._timeline_of(rows)
        self._read_seconds = seconds(self._clock.monotonic_ns() - began_ns)
        self.why = ""

    def _timeline_of(self, rows: Sequence[FileRow]) -> FactorTimeline:
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
        return FactorTimeline.of(factors)
