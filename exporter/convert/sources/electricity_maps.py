"""Electricity Maps: average intensity of most grids, flow-traced; lifecycle or direct."""

from dataclasses import dataclass
from typing import Any, Literal

from exporter.convert import tables
from exporter.convert.live import secret
from exporter.convert.live.parse import Raw, bad, known, member, moment, rows, values
from exporter.convert.live.source import Answer, Http
from exporter.errors import ConfigError, FetchFailed
from exporter.model.intensity import Accounting, Basis, Kind, Signal, Value
from exporter.setting import key
from exporter.units import SECONDS_PER_HOUR

TOKEN_VARIABLE = "EMISSIONS_EXPORTER_ELECTRICITY_MAPS_TOKEN"  # noqa: S105  a name
STEPS = {"5_minutes": 300.0, "15_minutes": 900.0, "hourly": SECONDS_PER_HOUR}


@dataclass(frozen=True, kw_only=True)
class ElectricityMaps:
    """Needs a token; a free one may read a single zone. Also for its version 4, by `url`.

    Zones are those of app.electricitymaps.com, or a cloud region (`aws:eu-west-1`), which it
    looks up itself. Without forecast where the token may not read it.
    """

    zone: str = key("", "", "Its zone, or a cloud region. Empty: `convert.zone`.")
    token_file: str = key(
        "", "path", f"Where the token is. Empty: the variable `{TOKEN_VARIABLE}`."
    )
    basis: Literal["lifecycle", "direct"] = key("lifecycle", "", "What its values are to count.")
    estimates: bool = key(True, "", "Whether values that it estimates are good enough.")
    url: str = key("https://api.electricitymaps.com/v3", "URL", "Where it is.")
    refresh_seconds: float = key(900, "seconds", "Time between two requests.", least=60)
    max_age_seconds: float = key(10800, "seconds", "How long the last value holds.", least=0)

    publisher = "Electricity Maps"
    country = ""

    @property
    def place(self) -> str:
        """Its zone, or the cloud region."""
        zone = self.zone.strip()
        return zone.lower() if ":" in zone else zone.upper()

    @property
    def kind(self) -> Kind:
        """Average, by location."""
        return Signal.AVERAGE, Basis(self.basis), Accounting.LOCATION

    def check(self) -> tuple[str, ...]:
        """Refuse a zone that it does not have. Raises ConfigError."""
        if not self.place:
            raise ConfigError("it needs a zone: set convert.zone, for example DE or US-CAL-CISO")
        tables.check_zone(self.zone)
        return secret.check(self.token_file, TOKEN_VARIABLE)

    def fetch(self, http: Http, now: float, since: float) -> Answer:
        """The last day, where something of it is missing, else what is new; and a day ahead."""
        headers = {"auth-token": http.hide(secret.read(self.token_file, TOKEN_VARIABLE))}

        def ask(path: str, **more: str) -> Any:
            url = f"{self.url.rstrip('/')}/carbon-intensity/{path}"
            return http.get(url, {**self._query(), **more}, headers=headers)

        if now - since > 2 * SECONDS_PER_HOUR:
            document = ask("history")
            found = list(rows(document, "history"))
        else:
            document = ask("latest")
            found = [document]
        self._check_zone(document)
        read, set_aside = values(map(self._raw, found), _step(document), now)
        return Answer(known(read, set_aside, self.publisher), self._ahead(ask, now), set_aside)

    def _ahead(self, ask: Any, now: float) -> tuple[Value, ...]:
        """What it expects; nothing where the token may not read it, or it is of no use."""
        try:
            document = ask("forecast", horizonHours="24")
            self._check_zone(document)
            raws = [self._raw(row) for row in rows(document, "forecast")]
            found, _ = values(raws, _step(document))
        except FetchFailed:
            return ()
        return tuple(value._replace(estimated=True) for value in found if value.end > now)

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
            # Else it answers for where the caller seems to be, when it does not know the zone.
            "shouldUseFallbackCallerLookup": "false",
        }

    def _check_zone(self, document: Any) -> None:
        zone = str(member(document, "zone"))
        if ":" in self.place:
            is_right = tables.country(zone[:2]) == tables.country(self.place)
        else:
            is_right = zone == self.place
        if not is_right:
            raise FetchFailed(
                "wrong_zone", f"{self.publisher} answered for {zone:.40}, not for {self.place}"
            )

    def _raw(self, row: dict[str, Any]) -> Raw:
        counts = row.get("emissionFactorType", self.basis)
        if counts != self.basis:
            raise bad(f"{self.publisher} sent {counts!s:.40} values, not {self.basis} ones")
        estimated = row.get("isEstimated") is True
        number = None if estimated and not self.estimates else member(row, "carbonIntensity")
        return Raw(moment(member(row, "datetime")), number, estimated)


def _step(document: Any) -> float:
    """How long a value holds."""
    return STEPS.get(str(document.get("temporalGranularity")), SECONDS_PER_HOUR)
