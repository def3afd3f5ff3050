"""Numbers as Grafana writes them, by the ids of its units."""

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime

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


def text(value: float, unit: str, decimals: int | None = None) -> str:
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


def on_axis(value: float, unit: str) -> str:
    """The same without zeros behind the point."""
    return ZEROS.sub(r"\1", text(value, unit))


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
