"""A series that somebody already has in Prometheus, VictoriaMetrics, Mimir or Thanos."""

from dataclasses import dataclass
from typing import Any

from exporter.convert.counting import Counting
from exporter.convert.live import secret
from exporter.convert.live.parse import Raw, bad, known, member, number, rows, values
from exporter.convert.live.source import Answer, Http
from exporter.errors import ConfigError
from exporter.setting import key

TOKEN_VARIABLE = "EMISSIONS_EXPORTER_PROMETHEUS_TOKEN"  # noqa: S105  a name
PAIR = 2
POINTS_MOST = 1440


@dataclass(frozen=True, kw_only=True)
class Prometheus(Counting):
    """Any query whose result is one number in g/kWh: meters of a site, an own model, a contract."""

    url: str = key("", "URL", "For example `http://prometheus:9090`.")
    query: str = key("", "PromQL", "A query with one series as its result, in g/kWh.")
    zone: str = key("", "", "What place that is. Empty: `convert.zone`.")
    source: str = key("", "", "Who says so; shown beside every gram.")
    token_file: str = key(
        "",
        "path",
        f"Where a bearer token is. Empty: the variable `{TOKEN_VARIABLE}`, or no token.",
    )
    step_seconds: float = key(60, "seconds", "Resolution of what is asked for.", least=1)
    refresh_seconds: float = key(60, "seconds", "Time between two requests.", least=1)
    max_age_seconds: float = key(600, "seconds", "How long the last value holds.", least=0)

    country = ""

    @property
    def publisher(self) -> str:
        """Who says so."""
        return self.source or "Prometheus"

    @property
    def place(self) -> str:
        """The zone."""
        return self.zone or "unstated"

    def check(self) -> tuple[str, ...]:
        """Refuse to have nothing to ask, or nobody. Raises ConfigError."""
        if not self.url.startswith(("http://", "https://")):
            raise ConfigError("url: expected http://HOST:9090 of a Prometheus")
        if not self.query:
            raise ConfigError('query: expected one, for example `grid_intensity{zone="DE"}`')
        if not secret.is_given(self.token_file, TOKEN_VARIABLE):
            return ()
        return secret.check(self.token_file, TOKEN_VARIABLE)

    def fetch(self, http: Http, now: float, since: float) -> Answer:
        """The range that is missing, up to now."""
        step = max(self.step_seconds, (now - since) / POINTS_MOST)
        last = now - now % step
        first = last - max(0.0, (last - since) // step) * step
        document = http.get(
            f"{self.url.rstrip('/')}/api/v1/query_range",
            {
                "query": self.query,
                "start": f"{first:.3f}",
                "end": f"{last:.3f}",
                "step": f"{step:g}",
            },
            headers=self._headers(http),
        )
        if member(document, "status") != "success":
            raise bad("Prometheus did not answer with success")
        found = list(rows(document, "data", "result"))
        if len(found) > 1:
            raise bad(f"the query has {len(found)} series as its result; it must have one")
        raws = [_raw(sample) for row in found for sample in _samples(row)]
        read, set_aside = values(raws, step, now)
        error = self.unit_error(value.grams_per_kwh for value in read)
        if error:
            raise bad(f"the query: {error}")
        return Answer(known(read, set_aside, self.publisher), (), set_aside)

    def _headers(self, http: Http) -> dict[str, str]:
        if not secret.is_given(self.token_file, TOKEN_VARIABLE):
            return {}
        token = http.hide(secret.read(self.token_file, TOKEN_VARIABLE))
        return {"Authorization": f"Bearer {token}"}


def _samples(row: Any) -> list[Any]:
    found = member(row, "values")
    if not isinstance(found, list):
        raise bad("the values of the series are no list")
    return found


def _raw(sample: Any) -> Raw:
    if not isinstance(sample, list) or len(sample) != PAIR:
        raise bad("a sample is no pair of time and value")
    at, value = sample
    return Raw(number(at), None if value in ("NaN", "+Inf", "-Inf") else number(value))
