"""Yearly intensities from the bundled tables, by country, region, zone or cloud region."""

import csv
import difflib
import math
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple, TypeAlias

from exporter import data
from exporter.errors import ConfigError
from exporter.model.intensity import Basis, Factor
from exporter.setting import ways_to_set

ZONE_FORMATS = (
    "a country (DE or DEU), a region (US-CA, CA-QC), a zone of Electricity Maps (US-CAL-CISO) "
    "or a cloud region (aws:eu-west-1, gcp:europe-west1, azure:westeurope)"
)
WORLD = "WORLD"
COUNTRIES = "country_intensity.csv"
BASIS_PREFERENCE = (Basis.LIFECYCLE, Basis.DIRECT, Basis.UNSTATED)
ZONE_DERIVED_FLAG = "zone-derived"
ZONES_AS_OF = "2026-08-21"
"""Date of the list of Electricity Maps zones; `data/zones.md` names its source."""
RETIRED_FLAG = "retired"
"""Flag of a zone that Electricity Maps had before that date."""
ALIASES = {"GBR": ("UK",), "GRC": ("EL",)}
"""Additional country codes that the European Union uses; no other country has them."""
NATIVE_NAMES = {
    "BELGIË": "BE", "BELGIQUE": "BE", "BRASIL": "BR", "ČESKO": "CZ", "DANMARK": "DK",
    "DEUTSCHLAND": "DE", "EESTI": "EE", "ÉIRE": "IE", "ESPAÑA": "ES", "ESPANA": "ES",
    "HRVATSKA": "HR", "ITALIA": "IT", "LATVIJA": "LV", "LIETUVA": "LT", "MAGYARORSZÁG": "HU",
    "MÉXICO": "MX", "NEDERLAND": "NL", "NORGE": "NO", "OESTERREICH": "AT", "ÖSTERREICH": "AT",
    "POLSKA": "PL", "SCHWEIZ": "CH", "SLOVENIJA": "SI", "SLOVENSKO": "SK", "SUISSE": "CH",
    "SUOMI": "FI", "SVERIGE": "SE", "SVIZZERA": "CH", "TÜRKIYE": "TR",
}  # fmt: skip
"""Countries by their own names if different from English; for suggestions only."""
WORD_LETTERS = 5
"""A text of at least this many letters is a word, which has to be more similar than a code."""
SIMILARITY, SIMILARITY_OF_WORDS = 0.6, 0.75
"""Smallest `difflib` ratios at which a text is taken for a misspelling of another."""
AGGREGATE_FLAG = "aggregate"
"""Flag of the world and the EU; no warning about the value."""


class ZoneRow(NamedTuple):
    """A zone of a table with its value, if it has one."""

    table: str
    zone: str
    """The displayed code."""
    codes: tuple[str, ...]
    """Codes by which it is found, in upper case."""
    name: str
    country: str
    """ISO 3166-1 alpha-3 of its country."""
    grams_per_kwh: float | None
    basis: Basis
    year: int | None
    publisher: str
    flags: tuple[str, ...]
    origin: str = ""
    """Code of the country or zone from which the value was taken, if from another one."""
    grid: str = ""
    """Zone of a cloud region."""


Cells: TypeAlias = dict[str, str]
ZoneTable: TypeAlias = Callable[[], Iterator[ZoneRow]]


def find_factor(zone: str, basis: Basis | None = None) -> Factor:
    """Return the factor of `zone`, in upper or lower case; see ZONE_FORMATS.

    With `basis`, only values of that basis are used. Otherwise the value of a country is that of
    the country table; for other zones the newest lifecycle value takes precedence, then the newest
    direct one, then the newest with an unstated basis.
    Raises ConfigError if the zone is unknown or no table has a value for it.
    """
    code = zone.strip().upper()
    if not code:
        raise ConfigError(f"convert.zone is not set, and the bundled tables need it; {set_zone()}")
    without_value: list[ZoneRow] = []
    for tables in _SEARCH:
        rows = [row for table in tables for row in table() if code in row.codes]
        valued = [
            row for row in rows if row.grams_per_kwh is not None and basis in (None, row.basis)
        ]
        if valued:
            return _to_factor(max(valued, key=_preference_key))
        without_value += rows
    if without_value:
        raise ConfigError(_no_value_text(zone, without_value[0], basis))
    raise ConfigError(_unknown_zone_text(zone, code, all_rows()))


def all_rows() -> list[ZoneRow]:
    """Return the rows of all tables in the order of search, for lookups by name."""
    return [row for tables in _SEARCH for table in tables for row in table()]


def find_row(zone: str) -> ZoneRow | None:
    """Return the first row of `zone`, with or without a value; None if it is in no table."""
    code = zone.strip().upper()
    rows = (row for tables in _SEARCH for table in tables for row in table())
    return next((row for row in rows if code in row.codes), None)


def regions_of_country(country: str) -> Iterator[ZoneRow]:
    """Yield the regions of a country, ISO 3166-1 alpha-3."""
    return (row for row in _regions() if row.country == country)


def country_of(zone: str) -> str:
    """Return the ISO 3166-1 alpha-3 code of the country of `zone`; "" if it is in no table."""
    row = find_row(zone)
    return row.country if row is not None else ""


def country_alpha2(zone: str) -> str:
    """Return the two-letter code of the country of `zone`; "" if it is in no table."""
    code = country_of(zone)
    return next((row.codes[1] for row in _countries() if code and code == row.country), "")


def zone_key(zone: str) -> str:
    """Return the Electricity Maps zone for a country's other codes (DEU, UK); else `zone` itself.

    In upper case; cloud regions in lower case.
    """
    code = zone.strip().upper()
    if ":" in code:
        return code.lower()
    return next((row.zone for row in _countries() if code in row.codes), code)


def covers(zone: str, wanted: str) -> bool:
    """Return whether an intensity of `zone` can be used for the place `wanted`.

    `zone` is the same zone, the grid zone of the cloud region `wanted`, or its country. A name that
    is in no table, such as the region of a grid operator, contradicts no place.
    """
    if zone_key(zone) == zone_key(wanted):
        return True
    row, place = find_row(zone), find_row(wanted)
    if row is None or place is None:
        return True
    is_country = any(row.zone == each.zone for each in _countries())
    return row.country == place.country and (is_country or row.zone == place.grid)


def electricity_maps_warning(zone: str) -> str:
    """Return a warning if a zone or cloud region is not in the list of Electricity Maps, else "".

    It suggests similar zones. It is only a warning, since the zones change.
    """
    code = zone_key(zone).upper()
    rows = [*_zones(), *_cloud_regions()]
    current = {row.zone for row in rows if RETIRED_FLAG not in row.flags}
    if any(code in row.codes for row in rows if row.zone in current):
        return ""
    status = "no longer" if any(code in row.codes for row in rows) else "not"
    candidates = [row for row in (*rows, *_countries()) if row.zone in current]
    return (
        f"{zone!r:.100} is {status} among the zones of Electricity Maps as of {ZONES_AS_OF}; "
        f"{_suggest(code, candidates)}it is requested as configured"
    )


def unknown_zone_warning(zone: str) -> str:
    """Return a warning with suggestions if a zone is in no table, else ""."""
    if find_row(zone) is not None:
        return ""
    return (
        f"convert.zone: no bundled table has {zone!r:.100}; {suggestion(zone)}"
        "it is used as configured, and records name no country"
    )


def set_zone(settings_file: str = "") -> str:
    """Return how to set the zone of the machine, with DE as the example."""
    return ways_to_set("convert.zone", "DE", flag="convert.zone", file=settings_file)


SET_NUMBER = ways_to_set("convert.grams_per_kwh", "400")
"""How to set the intensity if no table has a value, with 400 as the example."""


def world_average() -> Factor:
    """Return the world average: 473 g/kWh, lifecycle, 2024, by Our World in Data."""
    return find_factor(WORLD)


def _preference_key(row: ZoneRow) -> tuple[int, int]:
    return -BASIS_PREFERENCE.index(row.basis), row.year or 0


def _to_factor(row: ZoneRow) -> Factor:
    assert row.grams_per_kwh is not None
    publisher, flags = row.publisher, row.flags
    if row.origin:
        origin = next(each for each in (*_countries(), *_zones()) if row.origin in each.codes)
        publisher, flags = origin.publisher, row.flags + origin.flags
    flags = tuple(flag for flag in flags if flag != AGGREGATE_FLAG)
    source = f"{publisher.partition(' (')[0]}, {row.year or 'year not stated'}"
    return Factor(
        zone=row.zone,
        source=f"{source} [{', '.join(flags)}]" if flags else source,
        grams_per_kwh=row.grams_per_kwh,
        pue=1.0,
        valid_from=0.0,
        valid_until=math.inf,
        as_of=datetime(row.year, 1, 1, tzinfo=UTC).timestamp() if row.year else 0.0,
        basis=row.basis,
    )


def _no_value_text(zone: str, row: ZoneRow, basis: Basis | None) -> str:
    if basis is not None:
        return (
            f"convert.zone: {zone} is known, but no table has a {basis} value for it; leave basis "
            f"empty, or {SET_NUMBER}"
        )
    country = next((each for each in _countries() if row.country in each.codes), None)
    name = f"{zone} ({row.name})" if row.name else zone
    remedy = (
        f"set convert.zone to {country.zone} for the mean of its country "
        f"({country.grams_per_kwh:g} g/kWh, {country.year}), add "
        f"`table: {{zone: {country.zone}}}` after another source, or {SET_NUMBER}"
        if country
        else f"{SET_NUMBER}, or list sources in convert.sources without `table`, which reads the "
        "bundled tables"
    )
    where = "it" if country else "it or for its country"
    return (
        f"convert.zone: {name} is known, but the bundled tables have no yearly value for {where}; "
        f"{remedy}"
    )


def _unknown_zone_text(zone: str, code: str, known: Sequence[ZoneRow]) -> str:
    return (
        f"convert.zone: no bundled table has {zone!r}; {_suggest(code, known)}"
        f"it can be {ZONE_FORMATS}"
    )


def suggestion(zone: str) -> str:
    """Return a question with the zones that are meant or similar; "" if there is none."""
    return _suggest(zone.strip().upper(), all_rows())


def _suggest(code: str, known: Sequence[ZoneRow]) -> str:
    if not code:
        return ""
    known = [row for row in known if RETIRED_FLAG not in row.flags]
    native = [NATIVE_NAMES[code]] if code in NATIVE_NAMES else []
    similar = (
        native
        or [row.zone for row in known if row.name.upper() == code]
        or _similar_zones(code, known)
    )
    return f"did you mean {' or '.join(dict.fromkeys(similar))}? " if similar else ""


def _similar_zones(code: str, known: Sequence[ZoneRow]) -> list[str]:
    """Return the zones with a similar code or name, and those that contain this one."""
    zone_by_key = {
        key: row.zone for row in reversed(known) for key in (row.name.upper(), *row.codes)
    }
    parts = code.split("-")
    parents = ["-".join(parts[:count]) for count in range(len(parts) - 1, 0, -1)]
    is_word = len(code) >= WORD_LETTERS and code.isalpha()
    cutoff = SIMILARITY_OF_WORDS if is_word else SIMILARITY
    close = difflib.get_close_matches(code, zone_by_key, 5, cutoff)
    if not is_word and not parents:  # two letters are those of the country
        close.sort(key=lambda key: key[:2] != code[:2])
    keys = [
        *close,
        *(key for key in parents if key in zone_by_key),
    ]
    similar = [zone_by_key[key] for key in keys]
    of_country = [zone for zone in similar if parents and zone.partition("-")[0] == parents[-1]]
    return of_country or similar


def _countries() -> Iterator[ZoneRow]:
    table = COUNTRIES
    for cells in _read_table(table):
        shown = WORLD if cells["alpha3"] == "WLD" else cells["alpha2"]
        codes = (shown, cells["alpha2"], cells["alpha3"], *ALIASES.get(cells["alpha3"], ()))
        yield _make_row(table, cells, codes, cells["name"], cells["alpha3"])


def _regions() -> Iterator[ZoneRow]:
    table = "region_intensity.csv"
    for cells in _read_table(table):
        yield _make_row(
            table, cells, (cells["region_code"],), cells["region_name"], cells["country_alpha3"]
        )


def _zones() -> Iterator[ZoneRow]:
    table = "zones.csv"
    for cells in _read_table(table):
        for basis in (Basis.LIFECYCLE, Basis.DIRECT):
            value = {"basis": basis, "gco2eq_per_kwh": cells[f"{basis}_gco2eq_per_kwh"]}
            yield _make_row(
                table, cells | value, (cells["zone_key"],), cells["zone_name"], cells["alpha3"]
            )


def _cloud_regions() -> Iterator[ZoneRow]:
    table = "cloud_regions.csv"
    for cells in _read_table(table):
        country = cells["country_alpha3"]
        row = _make_row(
            table, cells, (f"{cells['provider']}:{cells['region']}",), cells["location"], country
        )
        grid = cells["em_zone"]
        origin = grid if ZONE_DERIVED_FLAG in row.flags else country
        yield row._replace(origin=origin, grid=grid)


def _make_row(table: str, cells: Cells, codes: tuple[str, ...], name: str, country: str) -> ZoneRow:
    grams_per_kwh, year = cells["gco2eq_per_kwh"], cells["year"]
    return ZoneRow(
        table=table,
        zone=codes[0],
        codes=tuple(code.upper() for code in codes),
        name=name,
        country=country,
        grams_per_kwh=float(grams_per_kwh) if grams_per_kwh else None,
        basis=Basis(cells["basis"]),
        year=int(year) if year else None,
        publisher=cells["source"],
        flags=tuple(flag for flag in cells["flag"].split(";") if flag),
    )


_SEARCH: tuple[tuple[ZoneTable, ...], ...] = ((_countries,), (_regions, _zones), (_cloud_regions,))
"""The order of search; among the tables of one entry the preferred value is used."""


def _read_table(table: str) -> Iterator[Cells]:
    with (data.DIRECTORY / table).open(encoding="utf-8") as lines:
        yield from csv.DictReader(lines)


class ZoneLocation(NamedTuple):
    """Location of a zone; fields that are unknown or do not apply are ""."""

    country: str = ""
    """ISO 3166-1 alpha-3."""
    country_name: str = ""
    region: str = ""
    """Name of the region."""
    cloud_provider: str = ""
    cloud_region: str = ""


UNKNOWN_LOCATION = ZoneLocation()


def locate_zone(zone: str) -> ZoneLocation:
    """Return the location of a zone; UNKNOWN_LOCATION if it is in no table."""
    row = find_row(zone)
    if row is None or row.zone == WORLD:
        return UNKNOWN_LOCATION
    of_country = find_row(row.country)
    country_name = of_country.name if of_country is not None else ""
    provider, is_cloud, region = row.zone.partition(":")
    if is_cloud:
        return ZoneLocation(row.country, country_name, row.name, provider, region)
    is_country = of_country is not None and row.zone == of_country.zone
    return ZoneLocation(row.country, country_name, "" if is_country else row.name)


def find_zone(
    country: str, region: str = "", cloud_provider: str = "", cloud_region: str = ""
) -> str:
    """Return the zone of a place given by names; "" if it is in no table.

    `country` is a code of two or three letters, `region` a name (California) or a code with or
    without that of its country (US-CA, CA, SE3). A cloud region takes precedence. For a region that
    is in no table the country is returned.
    """
    if cloud_provider:
        row = find_row(f"{cloud_provider}:{cloud_region}")
        if row is not None:
            return row.zone
    of_country = find_row(country) if country else None
    if of_country is None:
        return ""
    wanted = region.strip()
    if not wanted:  # an empty name would match zones without a name
        return of_country.zone
    codes = (wanted.upper(), f"{country_alpha2(of_country.zone)}-{wanted}".upper())
    rows = list(regions_of_country(of_country.country))
    matches = (
        *(row for code in codes for row in rows if code in row.codes),
        *(row for row in rows if row.name.casefold() == wanted.casefold()),
    )
    return matches[0].zone if matches else of_country.zone
