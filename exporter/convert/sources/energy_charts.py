"""Energy-Charts of Fraunhofer ISE: European countries."""

from dataclasses import dataclass
from itertools import pairwise, zip_longest
from typing import Any, Literal

from exporter.convert import zones
from exporter.convert.live.parse import (
    RawValue,
    bad_answer,
    clean_values,
    format_time,
    get_member,
    parse_number,
    require_values,
)
from exporter.convert.sources.base import FetchResult, HttpClient
from exporter.errors import ConfigError
from exporter.model.intensity import Accounting, Basis, IntensityKind, Signal
from exporter.setting import setting
from exporter.units import SECONDS_PER_HOUR

CODE_CHARACTERS = 2


@dataclass(frozen=True, kw_only=True)
class EnergyCharts:
    """About 35 European countries; free, without a token.

    The response does not state whether the values are lifecycle or direct emissions; set `basis`
    if you know it.
    """

    zone: str = setting("", "", "Country, as two letters. Defaults to `convert.zone`.")
    basis: Literal["lifecycle", "direct", "unstated"] = setting(
        "unstated", "", "Basis of the values."
    )
    url: str = setting("https://api.energy-charts.info", "URL", "Base URL of the API.")
    refresh_seconds: float = setting(1800, "seconds", "Time between two requests.", least=60)
    max_age_seconds: float = setting(10800, "seconds", "How long the last value is used.", least=0)

    publisher = "Energy-Charts (Fraunhofer ISE)"
    country = ""

    @property
    def place(self) -> str:
        """The country."""
        return self.zone.upper()

    @property
    def kind(self) -> IntensityKind:
        """Average, location-based."""
        return Signal.AVERAGE, Basis(self.basis), Accounting.LOCATION

    def check(self) -> tuple[str, ...]:
        """Raise ConfigError if the zone is not a country."""
        if not self.zone:
            raise ConfigError(f"a country is required: {zones.set_zone()}")
        if len(self.zone) != CODE_CHARACTERS or not self.zone.isalpha():
            raise ConfigError(
                f"zone: {self.zone!r} is not a two-letter country code; "
                f"{zones.suggestion(self.zone)}expected a country, such as de or fr"
            )
        return ()

    def fetch(self, http: HttpClient, now: float, since: float) -> FetchResult:
        """Fetch from the first day with missing values to the end of the forecast."""
        query = {"country": self.zone.lower()}
        if since < now - SECONDS_PER_HOUR:
            query |= {"start": format_time(since, "%Y-%m-%d"), "end": format_time(now, "%Y-%m-%d")}
        document = http.get(f"{self.url.rstrip('/')}/co2eq", query)
        times = [parse_number(at) for at in _numbers(document, "unix_seconds")]
        measured = _numbers(document, "co2eq")
        if len(measured) != len(times):
            raise bad_answer("the response has different numbers of values and times")
        gaps = (after - at for at, after in pairwise(sorted(set(times))))
        step = min(gaps, default=SECONDS_PER_HOUR)
        past = [RawValue(at, value) for at, value in zip(times, measured, strict=True) if at <= now]
        expected = zip_longest(times, _numbers(document, "co2eq_forecast")[: len(times)])
        ahead = [RawValue(at, value, estimated=True) for at, value in expected if at + step > now]
        values, rejected = clean_values(past, step, now)
        return FetchResult(
            require_values(values, rejected, self.publisher),
            clean_values(ahead, step)[0],
            rejected,
        )


def _numbers(document: Any, name: str) -> list[Any]:
    values = document.get(name, []) if name.endswith("forecast") else get_member(document, name)
    if not isinstance(values, list):
        raise bad_answer(f"{name} of the response is not a list")
    return values
