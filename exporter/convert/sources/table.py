"""Yearly values of the bundled tables, for a zone or for the whole world."""

from dataclasses import dataclass
from typing import Literal

from exporter.clock import Clock
from exporter.convert import tables
from exporter.convert.sources.static import Fixed
from exporter.model.intensity import Basis
from exporter.setting import key


@dataclass(frozen=True, kw_only=True)
class Table:
    """The yearly value of a country, region, zone or cloud region; its year is said."""

    zone: str = key("", "", "Which one. Empty: `convert.zone`.")
    basis: Literal["", "lifecycle", "direct"] = key(
        "", "", "What it is to count. Empty: lifecycle, where a table has that."
    )

    def open(self, _clock: Clock) -> Fixed:
        """The step. Raises ConfigError where there is none."""
        factor = tables.find(self.zone, Basis(self.basis) if self.basis else None)
        return Fixed(f"yearly value of {factor.zone}", factor)


@dataclass(frozen=True, kw_only=True)
class World:
    """The average of the world."""

    def open(self, settings_file: str) -> Fixed:
        """The step, which says loudly that it is a stand-in."""
        why = f"no zone is configured; {tables.set_zone(settings_file)}"
        return Fixed("world average", tables.world(), why)
