"""Energy-Charts of Fraunhofer ISE: countries of Europe."""

from dataclasses import dataclass
from itertools import pairwise, zip_longest
from typing import Any, Literal

from exporter.convert import tables
from exporter.convert.live.parse import Raw, bad, known, member, number, spelled, values
from exporter.convert.live.source import Answer, Http
from exporter.errors import ConfigError
from exporter.model.intensity import Accounting, Basis, Kind, Signal
from exporter.setting import key
from exporter.units import SECONDS_PER_HOUR

CODE_CHARACTERS = 2


@dataclass(frozen=True, kw_only=True)
class EnergyCharts:
    """About 35 countries of Europe; free, without a token.

    It does not say in its answer whether its values are lifecycle or direct ones; say so by
    `basis` if you know.
    """

    zone: str = key("", "", "A country, as two letters. Empty: `convert.zone`.")
    basis: Literal["lifecycle", "direct", "unstated"] = key(
        "unstated", "", "What its values count."
    )
    url: str = key("https://api.energy-charts.info", "URL", "Where it is.")
    refresh_seconds: float = key(1800, "seconds", "Time between two requests.", least=60)
    max_age_seconds: float = key(10800, "seconds", "How long the last value holds.", least=0)

    publisher = "Energy-Charts (Fraunhofer ISE)"
    country = ""

    @property
    def place(self) -> str:
        """The country."""
        return self.zone.upper()

    @property
    def kind(self) -> Kind:
        """Average, by location."""
        return Signal.AVERAGE, Basis(self.basis), Accounting.LOCATION

    def check(self) -> tuple[str, ...]:
        """Refuse what is no country. Raises ConfigError."""
        if not self.zone:
            raise ConfigError(f"it needs a country: {tables.set_zone()}")
        if len(self.zone) != CODE_CHARACTERS or not self.zone.isalpha():
            raise ConfigError(
                f"zone: {self.zone!r} is no country of two letters; {tables.hint(self.zone)}"
                "it has countries, like de or fr"
            )
        return ()

    def fetch(self, http: Http, now: float, since: float) -> Answer:
        """From the day that is missing to the end of its forecast."""
        query = {"country": self.zone.lower()}
        if since < now - SECONDS_PER_HOUR:
            query |= {"start": spelled(since, "%Y-%m-%d"), "end": spelled(now, "%Y-%m-%d")}
        document = http.get(f"{self.url.rstrip('/')}/co2eq", query)
        times = [number(at) for at in _numbers(document, "unix_seconds")]
        measured = _numbers(document, "co2eq")
        if len(measured) != len(times):
            raise bad("the answer has more values than times, or fewer")
        apart = (after - at for at, after in pairwise(sorted(set(times))))
        step = min(apart, default=SECONDS_PER_HOUR)
        past = [Raw(at, value) for at, value in zip(times, measured, strict=True) if at <= now]
        expected = zip_longest(times, _numbers(document, "co2eq_forecast")[: len(times)])
        ahead = [Raw(at, value, estimated=True) for at, value in expected if at + step > now]
        found, set_aside = values(past, step, now)
        return Answer(known(found, set_aside, self.publisher), values(ahead, step)[0], set_aside)


def _numbers(document: Any, name: str) -> list[Any]:
    found = document.get(name, []) if name.endswith("forecast") else member(document, name)
    if not isinstance(found, list):
        raise bad(f"{name} of the answer is no list")
    return found
