"""Factors that hold at all times: a number of your own, or one that another source found."""

import math
from typing import NamedTuple

from exporter.model.intensity import Accounting, Basis, Factor, Signal


class Fixed(NamedTuple):
    """A step of the chain with one factor for ever."""

    name: str
    factor: Factor
    why: str = ""

    @property
    def kind(self) -> tuple[Signal, Basis, Accounting]:
        """What the factor counts."""
        return self.factor.signal, self.factor.basis, self.factor.accounting

    def covering(self, _t0: float, _t1: float) -> tuple[Factor]:
        """The factor, whenever that is."""
        return (self.factor,)


def static(
    grams_per_kwh: float, *, zone: str, basis: Basis, accounting: Accounting, source: str
) -> Fixed:
    """The intensity that the settings give."""
    factor = Factor(
        zone=zone,
        source=source or "configuration",
        grams_per_kwh=grams_per_kwh,
        pue=1.0,
        valid_from=0.0,
        valid_until=math.inf,
        as_of=0.0,
        basis=basis,
        accounting=accounting,
    )
    return Fixed("configured value", factor)
