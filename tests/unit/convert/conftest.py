"""Fixtures of the conversion stage."""

import math

import pytest

from exporter.model.intensity import Basis, Factor
from tests.grid.server import GridServer

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
NOTHING_CONFIGURED = {
    "zone": "",
    "cloud_metadata": False,
    "sources": (),
    "fallback": "same",
    "second": (),
    "grams_per_kwh": None,
    "basis": "unstated",
    "accounting": "location",
    "source": "",
    "file": "",
    "file_max_age_seconds": 120,
    "pue": 1.0,
}
"""Arguments of `open_intensity_provider` without any setting."""


class StillClock:
    """A clock that stands at a given moment."""

    def __init__(self, wall=1_700_000_000.0):
        self.now = wall

    def boottime_ns(self):
        return 0

    def monotonic_ns(self):
        return 0

    def wall(self):
        return self.now


@pytest.fixture
def clock():
    return StillClock()


@pytest.fixture(autouse=True)
def _own_network(monkeypatch):
    """Whatever is set where the tests run, they ask the server beside them."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)


@pytest.fixture
def grid():
    """Starts servers that answer as they are told, and ends them afterwards."""
    servers = []

    def start(serve):
        servers.append(GridServer(serve))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def factor():
    """Makes factors; only what a test is about need be said."""

    def make(grams_per_kwh=100.0, valid_from=0.0, valid_until=math.inf, **rest):
        fields = {"zone": "DE", "source": "test", "pue": 1.0, "as_of": valid_from} | rest
        return Factor(
            grams_per_kwh=grams_per_kwh,
            valid_from=valid_from,
            valid_until=valid_until,
            basis=fields.pop("basis", Basis.LIFECYCLE),
            **fields,
        )

    return make
