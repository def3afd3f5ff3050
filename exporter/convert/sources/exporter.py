"""Intensity from another emissions-exporter, so that only one node polls the network."""

from dataclasses import dataclass
from typing import Any, Literal

from exporter.convert import zones
from exporter.convert.live.parse import (
    RawValue,
    clean_values,
    get_member,
    get_rows,
    parse_number,
    require_values,
)
from exporter.convert.sources.base import FetchResult, HttpClient, KindOptions
from exporter.errors import ConfigError, FetchError
from exporter.model.intensity import IntensityValue
from exporter.setting import setting
from exporter.units import SECONDS_PER_HOUR


@dataclass(frozen=True, kw_only=True)
class ExporterSource(KindOptions):
    """The intensity in force on another exporter, with its recent values and its forecast.

    Emissions name the other exporter's source. Its values must be of the configured kind: they are
    not used while it has fallen back to another kind.
    """

    url: str = setting("", "URL", "The other exporter, for example `http://intensity:10680`.")
    zone: str = setting(
        "",
        "",
        "Zone of the other exporter: the same, the zone of a cloud region, or its country. "
        "Defaults to `convert.zone`, and to any zone if that is not set.",
    )
    basis: Literal["lifecycle", "direct", "unstated"] = setting(
        "lifecycle", "", "Basis that its values must have."
    )
    refresh_seconds: float = setting(300, "seconds", "Time between two requests.", least=1)
    max_age_seconds: float = setting(3600, "seconds", "How long the last value is used.", least=0)

    publisher = "another exporter"
    country = ""

    @property
    def place(self) -> str:
        """The configured zone."""
        return self.zone or "unstated"

    def check(self) -> tuple[str, ...]:
        """Raise ConfigError without a valid URL."""
        if not self.url.startswith(("http://", "https://")):
            raise ConfigError("url: expected the other exporter as http://HOST:10680")
        return ()

    def fetch(self, http: HttpClient, now: float, since: float) -> FetchResult:
        """Fetch the intensity in force, recent values and the forecast."""
        document = http.get(f"{self.url.rstrip('/')}/api/v1/intensity")
        factor = get_member(document, "factor")
        if not isinstance(factor, dict):
            reason = f"{document.get('why', '')!s:.200}"
            raise FetchError("no_value", f"the other exporter has no value: {reason}")
        kind = tuple(str(get_member(factor, name)) for name in ("signal", "basis", "accounting"))
        if kind != self.kind:
            raise FetchError(
                "wrong_kind",
                f"the other exporter has {' '.join(kind)} values, and {' '.join(self.kind)} is "
                "configured",
            )
        zone = f"{get_member(factor, 'zone')!s:.40}"
        if self.zone and not zones.covers(zone, self.zone):
            raise FetchError("wrong_zone", f"the other exporter is in {zone}, not in {self.zone}")
        recent = _values(document, "recent")
        past, rejected = clean_values(
            [*recent, _raw_in_force(factor, now, since)], SECONDS_PER_HOUR, now
        )
        *before, last = require_values(past, rejected, "the other exporter")
        # The other one uses its last value for longer, but it may not be there any more.
        own_end = max((raw.end or 0.0 for raw in recent if raw.start == last.start), default=0.0)
        last_end = max(own_end, now + self.max_age_seconds)
        past = (*before, last._replace(end=min(last.end, last_end)))
        publisher = f"{get_member(factor, 'source')!s:.100}, by another exporter"
        # A yearly value keeps its age.
        is_timeless = not parse_number(factor.get("valid_from") or 0.0)
        as_of = parse_number(factor.get("as_of") or 0.0) if is_timeless else None
        return FetchResult(past, _forecast_values(document, now), rejected, publisher, zone, as_of)


def _raw_in_force(factor: dict[str, Any], now: float, since: float) -> RawValue:
    """Return the factor in force; one without a start is used for this hour and back to `since`."""
    start, end = parse_number(factor.get("valid_from") or 0.0), factor.get("valid_until")
    if not start:
        hour = now - now % SECONDS_PER_HOUR
        start = hour if since >= hour - SECONDS_PER_HOUR else since
        end = hour + 2 * SECONDS_PER_HOUR
    return RawValue(
        start,
        get_member(factor, "grams_per_kwh"),
        factor.get("estimated") is True,
        now + SECONDS_PER_HOUR if end is None else parse_number(end),
    )


def _forecast_values(document: Any, now: float) -> tuple[IntensityValue, ...]:
    values, _ = clean_values(_values(document, "forecast"), SECONDS_PER_HOUR)
    return tuple(value for value in values if value.end > now)


def _values(document: Any, name: str) -> list[RawValue]:
    if name not in document:
        return []
    return [
        RawValue(
            parse_number(get_member(row, "start")),
            get_member(row, "grams_per_kwh"),
            row.get("estimated") is True,
            parse_number(get_member(row, "end")),
        )
        for row in get_rows(document, name)
    ]
