"""The rows of an intensity file: CSV or JSON to times and grams per kWh. Pure."""

import csv
import io
import json
import math
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from typing import Any, NamedTuple

from exporter.errors import SourceError

LATEST_SECONDS = 1e11
"""Beyond it (the year 5138) a number is not unix seconds but milliseconds."""
EXPECTED = "expected time (ISO 8601 with a zone, or unix seconds) and grams_per_kwh"


class Row(NamedTuple):
    """An intensity and the wall clock, in seconds, from which it holds."""

    time: float
    grams_per_kwh: float


def parse(data: bytes, path: str) -> list[Row]:
    """The rows in `data`, earliest first; at least one.

    CSV with the header `time,grams_per_kwh`, or JSON: a list of objects with these keys, or such
    a list under the key `values`. Raises SourceError naming `path`, the row and what is expected.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SourceError(f"{path}: is not UTF-8 text; write CSV or JSON") from None
    if not text.strip():
        raise SourceError(f"{path}: is empty; {EXPECTED} in each row")
    named = _json_rows(text, path) if text.lstrip()[:1] in ("[", "{") else _csv_rows(text, path)
    rows = []
    for where, cells in named:
        try:
            rows.append(Row(_time(cells["time"]), _grams_per_kwh(cells["grams_per_kwh"])))
        except KeyError as error:
            raise SourceError(f"{path}: {where}: {error} is missing; {EXPECTED}") from None
        except (ValueError, OverflowError) as error:
            raise SourceError(f"{path}: {where}: {error}; {EXPECTED}") from None
    if not rows:
        raise SourceError(f"{path}: has no rows; {EXPECTED} in each")
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
        raise SourceError(f"{path}: line {reader.line_num + 1}: {error}; {EXPECTED}") from None


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


def _time(value: object) -> float:
    """Unix seconds."""
    try:
        time = _number(value)
    except ValueError:
        moment = datetime.fromisoformat(str(value).strip())
        if moment.tzinfo is None:
            raise ValueError(f"the time {value!r} has no zone, add Z or +00:00") from None
        time = moment.timestamp()
    if not 0 <= time < LATEST_SECONDS:
        raise ValueError(f"the time {value!r} is not in seconds since 1970")
    return time


def _grams_per_kwh(value: object) -> float:
    try:
        number = _number(value)
    except ValueError:
        raise ValueError(f"{value!r} is not a number of g/kWh") from None
    if not 0 <= number < math.inf:
        raise ValueError(f"{value!r} is not an intensity, which is 0 or more")
    return number


def _number(value: object) -> float:
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        return float(value)
    raise ValueError(f"{value!r} is not a number")
