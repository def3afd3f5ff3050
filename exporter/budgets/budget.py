"""A file of budgets, read and checked."""

import math
import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from exporter.errors import ConfigError
from exporter.units import JOULES_PER_KWH

LEVELS = ("user", "workload_namespace", "account", "job_id")
"""What a budget may be of, besides labels of runs and everything."""
LABEL = re.compile(r"label_[a-zA-Z0-9_]+")
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}")
KEYS = ("name", "grams", "kwh", "period", "of")


class Period(StrEnum):
    """A stretch of the calendar, in UTC; weeks begin on Monday."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    QUARTER = "quarter"


class Budget(NamedTuple):
    """How much may be emitted, or used, in each period, and by whom."""

    name: str
    limit: float
    """Grams, or joules."""
    is_energy: bool
    period: Period
    of: tuple[tuple[str, tuple[str, ...]], ...]
    """Labels with the values that are meant; empty: everything, what no run used included."""
    line: int = 0
    """Where it stands in its file."""


def read(path: str) -> tuple[Budget, ...]:
    """The budgets in the YAML file at `path`. Raises ConfigError naming the line and the reason."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        document = yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is not valid YAML: {' '.join(str(error).split())}") from None
    entries = document.get("budgets") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not entries or set(document) != {"budgets"}:
        raise ConfigError(f"{path}: expected the key `budgets` with a list of at least one budget")
    found: dict[str, Budget] = {}
    for place, entry in zip(_places(path, node), entries, strict=True):
        budget = _budget(entry, place)._replace(line=place.line)
        if budget.name in found:
            raise ConfigError(f"{place.of('name')}: {budget.name} is taken by another budget")
        found[budget.name] = budget
    return tuple(found.values())


class _Place(NamedTuple):
    """Where a budget is in its file."""

    path: str
    line: int
    lines: Mapping[str, int]
    """Of each of its keys."""

    def of(self, key: str) -> str:
        """Where a key is, or the budget that lacks it."""
        return f"{self.path}: line {self.lines.get(key, self.line)}: {key}"

    def __str__(self) -> str:
        return f"{self.path}: line {self.line}"


def _places(path: str, node: Any) -> Iterator[_Place]:
    """The place of each budget."""
    for key, value in node.value:
        if key.value == "budgets":
            for entry in value.value:
                pairs = entry.value if isinstance(entry, yaml.MappingNode) else ()
                lines = {str(name.value): name.start_mark.line + 1 for name, _ in pairs}
                yield _Place(path, entry.start_mark.line + 1, lines)


def _budget(entry: Any, where: _Place) -> Budget:
    if not isinstance(entry, dict):
        raise ConfigError(f"{where}: expected {', '.join(KEYS)}, found {entry!r}")
    for key in entry:
        if key not in KEYS:
            known = ", ".join(KEYS)
            raise ConfigError(f"{where.of(str(key))}: there is no such key; known are {known}")
    name = entry.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ConfigError(
            f"{where.of('name')}: expected letters, digits, dots, dashes and underscores, "
            f"found {name!r}"
        )
    try:
        period = Period(entry.get("period", ""))
    except ValueError:
        raise ConfigError(
            f"{where.of('period')}: expected one of {', '.join(Period)}, "
            f"found {entry.get('period')!r}"
        ) from None
    is_energy = "kwh" in entry
    if is_energy == ("grams" in entry):
        raise ConfigError(f"{where}: expected either grams or kwh")
    unit = "kwh" if is_energy else "grams"
    limit = _limit(entry[unit], where.of(unit))
    of = entry.get("of")
    if "of" in entry and not isinstance(of, dict):
        raise ConfigError(f"{where.of('of')}: expected labels with their values, found {of!r}")
    if is_energy:
        limit *= JOULES_PER_KWH
    return Budget(name, limit, is_energy, period, tuple(_selected(of or {}, where.of("of"))))


def _limit(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{where}: expected a number without a unit, found {value!r}")
    if not 0 < value < math.inf:
        raise ConfigError(f"{where}: {value} is no limit; it must be above 0")
    return float(value)


def _selected(of: Mapping[Any, Any], where: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    for label, given in of.items():
        if label not in LEVELS and not (isinstance(label, str) and LABEL.fullmatch(label)):
            known = ", ".join(LEVELS)
            raise ConfigError(
                f"{where}: {label}: a budget can be of {known} or a label of runs, like "
                "label_team, that attribute.exported_labels in the exporters' settings file names"
            )
        values = given if isinstance(given, list) else [given]
        if not values or any(not isinstance(each, str | int) or each == "" for each in values):
            raise ConfigError(f"{where}.{label}: expected a value or several, not {given!r}")
        yield label, tuple(str(value) for value in values)
