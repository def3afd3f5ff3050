"""Strict reading of what others send. Pure; raises FetchFailed with outcome `bad_answer`."""

import math
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from exporter.errors import FetchFailed
from exporter.model.intensity import Value

MOST_GRAMS_PER_KWH = 2000.0
"""No grid is dirtier: lignite alone emits about 1,200 g/kWh. Above it a unit is wrong."""
AHEAD_SECONDS = 600.0
"""How far a clock may be ahead of ours."""
LONGEST_SECONDS = 48 * 3600.0
"""No value holds longer."""


class Raw(NamedTuple):
    """A value as it was sent."""

    start: float
    number: Any
    """Null is no value."""
    estimated: bool = False
    end: float | None = None
    """None: at the next start, or as long as the one before."""


def bad(text: str) -> FetchFailed:
    """The error for an answer that is not what the source promises."""
    return FetchFailed("bad_answer", text)


def member(document: Any, *path: str) -> Any:
    """What stands at the path."""
    at = document
    for name in path:
        if not isinstance(at, dict) or name not in at:
            raise bad(f"the answer has no {'.'.join(path)}")
        at = at[name]
    return at


def rows(document: Any, *path: str) -> Iterator[dict[str, Any]]:
    """The objects of the list at the path."""
    found = member(document, *path)
    if not isinstance(found, list):
        raise bad(f"{'.'.join(path)} of the answer is no list")
    for row in found:
        if not isinstance(row, dict):
            raise bad(f"{'.'.join(path)} of the answer has an entry that is no object")
        yield row


def number(value: Any) -> float:
    """A finite number, also one that is spelled as text."""
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not math.isfinite(found):
        raise bad(f"{value!s:.40} is not a number")
    return found


def moment(value: Any, *, utc: bool = False) -> float:
    """Unix seconds of a time in ISO 8601; one without a zone is in UTC, or refused."""
    try:
        found = datetime.fromisoformat(value)
        if found.tzinfo is None and utc:
            found = found.replace(tzinfo=UTC)
        seconds = found.timestamp()
    except (TypeError, ValueError, OverflowError):
        found = None
    if found is None or found.tzinfo is None:
        raise bad(f"{value!s:.40} is not a time with a zone")
    return seconds


def spelled(seconds: float, form: str = "%Y-%m-%dT%H:%M:%SZ") -> str:
    """A time in UTC, in ISO 8601."""
    return datetime.fromtimestamp(seconds, UTC).strftime(form)


def values(
    raws: Iterable[Raw], step_seconds: float, now: float = math.inf
) -> tuple[tuple[Value, ...], int]:
    """The values, earliest first, and how many were set aside because they cannot be true.

    `step_seconds` is how long a value holds that has neither an end nor a successor near. Those
    that begin after `now` are set aside. Of two for one time the later in the list counts.
    """
    kept: dict[float, Raw] = {}
    set_aside = 0
    for raw in raws:
        if raw.number is None:
            continue
        grams_per_kwh = number(raw.number)
        length = step_seconds if raw.end is None else raw.end - raw.start
        if (
            0 <= grams_per_kwh <= MOST_GRAMS_PER_KWH
            and raw.start <= now + AHEAD_SECONDS
            and 0 < length <= LONGEST_SECONDS
        ):
            kept[raw.start] = raw._replace(number=grams_per_kwh)
        else:
            set_aside += 1
    ordered = [kept[start] for start in sorted(kept)]
    ends = [raw.start + step_seconds if raw.end is None else raw.end for raw in ordered]
    nexts = [raw.start for raw in (*ordered[1:], Raw(math.inf, None))]
    found = tuple(
        Value(raw.start, min(end, after), raw.number, raw.estimated)
        for raw, end, after in zip(ordered, ends, nexts, strict=False)
    )
    return found, set_aside


def known(found: tuple[Value, ...], set_aside: int, who: str) -> tuple[Value, ...]:
    """The values, if there is one."""
    if not found and set_aside:
        raise bad(
            f"{who} sent nothing but values that cannot be true: negative, above "
            f"{MOST_GRAMS_PER_KWH:g} g/kWh, from the future or for no stretch of time"
        )
    if not found:
        raise FetchFailed("no_value", f"{who} has no value for this time")
    return found
