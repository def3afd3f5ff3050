"""RTE eCO2mix: France, by the quarter of an hour."""

from dataclasses import dataclass

from exporter.convert.live.parse import Raw, known, member, moment, rows, values
from exporter.convert.live.source import Answer, Http
from exporter.model.intensity import Accounting, Basis, Kind, Signal
from exporter.setting import key

QUARTER_SECONDS = 900.0


@dataclass(frozen=True, kw_only=True)
class Rte:
    """France; free, without a token. Direct emissions of French production, without imports."""

    url: str = key(
        "https://odre.opendatasoft.com/api/explore/v2.1/catalog/datasets/eco2mix-national-tr",
        "URL",
        "Where the dataset is.",
    )
    refresh_seconds: float = key(900, "seconds", "Time between two requests.", least=60)
    max_age_seconds: float = key(10800, "seconds", "How long the last value holds.", least=0)

    publisher = "RTE eCO2mix"
    country = "FRA"
    place = "FR"

    @property
    def kind(self) -> Kind:
        """Of the stack alone, by location."""
        return Signal.AVERAGE, Basis.DIRECT, Accounting.LOCATION

    def check(self) -> tuple[str, ...]:
        """There is nothing to be wrong."""
        return ()

    def fetch(self, http: Http, now: float, since: float) -> Answer:
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
            Raw(moment(member(row, "date_heure")), member(row, "taux_co2"))
            for row in rows(document, "results")
        ]
        found, set_aside = values(raws, QUARTER_SECONDS, now)
        return Answer(known(found, set_aside, self.publisher), (), set_aside)
