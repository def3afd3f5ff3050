"""Estimates: watts, hours and intensity to kilowatt hours and grams, in exact fractions. Pure."""

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
    """Inputs of an estimate besides hardware and region."""

    devices: int
    """Number of devices."""
    hours: Fraction
    pue: Fraction = Fraction(1)
    utilization: Fraction = Fraction(1)
    """Mean power divided by the power limit."""


class Estimate(NamedTuple):
    """An estimate: the request with the matched hardware and region."""

    request: EstimateRequest
    part: hardware.HardwareMatch
    place: region.RegionMatch

    @property
    def watts(self) -> Fraction:
        """Mean power of all devices."""
        return self.part.hardware.watts * self.request.devices * self.request.utilization

    @property
    def energy_kwh(self) -> Fraction:
        """Energy of all devices."""
        return self.watts * self.request.hours / WATTS_PER_KW

    @property
    def facility_kwh(self) -> Fraction:
        """Energy including cooling and power supply (times PUE)."""
        return self.energy_kwh * self.request.pue

    @property
    def carbon_grams(self) -> Fraction:
        """Grams of CO2 equivalent."""
        return self.carbon_grams_in(self.place.region)

    def carbon_grams_in(self, place: region.Region) -> Fraction:
        """Return the grams that the same work would emit in another region, with the same PUE."""
        return self.facility_kwh * place.grams_per_kwh


def validate(request: EstimateRequest) -> None:
    """Raise ConfigError for a value out of range."""
    if not 1 <= request.devices <= MAX_COUNT:
        raise ConfigError(f"estimate: --count {request.devices}: expected 1 to {MAX_COUNT}")
    if not 0 < request.hours <= MAX_HOURS:
        raise ConfigError(f"estimate: --hours: expected more than 0, at most {MAX_HOURS}")
    if request.pue < 1:
        raise ConfigError(
            f"estimate: --pue {float(request.pue):g}: expected 1 or more: energy of the facility "
            "divided by that of its machines"
        )
    if not 0 < request.utilization <= 1:
        raise ConfigError(
            f"estimate: --utilization {float(request.utilization):g}: expected more than 0, at "
            "most 1: mean power divided by the power limit"
        )


DIGITS = 6
NUMBER = re.compile(r"\d{1,12}(?:\.\d{1,12})?|\.\d{1,12}")
KILO = 1_000
SMALL = Fraction(1, 10)


def parse_decimal(text: str) -> Fraction:
    """Parse a decimal number exactly. Raises ValueError."""
    if NUMBER.fullmatch(text.strip().removeprefix("-")) and text.strip().startswith("-"):
        raise ValueError(f"expected a number above 0, found {text!r:.100}")
    if NUMBER.fullmatch(text.strip()) is None:
        raise ValueError(f"expected a number, such as 100 or 0.75, found {text!r:.100}")
    return Fraction(text.strip())


def format_exact(value: Fraction, digits: int = DIGITS) -> str:
    """Format with at most `digits` significant digits; never with an exponent."""
    rounding = Context(prec=digits, rounding=ROUND_HALF_EVEN)
    rounded = rounding.divide(Decimal(value.numerator), Decimal(value.denominator))
    shown = f"{rounded:,f}".replace(",", formatting.NARROW_SPACE)
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def format_energy(kwh: Fraction, largest_kwh: Fraction | None = None) -> str:
    """Format an energy in kWh; in Wh if it, or `largest_kwh` if given, is below 0.1 kWh."""
    is_small = (kwh if largest_kwh is None else largest_kwh) < SMALL
    return f"{format_exact(kwh * KILO)} Wh" if is_small else f"{format_exact(kwh)} kWh"


def format_carbon(grams: Fraction, largest_grams: Fraction | None = None) -> str:
    """Format emissions in kg; in g if they, or `largest_grams` if given, are below 0.1 kg."""
    is_small = (grams if largest_grams is None else largest_grams) < SMALL * KILO
    return f"{format_exact(grams)} g" if is_small else f"{format_exact(grams / KILO)} kg"
