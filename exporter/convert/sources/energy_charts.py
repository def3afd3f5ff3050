"""Energy-Charts of Fraunhofer ISE: countries of Europe."""

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
    """About 35 countries of Europe; free, without a token.

    It does not say in its answer whether its values are lifecycle or direct ones; say so by
    `basis` if you know.
    """

    zone: str = setting("", "", "A country, as two letters. Empty: `convert.zone`.")
    basis: Literal["lifecycle", "direct", "unstated"] = setting(
        "unstated", "", "What its values count."
    )
    url: str = setting("https://api.energy-charts.info", "URL", "Where it is.")
    refresh_seconds: float = setting(1800, "seconds", "Time between two requests.", least=60)
    max_age_seconds: float = setting(10800, "seconds", "How long the last value holds.", least=0)

    publisher = "Energy-Charts (Fraunhofer ISE)"
    country = ""

    @property
    def place(self) -> str:
        """The country."""
        return self.zone.upper()

    @property
    def kind(self) -> IntensityKind:
        """Average, by location."""
        return Signal.AVERAGE, Basis(self.basis), Accounting.LOCATION

    def check(self) -> tuple[str, ...]:
        """Refuse what is no country. Raises ConfigError."""
        if not self.zone:
            raise ConfigError(f"it needs a country: {zones.set_zone()}")
        if len(self.zone) != CODE_CHARACTERS or not self.zone.isalpha():
            raise ConfigError(
                f"zone: {self.zone!r} is no country of two letters; {zones.suggestion(self.zone)}"
                "it has countries, like de or fr"
            )
        return ()

    def fetch(self, http: HttpClient, now: float, since: float) -> FetchResult:
        """From the day that is missing to the end of its forecast."""
        query = {"country": self.zone.lower()}
        if since < now - SECONDS_PER_HOUR:
            query |= {"start": format_time(since, "%Y-%m-%d"), "end": format_time(now, "%Y-%m-%d")}
        document = http.get(f"{self.url.rstrip('/')}/co2eq", query)
        times = [parse_number(at) for at in _numbers(document, "unix_seconds")]
        measured = _numbers(document, "co2eq")
        if len(measured) != len(times):
            raise bad_answer("the answer has more values than times, or fewer")
        apart = (after - at for at, after in pairwise(sorted(set(times))))
        step = min(apart, default=SECONDS_PER_HOUR)
        past = [RawValue(at, value) for at, value in zip(times, measured, strict=True) if at <= now]
        expected = zip_longest(times, _numbers(document, "co2eq_forecast")[: len(times)])
        ahead = [RawValue(at, value, estimated=True) for at, value in expected if at + step > now]
        found, set_aside = clean_values(past, step, now)
        return FetchResult(
            require_values(found, set_aside, self.publisher),
            clean_values(ahead, step)[0],
            set_aside,
        )


def _numbers(document: Any, name: str) -> list[Any]:
    found = document.get(name, []) if name.endswith("forecast") else get_member(document, name)
    if not isinstance(found, list):
        raise bad_answer(f"{name} of the answer is no list")
    return found
