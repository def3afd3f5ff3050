"""Where a zone is: its country, its region, and whose cloud it belongs to."""

from typing import NamedTuple

from exporter.convert import tables


class Place(NamedTuple):
    """What is known of where a zone is; "" for what is not, or does not apply."""

    country: str = ""
    """ISO 3166-1 alpha-3."""
    country_name: str = ""
    region: str = ""
    """Its name."""
    cloud_provider: str = ""
    cloud_region: str = ""


NOWHERE = Place()


def place(zone: str) -> Place:
    """The place of a zone that `tables.find` takes; NOWHERE where no table knows it."""
    row = tables.known(zone)
    if row is None or row.zone == tables.WORLD:
        return NOWHERE
    of_country = tables.known(row.country)
    country_name = of_country.name if of_country is not None else ""
    provider, is_cloud, region = row.zone.partition(":")
    if is_cloud:
        return Place(row.country, country_name, row.name, provider, region)
    is_country = of_country is not None and row.zone == of_country.zone
    return Place(row.country, country_name, "" if is_country else row.name)


def zone_of(
    country: str, region: str = "", cloud_provider: str = "", cloud_region: str = ""
) -> str:
    """The zone of a place that is told by names; "" where no table knows it.

    `country` is a code of two or three letters, `region` a name (California) or a code with or
    without that of its country (US-CA, CA, SE3). A cloud region comes first, a region that no table
    knows is its country.
    """
    if cloud_provider:
        row = tables.known(f"{cloud_provider}:{cloud_region}")
        if row is not None:
            return row.zone
    of_country = tables.known(country) if country else None
    if of_country is None:
        return ""
    wanted = region.strip()
    if not wanted:  # zones that no table names have an empty name
        return of_country.zone
    codes = (wanted.upper(), f"{tables.alpha2(of_country.zone)}-{wanted}".upper())
    rows = list(tables.regions(of_country.country))
    matches = (
        *(row for code in codes for row in rows if code in row.codes),
        *(row for row in rows if row.name.casefold() == wanted.casefold()),
    )
    return matches[0].zone if matches else of_country.zone
