"""What may stand in each column of emissions.csv; tells a shifted row from one that is not."""

import datetime as dt
import math
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

AMOUNTS = (*("duration", "emissions", "cpu_energy", "gpu_energy", "ram_energy", "energy_consumed"),)
"""Columns that every version has, and that are never empty."""
NEEDED = ("timestamp", "run_id", *AMOUNTS)
PARTS = ("cpu_energy", "gpu_energy", "ram_energy")
TOLERANCE = 0.01
MOST: Mapping[str, float] = MappingProxyType(
    {"duration": 3e8, "energy_consumed": 2e5, "emissions": 9e5}
)
"""Seconds, kilowatt hours and kilograms of one run; ten years, and what large trainings use."""
FIRST_YEAR, LAST_YEAR = 1980, 2200
ID_BYTES = 200
CLOUDS = ("aws", "azure", "gcp")
MODES = ("machine", "process")

Check = Callable[[str], bool]
Cells = Mapping[str, str]


def number(text: str) -> float:
    """A number from 0 up; nan for all else."""
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if 0 <= value < math.inf else math.nan


def moment(text: str) -> dt.datetime | None:
    """A time as the file spells it; None for what is none."""
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if FIRST_YEAR <= found.year < LAST_YEAR else None


def wrong(cells: Cells) -> str:
    """What is wrong with a row whose cells stand under these names; "" if nothing is."""
    for name in NEEDED:
        if name not in cells:
            return f"there is no column {name}"
    for name, text in cells.items():
        check = CHECKS.get(name)
        if check is not None and not (check(text) or (text == "" and name not in NEEDED)):
            return f"{name} cannot be {text!r:.50}"
    for name, most in MOST.items():
        if number(cells[name]) > most:
            return f"{name} is more than {most:g}"
    for names in TOGETHER:
        given = {bool(cells[name]) for name in names if name in cells}
        if len(given) > 1:
            return f"of {' and '.join(names)} one alone is given"
    if cells.get("on_cloud") == "Y" and not cells.get("cloud_provider"):
        return "on_cloud is Y, and there is no cloud_provider"
    return _wrong_sums(cells)


def _wrong_sums(cells: Cells) -> str:
    consumed = number(cells["energy_consumed"])
    parts = sum(number(cells[name]) for name in PARTS)
    if abs(parts - consumed) > TOLERANCE * max(parts, consumed):
        return f"the energies are {parts:.6g} kWh together, energy_consumed is {consumed:.6g}"
    if not consumed and number(cells["emissions"]):
        return "there are emissions without energy"
    return ""


def _is_amount(text: str) -> bool:
    return not math.isnan(number(text))


def _is_count(text: str) -> bool:
    return number(text) % 1 == 0


def _is_word(text: str) -> bool:
    """Text that is not a number."""
    try:
        float(text)
    except ValueError:
        return text != ""
    return False


def _is_degrees(text: str) -> bool:
    try:
        return -180 <= float(text) <= 180
    except ValueError:
        return False


def _like(pattern: str) -> Check:
    return lambda text: re.fullmatch(pattern, text) is not None


TOGETHER = (
    ("longitude", "latitude"),
    ("cloud_provider", "cloud_region"),
    ("country_name", "country_iso_code"),
)
CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        **dict.fromkeys(AMOUNTS, _is_amount),
        **dict.fromkeys(("emissions_rate", "cpu_power", "gpu_power", "ram_power"), _is_amount),
        **dict.fromkeys(("water_consumed", "ram_total_size", "ram_used_gb"), _is_amount),
        **dict.fromkeys(
            [f"{device}_utilization_percent" for device in ("cpu", "gpu", "ram")], _is_amount
        ),
        **dict.fromkeys(("cpu_count", "gpu_count"), _is_count),
        **dict.fromkeys(("longitude", "latitude"), _is_degrees),
        **dict.fromkeys(("cpu_model", "gpu_model", "country_name", "region"), _is_word),
        "timestamp": lambda text: moment(text) is not None,
        "run_id": lambda text: 0 < len(text.encode()) <= ID_BYTES and text.isprintable(),
        "country_iso_code": _like("[A-Z]{3}"),
        "cloud_provider": lambda text: text.lower() in CLOUDS,
        "os": _like("(Linux|Windows|macOS|Darwin).*"),
        "python_version": _like(r"\d+\.\d+.*"),
        "codecarbon_version": _like(r"(emissions-exporter )?\d+\.\d+.*"),
        "tracking_mode": lambda text: text in MODES,
        "on_cloud": lambda text: text in ("Y", "N"),
        "pue": lambda text: number(text) >= 1,
        "wue": _is_amount,
    }
)
