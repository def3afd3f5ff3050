"""Strict parsing of sources' responses. Pure; raises FetchError with outcome `bad_answer`."""

import math
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from exporter.errors import FetchError
from exporter.model.intensity import IntensityValue

MAX_GRAMS_PER_KWH = 2000.0
"""Above the intensity of any grid (lignite alone: about 1,200 g/kWh); higher values are in a
wrong unit."""
MAX_CLOCK_SKEW_SECONDS = 600.0
"""How far the clock of a source may be ahead of the local one."""
MAX_VALUE_SECONDS = 48 * 3600.0
"""Longest interval of a value."""


class RawValue(NamedTuple):
    """A value as the source sent it. Times are in Unix seconds."""

    start: float
    number: Any
    """g/kWh; null means no value."""
    estimated: bool = False
    end: float | None = None
    """None: the start of the next value, at most one step after `start`."""


def bad_answer(text: str) -> FetchError:
    """Return the error for a response that does not match the source's format."""
    return FetchError("bad_answer", text)


def get_member(document: Any, *path: str) -> Any:
    """Return the member of a JSON object at a path."""
    at = document
    for name in path:
        if not isinstance(at, dict) or name not in at:
            raise bad_answer(f"the response has no {'.'.join(path)}")
        at = at[name]
    return at


def get_rows(document: Any, *path: str) -> Iterator[dict[str, Any]]:
    """Yield the objects of the list at a path."""
    rows = get_member(document, *path)
    if not isinstance(rows, list):
        raise bad_answer(f"{'.'.join(path)} of the response is not a list")
    for row in rows:
        if not isinstance(row, dict):
            raise bad_answer(f"{'.'.join(path)} of the response has an entry that is not an object")
        yield row


def parse_number(value: Any) -> float:
    """Return a finite number, given as a number or as text."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise bad_answer(f"{value!s:.40} is not a number")
    return number


def parse_time(value: Any, *, utc: bool = False) -> float:
    """Return an ISO 8601 time as Unix seconds; one without a time zone is UTC or an error."""
    try:
        time = datetime.fromisoformat(value)
        if time.tzinfo is None and utc:
            time = time.replace(tzinfo=UTC)
        seconds = time.timestamp()
    except (TypeError, ValueError, OverflowError):
        time = None
    if time is None or time.tzinfo is None:
        raise bad_answer(f"{value!s:.40} is not a time with a time zone")
    return seconds


def format_time(seconds: float, form: str = "%Y-%m-%dT%H:%M:%SZ") -> str:
    """Format Unix seconds as a time in UTC, by default in ISO 8601."""
    return datetime.fromtimestamp(seconds, UTC).strftime(form)


def clean_values(
    raws: Iterable[RawValue], step_seconds: float, now: float = math.inf
) -> tuple[tuple[IntensityValue, ...], int]:
    """Return the plausible values, earliest first, and the number of rejected ones.

    `step_seconds` is the longest duration of a value without an end. Values that begin after `now`
    are rejected. Of two values with the same start, the later in the list is used.
    """
    kept: dict[float, RawValue] = {}
    rejected = 0
    for raw in raws:
        if raw.number is None:
            continue
        grams_per_kwh = parse_number(raw.number)
        length = step_seconds if raw.end is None else raw.end - raw.start
        if (
            0 <= grams_per_kwh <= MAX_GRAMS_PER_KWH
            and raw.start <= now + MAX_CLOCK_SKEW_SECONDS
            and 0 < length <= MAX_VALUE_SECONDS
        ):
            kept[raw.start] = raw._replace(number=grams_per_kwh)
        else:
            rejected += 1
    ordered = [kept[start] for start in sorted(kept)]
    ends = [raw.start + step_seconds if raw.end is None else raw.end for raw in ordered]
    nexts = [raw.start for raw in (*ordered[1:], RawValue(math.inf, None))]
    values = tuple(
        IntensityValue(raw.start, min(end, after), raw.number, raw.estimated)
        for raw, end, after in zip(ordered, ends, nexts, strict=False)
    )
    return values, rejected


def require_values(
    values: tuple[IntensityValue, ...], rejected: int, publisher: str
) -> tuple[IntensityValue, ...]:
    """Return the values. Raises FetchError if there are none."""
    if not values and rejected:
        raise bad_answer(
            f"{publisher} sent only implausible values: negative, above {MAX_GRAMS_PER_KWH:g} "
            "g/kWh, in the future or with an invalid duration"
        )
    if not values:
        raise FetchError("no_value", f"{publisher} has no value for this time")
    return values
