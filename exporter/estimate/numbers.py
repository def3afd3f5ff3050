"""Exact numbers, from the words of a command line and to those of a person."""

import re
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction

from exporter import human

DIGITS = 6
NUMBER = re.compile(r"\d{1,12}(?:\.\d{1,12})?|\.\d{1,12}")
KILO = 1_000
SMALL = Fraction(1, 10)


def number(text: str) -> Fraction:
    """The decimal number in a text, digit by digit. Raises ValueError."""
    if NUMBER.fullmatch(text.strip()) is None:
        raise ValueError(f"expected a number as 100 or 0.75, found {text!r:.100}")
    return Fraction(text.strip())


def spelled(value: Fraction, digits: int = DIGITS) -> str:
    """So many digits of it, fewer if that is all of it; never with an exponent."""
    rounding = Context(prec=digits, rounding=ROUND_HALF_EVEN)
    rounded = rounding.divide(Decimal(value.numerator), Decimal(value.denominator))
    shown = f"{rounded:,f}".replace(",", human.NARROW_SPACE)
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def energy(kwh: Fraction, largest_kwh: Fraction | None = None) -> str:
    """An energy in kWh; in Wh where it, or the largest one beside it, is below 0.1 kWh."""
    is_small = (kwh if largest_kwh is None else largest_kwh) < SMALL
    return f"{spelled(kwh * KILO)} Wh" if is_small else f"{spelled(kwh)} kWh"


def carbon(grams: Fraction, largest_grams: Fraction | None = None) -> str:
    """An emission in kg; in grams where it, or the largest one beside it, is below 0.1 kg."""
    is_small = (grams if largest_grams is None else largest_grams) < SMALL * KILO
    return f"{spelled(grams)} g" if is_small else f"{spelled(grams / KILO)} kg"
