"""Constant factors: a configured value, and the step for a value that never changes."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from exporter.clock import Clock
from exporter.convert.sources.base import KindOptions
from exporter.errors import ConfigError
from exporter.model.intensity import Factor, IntensityKind, kg_per_kwh_error
from exporter.setting import setting

UNSTATED_ZONE = "unstated"


class FixedStep(NamedTuple):
    """A step of the chain with one constant factor."""

    name: str
    factor: Factor
    why: str = ""

    @property
    def kind(self) -> IntensityKind:
        """Signal, basis and accounting of the factor."""
        return self.factor.signal, self.factor.basis, self.factor.accounting

    def factors_between(self, _t0: float, _t1: float) -> tuple[Factor]:
        """Return the factor, for any time."""
        return (self.factor,)


@dataclass(frozen=True, kw_only=True)
class StaticSource(KindOptions):
    """A configured value, for example that of a contract."""

    grams_per_kwh: float | None = setting(
        None,
        "g/kWh",
        "The value, 0 or at least 1. Defaults to `convert.grams_per_kwh`.",
        least=0,
        error=kg_per_kwh_error,
    )
    zone: str = setting("", "", "Zone of the values. Defaults to `convert.zone`.")
    source: str = setting("", "", "Publisher of the values, shown with the emissions.")

    def open(self, _clock: Clock) -> FixedStep:
        """Open the step. Raises ConfigError."""
        if self.grams_per_kwh is None:
            raise ConfigError("grams_per_kwh: expected a number")
        signal, basis, accounting = self.kind
        factor = Factor(
            zone=self.zone or UNSTATED_ZONE,
            source=self.source or "configuration",
            grams_per_kwh=self.grams_per_kwh,
            pue=1.0,
            valid_from=0.0,
            valid_until=math.inf,
            as_of=0.0,
            signal=signal,
            basis=basis,
            accounting=accounting,
        )
        return FixedStep("configured value", factor)
