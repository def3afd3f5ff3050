"""Energi Data Service of Energinet: Denmark, five-minute values."""

import json
from dataclasses import dataclass
from typing import Literal

from exporter.convert.live.parse import (
    RawValue,
    clean_values,
    get_member,
    get_rows,
    parse_time,
    require_values,
)
from exporter.convert.sources.base import FetchResult, HttpClient
from exporter.errors import FetchError
from exporter.model.intensity import Accounting, Basis, IntensityKind, IntensityValue, Signal
from exporter.setting import setting

STEP_SECONDS = 300.0
MAX_ROWS = 500


@dataclass(frozen=True, kw_only=True)
class Energinet:
    """Denmark; free, without a token, CC BY 4.0.

    Direct emissions of consumed electricity, including exchange; co-generated heat is allocated by
    the 125 % method. Limited to one request per minute, address and dataset.
    """

    area: Literal["DK1", "DK2"] = setting(
        "DK1", "", "Price area: west (DK1) or east (DK2). Defaults to that of `convert.zone`."
    )
    url: str = setting("https://api.energidataservice.dk", "URL", "Base URL of the API.")
    refresh_seconds: float = setting(600, "seconds", "Time between two requests.", least=120)
    max_age_seconds: float = setting(10800, "seconds", "How long the last value is used.", least=0)

    publisher = "Energinet"
    country = "DNK"

    @property
    def place(self) -> str:
        """The price area."""
        return self.area

    @property
    def kind(self) -> IntensityKind:
        """Average direct emissions, location-based."""
        return Signal.AVERAGE, Basis.DIRECT, Accounting.LOCATION

    def check(self) -> tuple[str, ...]:
        """Nothing to check."""
        return ()

    def fetch(self, http: HttpClient, now: float, since: float) -> FetchResult:
        """Fetch new values and a forecast of at least nine hours."""
        wanted = int((now - since) // STEP_SECONDS) + 12
        values, rejected = self._query(http, "CO2Emis", min(wanted, MAX_ROWS), now)
        require_values(values, rejected, self.publisher)
        try:
            forecast, _ = self._query(http, "CO2EmisProg", MAX_ROWS, None)
        except FetchError:
            forecast = ()
        return FetchResult(
            values,
            tuple(value._replace(estimated=True) for value in forecast if value.end > now),
            rejected,
        )

    def _query(
        self, http: HttpClient, dataset: str, limit: int, now: float | None
    ) -> tuple[tuple[IntensityValue, ...], int]:
        document = http.get(
            f"{self.url.rstrip('/')}/dataset/{dataset}",
            {
                "filter": json.dumps({"PriceArea": [self.area]}),
                "sort": "Minutes5UTC desc",
                "limit": str(limit),
                "timezone": "UTC",
            },
        )
        raws = []
        for row in get_rows(document, "records"):
            if get_member(row, "PriceArea") != self.area:
                raise FetchError(
                    "wrong_zone",
                    f"{self.publisher} sent values for {row['PriceArea']!s:.40}, not for "
                    f"{self.area}",
                )
            raws.append(
                RawValue(
                    parse_time(get_member(row, "Minutes5UTC"), utc=True),
                    get_member(row, "CO2Emission"),
                )
            )
        return (
            clean_values(raws, STEP_SECONDS)
            if now is None
            else clean_values(raws, STEP_SECONDS, now)
        )
