"""Numbers as people read them: Wh and kWh, g and kg, three digits, times in words."""

import time
from collections.abc import Iterable
from typing import NamedTuple

from exporter import units

UNKNOWN = "\u2013"
NARROW_SPACE = "\u202f"
REPLACEMENT_CHARACTER = "\ufffd"
FORMULA_PREFIXES = ("=", "+", "-", "@", "\t", "\r")
"""How a text begins that a spreadsheet would compute."""
KILO = 1_000
MILLIGRAM_BELOW_GRAMS = 0.1
UNIT_THRESHOLD = 0.9995
"""Of the larger unit: what three digits would round up to 1 of it."""
MINUTE, HOUR, DAY = 60, 3_600, 86_400
SPLIT_DESCRIPTIONS = {
    "exclusive": "held alone",
    "cpu_time": "split by CPU time",
    "memory": "split by memory held",
    "activity": "split by activity (+/-30 %, in MIG mode +/-15 %)",
    "slices": "split by slices held (assumed)",
    "equal": "split evenly (assumed)",
    "rest": "what nobody else used",
}
"""How the shares of a device were found, and what that may be off by; see docs/accuracy.md."""


def number(value: float) -> str:
    """Three digits, or all of them before the point; what is too small to say is `<0.001`."""
    if value == 0:
        return "0"
    size = abs(value)
    if size < 0.001:
        return "<0.001"
    digits = 0 if size >= 99.95 else 1 if size >= 9.995 else 2 if size >= 0.9995 else 3
    return f"{value:,.{digits}f}".replace(",", NARROW_SPACE)


def printable(text: str) -> str:
    """Someone else's text, safe to print: nothing moves the cursor or turns the direction."""
    return "".join(
        c if c.isprintable() or c == NARROW_SPACE else REPLACEMENT_CHARACTER for c in text
    )


def csv_cell(value: object) -> object:
    """A value for CSV: a text that a spreadsheet would compute has a quote before it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_PREFIXES) else value


def watts(power: float | None) -> str:
    """A power."""
    return UNKNOWN if power is None else f"{number(power)} W"


class DisplayUnit(NamedTuple):
    """A unit, for one number or for all of a column."""

    unit: str
    size: float
    """Microjoules or nanograms in one of it."""

    def text(self, amount: float) -> str:
        """Microjoules or nanograms in this unit."""
        return f"{number(amount / self.size)} {self.unit}"


WH = DisplayUnit("Wh", units.MICROJOULES_PER_KWH / KILO)
KWH = DisplayUnit("kWh", units.MICROJOULES_PER_KWH)
MG = DisplayUnit("mg", units.NANOGRAMS_PER_GRAM / KILO)
G = DisplayUnit("g", units.NANOGRAMS_PER_GRAM)
KG = DisplayUnit("kg", units.NANOGRAMS_PER_GRAM * KILO)


def energy_scale(energies_uj: Iterable[float]) -> DisplayUnit:
    """Unit for energies of one column: Wh, kWh where the largest has 1 kWh."""
    return KWH if max(energies_uj, default=0) >= UNIT_THRESHOLD * KWH.size else WH


def carbon_scale(carbons_ng: Iterable[float]) -> DisplayUnit:
    """Unit for emissions of one column: g, kg where one has 1 kg, mg where none has 0.1 g."""
    largest_ng = max(carbons_ng, default=0)
    if 0 < largest_ng < MILLIGRAM_BELOW_GRAMS * UNIT_THRESHOLD * G.size:
        return MG
    return KG if largest_ng >= UNIT_THRESHOLD * KG.size else G


def energy(energy_uj: float) -> str:
    """An energy in Wh, from 1 kWh on in kWh."""
    return energy_scale((energy_uj,)).text(energy_uj)


def carbon(carbon_ng: float) -> str:
    """An emission in grams, from 1 kg on in kg, below 0.1 g in mg."""
    return carbon_scale((carbon_ng,)).text(carbon_ng)


def percentage(part: float, whole: float) -> str:
    """A part in percent; unknown where there is no whole.

    Never 0 % of something, nor 100 % of less than all or of more.
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
    """A number that a run told: six digits of it, for close results are told apart by the last."""
    return number(value) if 1e6 <= abs(value) < 1e15 else f"{value + 0.0:.6g}"


def duration(seconds: float) -> str:
    """A stretch of time in its two largest units."""
    if seconds < 1:
        return f"{number(seconds)} s"
    whole = int(seconds)
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE} s"
    if whole < DAY:
        return f"{whole // HOUR} h {whole % HOUR // MINUTE} min"
    return f"{whole // DAY} d {whole % DAY // HOUR} h"


def timestamp(wall: float) -> str:
    """A time of day and its date, UTC."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(wall))
