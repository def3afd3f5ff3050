"""Yearly values of the bundled tables, for a zone or for the world."""

from dataclasses import dataclass
from typing import Literal

from exporter.clock import Clock
from exporter.convert import zones
from exporter.convert.sources.static import FixedStep
from exporter.model.intensity import Basis
from exporter.setting import setting


@dataclass(frozen=True, kw_only=True)
class TableSource:
    """The yearly value of a country, region, zone or cloud region; the source names its year."""

    zone: str = setting("", "", "The zone. Defaults to `convert.zone`.")
    basis: Literal["", "lifecycle", "direct"] = setting(
        "", "", "Basis of the value. Defaults to lifecycle, if a table has it."
    )

    def open(self, _clock: Clock) -> FixedStep:
        """Open the step. Raises ConfigError if there is no value."""
        factor = zones.find_factor(self.zone, Basis(self.basis) if self.basis else None)
        return FixedStep(f"yearly value of {factor.zone}", factor)


@dataclass(frozen=True, kw_only=True)
class WorldSource:
    """The world average."""

    def open(self, settings_file: str) -> FixedStep:
        """Open the step; its error text asks for a zone."""
        why = f"no zone is configured; {zones.set_zone(settings_file)}"
        return FixedStep("world average", zones.world_average(), why)
