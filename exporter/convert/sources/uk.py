"""Carbon Intensity API of Great Britain (NESO): half-hourly, national or regional."""

import re
from dataclasses import dataclass
from typing import Any

from exporter.convert.live.parse import (
    RawValue,
    bad_answer,
    clean_values,
    format_time,
    get_member,
    get_rows,
    parse_time,
    require_values,
)
from exporter.convert.sources.base import FetchResult, HttpClient
from exporter.errors import ConfigError, FetchError
from exporter.model.intensity import Accounting, Basis, IntensityKind, Signal
from exporter.setting import setting

TIME_FORMAT = "%Y-%m-%dT%H:%MZ"
HALF_HOUR_SECONDS = 1800.0
NATIONAL = "GB"
ALSO_NATIONAL = "UK"
LAST_REGION = 17
POSTCODE = re.compile(r"[A-Z]{1,2}[0-9][A-Z0-9]?")


@dataclass(frozen=True, kw_only=True)
class CarbonIntensityUk:
    """Great Britain without Northern Ireland; free, without a token, CC BY 4.0.

    Direct emissions of generation and imports. Regional values are forecasts and marked as
    `estimated`, as are national ones until the half hour has been measured.
    """

    place: str = setting(
        NATIONAL,
        "",
        "`GB`, the number of a region (13 is London), or the outward part of a postcode "
        "(`NG1`), in quotes.",
    )
    url: str = setting("https://api.carbonintensity.org.uk", "URL", "Base URL of the API.")
    refresh_seconds: float = setting(900, "seconds", "Time between two requests.", least=60)
    max_age_seconds: float = setting(10800, "seconds", "How long the last value is used.", least=0)

    publisher = "Carbon Intensity API (NESO)"
    country = "GBR"

    @property
    def kind(self) -> IntensityKind:
        """Average direct emissions, location-based."""
        return Signal.AVERAGE, Basis.DIRECT, Accounting.LOCATION

    def check(self) -> tuple[str, ...]:
        """Raise ConfigError for an invalid place."""
        self._path(0.0)
        return ()

    def fetch(self, http: HttpClient, now: float, since: float) -> FetchResult:
        """Fetch two days from the first missing half hour, including the forecast."""
        start = min(since, now) - HALF_HOUR_SECONDS
        document = http.get(f"{self.url.rstrip('/')}{self._path(start)}")
        values, rejected = clean_values(map(_raw, self._rows(document)), HALF_HOUR_SECONDS)
        past = tuple(value for value in values if value.start <= now)
        forecast = tuple(value for value in values if value.end > now)
        return FetchResult(require_values(past, rejected, self.publisher), forecast, rejected)

    def _path(self, start: float) -> str:
        place = self.place.strip().upper()
        window = f"{format_time(start, TIME_FORMAT)}/fw48h"
        if place in (NATIONAL, ALSO_NATIONAL):
            return f"/intensity/{window}"
        if place.isdecimal() and 1 <= int(place) <= LAST_REGION:
            return f"/regional/intensity/{window}/regionid/{int(place)}"
        if POSTCODE.fullmatch(place):
            return f"/regional/intensity/{window}/postcode/{place}"
        raise ConfigError(
            f"place: {self.place!r} is neither GB, nor a region from 1 to {LAST_REGION}, nor the "
            "outward part of a postcode like NG1"
        )

    def _rows(self, document: Any) -> list[dict[str, Any]]:
        """Return the half hours. Those of a region are nested in it; it may be in a list."""
        data = get_member(document, "data")
        if isinstance(data, list) and data and isinstance(data[0], dict) and "data" in data[0]:
            data = data[0]
        if not isinstance(data, dict):
            return list(get_rows(document, "data"))
        name, place = ("regionid" if self.place.strip().isdecimal() else "postcode"), self.place
        sent = str(data.get(name, place))
        if sent.upper() != place.strip().upper():
            raise FetchError("wrong_zone", f"NESO sent values for {sent:.40}, not for {place}")
        return list(get_rows(data, "data"))


def _raw(row: dict[str, Any]) -> RawValue:
    start, end = parse_time(get_member(row, "from")), parse_time(get_member(row, "to"))
    if end <= start:
        raise bad_answer("a half hour ends before it starts")
    intensity = get_member(row, "intensity")
    if intensity is None:
        return RawValue(start, None, end=end)
    actual = intensity.get("actual") if isinstance(intensity, dict) else None
    number = get_member(intensity, "forecast") if actual is None else actual
    return RawValue(start, number, estimated=actual is None, end=end)
