"""Check whether stated facts in a card agree with the record or source of its emissions."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from exporter.convert import zones as zone_tables
from exporter.report import quantities
from exporter.report.card.facts import SOURCE_NAME
from exporter.report.card.merge import BEGIN_MARKER, BULLET, END_MARKER

LOCATION, HARDWARE = "geographical_location", "hardware_used"
ZONE = re.compile(r"\(([A-Z]{2,5}(?:-[A-Z0-9]+)*|[a-z]+:[a-z0-9-]+)\)")
"""Zone in the source written by this exporter: `intensity of a table (CA-QC)`."""
SAME_AS = {HARDWARE: "Hardware Type", LOCATION: "Compute Region"}
"""Keys of the metadata, and the names of these facts in the section."""


def disagreements(
    there: Mapping[Any, Any], body: str, record: Mapping[str, Any] | None
) -> Iterator[tuple[str, str]]:
    """Yield keys of the metadata, each with a description of the disagreement."""
    location = str(there.get(LOCATION) or "")
    zones = _zones(there) if record is None else quantities.zones_by_energy(record)
    if location and zones == [quantities.WORLD] and location != quantities.WORLD:
        text = f"{location!r:.100}, but the emissions are based on the world average"
        yield LOCATION, f"{text}: set convert.zone of the daemon, and measure again"
    elif location and zones and (other := _elsewhere(location, zones)):
        yield LOCATION, f"{location!r:.100}, but the emissions are based on {other}"
    section = body.partition(BEGIN_MARKER)[2].partition(END_MARKER)[0]
    items = {b[1]: b[2] for each in section.splitlines() if (b := BULLET.match(each))}
    for key, name in SAME_AS.items():
        stated, derived = str(there.get(key) or ""), items.get(name, "")
        if stated and derived and _plain(stated) != _plain(derived):
            yield key, f"{stated!r:.100}, but the section says {derived!r:.100}"


def _zones(there: Mapping[Any, Any]) -> list[str]:
    """Return the zones in the source of a card written by this exporter."""
    source = str(there.get("source") or "")
    return ZONE.findall(source) if source.startswith(SOURCE_NAME) else []


def _elsewhere(location: str, zones: Iterable[str]) -> str:
    """Return the zones if the location names another country than theirs; else ""."""
    words = f" {_plain(location)} "
    named = [row for row in zone_tables.all_rows() if row.name and f" {_plain(row.name)} " in words]
    countries = {zone_tables.country_of(zone) for zone in zones}
    is_here = "" in countries or any(row.country in countries for row in named)
    has_country = any(row.table == zone_tables.COUNTRIES for row in named)
    return "" if is_here or not has_country else ", ".join(zones)


def _plain(text: str) -> str:
    return re.sub(r"\W+", " ", text).strip().casefold()
