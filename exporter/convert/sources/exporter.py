"""Another daemon of this program: one asks the network, the others ask it."""

from dataclasses import dataclass
from typing import Any, Literal

from exporter.convert.counting import Counting
from exporter.convert.live.parse import Raw, known, member, number, rows, values
from exporter.convert.live.source import Answer, Http
from exporter.errors import ConfigError, FetchFailed
from exporter.model.intensity import Value
from exporter.setting import key
from exporter.units import SECONDS_PER_HOUR


@dataclass(frozen=True, kw_only=True)
class Exporter(Counting):
    """What another exporter has in force, with its past and its forecast.

    Grams name its source. It must count what is asked for here: one that has fallen back to
    another kind is not used.
    """

    url: str = key("", "URL", "The other one, for example `http://intensity:10680`.")
    zone: str = key("", "", "The zone that it should have. Empty: any.")
    basis: Literal["lifecycle", "direct", "unstated"] = key("lifecycle", "", "What it is to count.")
    refresh_seconds: float = key(300, "seconds", "Time between two requests.", least=1)
    max_age_seconds: float = key(3600, "seconds", "How long the last value holds.", least=0)

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

    def fetch(self, http: Http, now: float, since: float) -> Answer:
        """What it has in force, what it knows of the last day, and its forecast."""
        document = http.get(f"{self.url.rstrip('/')}/api/v1/intensity")
        factor = member(document, "factor")
        if not isinstance(factor, dict):
            raise FetchFailed("no_value", f"it has none either: {document.get('why', '')!s:.200}")
        kind = tuple(str(member(factor, name)) for name in ("signal", "basis", "accounting"))
        if kind != self.kind:
            raise FetchFailed(
                "wrong_kind", f"it counts {' '.join(kind)}, here {' '.join(self.kind)} is asked for"
            )
        zone = f"{member(factor, 'zone')!s:.40}"
        if self.zone and zone != self.zone:
            raise FetchFailed("wrong_zone", f"it is in {zone}, not in {self.zone}")
        past, set_aside = values(
            [*_values(document, "recent"), _in_force(factor, now, since)], SECONDS_PER_HOUR, now
        )
        known(past, set_aside, "the other exporter")
        publisher = f"{member(factor, 'source')!s:.100}, by another exporter"
        # A yearly value is as old there as here.
        is_timeless = not number(factor.get("valid_from") or 0.0)
        as_of = number(factor.get("as_of") or 0.0) if is_timeless else None
        return Answer(past, _ahead(document, now), set_aside, publisher, zone, as_of)


def _in_force(factor: dict[str, Any], now: float, since: float) -> Raw:
    """One that is not tied to a time holds for this hour, and as far back as is asked for."""
    start, end = number(factor.get("valid_from") or 0.0), factor.get("valid_until")
    if not start:
        hour = now - now % SECONDS_PER_HOUR
        start = hour if since >= hour - SECONDS_PER_HOUR else since
        end = hour + 2 * SECONDS_PER_HOUR
    return Raw(
        start,
        member(factor, "grams_per_kwh"),
        factor.get("estimated") is True,
        now + SECONDS_PER_HOUR if end is None else number(end),
    )


def _ahead(document: Any, now: float) -> tuple[Value, ...]:
    found, _ = values(_values(document, "forecast"), SECONDS_PER_HOUR)
    return tuple(value for value in found if value.end > now)


def _values(document: Any, name: str) -> list[Raw]:
    if name not in document:
        return []
    return [
        Raw(
            number(member(row, "start")),
            member(row, "grams_per_kwh"),
            row.get("estimated") is True,
            number(member(row, "end")),
        )
        for row in rows(document, name)
    ]
