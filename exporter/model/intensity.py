"""Types of stage convert: carbon intensity with its validity, kind and source."""

from enum import StrEnum
from typing import NamedTuple, TypeAlias


class Signal(StrEnum):
    """Average: emissions of all generation. Marginal: of the plants that follow the load."""

    AVERAGE = "average"
    MARGINAL = "marginal"


class Basis(StrEnum):
    """Lifecycle includes construction and fuel supply; direct is combustion only."""

    LIFECYCLE = "lifecycle"
    DIRECT = "direct"
    UNSTATED = "unstated"


class Accounting(StrEnum):
    """Location: grid mix at the site. Market: contracts and certificates of the owner."""

    LOCATION = "location"
    MARKET = "market"


MIN_GRAMS_PER_KWH = 1.0
"""Lowest plausible intensity above 0; a value below it is probably in kg/kWh."""


def kg_per_kwh_error(grams_per_kwh: float) -> str:
    """Return an error if an intensity is probably in kg/kWh, with the value to write; else ""."""
    if not 0 < grams_per_kwh < MIN_GRAMS_PER_KWH:
        return ""
    return (
        f"{grams_per_kwh:g} g/kWh is less than any grid emits, it looks like kg/kWh; write "
        f"{grams_per_kwh * 1000:g}, or 0 for no emissions"
    )


IntensityKind: TypeAlias = tuple[Signal, Basis, Accounting]
"""Signal, basis and accounting. Intensities of different kinds are never mixed."""


class IntensityValue(NamedTuple):
    """An intensity reported by a live source, valid from `start` to `end` (wall clock, seconds)."""

    start: float
    end: float
    grams_per_kwh: float
    estimated: bool = False


class FeedState(NamedTuple):
    """State of a live source."""

    name: str
    zone: str
    ok: bool
    """Whether the last request succeeded."""
    why: str
    requests: tuple[tuple[str, int], ...]
    """Number of requests by outcome."""
    answered: float | None
    """Wall clock of the last successful response; None: none yet."""
    due: float
    """Wall clock of the next request, unless the source is idle then."""


class Factor(NamedTuple):
    """One carbon intensity with its source, validity and kind."""

    zone: str
    source: str
    """Human-readable source: publisher and year, or the name of the file."""
    grams_per_kwh: float
    pue: float
    valid_from: float
    """Wall clock, seconds; 0 for values without a time."""
    valid_until: float
    """Wall clock, seconds; inf for values without a time."""
    as_of: float
    """Wall clock of the value itself, such as the start of the year of a table; 0: not known."""
    signal: Signal = Signal.AVERAGE
    basis: Basis = Basis.LIFECYCLE
    accounting: Accounting = Accounting.LOCATION
    estimated: bool = False
    step: int = 0
    """Position in the fallback chain; 0 is the first choice."""


class IntensityInterval(NamedTuple):
    """An interval of wall-clock time with one factor in force, or none."""

    t0: float
    t1: float
    factor: Factor | None
