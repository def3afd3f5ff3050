"""Intensity from a series in Prometheus or a compatible server."""

from dataclasses import dataclass
from typing import Any

from exporter.convert.live import credentials
from exporter.convert.live.parse import (
    RawValue,
    bad_answer,
    clean_values,
    get_member,
    get_rows,
    parse_number,
    require_values,
)
from exporter.convert.sources.base import FetchResult, HttpClient, KindOptions
from exporter.errors import ConfigError
from exporter.setting import setting

TOKEN_VARIABLE = "EMISSIONS_EXPORTER_PROMETHEUS_TOKEN"  # noqa: S105  a name
SAMPLE_LENGTH = 2
MAX_POINTS = 1440


@dataclass(frozen=True, kw_only=True)
class PrometheusSource(KindOptions):
    """A query with a single series in g/kWh: meters of a site, an own model, a contract."""

    url: str = setting("", "URL", "For example `http://prometheus:9090`.")
    query: str = setting("", "PromQL", "A query with one series as its result, in g/kWh.")
    zone: str = setting("", "", "Zone of the values. Defaults to `convert.zone`.")
    source: str = setting("", "", "Publisher of the values, shown with the emissions.")
    token_file: str = setting(
        "",
        "path",
        f"File with a bearer token. Defaults to the variable `{TOKEN_VARIABLE}`, or no token.",
    )
    step_seconds: float = setting(60, "seconds", "Resolution of the query.", least=1)
    refresh_seconds: float = setting(60, "seconds", "Time between two requests.", least=1)
    max_age_seconds: float = setting(600, "seconds", "How long the last value is used.", least=0)

    country = ""

    @property
    def publisher(self) -> str:
        """The configured publisher."""
        return self.source or "Prometheus"

    @property
    def place(self) -> str:
        """The configured zone."""
        return self.zone or "unstated"

    def check(self) -> tuple[str, ...]:
        """Raise ConfigError without a valid URL, a query or a valid token."""
        if not self.url.startswith(("http://", "https://")):
            raise ConfigError("url: expected a Prometheus server as http://HOST:9090")
        if not self.query:
            raise ConfigError('query: expected PromQL, for example `grid_intensity{zone="DE"}`')
        if not credentials.has_credential(self.token_file, TOKEN_VARIABLE):
            return ()
        return credentials.check_credential(self.token_file, TOKEN_VARIABLE)

    def fetch(self, http: HttpClient, now: float, since: float) -> FetchResult:
        """Fetch the missing range, up to now."""
        step = max(self.step_seconds, (now - since) / MAX_POINTS)
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
        if get_member(document, "status") != "success":
            raise bad_answer("Prometheus did not report success")
        series = list(get_rows(document, "data", "result"))
        if len(series) > 1:
            raise bad_answer(f"the query returned {len(series)} series; it must return one")
        raws = [_raw(sample) for row in series for sample in _samples(row)]
        values, rejected = clean_values(raws, step, now)
        error = self.unit_error(value.grams_per_kwh for value in values)
        if error:
            raise bad_answer(f"the query: {error}")
        return FetchResult(require_values(values, rejected, self.publisher), (), rejected)

    def _headers(self, http: HttpClient) -> dict[str, str]:
        if not credentials.has_credential(self.token_file, TOKEN_VARIABLE):
            return {}
        token = http.redact(credentials.read_credential(self.token_file, TOKEN_VARIABLE))
        return {"Authorization": f"Bearer {token}"}


def _samples(row: Any) -> list[Any]:
    samples = get_member(row, "values")
    if not isinstance(samples, list):
        raise bad_answer("the values of the series are not a list")
    return samples


def _raw(sample: Any) -> RawValue:
    if not isinstance(sample, list) or len(sample) != SAMPLE_LENGTH:
        raise bad_answer("a sample is not a pair of time and value")
    at, value = sample
    return RawValue(
        parse_number(at), None if value in ("NaN", "+Inf", "-Inf") else parse_number(value)
    )
