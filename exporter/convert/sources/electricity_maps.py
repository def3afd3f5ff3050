"""Electricity Maps: average intensity of most grids, flow-traced; lifecycle or direct."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from exporter.convert import zones
from exporter.convert.live import credentials
from exporter.convert.live.parse import (
    RawValue,
    bad_answer,
    clean_values,
    get_member,
    get_rows,
    parse_time,
    require_values,
)
from exporter.convert.sources.base import FetchResult, HttpClient
from exporter.errors import ConfigError, FetchError
from exporter.model.intensity import Accounting, Basis, IntensityKind, IntensityValue, Signal
from exporter.setting import setting
from exporter.units import SECONDS_PER_HOUR

TOKEN_VARIABLE = "EMISSIONS_EXPORTER_ELECTRICITY_MAPS_TOKEN"  # noqa: S105  a name
NO_LOOKUP = {"disableCallerLookup": "true"}
NO_LOOKUP_V3 = {"shouldUseFallbackCallerLookup": "false"}
GRANULARITY_SECONDS = {"5_minutes": 300.0, "15_minutes": 900.0, "hourly": SECONDS_PER_HOUR}


@dataclass(frozen=True, kw_only=True)
class ElectricityMaps:
    """API version 4, or version 3 by `url` (`https://api.electricitymaps.com/v3`); needs a token.

    Zones are those of app.electricitymaps.com, or a cloud region (`aws:eu-west-1`), which the API
    resolves itself; a zone that is not in the bundled list causes a warning. A free token may be
    limited to a single zone. There is no forecast if the token does not include it.
    """

    zone: str = setting("", "", "Zone or cloud region. Defaults to `convert.zone`.")
    token_file: str = setting(
        "", "path", f"File with the token. Defaults to the variable `{TOKEN_VARIABLE}`."
    )
    basis: Literal["lifecycle", "direct"] = setting("lifecycle", "", "Basis of the values.")
    estimates: bool = setting(True, "", "Whether to use values that the API marks as estimated.")
    url: str = setting("https://api.electricitymaps.com/v4", "URL", "Base URL of the API.")
    refresh_seconds: float = setting(900, "seconds", "Time between two requests.", least=60)
    max_age_seconds: float = setting(10800, "seconds", "How long the last value is used.", least=0)

    publisher = "Electricity Maps"
    country = ""

    @cached_property
    def place(self) -> str:
        """The zone or the cloud region."""
        return zones.zone_key(self.zone)

    @property
    def kind(self) -> IntensityKind:
        """Average, location-based."""
        return Signal.AVERAGE, Basis(self.basis), Accounting.LOCATION

    def check(self) -> tuple[str, ...]:
        """Warn about an unknown zone. Raises ConfigError if no zone is configured."""
        if not self.place:
            raise ConfigError(f"a zone is required: set the option zone, or {zones.set_zone()}")
        warning = zones.electricity_maps_warning(self.zone)
        return (
            *((warning,) if warning else ()),
            *credentials.check_credential(self.token_file, TOKEN_VARIABLE),
        )

    def fetch(self, http: HttpClient, now: float, since: float) -> FetchResult:
        """Fetch the last day if values are missing, else the latest value; and a day's forecast."""
        headers = {
            "auth-token": http.redact(credentials.read_credential(self.token_file, TOKEN_VARIABLE))
        }

        def get(path: str, **more: str) -> Any:
            url = f"{self.url.rstrip('/')}/carbon-intensity/{path}"
            return http.get(url, {**self._query(), **more}, headers=headers)

        if now - since > 2 * SECONDS_PER_HOUR:
            document = get("history")
            rows = list(get_rows(document, "history"))
        else:
            document = get("latest")
            rows = [document]
        self._check_zone(document)
        values, rejected = clean_values(map(self._raw, rows), _granularity_seconds(document), now)
        return FetchResult(
            require_values(values, rejected, self.publisher), self._forecast(get, now), rejected
        )

    def _forecast(self, get: Any, now: float) -> tuple[IntensityValue, ...]:
        """Fetch the forecast; empty if the token does not include it or it is invalid."""
        try:
            document = get("forecast", horizonHours="24")
            self._check_zone(document)
            raws = [self._raw(row) for row in get_rows(document, "forecast")]
            values, _ = clean_values(raws, _granularity_seconds(document))
        except FetchError:
            return ()
        return tuple(value._replace(estimated=True) for value in values if value.end > now)

    def _query(self) -> dict[str, str]:
        provider, _, region = self.place.partition(":")
        where = (
            {"dataCenterProvider": provider, "dataCenterRegion": region}
            if region
            else {"zone": self.place}
        )
        return {
            **where,
            "emissionFactorType": self.basis,
            "disableEstimations": "false" if self.estimates else "true",
            # Otherwise the API responds for the caller's location if it does not know the zone.
            **(NO_LOOKUP_V3 if self.url.rstrip("/").endswith("/v3") else NO_LOOKUP),
        }

    def _check_zone(self, document: Any) -> None:
        zone = str(get_member(document, "zone"))
        if ":" in self.place:
            # The country of a cloud region that is in no table is unknown.
            is_right = zones.country_of(self.place) in ("", zones.country_of(zone[:2]))
        else:
            is_right = zone == self.place
        if not is_right:
            raise FetchError(
                "wrong_zone", f"{self.publisher} sent values for {zone:.40}, not for {self.place}"
            )

    def _raw(self, row: dict[str, Any]) -> RawValue:
        counts = row.get("emissionFactorType", self.basis)
        if counts != self.basis:
            raise bad_answer(f"{self.publisher} sent {counts!s:.40} values, not {self.basis} ones")
        estimated = row.get("isEstimated") is True
        number = None if estimated and not self.estimates else get_member(row, "carbonIntensity")
        return RawValue(parse_time(get_member(row, "datetime")), number, estimated)


def _granularity_seconds(document: Any) -> float:
    """Return the duration of a value."""
    return GRANULARITY_SECONDS.get(str(document.get("temporalGranularity")), SECONDS_PER_HOUR)
