"""Fields of a made-up host's description, read so that a mistake names its place."""

import math
from collections.abc import Collection, Sequence
from reprlib import repr as brief
from typing import Any, TypeGuard

from exporter.model.curves import Curve


class Fields:
    """One object of the description.

    What is not as expected is a ValueError that names the field by its path from the top. A field
    that has a `default` may be left out.
    """

    def __init__(self, content: object, where: str = "") -> None:
        if not isinstance(content, dict):
            place = f"{where}: " if where else ""
            text = f"{place}expected an object, found {brief(content)}"
            raise ValueError(text)  # noqa: TRY004  as every mistake in a description
        self._content: dict[str, Any] = content
        self._where = where

    def __contains__(self, key: str) -> bool:
        return key in self._content

    def names(self) -> tuple[str, ...]:
        """The names of all fields, in order."""
        return tuple(self._content)

    def text(self, key: str, default: str | None = None) -> str:
        """Any text."""
        value = self._content.get(key, default)
        if not isinstance(value, str):
            raise self.mistake(key, "text")
        return value

    def choice(self, key: str, choices: Collection[str], default: str | None = None) -> str:
        """One of some texts."""
        value = self._content.get(key, default)
        if value not in list(choices):
            raise self.mistake(key, f"one of {', '.join(choices)}")
        return str(value)

    def flag(self, key: str, *, default: bool) -> bool:
        """True or false."""
        value = self._content.get(key, default)
        if not isinstance(value, bool):
            raise self.mistake(key, "true or false")
        return value

    def positive(self, key: str) -> float:
        """A number above 0."""
        value = self._content.get(key)
        if not _is_quantity(value) or value == 0:
            raise self.mistake(key, "a number above 0")
        return float(value)

    def seconds(self, key: str, most: float) -> float:
        """A time in a period that is `most` long."""
        value = self._content.get(key)
        if not _is_quantity(value) or value > most:
            raise self.mistake(key, f"seconds from 0 to {most:g}")
        return float(value)

    def count(self, key: str, default: int | None = None, *, least: int = 0) -> int:
        """A whole number."""
        value = self._content.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise self.mistake(key, f"a whole number from {least} on")
        return value

    def curve(
        self,
        key: str,
        period_seconds: float,
        default: Sequence[Sequence[float]] | None = None,
        *,
        most: float = math.inf,
    ) -> Curve:
        """A value over time, none of it above `most`."""
        points = self._content.get(key, default)
        bound = "" if most == math.inf else f" or above {most:g}"
        if not isinstance(points, list | tuple) or not all(_is_point(it, most) for it in points):
            raise self.mistake(key, f"a list of [seconds, value], none below 0{bound}")
        try:
            return Curve([(time, value) for time, value in points], period_seconds)
        except ValueError as error:
            raise ValueError(f"{self.place(key)}: {error}") from None

    def texts(self, key: str) -> dict[str, str]:
        """An object of texts; none where it is left out."""
        value = self._content.get(key, {})
        if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
            raise self.mistake(key, "an object of texts")
        return value

    def part(self, key: str) -> "Fields":
        """An object in this one; an empty one where it is left out."""
        return Fields(self._content.get(key, {}), self.place(key))

    def rows(self, key: str) -> list["Fields"]:
        """A list of objects; an empty one where it is left out."""
        value = self._content.get(key, [])
        if not isinstance(value, list):
            raise self.mistake(key, "a list of objects")
        return [Fields(item, f"{self.place(key)}[{index}]") for index, item in enumerate(value)]

    def place(self, key: str) -> str:
        """Where a field is: `devices[0].id`."""
        return f"{self._where}.{key}" if self._where else key

    def mistake(self, key: str, expected: str) -> ValueError:
        """What to raise where a field is not `expected`."""
        found = brief(self._content.get(key)) if key in self else "nothing"
        return ValueError(f"{self.place(key)}: expected {expected}, found {found}")


def _is_point(point: Any, most: float) -> bool:
    is_pair = isinstance(point, list | tuple) and len(point) == 2
    return is_pair and all(map(_is_quantity, point)) and point[1] <= most


def _is_quantity(value: Any) -> TypeGuard[float]:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and value >= 0
