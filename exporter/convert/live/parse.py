"""Strict reading of what others send. Pure; raises FetchFailed with outcome `bad_answer`."""

import math
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from exporter.errors import FetchError
from exporter.model.intensity import IntensityValue

MAX_GRAMS_PER_KWH = 2000.0
"""No grid is dirtier: lignite alone emits about 1,200 g/kWh. Above it a unit is wrong."""
MAX_CLOCK_SKEW_SECONDS = 600.0
"""How far a clock may be ahead of ours."""
MAX_VALUE_SECONDS = 48 * 3600.0
"""No value holds longer."""


class RawValue(NamedTuple):
    """A value as it was sent."""

    start: float
    number: Any
    """Null is no value."""
    estimated: bool = False
    end: float | None = None
    """None: at the next start, or as long as the one before."""


def bad_answer(text: str) -> FetchError:
    """The error for an answer that is not what the source promises."""
    return FetchError("bad_answer", text)


def get_member(document: Any, *path: str) -> Any:
    """What stands at the path."""
    at = document
    for name in path:
        if not isinstance(at, dict) or name not in at:
            raise bad_answer(f"the answer has no {'.'.join(path)}")
        at = at[name]
    return at


def get_rows(document: Any, *path: str) -> Iterator[dict[str, Any]]:
    """The objects of the list at the path."""
    found = get_member(document, *path)
    if not isinstance(found, list):
        raise bad_answer(f"{'.'.join(path)} of the answer is no list")
    for row in found:
        if not isinstance(row, dict):
            raise bad_answer(f"{'.'.join(path)} of the answer has an entry that is no object")
        yield row


def parse_number(value: Any) -> float:
    """A finite number, also one that is spelled as text."""
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise bad_answer(f"{value!s:.40} is not a number")
    return found


def parse_time(value: Any, *, utc: bool = False) -> float:
    """Unix seconds of a time in ISO 8601; one without a zone is in UTC, or refused."""
    try:
        found = datetime.fromisoformat(value)
        if found.tzinfo is None and utc:
            found = found.replace(tzinfo=UTC)
        seconds = found.timestamp()
    except (TypeError, ValueError, OverflowError):
        found = None
    if found is None or found.tzinfo is None:
        raise bad_answer(f"{value!s:.40} is not a time with a zone")
    return seconds


def format_time(seconds: float, form: str = "%Y-%m-%dT%H:%M:%SZ") -> str:
    """A time in UTC, in ISO 8601."""
    return datetime.fromtimestamp(seconds, UTC).strftime(form)


def clean_values(
    raws: Iterable[RawValue], step_seconds: float, now: float = math.inf
) -> tuple[tuple[IntensityValue, ...], int]:
    """The values, earliest first, and how many were set aside because they cannot be true.

    `step_seconds` is how long a value holds that has neither an end nor a successor near. Those
    that begin after `now` are set aside. Of two for one time the later in the list counts.
    """
    kept: dict[float, RawValue] = {}
    set_aside = 0
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
            set_aside += 1
    ordered = [kept[start] for start in sorted(kept)]
    ends = [raw.start + step_seconds if raw.end is None else raw.end for raw in ordered]
    nexts = [raw.start for raw in (*ordered[1:], RawValue(math.inf, None))]
    found = tuple(
        IntensityValue(raw.start, min(end, after), raw.number, raw.estimated)
        for raw, end, after in zip(ordered, ends, nexts, strict=False)
    )
    return found, set_aside


def require_values(
    found: tuple[IntensityValue, ...], set_aside: int, who: str
) -> tuple[IntensityValue, ...]:
    """The values, if there is one."""
    if not found and set_aside:
        raise bad_answer(
            f"{who} sent nothing but values that cannot be true: negative, above "
            f"{MAX_GRAMS_PER_KWH:g} g/kWh, from the future or for no stretch of time"
        )
    if not found:
        raise FetchError("no_value", f"{who} has no value for this time")
    return found
