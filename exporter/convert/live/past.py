"""What a feed knows over a restart, and the strict reading of it. Pure."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from exporter.model.intensity import Value


class Past(NamedTuple):
    """What outlives a restart; made of what JSON knows."""

    values: Sequence[Sequence[Any]] = ()
    forecast: Sequence[Sequence[Any]] = ()
    due: float = 0.0
    failures: int = 0
    answered: float | None = None
    publisher: str = ""
    place: str = ""
    as_of: float | None = None

    @property
    def why(self) -> str:
        """What is to be said of it until it is asked again."""
        if self.failures:
            return "it failed before the restart"
        return "it has not answered yet" if self.answered is None else ""


def from_json(document: Mapping[str, Any]) -> Past:
    """What `Past._asdict` was made into; nothing where it is not that."""
    try:
        past = Past(**document)
        return Past(
            _read(past.values),
            _read(past.forecast),
            _finite(past.due),
            max(0, int(_finite(past.failures))),
            None if past.answered is None else _finite(past.answered),
            str(past.publisher),
            str(past.place),
            None if past.as_of is None else _finite(past.as_of),
        )
    except (TypeError, ValueError, OverflowError):
        return Past()


def _read(values: Sequence[Sequence[Any]]) -> tuple[Value, ...]:
    told = {}
    for start, end, grams_per_kwh, estimated in values:
        value = Value(_finite(start), _finite(end), _finite(grams_per_kwh), bool(estimated))
        told[value.start] = value
    return tuple([told[at] for at in sorted(told)])


def _finite(value: Any) -> float:
    if not math.isfinite(value):
        raise ValueError("no time and no intensity")
    return float(value)
