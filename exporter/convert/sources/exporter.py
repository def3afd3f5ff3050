"""Another daemon of this program: one asks the network, the others ask it."""

from dataclasses import dataclass
from typing import Any, Literal

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
    """What another exporter has in force, with its past and its forecast.

    Grams name its source. It must count what is asked for here: one that has fallen back to
    another kind is not used.
    """

    url: str = setting("", "URL", "The other one, for example `http://intensity:10680`.")
    zone: str = setting("", "", "The zone that it should have. Empty: any.")
    basis: Literal["lifecycle", "direct", "unstated"] = setting(
        "lifecycle", "", "What it is to count."
    )
    refresh_seconds: float = setting(300, "seconds", "Time between two requests.", least=1)
    max_age_seconds: float = setting(3600, "seconds", "How long the last value holds.", least=0)

    publisher = "another exporter"
    country = ""

    @property
    def place(self) -> str:
        """Its zone, as far as that is settled here."""
        return self.zone or "unstated"

    def check(self) -> tuple[str, ...]:
        """Refuse to have nobody to ask. Raises ConfigError."""
        if not self.url.startswith(("http://", "https://")):
            raise ConfigError("url: expected http://HOST:10680 of the other exporter")
        return ()

    def fetch(self, http: HttpClient, now: float, since: float) -> FetchResult:
        """What it has in force, what it knows of the last day, and its forecast."""
        document = http.get(f"{self.url.rstrip('/')}/api/v1/intensity")
        factor = get_member(document, "factor")
        if not isinstance(factor, dict):
            raise FetchError("no_value", f"it has none either: {document.get('why', '')!s:.200}")
        kind = tuple(str(get_member(factor, name)) for name in ("signal", "basis", "accounting"))
        if kind != self.kind:
            raise FetchError(
                "wrong_kind", f"it counts {' '.join(kind)}, here {' '.join(self.kind)} is asked for"
            )
        zone = f"{get_member(factor, 'zone')!s:.40}"
        if self.zone and zone != self.zone:
            raise FetchError("wrong_zone", f"it is in {zone}, not in {self.zone}")
        past, set_aside = clean_values(
            [*_values(document, "recent"), _raw_in_force(factor, now, since)], SECONDS_PER_HOUR, now
        )
        require_values(past, set_aside, "the other exporter")
        publisher = f"{get_member(factor, 'source')!s:.100}, by another exporter"
        # A yearly value is as old there as here.
        is_timeless = not parse_number(factor.get("valid_from") or 0.0)
        as_of = parse_number(factor.get("as_of") or 0.0) if is_timeless else None
        return FetchResult(past, _forecast_values(document, now), set_aside, publisher, zone, as_of)


def _raw_in_force(factor: dict[str, Any], now: float, since: float) -> RawValue:
    """One that is not tied to a time holds for this hour, and as far back as is asked for."""
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
    found, _ = clean_values(_values(document, "forecast"), SECONDS_PER_HOUR)
    return tuple(value for value in found if value.end > now)


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
