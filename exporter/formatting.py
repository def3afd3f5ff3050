"""Human-readable numbers: Wh and kWh, g and kg, three significant digits, durations."""

import math
import time
from collections.abc import Iterable
from typing import NamedTuple

from exporter import units

UNKNOWN = "\u2013"
NARROW_SPACE = "\u202f"
REPLACEMENT_CHARACTER = "\ufffd"
FORMULA_PREFIXES = ("=", "+", "-", "@", "\t", "\r")
"""Prefixes of texts that a spreadsheet evaluates as a formula."""
KILO = 1_000
MAX_DECIMALS = 6
SMALLEST_NUMBER = 1e-6
MILLIGRAM_BELOW_GRAMS = 0.1
UNIT_THRESHOLD = 0.9995
"""Part of the larger unit from which three digits round up to 1 of it."""
ONE_DECIMAL_BELOW_SECONDS = 9.95
MINUTE, HOUR, DAY = 60, 3_600, 86_400
SPLIT_DESCRIPTIONS = {
    "exclusive": "held alone",
    "cpu_time": "split by CPU time",
    "memory": "split by memory held",
    "activity": "split by activity (+/-30 %, of partitions +/-15 %)",
    "slices": "split by slices held (assumed)",
    "equal": "split evenly (assumed)",
    "rest": "energy attributed to no other run",
}
"""Text for each split method, with its error where known; see docs/accuracy.md."""


def number(value: float) -> str:
    """Format with three significant digits, or all integer digits.

    Values below 0.1 get at most six decimals, without zeros at the end, and smaller ones are
    `<0.000001`.
    """
    if value == 0:
        return "0"
    size = abs(value)
    if size < SMALLEST_NUMBER:
        return f"<{SMALLEST_NUMBER:.{MAX_DECIMALS}f}"
    digits = 0 if size >= 99.95 else 1 if size >= 9.995 else 2 if size >= 0.9995 else 3
    if size < 0.09995:
        digits = min(MAX_DECIMALS, 2 - math.floor(math.log10(float(f"{size:.2e}"))))
    text = f"{value:,.{digits}f}".replace(",", NARROW_SPACE)
    return text.rstrip("0") if size < 0.09995 else text


def printable(text: str) -> str:
    """Replace control and bidirectional characters, so that untrusted text is safe to print."""
    return "".join(
        c if c.isprintable() or c == NARROW_SPACE else REPLACEMENT_CHARACTER for c in text
    )


def csv_cell(value: object) -> object:
    """Return a value for CSV, with a quote before text that a spreadsheet would evaluate."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_PREFIXES) else value


def watts(power: float | None) -> str:
    """Format a power in watts."""
    return UNKNOWN if power is None else f"{number(power)} W"


class DisplayUnit(NamedTuple):
    """A unit for one number, or for all numbers of a column."""

    unit: str
    size: float
    """Microjoules or nanograms per unit."""

    def text(self, amount: float) -> str:
        """Format microjoules or nanograms in this unit."""
        return f"{number(amount / self.size)} {self.unit}"


WH = DisplayUnit("Wh", units.MICROJOULES_PER_KWH / KILO)
KWH = DisplayUnit("kWh", units.MICROJOULES_PER_KWH)
MG = DisplayUnit("mg", units.NANOGRAMS_PER_GRAM / KILO)
G = DisplayUnit("g", units.NANOGRAMS_PER_GRAM)
KG = DisplayUnit("kg", units.NANOGRAMS_PER_GRAM * KILO)


def energy_scale(energies_uj: Iterable[float]) -> DisplayUnit:
    """Return the unit for a column of energies: Wh, or kWh if the largest is 1 kWh or more."""
    return KWH if max(energies_uj, default=0) >= UNIT_THRESHOLD * KWH.size else WH


def carbon_scale(carbons_ng: Iterable[float]) -> DisplayUnit:
    """Return the unit for a column of emissions.

    kg if the largest is 1 kg or more, mg if all are below 0.1 g, else g.
    """
    largest_ng = max(carbons_ng, default=0)
    if 0 < largest_ng < MILLIGRAM_BELOW_GRAMS * UNIT_THRESHOLD * G.size:
        return MG
    return KG if largest_ng >= UNIT_THRESHOLD * KG.size else G


def energy(energy_uj: float) -> str:
    """Format an energy in Wh, or in kWh from 1 kWh on."""
    return energy_scale((energy_uj,)).text(energy_uj)


def carbon(carbon_ng: float) -> str:
    """Format emissions in g, in kg from 1 kg on, or in mg below 0.1 g."""
    return carbon_scale((carbon_ng,)).text(carbon_ng)


def percentage(part: float, whole: float) -> str:
    """Format `part` as a percentage of `whole`; unknown if `whole` is 0.

    Rounding never yields 0 % for a part above 0, nor 100 % for a part other than the whole.
    """
    if not whole:
        return UNKNOWN
    percent = 100 * part / whole
    if 0 < percent < 1:
        return "<1 %"
    if percent > 99 and part < whole:
        return ">99 %"
    return ">100 %" if percent < 101 and part > whole else f"{percent:.0f} %"


def result_value(value: float) -> str:
    """Format a value that a run logged, with six digits, so that close results stay distinct."""
    return number(value) if 1e6 <= abs(value) < 1e15 else f"{value + 0.0:.6g}"


def duration(seconds: float) -> str:
    """Format a duration, rounded to the smaller of its two largest units.

    Durations from 1 s to 10 s have one decimal, and whole days no hours.
    """
    if seconds < UNIT_THRESHOLD:
        return f"{number(seconds)} s"
    if seconds < ONE_DECIMAL_BELOW_SECONDS:
        return f"{seconds:.1f} s"
    whole = _rounded(seconds, 1)
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE} s"
    whole = _rounded(seconds, MINUTE)
    if whole < DAY:
        return f"{whole // HOUR} h {whole % HOUR // MINUTE} min"
    whole = _rounded(seconds, HOUR)
    days, hours = whole // DAY, whole % DAY // HOUR
    return f"{days} d {hours} h" if hours else f"{days} d"


def _rounded(seconds: float, unit: int) -> int:
    """Return the nearest multiple of a unit, in seconds; half a unit is rounded up."""
    return int(seconds / unit + 0.5) * unit


def timestamp(wall: float) -> str:
    """Format a date and time in UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(wall))
