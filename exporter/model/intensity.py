"""convert: how many grams a kilowatt hour cost, when, and who says so."""

from enum import StrEnum
from typing import NamedTuple, TypeAlias


class Signal(StrEnum):
    """Average: the mix of the grid. Marginal: the plant that follows the load."""

    AVERAGE = "average"
    MARGINAL = "marginal"


class Basis(StrEnum):
    """Lifecycle counts building and fuel supply; direct counts the stack alone."""

    LIFECYCLE = "lifecycle"
    DIRECT = "direct"
    UNSTATED = "unstated"


class Accounting(StrEnum):
    """Location: the grid that feeds the site. Market: the contracts that the owner holds."""

    LOCATION = "location"
    MARKET = "market"


MIN_GRAMS_PER_KWH = 1.0
"""No grid emits less and more than nothing: below it a number is in kg/kWh."""


def kg_per_kwh_error(grams_per_kwh: float) -> str:
    """Why an intensity is taken for one in kg/kWh, and what to write; "" if it is not."""
    if not 0 < grams_per_kwh < MIN_GRAMS_PER_KWH:
        return ""
    return (
        f"{grams_per_kwh:g} g/kWh is less than any grid emits, it looks like kg/kWh; write "
        f"{grams_per_kwh * 1000:g}, or 0 where nothing is emitted"
    )


IntensityKind: TypeAlias = tuple[Signal, Basis, Accounting]
"""What an intensity counts. Those of different kinds are never mixed."""


class IntensityValue(NamedTuple):
    """An intensity and when it holds, wall clock seconds, as a live source gave it."""

    start: float
    end: float
    grams_per_kwh: float
    estimated: bool = False


class FeedState(NamedTuple):
    """How a live source fares."""

    name: str
    zone: str
    ok: bool
    """Whether its last answer was good."""
    why: str
    requests: tuple[tuple[str, int], ...]
    """How often it was asked, by how that went."""
    answered: float | None
    """Wall clock of its last good answer; None: there was none yet."""
    due: float
    """Wall clock from which it may be asked again, if it is needed then."""


class Factor(NamedTuple):
    """One intensity with everything needed to defend it."""

    zone: str
    source: str
    """What a person reads: publisher and year, or the file's name."""
    grams_per_kwh: float
    pue: float
    valid_from: float
    """Wall clock, seconds. 0 for values that are not tied to a time."""
    valid_until: float
    """Wall clock, seconds; inf for values that are not tied to a time."""
    as_of: float
    """Wall clock of the value itself: start of its year for a yearly table; 0 if nobody says."""
    signal: Signal = Signal.AVERAGE
    basis: Basis = Basis.LIFECYCLE
    accounting: Accounting = Accounting.LOCATION
    estimated: bool = False
    step: int = 0
    """Place in the fallback chain; 0 is what was asked for first."""


class IntensityInterval(NamedTuple):
    """A stretch of wall-clock time with one factor in force, or with none."""

    t0: float
    t1: float
    factor: Factor | None
