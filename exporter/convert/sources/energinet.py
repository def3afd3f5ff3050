"""Energi Data Service of Energinet: Denmark, by five minutes."""

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

    Direct emissions of the electricity that is consumed, exchange included; heat of co-generation
    by the 125 % method. It answers one request per minute and address for each dataset.
    """

    area: Literal["DK1", "DK2"] = setting(
        "DK1", "", "Price area: west (DK1) or east (DK2). Unset: that of `convert.zone`."
    )
    url: str = setting("https://api.energidataservice.dk", "URL", "Where it is.")
    refresh_seconds: float = setting(600, "seconds", "Time between two requests.", least=120)
    max_age_seconds: float = setting(10800, "seconds", "How long the last value holds.", least=0)

    publisher = "Energinet"
    country = "DNK"

    @property
    def place(self) -> str:
        """The price area."""
        return self.area

    @property
    def kind(self) -> IntensityKind:
        """Of the stack alone, by location."""
        return Signal.AVERAGE, Basis.DIRECT, Accounting.LOCATION

    def check(self) -> tuple[str, ...]:
        """There is nothing to be wrong."""
        return ()

    def fetch(self, http: HttpClient, now: float, since: float) -> FetchResult:
        """What is new, and at least nine hours ahead."""
        wanted = int((now - since) // STEP_SECONDS) + 12
        found, set_aside = self._ask(http, "CO2Emis", min(wanted, MAX_ROWS), now)
        require_values(found, set_aside, self.publisher)
        try:
            ahead, _ = self._ask(http, "CO2EmisProg", MAX_ROWS, None)
        except FetchError:
            ahead = ()
        return FetchResult(
            found,
            tuple(value._replace(estimated=True) for value in ahead if value.end > now),
            set_aside,
        )

    def _ask(
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
                    "wrong_zone", f"it answered for {row['PriceArea']!s:.40}, not {self.area}"
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
