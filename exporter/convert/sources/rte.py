"""RTE eCO2mix: France, quarter-hourly values."""

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
        "URL of the dataset.",
    )
    refresh_seconds: float = setting(900, "seconds", "Time between two requests.", least=60)
    max_age_seconds: float = setting(10800, "seconds", "How long the last value is used.", least=0)

    publisher = "RTE eCO2mix"
    country = "FRA"
    place = "FR"

    @property
    def kind(self) -> IntensityKind:
        """Average direct emissions, location-based."""
        return Signal.AVERAGE, Basis.DIRECT, Accounting.LOCATION

    def check(self) -> tuple[str, ...]:
        """Nothing to check."""
        return ()

    def fetch(self, http: HttpClient, now: float, since: float) -> FetchResult:
        """Fetch new values, at most the last day; rows in the future have no value yet."""
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
        values, rejected = clean_values(raws, QUARTER_SECONDS, now)
        return FetchResult(require_values(values, rejected, self.publisher), (), rejected)
