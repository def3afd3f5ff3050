"""Yearly values of the bundled tables, for a zone or for the whole world."""

from exporter.convert import tables
from exporter.convert.sources.static import Fixed


def table(zone: str) -> Fixed:
    """The yearly value of `zone`. Raises ConfigError where there is none."""
    factor = tables.find(zone)
    return Fixed(f"yearly value of {factor.zone}", factor)


def world() -> Fixed:
    """The world average, which says loudly that it is a stand-in."""
    return Fixed("world average", tables.world(), "no zone is configured: set convert.zone")
