"""Collector `node_query`: power of the node from a Prometheus server.

For meters that something else already scrapes: a power distribution unit, a smart plug, a BMC. A
thread of its own sends the query; a tick takes what it has found. Errors:

| cause | reported |
|---|---|
| the server cannot be reached, or does not answer in time | the reason of the system |
| another status than 200, including redirects | the status, with the reason that Prometheus gives |
| no JSON, or not that of an instant query | what was expected |
| no series, or several | their number |
| NaN, infinite, 0 or negative | the value |

None of them is a power of 0. Source: prometheus.io, "HTTP API", "Instant queries".
"""

import json
import math
import queue
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from exporter.clock import Clock
from exporter.errors import ConfigError, SourceError, Unavailable
from exporter.model.readings import Observation, Reading
from exporter.sample.node_meter import NODE, node_info
from exporter.worker import Worker

NAME = "node_query"
TIMEOUT_SECONDS = 10.0
STOP_SECONDS = 0.5
HTTP_OK = 200
MAX_BYTES = 1 << 20
MAX_TOKEN_BYTES = 16_384
MAX_REASON_CHARACTERS = 200
PLACEHOLDER = "$node"
UNSET = "sample.node_query_url and sample.node_query are not set"
BAD_URL = "sample.node_query_url: expected http://HOST:PORT or https://HOST:PORT; found {url!r}"
NO_QUERY = (
    "sample.node_query: expected PromQL whose result is a power in watts, for example "
    '`sum(pdu_outlet_watts{node="$node"})`'
)
NO_ANSWER = "the response is not that of an instant query of Prometheus"


class NodeQuery(NamedTuple):
    """Settings of the query."""

    url: str = ""
    query: str = ""
    """`$node` stands for the name of this node."""
    token_file: str = ""
    refresh_seconds: float = 15.0


class NodeQueryCollector:
    """Queries the power of the node in watts. Raises ConfigError and Unavailable."""

    name = NAME

    def __init__(self, settings: NodeQuery, node: str, clock: Clock, boot_id: str) -> None:
        if not settings.url and not settings.query:
            raise Unavailable(UNSET)
        if not settings.query:
            raise ConfigError(NO_QUERY)
        self._server = _Server(settings.url, settings.token_file)
        self._query = settings.query.replace(PLACEHOLDER, node)
        self._clock = clock
        self._epoch = f"{boot_id}/{NAME}"
        self._info = node_info(NAME, settings.query)
        self._readings: queue.SimpleQueue[Reading] = queue.SimpleQueue()
        self._error = ""
        self._worker = Worker(NAME, self._fetch, settings.refresh_seconds, 2 * TIMEOUT_SECONDS)
        self._worker.start()

    def read(self) -> Observation:
        """Return the readings since the last tick, without waiting."""
        readings = []
        while not self._readings.empty():
            readings.append(self._readings.get())
        if readings:
            self._error = readings[-1].why
        stalled = self._worker.stalled_seconds
        return Observation(
            source=self.name,
            at_ns=self._clock.boottime_ns(),
            infos=(self._info,),
            readings=tuple(readings),
            error=f"no answer for {stalled:.0f} s" if stalled else self._error,
        )

    def release(self) -> None:
        """End the thread; one that waits for a server or DNS is abandoned."""
        self._worker.stop(STOP_SECONDS)

    def _fetch(self) -> None:
        watts, why = None, ""
        try:
            watts = parse_watts(self._server.query(self._query))
        except SourceError as error:
            why = str(error)
        at_ns, awake_ns = self._clock.boottime_ns(), self._clock.monotonic_ns()
        self._readings.put(
            Reading(NODE, at_ns, self._epoch, power_watts=watts, why=why, awake_ns=awake_ns)
        )


class _Server:
    """A Prometheus server. Raises ConfigError for an invalid URL."""

    def __init__(self, url: str, token_file: str) -> None:
        try:
            parts = urlsplit(url)
            self._host, self._port = parts.hostname or "", parts.port
        except ValueError:
            raise ConfigError(BAD_URL.format(url=url)) from None
        if parts.scheme not in ("http", "https") or not self._host or parts.username:
            raise ConfigError(BAD_URL.format(url=url))
        self._is_https = parts.scheme == "https"
        self._path = f"{parts.path.rstrip('/')}/api/v1/query"
        self._token_file = token_file

    def query(self, query: str) -> Any:
        """Return the JSON document of an instant query. Raises SourceError."""
        from http import client  # 20 ms and 2 MB that only machines with a query need

        connect = client.HTTPSConnection if self._is_https else client.HTTPConnection
        connection = connect(self._host, self._port, timeout=TIMEOUT_SECONDS)
        path = f"{self._path}?{urlencode({'query': query})}"
        try:
            connection.request("GET", path, headers=self._headers())
            response = connection.getresponse()
            body = response.read(MAX_BYTES)
        except (OSError, client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise SourceError(f"{self._host}: {reason}") from None
        finally:
            connection.close()
        try:
            document = json.loads(body)
        except ValueError:
            document = None
        if response.status != HTTP_OK:
            reason = document.get("error", "") if isinstance(document, dict) else ""
            text = f"{self._host}: HTTP status {response.status} {reason}".strip()
            raise SourceError(text[:MAX_REASON_CHARACTERS])
        return document

    def _headers(self) -> dict[str, str]:
        if not self._token_file:
            return {}
        try:
            with open(self._token_file, encoding="ascii") as file:
                token = file.read(MAX_TOKEN_BYTES).strip()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not text"
            raise SourceError(f"token file {self._token_file}: {reason}") from None
        if not token.isprintable():
            raise SourceError(f"token file {self._token_file}: expected one line")
        return {"Authorization": f"Bearer {token}"}


def parse_watts(document: Any) -> float:
    """Return the value of an instant query with one series or a scalar. Raises SourceError."""
    try:
        data = document["data"]
        kind, result = data["resultType"], data["result"]
        if kind == "vector":
            if len(result) != 1:
                raise SourceError(f"the query returned {len(result)} series; it must return one")
            sample = result[0]["value"]
        elif kind == "scalar":
            sample = result
        else:
            raise SourceError(f"the query returned a {kind}; it must return one series")
        _, value = sample
        watts = float(value)
    except (KeyError, TypeError, ValueError):
        raise SourceError(NO_ANSWER) from None
    if not math.isfinite(watts) or watts <= 0:
        raise SourceError(f"the query returned {value}, which a running node cannot have")
    return watts
