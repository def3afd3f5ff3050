"""Fixtures of the intensity sources."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from exporter.convert.live import http
from exporter.convert.registry import live_source
from tests.grid import shapes

NOW = 1_735_733_400.0
"""2025-01-01 12:10 UTC."""
DAY = 86_400.0
TOKEN = "s3cret/with+signs="


class Case(NamedTuple):
    """How a source is set up, and how its healthy server answers."""

    serve: Any
    step: float
    options: Mapping[str, Any] = MappingProxyType({})
    factor: float = 1.0
    """From what is sent to g/kWh."""
    token: str = ""
    """Variable of the secret."""


MAPS = {"zone": "DE"}
WATTTIME = {"region": "CAISO_NORTH", "username": "ann"}
CASES = {
    "electricity_maps": Case(
        shapes.electricity_maps, 3600, MAPS, token="EMISSIONS_EXPORTER_ELECTRICITY_MAPS_TOKEN"
    ),
    "watttime": Case(
        shapes.watttime, 300, WATTTIME, 0.45359237, "EMISSIONS_EXPORTER_WATTTIME_PASSWORD"
    ),
    "uk": Case(shapes.uk, 1800),
    "rte": Case(shapes.rte, 900),
    "energy_charts": Case(shapes.energy_charts, 900, {"zone": "de"}),
    "energinet": Case(shapes.energinet, 300),
    "exporter": Case(shapes.exporter, 3600),
    "prometheus": Case(
        shapes.prometheus, 60, {"query": "g"}, token="EMISSIONS_EXPORTER_PROMETHEUS_TOKEN"
    ),
}


class Asker:
    """One source and its server, asked through real HTTP."""

    def __init__(self, name, server, options):
        self.server = server
        self.case = CASES[name]
        self.step = self.case.step
        self.last = NOW - NOW % self.step
        self.source = live_source(
            name, {"url": server.url, **self.case.options, **options}, "convert.sources"
        )

    def serve(self, *given, **more):
        """From now on the server is healthy and has these values."""
        self.server.serve = self.case.serve(*given, **more)

    def request(self, since=NOW - DAY, now=NOW):
        return http.fetch_values(self.source, now, since)

    def numbers(self, **asked):
        return [value.grams_per_kwh for value in self.request(**asked).values]

    def grams(self, *sent):
        return pytest.approx([number * self.case.factor for number in sent])


@pytest.fixture
def asker(grid, monkeypatch):
    """Makes askers."""

    def make(name, **options):
        if CASES[name].token:
            monkeypatch.setenv(CASES[name].token, TOKEN)
        return Asker(name, grid(lambda _: (500, {}, b"")), options)

    return make


@pytest.fixture
def each(asker, request):
    """Every source in turn, for tests that are parametrized with its name."""
    return asker(request.param)
