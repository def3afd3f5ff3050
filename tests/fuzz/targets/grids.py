"""Answers of sources of carbon intensity, of Prometheus and of metadata services."""

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from io import BytesIO
from typing import Any

import requests
from requests.adapters import BaseAdapter
from urllib3.response import HTTPResponse

from exporter.convert.live import http as live_http
from exporter.convert.live.feed import LiveFeed, parse_feed_memory, parse_memory
from exporter.convert.live.http import HttpSession, detect_cloud_region
from exporter.convert.registry import live_source
from exporter.convert.sources.file import parse_rows
from exporter.errors import FetchError, SourceError
from exporter.report.prometheus_queries import PrometheusApi
from tests.fuzz.attempt import Target
from tests.fuzz.inputs import NOW, HttpDouble, replaced

DAY_SECONDS = 86_400
SOURCES: Mapping[str, Mapping[str, Any]] = {
    "electricity_maps": {"zone": "DE"},
    "watttime": {"region": "CAISO_NORTH", "username": "ada"},
    "uk": {"place": "13"},
    "rte": {},
    "energy_charts": {"zone": "DE"},
    "energinet": {"area": "DK1"},
    "exporter": {"url": "http://node:10680"},
    "prometheus": {"url": "http://prometheus:9090", "query": "grid"},
}
"""Sources and the options of each that are the least it requires."""
for name in ("ELECTRICITY_MAPS_TOKEN", "WATTTIME_PASSWORD"):
    os.environ.setdefault(f"EMISSIONS_EXPORTER_{name}", "secret")


def _source_target(source: str) -> Target:
    def target(data: bytes) -> None:
        live = live_source(source, SOURCES[source], "convert.sources")
        for since in (NOW - DAY_SECONDS, NOW - 60):
            with suppress(FetchError):
                result = live.fetch(HttpDouble(data), NOW, since)
                json.dumps(result)
                feed = LiveFeed(source, source, live, lambda *_, found=result: found, NOW)
                feed.refresh(NOW)
                memory = json.loads(json.dumps(feed.memory()._asdict()))
                assert parse_feed_memory(memory).values == feed.memory().values

    target.__name__ = f"intensity_{source}"
    target.__doc__ = f"Answers to the source {source}, in the order of its requests."
    return target


def intensity_file(data: bytes) -> None:
    """The file with intensities over time."""
    with suppress(SourceError):
        parse_rows(data, "/etc/grid.csv")


def intensity_memory(data: bytes) -> None:
    """The state of the feeds that the ledger keeps over restarts."""
    live = live_source("rte", {}, "convert.sources")
    for memory in parse_memory(data.decode("utf-8", "replace")).values():
        feed = LiveFeed("rte", "rte", live, lambda *_: None, NOW, parse_feed_memory(memory))
        feed.is_due(NOW)


class _Answers(BaseAdapter):
    """Answers every request with the input: status, header lines, an empty line, the body."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        head, _, self._body = data.partition(b"\n\n")
        first, *lines = head.decode("latin-1").split("\n")
        self._status = int(first) if re.fullmatch("[1-5][0-9]{2}", first) else 200
        self._headers = dict(line.partition(": ")[::2] for line in lines)

    def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:
        raw = HTTPResponse(BytesIO(self._body), self._headers, self._status, preload_content=False)
        answer = requests.Response()
        answer.status_code = self._status
        answer.headers = requests.structures.CaseInsensitiveDict(self._headers)
        answer.raw = raw
        answer.request = request
        answer.url = request.url or ""
        return answer

    def close(self) -> None:
        pass


def _with_answers(session: requests.Session, data: bytes) -> None:
    session.mount("http://", _Answers(data))


def http_answer(data: bytes) -> None:
    """Status, headers and body of any answer of an intensity source."""
    session = HttpSession(NOW)
    _with_answers(session._session, data)
    with suppress(FetchError):
        session.get("http://grid/v1", {"zone": "DE"})


def cloud_metadata(data: bytes) -> None:
    """The answer of a metadata service of a cloud."""
    session = requests.Session()
    _with_answers(session, data)
    with replaced(live_http.requests, "Session", lambda: session), suppress(FetchError):
        detect_cloud_region("http://169.254.169.254")


def prometheus_answer(data: bytes) -> None:
    """The answer of Prometheus to a query of `report --prometheus`."""
    api = PrometheusApi("http://prometheus:9090", "secret")
    _with_answers(api._session, data)
    for ask in (
        lambda: api.query("up"),
        lambda: api.series("up", 0.0, NOW),
        lambda: api.has("up", 0.0, NOW),
    ):
        with suppress(SourceError):
            ask()


TARGETS = (
    *map(_source_target, SOURCES),
    intensity_file,
    intensity_memory,
    http_answer,
    cloud_metadata,
    prometheus_answer,
)
