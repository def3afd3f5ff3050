"""With which intensity a record is to be counted, where a tracker was told a place."""

from collections.abc import Mapping
from typing import Any

from exporter.convert import tables
from exporter.convert.places import place
from exporter.errors import ConfigError
from exporter.report import figures
from exporter.report.forms.codecarbon import Price


def priced(record: Mapping[str, Any], wanted: Price) -> Price:
    """The price of this record.

    Where the daemon counts with the very place that is wanted, or with one inside that country,
    what it counted is better than a yearly mean.
    """
    zone = wanted.zone
    if zone is None or wanted.grams_per_kwh is not None:
        return wanted
    if any(_is_within(each, zone) for each in figures.zones(record)[:1]):
        return wanted._replace(zone=None)
    try:
        factor = tables.find(zone)
    except ConfigError:  # a place without a value in any table
        return wanted._replace(zone=None)
    return wanted._replace(grams_per_kwh=factor.grams_per_kwh)


def _is_within(zone: str, wanted: str) -> bool:
    if zone.upper() == wanted.upper():
        return True
    row = tables.known(wanted)
    is_country = row is not None and not place(wanted).region and ":" not in wanted
    return is_country and row is not None and place(zone).country == row.country
