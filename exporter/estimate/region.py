"""Looks up the carbon intensity of a region in the bundled tables, by code or name."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import NamedTuple

from exporter.convert import zones
from exporter.errors import ConfigError
from exporter.estimate.name_matching import (
    MAX_SUGGESTIONS,
    closest,
    corrected,
    joined_names,
    with_all_words,
    words,
)
from exporter.model.intensity import kg_per_kwh_error

PROVIDERS = {
    "amazon": "aws",
    "google": "gcp",
    "microsoft": "azure",
    **{name: name for name in ("aws", "azure", "gcp", "hetzner", "ovh", "scaleway")},
}
MAX_GREENER = 5
GOVERNMENT = "-gov-"
"""Part of the names of government regions, which are not available to everybody."""


class Region(NamedTuple):
    """A region with the carbon intensity of its grid."""

    code: str
    name: str
    country: str
    """ISO 3166-1 alpha-3."""
    grams_per_kwh: Fraction
    basis: str
    source: str

    @property
    def provider(self) -> str:
        """Cloud provider of a cloud region, else ""."""
        return self.code.partition(":")[0] if ":" in self.code else ""

    @property
    def label(self) -> str:
        """Code and name."""
        return f"{self.code} ({self.name})" if self.name else self.code


class RegionMatch(NamedTuple):
    """The region that a name matched, other matches, and greener regions of the provider."""

    region: Region
    others: tuple[Region, ...] = ()
    greener: tuple[Region, ...] = ()
    misspelled: str = ""
    """The name as given, if words of it were corrected; else ""."""


def world_average() -> RegionMatch:
    """Return the world average."""
    return RegionMatch(_region(zones.WORLD, "world average, since no region is given"))


def custom_region(grams_per_kwh: Fraction, place: str) -> RegionMatch:
    """Return a region with a given intensity; `place` is only a label and may be "".

    Raises ConfigError for a value in kg/kWh.
    """
    error = kg_per_kwh_error(float(grams_per_kwh))
    if error:
        raise ConfigError(f"estimate: --intensity: {error}")
    return RegionMatch(Region(place, "", "", grams_per_kwh, "", "as specified"))


def find_region(text: str) -> RegionMatch:
    """Return the region for a code, such as `gcp:us-central1` or `DE`, or a name (`Frankfurt`).

    Raises ConfigError with the matches if they have different intensities, or with similar names.
    """
    rows = zones.all_rows()
    codes, is_corrected = _codes(text, rows)
    if not codes:
        near = closest(text, _named(rows))
        hint = f"; did you mean {' or '.join(near)}?" if near else ";"
        raise ConfigError(
            f"estimate: no bundled table has the region {text!r:.200}{hint} it can be "
            f"{zones.ZONE_FORMATS}, or a name"
        )
    names = {row.zone: row.name for row in reversed(rows)}
    if len(codes) > MAX_SUGGESTIONS:
        raise ConfigError(_ambiguous(text, [f"{code} ({names[code]})" for code in codes]))
    found = [_region(code, names[code]) for code in codes]
    if len({region.grams_per_kwh for region in found}) > 1:
        could_be = [f"{each.label}: {float(each.grams_per_kwh):g} g/kWh" for each in found]
        raise ConfigError(_ambiguous(text, could_be))
    misspelled = text.strip() if is_corrected else ""
    return RegionMatch(found[0], tuple(found[1:]), _greener(found[0], rows), misspelled)


def _named(rows: Sequence[zones.ZoneRow]) -> set[str]:
    return {name for row in rows for name in (*row.codes, row.name) if name}


def _ambiguous(text: str, could_be: Sequence[str]) -> str:
    code = could_be[0].partition(" ")[0]
    return (
        f"estimate: --region {text!r:.200} could be {joined_names(could_be)}; name one of them "
        f"by its code, such as --region {code}"
    )


def _codes(text: str, rows: Sequence[zones.ZoneRow]) -> tuple[list[str], bool]:
    """Return the codes matched by code, else by name, else by words of both.

    The second result is whether words were corrected.
    """
    code = _normalized(text)
    if not code:
        return [], False
    valued = [row for row in rows if row.grams_per_kwh is not None]
    table = [(words(f"{row.zone} {row.name}"), row.zone) for row in valued]
    wanted = words(code)
    known = {word for own, _ in table for word in own}
    lookups: tuple[Callable[[], list[str]], ...] = (
        lambda: [row.zone for row in rows if code.upper() in row.codes],
        lambda: [row.zone for row in valued if code.upper() == row.name.upper()],
        lambda: [row.zone for row in valued if row.zone.endswith(f":{code.lower()}")],
        lambda: with_all_words(wanted, table),
    )
    found: list[str] = next(filter(None, (lookup() for lookup in lookups)), [])
    if found:
        return list(dict.fromkeys(found)), False
    return list(dict.fromkeys(with_all_words(corrected(wanted, known), table))), True


def _normalized(text: str) -> str:
    """Return `provider:region` with the provider as in the tables; other texts unchanged."""
    plain = text.strip()
    first, _, rest = plain.replace("/", " ").replace(":", " ", 1).partition(" ")
    provider = PROVIDERS.get(first.casefold())
    return f"{provider}:{rest.strip()}" if provider and rest.strip() else plain


def _region(code: str, name: str) -> Region:
    try:
        factor = zones.find_factor(code)
    except ConfigError:
        raise ConfigError(
            f"estimate: the region {code} is known, but no table has a value for it; "
            "give --intensity in g/kWh"
        ) from None
    country = zones.country_of(code)
    grams_per_kwh = _exact_fraction(factor.grams_per_kwh)
    return Region(factor.zone, name, country, grams_per_kwh, factor.basis, factor.source)


def _exact_fraction(value: float) -> Fraction:
    """Return the exact decimal number of the table."""
    return Fraction(str(value))


def _greener(here: Region, rows: Sequence[zones.ZoneRow]) -> tuple[Region, ...]:
    """Return the greenest regions of the same provider, and the best one in the same country."""
    if not here.provider:
        return ()
    alike = [
        Region(row.zone, row.name, row.country, _exact_fraction(value), row.basis, row.publisher)
        for row in rows
        if row.zone.startswith(f"{here.provider}:")
        and GOVERNMENT not in row.zone
        and (value := row.grams_per_kwh) is not None
    ]
    alike.sort(key=lambda region: (region.grams_per_kwh, region.code))
    better = [region for region in alike if region.grams_per_kwh < here.grams_per_kwh]
    near = [region for region in better[MAX_GREENER:] if region.country == here.country]
    chosen = better[:MAX_GREENER]
    is_near = any(region.country == here.country for region in chosen)
    return tuple(chosen if is_near else [*chosen, *near[:1]])
