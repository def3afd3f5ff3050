"""The arithmetic: watts, hours and intensity to kilowatt hours and grams. Exact, and pure."""

import re
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction
from typing import NamedTuple

from exporter import formatting
from exporter.errors import ConfigError
from exporter.estimate import hardware, region
from exporter.units import WATTS_PER_KW

MAX_COUNT = 10**9
MAX_HOURS = 10**9


class EstimateRequest(NamedTuple):
    """What is to be estimated."""

    devices: int
    """How many of the hardware."""
    hours: Fraction
    pue: Fraction = Fraction(1)
    utilization: Fraction = Fraction(1)
    """Mean power over the power limit."""


class Estimate(NamedTuple):
    """What was asked, and what it was taken for."""

    asked: EstimateRequest
    part: hardware.HardwareMatch
    place: region.RegionMatch

    @property
    def watts(self) -> Fraction:
        """Mean power of all the hardware."""
        return self.part.hardware.watts * self.asked.devices * self.asked.utilization

    @property
    def energy_kwh(self) -> Fraction:
        """Energy of the hardware."""
        return self.watts * self.asked.hours / WATTS_PER_KW

    @property
    def facility_kwh(self) -> Fraction:
        """Energy with that of cooling and supply."""
        return self.energy_kwh * self.asked.pue

    @property
    def carbon_grams(self) -> Fraction:
        """Grams of CO2 equivalent."""
        return self.carbon_grams_in(self.place.region)

    def carbon_grams_in(self, place: region.Region) -> Fraction:
        """What the same work would emit in another place, of the same PUE."""
        return self.facility_kwh * place.grams_per_kwh


def validate(asked: EstimateRequest) -> None:
    """Raise ConfigError for what cannot be."""
    if not 1 <= asked.devices <= MAX_COUNT:
        raise ConfigError(f"estimate: --count {asked.devices}: expected 1 to {MAX_COUNT}")
    if not 0 < asked.hours <= MAX_HOURS:
        raise ConfigError(f"estimate: --hours: expected more than 0, at most {MAX_HOURS}")
    if asked.pue < 1:
        raise ConfigError(
            f"estimate: --pue {float(asked.pue):g}: expected 1 or more, since a facility uses "
            "what its machines use"
        )
    if not 0 < asked.utilization <= 1:
        raise ConfigError(
            f"estimate: --utilization {float(asked.utilization):g}: expected more than 0, at most "
            "1: mean power over the power limit"
        )


DIGITS = 6
NUMBER = re.compile(r"\d{1,12}(?:\.\d{1,12})?|\.\d{1,12}")
KILO = 1_000
SMALL = Fraction(1, 10)


def parse_decimal(text: str) -> Fraction:
    """The decimal number in a text, digit by digit. Raises ValueError."""
    if NUMBER.fullmatch(text.strip()) is None:
        raise ValueError(f"expected a number as 100 or 0.75, found {text!r:.100}")
    return Fraction(text.strip())


def format_exact(value: Fraction, digits: int = DIGITS) -> str:
    """So many digits of it, fewer if that is all of it; never with an exponent."""
    rounding = Context(prec=digits, rounding=ROUND_HALF_EVEN)
    rounded = rounding.divide(Decimal(value.numerator), Decimal(value.denominator))
    shown = f"{rounded:,f}".replace(",", formatting.NARROW_SPACE)
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def format_energy(kwh: Fraction, largest_kwh: Fraction | None = None) -> str:
    """An energy in kWh; in Wh where it, or the largest one beside it, is below 0.1 kWh."""
    is_small = (kwh if largest_kwh is None else largest_kwh) < SMALL
    return f"{format_exact(kwh * KILO)} Wh" if is_small else f"{format_exact(kwh)} kWh"


def format_carbon(grams: Fraction, largest_grams: Fraction | None = None) -> str:
    """An emission in kg; in grams where it, or the largest one beside it, is below 0.1 kg."""
    is_small = (grams if largest_grams is None else largest_grams) < SMALL * KILO
    return f"{format_exact(grams)} g" if is_small else f"{format_exact(grams / KILO)} kg"
