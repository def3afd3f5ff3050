"""The arithmetic: watts, hours and intensity to kilowatt hours and grams. Exact, and pure."""

from fractions import Fraction
from typing import NamedTuple

from exporter.errors import ConfigError
from exporter.estimate import hardware, region
from exporter.units import WATTS_PER_KW

LARGEST_COUNT = 10**9
LARGEST_HOURS = 10**9


class Asked(NamedTuple):
    """What is to be estimated."""

    devices: int
    """How many of the hardware."""
    hours: Fraction
    pue: Fraction = Fraction(1)
    utilization: Fraction = Fraction(1)
    """Mean power over the power limit."""


class Estimate(NamedTuple):
    """What was asked, and what it was taken for."""

    asked: Asked
    part: hardware.Chosen
    place: region.Chosen

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


def check(asked: Asked) -> None:
    """Raise ConfigError for what cannot be."""
    if not 1 <= asked.devices <= LARGEST_COUNT:
        raise ConfigError(f"estimate: --count {asked.devices}: expected 1 to {LARGEST_COUNT}")
    if not 0 < asked.hours <= LARGEST_HOURS:
        raise ConfigError(f"estimate: --hours: expected more than 0, at most {LARGEST_HOURS}")
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
