"""Queries to Prometheus for runs over all their nodes: totals, times, labels.

Totals are those of deploy/prometheus/rules/runs.yaml: the largest value of each counter, not an
increase. If the rules did not exist for the whole lookback window, the counters themselves are
queried, which costs more.
"""

import base64
import json
import math
import time
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError, ReadTimeoutError

from exporter import __version__
from exporter.convert.live.http import new_https_session
from exporter.errors import ConfigError, SourceError
from exporter.model import runs
from exporter.redaction import Redaction, request_error_text

TOKEN_VARIABLE = "EMISSIONS_EXPORTER_PROMETHEUS_TOKEN"  # noqa: S105  a name
TOKEN_FLAG = "--prometheus.token-file"  # noqa: S105  a name
PASSWORD_VARIABLE = "EMISSIONS_EXPORTER_PROMETHEUS_PASSWORD"  # noqa: S105  a name
LOGIN_FLAGS = "--prometheus.user and --prometheus.password-file"
TIMEOUT_SECONDS = 60.0
CONNECT_SECONDS = 5.0
MAX_RESPONSE_BYTES = 64 << 20
MAX_ERROR_CHARACTERS = 200
COMPLETE_ANSWER_PARAMETERS = {
    "partial_response": "false",
    "deny_partial_response": "1",
    "nocache": "1",
}
"""Thanos and VictoriaMetrics must not return partial results or omit the last half minute. Other
servers ignore these parameters."""
REMEDIES = {
    **dict.fromkeys(
        (401, 403),
        f"; give a token with read permission with {TOKEN_FLAG} or {TOKEN_VARIABLE}, or a user "
        f"with {LOGIN_FLAGS}",
    ),
    **dict.fromkeys((422, 503, 504), "; try a shorter --since"),
    404: "; check the path of the URL, for example /prometheus of Mimir or /select/0/prometheus",
    429: "; try again later",
}
Labels = Mapping[str, str]


class VectorSample(NamedTuple):
    """A series and its value in an instant vector."""

    labels: Labels
    value: float


class PrometheusApi:
    """Client of one server; the URL excludes `/api/v1`. Every method raises SourceError."""

    def __init__(
        self,
        url: str,
        secret: str = "",
        timeout_seconds: float = TIMEOUT_SECONDS,
        *,
        user: str = "",
    ) -> None:
        """Connect with a bearer token, or with a `user` and its password, in `secret`.

        Raises ConfigError for an invalid URL, or one that contains credentials.
        """
        self._url = _validate_url(url)
        self.who = _printable_url(self._url)
        if ":" in user:
            raise ConfigError("--prometheus.user: basic auth does not allow a colon in user names")
        login = base64.b64encode(f"{user}:{secret}".encode()).decode()
        self._authorization = f"Basic {login}" if user else f"Bearer {secret}"
        self._redaction = Redaction(secret, login if user else "")
        self._timeout = timeout_seconds
        self._session = new_https_session()
        self._session.headers["User-Agent"] = f"emissions-exporter/{__version__}"
        if user or secret:
            self._session.auth = self._authorize  # else ~/.netrc would replace the token

    def query(self, text: str, at: float | None = None) -> list[VectorSample]:
        """Return the instant vector of a query at a time, or now."""
        moment = {} if at is None else {"time": f"{at:.3f}"}
        found = self._ask("query", {"query": text, **moment})
        kind = found.get("resultType") if isinstance(found, dict) else None
        if kind != "vector":
            raise SourceError(f"{self.who} returned {kind!r:.30} instead of a vector")
        return [self._sample(row) for row in self._rows(found.get("result"))]

    def series(self, selector: str, since: float, until: float) -> list[Labels]:
        """Return the labels of each series between two times, or shortly before or after."""
        rows = self._rows(self._ask("series", _range(selector, since, until)))
        return [self._labels(row) for row in rows]

    def has(self, selector: str, since: float, until: float) -> bool:
        """Whether a matching series exists; cheap even if there are many."""
        names = self._ask("label/__name__/values", _range(selector, since, until))
        return bool(self._rows(names))

    def _rows(self, found: Any) -> list[Any]:
        if not isinstance(found, list):
            raise SourceError(f"{self.who} returned no list of results")
        return found

    def _sample(self, row: Any) -> VectorSample:
        try:
            labels, value = self._labels(row["metric"]), float(row["value"][1])
        except (LookupError, TypeError, ValueError):
            raise SourceError(f"{self.who} returned an invalid sample") from None
        if not math.isfinite(value):
            raise SourceError(f"{self.who} returned {value} instead of a finite number")
        return VectorSample(labels, value)

    def _labels(self, row: Any) -> Labels:
        if not isinstance(row, dict) or not all(isinstance(value, str) for value in row.values()):
            raise SourceError(f"{self.who} returned a series without labels")
        return row

    def _ask(self, what: str, query: Mapping[str, str]) -> Any:
        """Return the data of a complete response."""
        status, kind, body = self._get(
            f"{self._url}/api/v1/{what}", {**query, **COMPLETE_ANSWER_PARAMETERS}
        )
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            document = None
        fields = document if isinstance(document, dict) else {}
        message = self._clean(fields.get("error") or "")
        detail = f": {message}" if message else ""
        if status != requests.codes.ok:
            raise SourceError(
                f"{self.who} answered with status {status}{detail}{REMEDIES.get(status, '')}"
            )
        if document is None:
            page = "a web page" if "html" in kind or body[:1] == b"<" else "other data"
            raise SourceError(
                f"{self.who} returned {page} instead of JSON; give the URL of Prometheus itself, "
                "not of Grafana or a login page"
            )
        if fields.get("status") != "success":
            raise SourceError(f"{self.who} returned an error{detail}")
        warnings = fields.get("warnings")
        if warnings or fields.get("isPartial"):
            text = self._clean("; ".join(map(str, warnings)) if isinstance(warnings, list) else "")
            raise SourceError(f"{self.who} returned a partial result{text and f': {text}'}")
        return fields.get("data")

    def _get(self, url: str, query: Mapping[str, str]) -> tuple[int, str, bytes]:
        late = f"{self.who} did not answer within {self._timeout:g} s; try a shorter --since"
        deadline = time.monotonic() + self._timeout
        body = bytearray()
        try:
            with self._session.get(
                url,
                params=query,
                timeout=(min(CONNECT_SECONDS, self._timeout), self._timeout),
                allow_redirects=False,  # the token must not be sent to another host
                stream=True,
            ) as response:
                if response.is_redirect:
                    there = _printable_url(response.headers.get("Location", ""))
                    raise SourceError(
                        f"{self.who} redirects to {self._clean(there)}; give that address"
                    )
                for piece in response.iter_content(1 << 16):
                    body += piece
                    if len(body) > MAX_RESPONSE_BYTES:
                        raise SourceError(f"{self.who} returned more than 64 MiB")
                    if time.monotonic() > deadline:
                        raise SourceError(late)
                return response.status_code, response.headers.get("Content-Type", ""), bytes(body)
        except requests.Timeout:
            raise SourceError(late) from None
        # OSError: a missing certificate bundle raises it; RequestException is a subclass.
        except (OSError, HTTPError, ValueError) as error:
            if isinstance(next(iter(error.args), None), ReadTimeoutError):
                raise SourceError(late) from None
            message = self._clean(request_error_text(error))
            raise SourceError(f"{self.who} cannot be reached: {message}") from None

    def _authorize(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = self._authorization
        return request

    def _clean(self, text: object) -> str:
        """Return one short line with the credentials redacted, also where they are cut off."""
        return self._redaction.line(text)[:MAX_ERROR_CHARACTERS]


def _range(selector: str, since: float, until: float) -> dict[str, str]:
    return {"match[]": selector, "start": f"{since:.3f}", "end": f"{until:.3f}"}


def _validate_url(url: str) -> str:
    if any(letter in url for letter in "@?#"):  # anywhere: a password may contain a slash
        raise ConfigError(
            "--prometheus: the URL must not contain a user, a password or a query, because other "
            f"users can list the command line; give a bearer token with {TOKEN_FLAG} or "
            f"{TOKEN_VARIABLE}, or use {LOGIN_FLAGS}"
        )
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise ConfigError("--prometheus: expected a URL such as http://HOST:9090")
    return url.rstrip("/")


def _printable_url(url: str) -> str:
    """Return host, port and path of a URL without credentials."""
    if "@" in url:
        return "a URL with credentials"
    parts = urlsplit(url)
    return f"{parts.netloc}{parts.path}"


RUN_LABELS = ("instance", *runs.RUN_LABELS)
RECENT_SECONDS = 300
"""Lookback window for current runs, so that single failed scrapes do not matter."""

LabelValues = tuple[str, ...]
Values = dict[LabelValues, float]


class RunMetric(NamedTuple):
    """A metric of runs, its recorded series, and its labels in addition to RUN_LABELS."""

    raw: str
    recorded: str
    labels: LabelValues = ()


ENERGY_METRIC = RunMetric(
    "emissions_run_energy_joules_total",
    "instance_run_id_job_id_device_id:emissions_run_energy_joules_total:max",
    ("device", "id"),
)
CARBON_METRIC = RunMetric(
    "emissions_run_carbon_grams_total",
    "instance_run_id_job_id_device_id:emissions_run_carbon_grams_total:max",
    ("device", "id"),
)
HELD_IDLE_METRIC = RunMetric(
    "emissions_run_held_idle_energy_joules_total",
    "instance_run_id_job_id_device:emissions_run_held_idle_energy_joules_total:max",
    ("device",),
)
UNITS_METRIC = RunMetric(
    "emissions_run_units_total",
    "instance_run_id_job_id_unit:emissions_run_units_total:max",
    ("unit",),
)
START_METRIC = RunMetric(
    "emissions_run_start_time_seconds",
    "instance_run_id_job_id:emissions_run_start_time_seconds:max",
)
END_METRIC = "emissions_run_end_time_seconds"
BUDGET = "emissions_run_budget_grams"
INFO_METRIC = RunMetric(
    "emissions_run_info",
    "instance_run_id_job_id_user_workload_namespace_account:emissions_run_info:max",
)
GRID_METRIC = "emissions_grid_intensity_info"
GRID_LABELS = ("grid_zone", "source", "signal", "basis", "accounting")


class RunSelector(NamedTuple):
    """Filter of runs; None matches any value."""

    run_id: str | None = None
    job_id: str | None = None
    user: str | None = None
    namespace: str | None = None
    account: str | None = None

    @property
    def matchers(self) -> str:
        """Label matchers for any metric of runs."""
        given = {"run_id": self.run_id, "job_id": self.job_id}
        return _matchers(given)

    @property
    def info(self) -> str:
        """Selector of the runs' info metric, raw or recorded."""
        either = _matchers(
            {
                "run_id": self.run_id,
                "job_id": self.job_id,
                "user": self.user,
                "workload_namespace": self.namespace,
                "account": self.account,
            }
        )
        return f'{{__name__=~"{INFO_METRIC.raw}|{INFO_METRIC.recorded}"{either and "," + either}}}'


class RunQueries:
    """Queries for the wanted runs in the `window` seconds up to `at`.

    Every method raises SourceError.
    """

    def __init__(self, api: PrometheusApi, wanted: RunSelector, at: float, window: float) -> None:
        self._api = api
        self._wanted = wanted
        self._at = at
        self._window = f"{window:.0f}s"
        self.infos: list[Labels] = api.series(wanted.info, at - window, at)
        self._energy = self._recorded(ENERGY_METRIC)
        runs = {tuple(info.get(name, "") for name in RUN_LABELS) for info in self.infos}
        self.is_fully_recorded = runs <= {key[: len(RUN_LABELS)] for key in self._energy}
        """Whether the recording rules cover every node of every run."""

    def total(self, family: RunMetric) -> Values:
        """Return the largest value of each series, by RUN_LABELS and the metric's labels."""
        recorded = self._energy if family is ENERGY_METRIC else self._recorded(family)
        found = [recorded, self._lately(family)]
        if not (recorded and self.is_fully_recorded):
            found.append(self._largest(family, family.raw, self._window))
        largest: Values = {}
        for values in found:
            for key, value in values.items():
                largest[key] = max(value, largest.get(key, value))
        return largest

    def ends(self) -> Values:
        """Return the end times of runs, by RUN_LABELS; includes runs that are open again."""
        return self._values((), END_METRIC, f"last_over_time({{}}[{self._window}])")

    def budgets(self) -> Values:
        """Return the budgets of runs that have one, by RUN_LABELS."""
        return self._values((), BUDGET, f"last_over_time({{}}[{self._window}])")

    def open(self) -> set[LabelValues]:
        """Return the runs that a node reports as open, also if its last scrape failed."""
        lately = f"last_over_time({{}}[{RECENT_SECONDS}s])"
        return {
            key
            for how in ("{}", lately)
            for key in self._values((), START_METRIC.raw, how).keys()
            - self._values((), END_METRIC, how).keys()
        }

    def last_seen(self) -> Values:
        """Return when each run was last scraped, to five minutes, by RUN_LABELS."""
        step = f"[{self._window}:{RECENT_SECONDS}s]"
        return self._values((), START_METRIC.raw, f"max_over_time(timestamp({{}}){step})")

    def grids(self, since: float, until: float) -> list[Labels]:
        """Return the intensities in force on the runs' nodes between two times."""
        window = f"{max(until - since, RECENT_SECONDS):.0f}s"
        of = f"last_over_time({START_METRIC.raw}{{{self._wanted.matchers}}}[{window}])"
        text = f"last_over_time({GRID_METRIC}[{window}]) and on (instance) {of}"
        found = self._api.query(f"count by ({', '.join(GRID_LABELS)}) ({text})", until)
        return [sample.labels for sample in found]

    def grids_of_nodes(self) -> list[Labels]:
        """Return the intensities in force in the window, each with its node."""
        names = ", ".join(("instance", *GRID_LABELS))
        text = f"count by ({names}) (last_over_time({GRID_METRIC}[{self._window}]))"
        return [sample.labels for sample in self._api.query(text, self._at)]

    def _recorded(self, family: RunMetric) -> Values:
        return self._largest(family, family.recorded, self._window)

    def _lately(self, family: RunMetric) -> Values:
        """Return recent values, which the rules may not have recorded yet."""
        return self._largest(family, family.raw, f"{RECENT_SECONDS}s")

    def _largest(self, family: RunMetric, name: str, window: str) -> Values:
        return self._values(family.labels, name, f"max_over_time({{}}[{window}])")

    def _values(self, labels: LabelValues, name: str, how: str) -> Values:
        """Query values by RUN_LABELS and `labels`; `{}` in `how` is replaced by the selector."""
        names = (*RUN_LABELS, *labels)
        query = how.replace("{}", f"{name}{{{self._wanted.matchers}}}")
        if self._wanted.user is not None or self._wanted.namespace is not None:
            of = f"last_over_time({self._wanted.info}[{self._window}])"
            query += f" and on ({', '.join(RUN_LABELS)}) {of}"
        found = self._api.query(f"max by ({', '.join(names)}) ({query})", self._at)
        return {tuple(each.labels.get(n, "") for n in names): each.value for each in found}


def run_keys(values: Collection[LabelValues]) -> set[LabelValues]:
    """Return the values of RUN_LABELS in keys with more labels."""
    return {key[: len(RUN_LABELS)] for key in values}


def _matchers(given: dict[str, str | None]) -> str:
    return ",".join(f"{name}={json.dumps(v)}" for name, v in given.items() if v is not None)
