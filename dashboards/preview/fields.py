"""What a panel says of its fields: units, words, colours and what is hidden."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dashboards.preview import units

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
        return units.text(value, self["unit"] or "", self["decimals"])

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
