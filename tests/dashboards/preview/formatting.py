"""What a panel says of its fields: units, words, colours and what is hidden."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

PALETTE = (
    *("#73BF69", "#F2CC0C", "#8AB8FF", "#FF780A", "#F2495C", "#5794F2", "#B877D9", "#8F7BD0"),
    *("#37872D", "#FADE2A", "#447EBC", "#C15C17", "#E02F44", "#3274D9", "#A352CC", "#6ED0E0"),
)
"""Grafana's classic palette, its darkest colours made lighter."""
COLOURS = {
    "green": "#73BF69",
    "yellow": "#FADE2A",
    "orange": "#FF9830",
    "red": "#F2495C",
    "blue": "#5794F2",
    "purple": "#B877D9",
    "text": "#D8D9DA",
    "gray": "#8E8E95",
    "transparent": "transparent",
}
SHADE = re.compile(r"^(super-light|light|semi-dark|dark)-")


def colour(name: str) -> str:
    """What CSS calls a colour of Grafana; its shades are all the same here."""
    return COLOURS.get(SHADE.sub("", name), name)


@dataclass(frozen=True)
class Field:
    """The defaults of a panel, and what it says of one field besides."""

    config: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        """A setting; None where there is none. `custom.` is for those of the panel's type."""
        return self.config.get(name)

    def text(self, value: float | None) -> str:
        """A value as it is read: a number with its unit, or what stands for none."""
        if value is None:
            return str(self["noValue"] or "")
        return number_text(value, self["unit"] or "", self["decimals"])

    def colour(self, value: float | None, index: int = 0) -> str:
        """The colour of a value, as the panel chooses it; `index` is the place of the series."""
        chosen = self["color"] or {}
        mode = chosen.get("mode", "thresholds")
        if mode == "fixed":
            return colour(chosen["fixedColor"])
        if mode != "thresholds":
            return PALETTE[index % len(PALETTE)]
        reached = [
            step["color"]
            for step in self.thresholds
            if step["value"] is None or (value is not None and value >= step["value"])
        ]
        return colour(reached[-1]) if reached else COLOURS["text"]

    @property
    def thresholds(self) -> list[dict[str, Any]]:
        """Each with the `value` from which it counts and its `color`."""
        return list((self["thresholds"] or {}).get("steps") or [])

    def share(self, value: float, least: float, most: float) -> float:
        """Where a value lies between the ends of a gauge, from 0 to 1."""
        low = least if self["min"] is None else self["min"]
        high = most if self["max"] is None else self["max"]
        return min(max((value - low) / (high - low), 0.0), 1.0) if high > low else 0.0


def field(panel: Mapping[str, Any], name: str) -> Field:
    """The settings of the field of this name."""
    config = panel.get("fieldConfig") or {}
    merged = _flat(config.get("defaults") or {})
    for override in config.get("overrides") or []:
        if override["matcher"] == {"id": "byName", "options": name}:
            merged |= {each["id"]: each["value"] for each in override["properties"]}
    return Field(merged)


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    custom = config.get("custom") or {}
    named = {key: value for key, value in config.items() if key != "custom"}
    return named | {f"custom.{key}": value for key, value in custom.items()}


SI = ("f", "p", "n", "µ", "m", "", "k", "M", "G", "T", "P")
IEC = ("", "Ki", "Mi", "Gi", "Ti", "Pi")
ZEROS = re.compile(r"(?:\.|(\.\d*?[1-9]))0+(?=\D|$)")
SHORT = ("", " K", " Mil", " Bil", " Tri")
COUNTED = ("", "K", "M", "B", "T")
TIMES = (
    *((1e-6, 1e-9, "ns"), (1e-3, 1e-6, "µs"), (1, 1e-3, "ms"), (60, 1, "s"), (3600, 60, "mins")),
    *((86400, 3600, "hours"), (604800, 86400, "days"), (31536000, 604800, "weeks")),
    (math.inf, 31536000, "years"),
)
"""Below how many seconds, in seconds of how long, under which name."""
PREFIXED = {
    "watt": ("W", 0),
    "kwatth": ("Wh", 1),
    "joule": ("J", 0),
    "massg": ("g", 0),
}
"""Symbol, and by how many thousands the value is already divided."""


def number_text(value: float, unit: str, decimals: int | None = None) -> str:
    """A number with its unit; three digits unless the panel says how many decimals."""
    if not math.isfinite(value):
        return {math.inf: "∞", -math.inf: "-∞"}.get(value, "NaN")
    if unit in WRITERS:
        return WRITERS[unit](value, decimals)
    if unit in PREFIXED:
        symbol, thousands = PREFIXED[unit]
        names = tuple(f" {prefix}{symbol}" for prefix in SI)
        return _scaled(value, 1000, names, SI.index("") + thousands, decimals)
    return f"{fixed(value, decimals)} {unit.removeprefix('suffix:').strip()}"


def tick_text(value: float, unit: str) -> str:
    """The same without zeros behind the point."""
    return ZEROS.sub(r"\1", number_text(value, unit))


def fixed(value: float, decimals: int | None) -> str:
    """Three digits where the number of decimals is left open, as few as a whole number needs."""
    if decimals is None:
        whole = value == 0 or value % 1 == 0
        decimals = 0 if whole else max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{decimals}f}"


def _scaled(
    value: float, factor: int, names: tuple[str, ...], origin: int, decimals: int | None
) -> str:
    """Divided until it is readable; `origin` is the place of the name that it comes with."""
    steps = math.floor(math.log(abs(value), factor) + 1e-12) if value else 0
    steps = min(max(steps, -origin), len(names) - 1 - origin)
    return fixed(value / factor**steps, decimals) + names[origin + steps]


def _iec(value: float, decimals: int | None) -> str:
    return _scaled(value, 1024, tuple(f" {prefix}B" for prefix in IEC), 0, decimals)


def _time(value: float, decimals: int | None) -> str:
    if value == 0:
        return "0 s"
    unit, name = next((unit, name) for below, unit, name in TIMES if abs(value) < below)
    return f"{fixed(value / unit, decimals)} {name}"


def _date(value: float, _: int | None = None) -> str:
    return datetime.fromtimestamp(value / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


WRITERS: dict[str, Callable[[float, int | None], str]] = {
    "": fixed,
    "none": fixed,
    "short": lambda value, decimals: _scaled(value, 1000, SHORT, 0, decimals),
    "percentunit": lambda value, decimals: f"{fixed(100 * value, decimals)}%",
    "bytes": _iec,
    "s": _time,
    "dateTimeAsIso": _date,
    "cps": lambda value, decimals: f"{_scaled(value, 1000, COUNTED, 0, decimals)} c/s",
}
