"""Energi Data Service of Energinet: Denmark, by five minutes."""

import json
from dataclasses import dataclass
from typing import Literal

from exporter.convert.live.parse import Raw, known, member, moment, rows, values
from exporter.convert.live.source import Answer, Http
from exporter.errors import FetchFailed
from exporter.model.intensity import Accounting, Basis, Kind, Signal, Value
from exporter.setting import key

STEP_SECONDS = 300.0
ROWS_MOST = 500


@dataclass(frozen=True, kw_only=True)
class Energinet:
    """Denmark; free, without a token, CC BY 4.0.

    Direct emissions of the electricity that is consumed, exchange included; heat of co-generation
    by the 125 % method. It answers one request per minute and address for each dataset.
    """

    area: Literal["DK1", "DK2"] = key(
        "DK1", "", "Price area: west (DK1) or east (DK2). Unset: that of `convert.zone`."
    )
    url: str = key("https://api.energidataservice.dk", "URL", "Where it is.")
    refresh_seconds: float = key(600, "seconds", "Time between two requests.", least=120)
    max_age_seconds: float = key(10800, "seconds", "How long the last value holds.", least=0)

    publisher = "Energinet"
    country = "DNK"

    @property
    def place(self) -> str:
        """The price area."""
        return self.area

    @property
    def kind(self) -> Kind:
        """Of the stack alone, by location."""
        return Signal.AVERAGE, Basis.DIRECT, Accounting.LOCATION

    def check(self) -> tuple[str, ...]:
        """There is nothing to be wrong."""
        return ()

    def fetch(self, http: Http, now: float, since: float) -> Answer:
        """What is new, and at least nine hours ahead."""
        wanted = int((now - since) // STEP_SECONDS) + 12
        found, set_aside = self._ask(http, "CO2Emis", min(wanted, ROWS_MOST), now)
        known(found, set_aside, self.publisher)
        try:
            ahead, _ = self._ask(http, "CO2EmisProg", ROWS_MOST, None)
        except FetchFailed:
            ahead = ()
        return Answer(
            found,
            tuple(value._replace(estimated=True) for value in ahead if value.end > now),
            set_aside,
        )

    def _ask(
        self, http: Http, dataset: str, limit: int, now: float | None
    ) -> tuple[tuple[Value, ...], int]:
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
        for row in rows(document, "records"):
            if member(row, "PriceArea") != self.area:
                raise FetchFailed(
                    "wrong_zone", f"it answered for {row['PriceArea']!s:.40}, not {self.area}"
                )
            raws.append(
                Raw(moment(member(row, "Minutes5UTC"), utc=True), member(row, "CO2Emission"))
            )
        return values(raws, STEP_SECONDS) if now is None else values(raws, STEP_SECONDS, now)
