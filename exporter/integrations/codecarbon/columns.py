"""What each column of emissions.csv may contain.

`energy_doubt` decides whether the energy of a row can be trusted, `grams_doubt` its emissions, and
`wrong` whether all cells fit their columns, which tells a shifted row from one that is not.
"""

import datetime as dt
import math
import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

AMOUNTS = (*("duration", "emissions", "cpu_energy", "gpu_energy", "ram_energy", "energy_consumed"),)
"""Columns that every version has, and that are never empty."""
NEEDED = ("timestamp", "run_id", *AMOUNTS)
PARTS = ("cpu_energy", "gpu_energy", "ram_energy")
TOTAL = "energy_consumed"
BLANK = ("", "nan", "none", "null")
"""What programs write into a cell that has no value, in lower case."""
TOLERANCE = 0.01
MOST: Mapping[str, float] = MappingProxyType(
    {"duration": 3e8, "energy_consumed": 2e5, "emissions": 9e5}
)
"""Seconds, kilowatt hours and kilograms of one run; ten years, and what large trainings use."""
PUE_MOST = 10.0
FIRST_YEAR, LAST_YEAR = 1980, 2200
ID_BYTES = 200
LABEL_BYTES = 200
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


def label(text: str) -> str:
    """A text as the daemon takes it for a name or a label: not too long, and valid Unicode."""
    return text.replace("\0", "").encode(errors="replace")[:LABEL_BYTES].decode(errors="ignore")


def moment(text: str) -> dt.datetime | None:
    """A time as the file spells it; None for what is none."""
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if FIRST_YEAR <= found.year < LAST_YEAR else None


def completed(cells: Cells) -> Cells:
    """The cells, with an energy that is blank derived from the others where only one value fits.

    `energy_consumed` is the sum of the parts, so that one of the four follows from the other three.
    """
    energies = [*PARTS, TOTAL]
    blank = [name for name in energies if cells.get(name, "").lower() in BLANK]
    if not blank:
        return cells
    parts = sum(number(cells[name]) for name in PARTS if name not in blank)
    if blank == [TOTAL]:
        return {**cells, TOTAL: repr(parts)}
    rest = number(cells.get(TOTAL, "")) - parts
    if abs(rest) <= TOLERANCE * parts:
        return {**cells, **dict.fromkeys(blank, "0")}
    return {**cells, blank[0]: repr(rest)} if len(blank) == 1 and rest > 0 else cells


def wrong(cells: Cells) -> str:
    """What does not fit in a row whose cells stand under these names; "" if all does."""
    return energy_doubt(cells) or grams_doubt(cells) or _misfit(cells)


def energy_doubt(cells: Cells) -> str:
    """Why the energy of a row, its run or its time cannot be trusted; "" if they can."""
    for name in NEEDED:
        if name not in cells:
            return f"there is no column {name}"
        if name != "emissions" and not CHECKS[name](cells[name]):
            return f"{name} cannot be {cells[name]!r:.50}"
    return _too_much(cells, ("duration", TOTAL)) or _wrong_sums(cells)


def grams_doubt(cells: Cells) -> str:
    """Why the emissions of a row cannot be trusted; "" if they can."""
    if not _is_amount(cells["emissions"]):
        return f"emissions cannot be {cells['emissions']!r:.50}"
    return _too_much(cells, ("emissions",))


def pue(cells: Cells) -> float | None:
    """The power usage effectiveness of a row, 1 where it has none; None for an impossible one."""
    text = cells.get("pue", "")
    if text.lower() in BLANK:
        return 1.0
    return number(text) if CHECKS["pue"](text) else None


def _misfit(cells: Cells) -> str:
    for name, text in cells.items():
        check = CHECKS.get(name)
        if check is not None and not (check(text) or (text == "" and name not in NEEDED)):
            return f"{name} cannot be {text!r:.50}"
    for names in TOGETHER:
        given = {bool(cells[name]) for name in names if name in cells}
        if len(given) > 1:
            return f"of {' and '.join(names)} one alone is given"
    if cells.get("on_cloud") == "Y" and not cells.get("cloud_provider"):
        return "on_cloud is Y, and there is no cloud_provider"
    return ""


def _too_much(cells: Cells, names: Iterable[str]) -> str:
    return next((f"{n} is more than {MOST[n]:g}" for n in names if number(cells[n]) > MOST[n]), "")


def _wrong_sums(cells: Cells) -> str:
    consumed = number(cells[TOTAL])
    parts = sum(number(cells[name]) for name in PARTS)
    if abs(parts - consumed) > TOLERANCE * max(parts, consumed):
        return f"the energies are {parts:.6g} kWh together, energy_consumed is {consumed:.6g}"
    if not consumed and number(cells["emissions"]) > 0:
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
        "pue": lambda text: 1 <= number(text) <= PUE_MOST,
        "wue": _is_amount,
    }
)
