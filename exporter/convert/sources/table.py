"""Yearly values of the bundled tables, for a zone or for the whole world."""

from dataclasses import dataclass
from typing import Literal

from exporter.clock import Clock
from exporter.convert import zones
from exporter.convert.sources.static import FixedStep
from exporter.model.intensity import Basis
from exporter.setting import setting


@dataclass(frozen=True, kw_only=True)
class TableSource:
    """The yearly value of a country, region, zone or cloud region; its year is said."""

    zone: str = setting("", "", "Which one. Empty: `convert.zone`.")
    basis: Literal["", "lifecycle", "direct"] = setting(
        "", "", "What it is to count. Empty: lifecycle, where a table has that."
    )

    def open(self, _clock: Clock) -> FixedStep:
        """The step. Raises ConfigError where there is none."""
        factor = zones.find_factor(self.zone, Basis(self.basis) if self.basis else None)
        return FixedStep(f"yearly value of {factor.zone}", factor)


@dataclass(frozen=True, kw_only=True)
class WorldSource:
    """The average of the world."""

    def open(self, settings_file: str) -> FixedStep:
        """The step, which says loudly that it is a stand-in."""
        why = f"no zone is configured; {zones.set_zone(settings_file)}"
        return FixedStep("world average", zones.world_average(), why)
