"""What a Prometheus knows of some runs, over all their nodes: totals, times, names.

Totals are those of deploy/prometheus/rules/runs.yaml: the largest value of each counter, never an
increase. Where the rules were not there for all of the look-back, the counters themselves are read,
which costs more.
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
"""Thanos, and VictoriaMetrics, must not leave parts out, nor the last half minute; the rest of
them do not know these words."""
REMEDIES = {
    **dict.fromkeys(
        (401, 403),
        f"; give a token that may read, with {TOKEN_FLAG} or {TOKEN_VARIABLE}, or a user that may, "
        f"with {LOGIN_FLAGS}",
    ),
    **dict.fromkeys((422, 503, 504), "; a shorter --since asks for less"),
    404: "; is a path missing, as /prometheus of Mimir or /select/0/prometheus?",
    429: "; ask again later",
}
Labels = Mapping[str, str]


class VectorSample(NamedTuple):
    """One series of an answer, and its value."""

    labels: Labels
    value: float


class PrometheusApi:
    """One server, named by its address without `/api/v1`. Every call raises SourceError."""

    def __init__(
        self,
        url: str,
        secret: str = "",
        timeout_seconds: float = TIMEOUT_SECONDS,
        *,
        user: str = "",
    ) -> None:
        """`secret` is a bearer token, or with a `user` that user's password.

        Raises ConfigError for an address that is none, or that has a secret in it.
        """
        self._url = _validate_url(url)
        self.who = _printable_url(self._url)
        if ":" in user:
            raise ConfigError("--prometheus.user: basic auth has no user names with a colon")
        login = base64.b64encode(f"{user}:{secret}".encode()).decode()
        self._authorization = f"Basic {login}" if user else f"Bearer {secret}"
        self._redaction = Redaction(secret, login if user else "")
        self._timeout = timeout_seconds
        self._session = new_https_session()
        self._session.headers["User-Agent"] = f"emissions-exporter/{__version__}"
        if user or secret:
            self._session.auth = self._signed  # else a ~/.netrc would replace the token

    def query(self, text: str, at: float | None = None) -> list[VectorSample]:
        """The instant vector that a query is at a moment, or now."""
        moment = {} if at is None else {"time": f"{at:.3f}"}
        found = self._ask("query", {"query": text, **moment})
        kind = found.get("resultType") if isinstance(found, dict) else None
        if kind != "vector":
            raise SourceError(f"{self.who} answered with {kind!r:.30} in place of a vector")
        return [self._sample(row) for row in self._rows(found.get("result"))]

    def series(self, selector: str, since: float, until: float) -> list[Labels]:
        """The labels of each series that was there between two times, or somewhat around them."""
        rows = self._rows(self._ask("series", _range(selector, since, until)))
        return [self._labels(row) for row in rows]

    def has(self, selector: str, since: float, until: float) -> bool:
        """Whether there was any such series; costs little, however many there are."""
        names = self._ask("label/__name__/values", _range(selector, since, until))
        return bool(self._rows(names))

    def _rows(self, found: Any) -> list[Any]:
        if not isinstance(found, list):
            raise SourceError(f"{self.who} answered without the list that was asked for")
        return found

    def _sample(self, row: Any) -> VectorSample:
        try:
            labels, value = self._labels(row["metric"]), float(row["value"][1])
        except (LookupError, TypeError, ValueError):
            raise SourceError(f"{self.who} answered with a sample that is none") from None
        if not math.isfinite(value):
            raise SourceError(f"{self.who} answered with {value} where a number was asked for")
        return VectorSample(labels, value)

    def _labels(self, row: Any) -> Labels:
        if not isinstance(row, dict) or not all(isinstance(value, str) for value in row.values()):
            raise SourceError(f"{self.who} answered with a series that has no labels")
        return row

    def _ask(self, what: str, query: Mapping[str, str]) -> Any:
        """The data of a whole answer."""
        status, kind, body = self._get(
            f"{self._url}/api/v1/{what}", {**query, **COMPLETE_ANSWER_PARAMETERS}
        )
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            document = None
        known = document if isinstance(document, dict) else {}
        said = self._clean(known.get("error") or "")
        if status != requests.codes.ok:
            why = f": {said}" if said else ""
            raise SourceError(f"{self.who} answered {status}{why}{REMEDIES.get(status, '')}")
        if document is None:
            page = "a web page" if "html" in kind or body[:1] == b"<" else "something else"
            raise SourceError(
                f"{self.who} answered with {page} where JSON was asked for; is this the address "
                "of Prometheus itself, and not of Grafana or a login?"
            )
        if known.get("status") != "success":
            raise SourceError(f"{self.who} did not answer with success{said and f': {said}'}")
        warnings = known.get("warnings")
        if warnings or known.get("isPartial"):
            said = self._clean("; ".join(map(str, warnings)) if isinstance(warnings, list) else "")
            raise SourceError(f"{self.who} gave a part of the answer only{said and f': {said}'}")
        return known.get("data")

    def _get(self, url: str, query: Mapping[str, str]) -> tuple[int, str, bytes]:
        late = f"{self.who} did not answer within {self._timeout:g} s; a shorter --since asks less"
        deadline = time.monotonic() + self._timeout
        body = bytearray()
        try:
            with self._session.get(
                url,
                params=query,
                timeout=(min(CONNECT_SECONDS, self._timeout), self._timeout),
                allow_redirects=False,  # a token is for the host that it was given for
                stream=True,
            ) as response:
                if response.is_redirect:
                    there = _printable_url(response.headers.get("Location", ""))
                    raise SourceError(f"{self.who} sends on to {self._clean(there)}; name that")
                for piece in response.iter_content(1 << 16):
                    body += piece
                    if len(body) > MAX_RESPONSE_BYTES:
                        raise SourceError(f"{self.who} answered with more than 64 MiB")
                    if time.monotonic() > deadline:
                        raise SourceError(late)
                return response.status_code, response.headers.get("Content-Type", ""), bytes(body)
        except requests.Timeout:
            raise SourceError(late) from None
        # A bundle of certificates that is missing is a plain OSError, as RequestException is.
        except (OSError, HTTPError, ValueError) as error:
            if isinstance(next(iter(error.args), None), ReadTimeoutError):
                raise SourceError(late) from None
            said = self._clean(request_error_text(error))
            raise SourceError(f"{self.who} cannot be reached: {said}") from None

    def _signed(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = self._authorization
        return request

    def _clean(self, said: object) -> str:
        """One short line without the token, and without the beginning of it."""
        return self._redaction.line(said)[:MAX_ERROR_CHARACTERS]


def _range(selector: str, since: float, until: float) -> dict[str, str]:
    return {"match[]": selector, "start": f"{since:.3f}", "end": f"{until:.3f}"}


def _validate_url(url: str) -> str:
    if any(letter in url for letter in "@?#"):  # wherever: a password may have a / in it
        raise ConfigError(
            "--prometheus: the address may have no user, password or ?, which all who list "
            f"processes can read; put a bearer token into {TOKEN_FLAG} or {TOKEN_VARIABLE}, or "
            f"give {LOGIN_FLAGS}"
        )
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise ConfigError("--prometheus: expected an address as http://HOST:9090")
    return url.rstrip("/")


def _printable_url(url: str) -> str:
    """Host, port and path, where no secret can be in them."""
    if "@" in url:
        return "an address with a login in it"
    parts = urlsplit(url)
    return f"{parts.netloc}{parts.path}"


RUN_LABELS = ("instance", "run_id", "job_id")
RECENT_SECONDS = 300
"""How far back a run is looked for that is there now; some scrapes may fail."""

LabelValues = tuple[str, ...]
Values = dict[LabelValues, float]


class RunMetric(NamedTuple):
    """A metric of runs, the series that the rules make of it, and its labels besides RUN."""

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
    """Which runs; None: any."""

    run_id: str | None = None
    job_id: str | None = None
    user: str | None = None
    namespace: str | None = None

    @property
    def matchers(self) -> str:
        """Those of any metric of runs."""
        given = {"run_id": self.run_id, "job_id": self.job_id}
        return _matchers(given)

    @property
    def info(self) -> str:
        """The selector of what is said of the runs, by the daemons or by the rules."""
        either = _matchers(
            {
                "run_id": self.run_id,
                "job_id": self.job_id,
                "user": self.user,
                "workload_namespace": self.namespace,
            }
        )
        return f'{{__name__=~"{INFO_METRIC.raw}|{INFO_METRIC.recorded}"{either and "," + either}}}'


class RunQueries:
    """The wanted runs as they were in the `window` seconds up to `at`.

    Every call raises SourceError.
    """

    def __init__(self, api: PrometheusApi, wanted: RunSelector, at: float, window: float) -> None:
        self._api = api
        self._wanted = wanted
        self._at = at
        self._window = f"{window:.0f}s"
        self.infos: list[Labels] = api.series(wanted.info, at - window, at)
        self._energy = self._recorded(ENERGY_METRIC)
        known = {tuple(info.get(name, "") for name in RUN_LABELS) for info in self.infos}
        self.is_fully_recorded = known <= {key[: len(RUN_LABELS)] for key in self._energy}
        """Whether the rules saw every node of every run."""

    def total(self, family: RunMetric) -> Values:
        """The largest value of each series, by RUN and the family's labels."""
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
        """When runs ended, by RUN; those that are open again included."""
        return self._values((), END_METRIC, f"last_over_time({{}}[{self._window}])")

    def budgets(self) -> Values:
        """Budgets of runs that have one, by RUN."""
        return self._values((), BUDGET, f"last_over_time({{}}[{self._window}])")

    def open(self) -> set[LabelValues]:
        """Runs that a node shows as open; also where its last scrape failed."""
        lately = f"last_over_time({{}}[{RECENT_SECONDS}s])"
        return {
            key
            for how in ("{}", lately)
            for key in self._values((), START_METRIC.raw, how).keys()
            - self._values((), END_METRIC, how).keys()
        }

    def last_seen(self) -> Values:
        """When each was last scraped, to five minutes, by RUN."""
        step = f"[{self._window}:{RECENT_SECONDS}s]"
        return self._values((), START_METRIC.raw, f"max_over_time(timestamp({{}}){step})")

    def grids(self, since: float, until: float) -> list[Labels]:
        """Intensities that were in force on the runs' nodes between two times."""
        window = f"{max(until - since, RECENT_SECONDS):.0f}s"
        of = f"last_over_time({START_METRIC.raw}{{{self._wanted.matchers}}}[{window}])"
        text = f"last_over_time({GRID_METRIC}[{window}]) and on (instance) {of}"
        found = self._api.query(f"count by ({', '.join(GRID_LABELS)}) ({text})", until)
        return [sample.labels for sample in found]

    def grids_of_nodes(self) -> list[Labels]:
        """Intensities that were in force in the window, each with its node."""
        names = ", ".join(("instance", *GRID_LABELS))
        text = f"count by ({names}) (last_over_time({GRID_METRIC}[{self._window}]))"
        return [sample.labels for sample in self._api.query(text, self._at)]

    def _recorded(self, family: RunMetric) -> Values:
        return self._largest(family, family.recorded, self._window)

    def _lately(self, family: RunMetric) -> Values:
        """What the rules have not yet seen."""
        return self._largest(family, family.raw, f"{RECENT_SECONDS}s")

    def _largest(self, family: RunMetric, name: str, window: str) -> Values:
        return self._values(family.labels, name, f"max_over_time({{}}[{window}])")

    def _values(self, labels: LabelValues, name: str, how: str) -> Values:
        """By RUN and `labels`; `how` is what is asked of the series, `{}`."""
        names = (*RUN_LABELS, *labels)
        query = how.replace("{}", f"{name}{{{self._wanted.matchers}}}")
        if self._wanted.user is not None or self._wanted.namespace is not None:
            of = f"last_over_time({self._wanted.info}[{self._window}])"
            query += f" and on ({', '.join(RUN_LABELS)}) {of}"
        found = self._api.query(f"max by ({', '.join(names)}) ({query})", self._at)
        return {tuple(each.labels.get(n, "") for n in names): each.value for each in found}


def run_keys(values: Collection[LabelValues]) -> set[LabelValues]:
    """The keys of the runs, RUN, that keys with more labels are of."""
    return {key[: len(RUN_LABELS)] for key in values}


def _matchers(given: dict[str, str | None]) -> str:
    return ",".join(f"{name}={json.dumps(v)}" for name, v in given.items() if v is not None)
