"""RTE eCO2mix: France, by the quarter of an hour."""

from dataclasses import dataclass

from exporter.convert.live.parse import (
    RawValue,
    clean_values,
    get_member,
    get_rows,
    parse_time,
    require_values,
)
from exporter.convert.sources.base import FetchResult, HttpClient
from exporter.model.intensity import Accounting, Basis, IntensityKind, Signal
from exporter.setting import setting

QUARTER_SECONDS = 900.0


@dataclass(frozen=True, kw_only=True)
class RteEco2mix:
    """France; free, without a token. Direct emissions of French production, without imports."""

    url: str = setting(
        "https://odre.opendatasoft.com/api/explore/v2.1/catalog/datasets/eco2mix-national-tr",
        "URL",
        "Where the dataset is.",
    )
    refresh_seconds: float = setting(900, "seconds", "Time between two requests.", least=60)
    max_age_seconds: float = setting(10800, "seconds", "How long the last value holds.", least=0)

    publisher = "RTE eCO2mix"
    country = "FRA"
    place = "FR"

    @property
    def kind(self) -> IntensityKind:
        """Of the stack alone, by location."""
        return Signal.AVERAGE, Basis.DIRECT, Accounting.LOCATION

    def check(self) -> tuple[str, ...]:
        """There is nothing to be wrong."""
        return ()

    def fetch(self, http: HttpClient, now: float, since: float) -> FetchResult:
        """What is new, or the last day: rows that lie ahead have no value yet."""
        wanted = int((now - since) // QUARTER_SECONDS) + 8
        document = http.get(
            f"{self.url.rstrip('/')}/records",
            {
                "select": "taux_co2,date_heure",
                "where": "taux_co2 is not null",
                "order_by": "date_heure desc",
                "limit": str(min(wanted, 100)),
                "timezone": "UTC",
            },
        )
        raws = [
            RawValue(parse_time(get_member(row, "date_heure")), get_member(row, "taux_co2"))
            for row in get_rows(document, "results")
        ]
        found, set_aside = clean_values(raws, QUARTER_SECONDS, now)
        return FetchResult(require_values(found, set_aside, self.publisher), (), set_aside)
