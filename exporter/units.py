"""Unit constants and conversions.

The client has its own, because it imports nothing else of the package.

Internally, energy is in integer microjoules and carbon in integer nanograms of CO2 equivalent, so
that sums are exact and transfers between accounts neither lose nor create any.
"""

MICROJOULES_PER_JOULE = 1_000_000
MICROWATTS_PER_WATT = 1_000_000
MICROSECONDS_PER_SECOND = 1_000_000
NANOSECONDS_PER_SECOND = 1_000_000_000
NANOSECONDS_PER_MICROSECOND = 1_000
NANOGRAMS_PER_GRAM = 1_000_000_000
SECONDS_PER_MINUTE = 60
SECONDS_PER_HOUR = 3_600
SECONDS_PER_DAY = 86_400
JOULES_PER_KWH = 3_600_000
WATTS_PER_KW = 1_000
GRAMS_PER_KG = 1_000
GRAMS_PER_KWH_OF_LB_PER_MWH = 0.45359237
BYTES_PER_GB = 1_000_000_000
BYTES_PER_KIB = 1_024
"""The unit that the kernel labels kB, as in /proc/meminfo."""
MICROJOULES_PER_KWH = MICROJOULES_PER_JOULE * JOULES_PER_KWH


def joules(energy_uj: int) -> float:
    """Convert microjoules to joules."""
    return energy_uj / MICROJOULES_PER_JOULE


def kwh(energy_uj: int) -> float:
    """Convert microjoules to kilowatt hours, for display only."""
    return energy_uj / MICROJOULES_PER_KWH


def grams(carbon_ng: int) -> float:
    """Convert nanograms to grams."""
    return carbon_ng / NANOGRAMS_PER_GRAM


def seconds(duration_ns: int) -> float:
    """Convert nanoseconds to seconds."""
    return duration_ns / NANOSECONDS_PER_SECOND


def watts(energy_uj: int, duration_ns: int) -> float:
    """Return the mean power in watts of `energy_uj` over `duration_ns` (> 0)."""
    return energy_uj * 1_000 / duration_ns


def energy_uj(power_watts: float, duration_ns: int) -> int:
    """Return the energy in microjoules of a constant power over `duration_ns`."""
    return round(power_watts * duration_ns / 1_000)


def carbon_ng(energy_uj: int, grams_per_kwh: float, pue: float) -> int:
    """Return nanograms of CO2 equivalent: joules / 3.6e6 * PUE * intensity.

    `pue` is the power usage effectiveness of the data center: facility energy divided by machine
    energy.
    """
    return round(energy_uj / MICROJOULES_PER_KWH * NANOGRAMS_PER_GRAM * grams_per_kwh * pue)
