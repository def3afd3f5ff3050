"""Validation and repair of rows of emissions.csv.

`energy_doubt` decides whether the energy of a row can be trusted, `grams_doubt` its emissions, and
`wrong` whether all cells fit their columns, which tells a shifted row from one that is not.
"""

import datetime as dt
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from types import MappingProxyType

AMOUNT_COLUMNS = (
    *("duration", "emissions", "cpu_energy", "gpu_energy", "ram_energy", "energy_consumed"),
)
"""Columns that exist in every version and are never empty."""
REQUIRED_COLUMNS = ("timestamp", "run_id", *AMOUNT_COLUMNS)
ENERGY_COLUMNS = ("cpu_energy", "gpu_energy", "ram_energy")
TOTAL_ENERGY_COLUMN = "energy_consumed"
BLANK = ("", "nan", "none", "null")
"""Texts that programs write for a missing value, in lower case."""
TOLERANCE = 0.01
MAX_VALUES: Mapping[str, float] = MappingProxyType(
    {"duration": 3e8, "energy_consumed": 2e5, "emissions": 9e5}
)
"""Upper limits of one run in seconds, kilowatt hours and kilograms: ten years; large trainings."""
MAX_PUE = 10.0
FIRST_YEAR, LAST_YEAR = 1980, 2200
ID_BYTES = 200
LABEL_BYTES = 200
CLOUDS = ("aws", "azure", "gcp")
MODES = ("machine", "process")

Check = Callable[[str], bool]
Cells = Mapping[str, str]


def parse_amount(text: str) -> float:
    """Parse a number of at least 0; nan for anything else."""
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if 0 <= value < math.inf else math.nan


def label(text: str) -> str:
    """Convert a text to a valid name or label: limited length, and valid Unicode."""
    return text.replace("\0", "").encode(errors="replace")[:LABEL_BYTES].decode(errors="ignore")


def parse_timestamp(text: str) -> dt.datetime | None:
    """Parse a time of the file; None if it is invalid."""
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if FIRST_YEAR <= found.year < LAST_YEAR else None


def fill_blank_energy(cells: Cells) -> Cells:
    """Return the cells; a blank energy is derived from the others if only one value is possible.

    `energy_consumed` is the sum of the parts, so that one of the four follows from the other three.
    """
    energies = [*ENERGY_COLUMNS, TOTAL_ENERGY_COLUMN]
    blank = [name for name in energies if cells.get(name, "").lower() in BLANK]
    if not blank:
        return cells
    parts = sum(parse_amount(cells[name]) for name in ENERGY_COLUMNS if name not in blank)
    if blank == [TOTAL_ENERGY_COLUMN]:
        return {**cells, TOTAL_ENERGY_COLUMN: repr(parts)}
    rest = parse_amount(cells.get(TOTAL_ENERGY_COLUMN, "")) - parts
    if abs(rest) <= TOLERANCE * parts:
        return {**cells, **dict.fromkeys(blank, "0")}
    return {**cells, blank[0]: repr(rest)} if len(blank) == 1 and rest > 0 else cells


def row_error(cells: Cells) -> str:
    """Return the first error of a row with these columns; "" if it is valid."""
    return energy_error(cells) or emissions_error(cells) or _mismatched_cell(cells)


def energy_error(cells: Cells) -> str:
    """Return why the energy, the run id or the time of a row is invalid; "" if they are valid."""
    for name in REQUIRED_COLUMNS:
        if name not in cells:
            return f"column {name} is missing"
        if name == "run_id" and not cells[name]:
            return "run_id is missing"
        if name != "emissions" and not CHECKS[name](cells[name]):
            return f"{name} cannot be {cells[name]!r:.50}"
    return _too_much(cells, ("duration", TOTAL_ENERGY_COLUMN)) or _wrong_sums(cells)


def emissions_error(cells: Cells) -> str:
    """Return why the emissions of a row are invalid; "" if they are valid."""
    if not _is_amount(cells["emissions"]):
        return f"emissions cannot be {cells['emissions']!r:.50}"
    return _too_much(cells, ("emissions",))


def row_pue(cells: Cells) -> float | None:
    """Return the PUE of a row; 1 if it has none, None if it is invalid."""
    text = cells.get("pue", "")
    if text.lower() in BLANK:
        return 1.0
    return parse_amount(text) if CHECKS["pue"](text) else None


def _mismatched_cell(cells: Cells) -> str:
    for name, text in cells.items():
        check = CHECKS.get(name)
        if check is not None and not (check(text) or (text == "" and name not in REQUIRED_COLUMNS)):
            return f"{name} cannot be {text!r:.50}"
    for names in PAIRED_COLUMNS:
        given = {bool(cells[name]) for name in names if name in cells}
        if len(given) > 1:
            return f"only one of {' and '.join(names)} is given"
    if cells.get("on_cloud") == "Y" and not cells.get("cloud_provider"):
        return "on_cloud is Y, and there is no cloud_provider"
    return ""


def _too_much(cells: Cells, names: Iterable[str]) -> str:
    return next(
        (
            f"{n} is more than {MAX_VALUES[n]:g}"
            for n in names
            if parse_amount(cells[n]) > MAX_VALUES[n]
        ),
        "",
    )


def _wrong_sums(cells: Cells) -> str:
    consumed = parse_amount(cells[TOTAL_ENERGY_COLUMN])
    parts = sum(parse_amount(cells[name]) for name in ENERGY_COLUMNS)
    if abs(parts - consumed) > TOLERANCE * max(parts, consumed):
        return f"the energies add up to {parts:.6g} kWh, but energy_consumed is {consumed:.6g}"
    if not consumed and parse_amount(cells["emissions"]) > 0:
        return "there are emissions without energy"
    return ""


def _is_amount(text: str) -> bool:
    return not math.isnan(parse_amount(text))


def _is_count(text: str) -> bool:
    return parse_amount(text) % 1 == 0


def _is_word(text: str) -> bool:
    """Whether a text is not a number."""
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


def _matches(pattern: str) -> Check:
    return lambda text: re.fullmatch(pattern, text) is not None


PAIRED_COLUMNS = (
    ("longitude", "latitude"),
    ("cloud_provider", "cloud_region"),
    ("country_name", "country_iso_code"),
)
CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        **dict.fromkeys(AMOUNT_COLUMNS, _is_amount),
        **dict.fromkeys(("emissions_rate", "cpu_power", "gpu_power", "ram_power"), _is_amount),
        **dict.fromkeys(("water_consumed", "ram_total_size", "ram_used_gb"), _is_amount),
        **dict.fromkeys(
            [f"{device}_utilization_percent" for device in ("cpu", "gpu", "ram")], _is_amount
        ),
        **dict.fromkeys(("cpu_count", "gpu_count"), _is_count),
        **dict.fromkeys(("longitude", "latitude"), _is_degrees),
        **dict.fromkeys(("cpu_model", "gpu_model", "country_name", "region"), _is_word),
        "timestamp": lambda text: parse_timestamp(text) is not None,
        "run_id": lambda text: 0 < len(text.encode()) <= ID_BYTES and text.isprintable(),
        "country_iso_code": _matches("[A-Z]{3}"),
        "cloud_provider": lambda text: text.lower() in CLOUDS,
        "os": _matches("(Linux|Windows|macOS|Darwin).*"),
        "python_version": _matches(r"\d+\.\d+.*"),
        "codecarbon_version": _matches(r"(emissions-exporter )?\d+\.\d+.*"),
        "tracking_mode": lambda text: text in MODES,
        "on_cloud": lambda text: text in ("Y", "N"),
        "pue": lambda text: 1 <= parse_amount(text) <= MAX_PUE,
        "wue": _is_amount,
    }
)


OMITTED_COLUMNS = (
    ("experiment_id",),
    ("country_name", "country_iso_code"),
    ("region",),
    ("cloud_provider", "cloud_region"),
    ("cpu_model",),
    ("gpu_count", "gpu_model"),
    ("gpu_model",),
    ("longitude", "latitude"),
)
"""Columns that may be missing in a row, each with the columns that are missing with it."""


def repair_shifted_row(header: Sequence[str], cells: Sequence[str]) -> Cells | None:
    """Return the cells under their columns; None if the energy cannot be verified."""
    sound = [
        made
        for made in map(fill_blank_energy, _possible(header, cells))
        if not energy_error(made) and row_pue(made) is not None
    ]
    found = [made for made in sound if not row_error(made)] or sound
    if (
        len({tuple([made.get(name, "") for name in (*REQUIRED_COLUMNS, "pue")]) for made in found})
        != 1
    ):
        return None
    return {
        name: text if all(other[name] == text for other in found) else ""
        for name, text in found[0].items()
    }


def _possible(header: Sequence[str], cells: Sequence[str]) -> Iterator[Cells]:
    missing = len(header) - len(cells)
    for count in range(1, len(OMITTED_COLUMNS) + 1):
        for groups in combinations(OMITTED_COLUMNS, count):
            names = {name for group in groups for name in group if name in header}
            if len(names) == missing:
                filled = iter(cells)
                yield {name: "" if name in names else next(filled) for name in header}
