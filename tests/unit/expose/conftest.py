"""Fixtures: snapshots of synthetic machines, and the web thread on loopback."""

import json
import socket
import threading
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from types import SimpleNamespace

import pytest

from exporter.expose.exposition import SnapshotPublisher
from exporter.expose.http.server import ServerLimits
from exporter.expose.http.web_service import WebService
from exporter.expose.metrics import metric_families
from exporter.expose.web_config.store import WebConfigStore
from exporter.model.intensity import Accounting, Basis, Factor, FeedState, IntensityValue
from exporter.model.ledger import Amount, Balance, FactorUse
from exporter.model.readings import CounterEvent, Device, DeviceInfo, DeviceKind, Method
from exporter.model.record import ANY_RUN
from exporter.model.runs import DEPARTED_RUNS, RunInfo, RunKey
from exporter.model.snapshot import (
    AccountSnapshot,
    DaemonHealth,
    DeviceState,
    IntensityState,
    NodeState,
    Snapshot,
    record_of,
)
from exporter.model.workload import CollectorState, SplitMethod, UnattributedReason
from exporter.report.forms.registry import FORMS, add_inner

CPU = Device(DeviceKind.CPU, "package-0")
DRAM = Device(DeviceKind.DRAM, "package-0-dram")
GPU0 = Device(DeviceKind.GPU, "GPU-0")
GPU1 = Device(DeviceKind.GPU, "GPU-1")
WALL = 1_790_000_000.0
SOON = 60.0
"""A timeout far above the duration of anything awaited here."""
FACTOR = Factor("DE", "Ember 2025", 344.0, 1.2, 0.0, float("inf"), WALL - 86_400, step=1)
BERT = RunKey(1000, "bert", "42")
OLD = RunKey(1001, "old", "")


def state(device, **changes):
    info = DeviceInfo(device, f"model of {device.id}", "acme", "rapl", 1000.0, ordinal="0")
    values = {"up": True, "why": "", "age_seconds": 0.25, "power_watts": 50.0, "events": {}}
    values.update(changes)
    info = info._replace(**values.pop("info", {}))
    return DeviceState(info=info, **values)


def row(
    device, target, energy_uj, *, base_uj=0, method=Method.COUNTER, power_watts=None, held_uj=0
):
    split = SplitMethod.REST if isinstance(target, UnattributedReason) else SplitMethod.CPU_TIME
    total = Amount(energy_uj, held_uj, energy_uj * 100)
    return AccountSnapshot(
        device,
        target,
        method,
        split,
        Balance(total, Amount(base_uj, 0, base_uj * 100)),
        power_watts,
    )


def run(key, **changes):
    values = {"name": f"name of {key.run_id}", "user": "ada", "origin": "registered"}
    values.update({"started": WALL - 7200, "shown_id": key.run_id, **changes})
    return RunInfo(key, **values)


def snapshot(**changes):
    values = {
        "tick": 1,
        "at_ns": 100_000_000_000,
        "wall": WALL,
        "node": "node1",
        "interval_seconds": 1.0,
        "devices": (),
        "rows": (),
        "runs": (),
        "factor_uses": {},
        "grid": IntensityState(None, None, "no intensity is known"),
        "collectors": (),
        "health": DaemonHealth(),
    }
    values.update(changes)
    return Snapshot(**values)


def gpu_node():
    """Two GPUs, a CPU and memory; an active run, an ended run, and departed runs."""
    integrated = Method.INTEGRATED
    return snapshot(
        devices=(
            state(CPU, events={CounterEvent.WRAP: 2, CounterEvent.GAP: 0}),
            state(DRAM, info={"method": Method.ESTIMATED, "source": "dram_estimate"}),
            state(GPU0, info={"power_limit_watts": 700.0, "pci_bus_id": "0000:01:00.0"}),
            state(GPU1, up=False, why="the driver does not answer", power_watts=None),
        ),
        rows=(
            row(CPU, BERT, 7_000_003, base_uj=2_000_001, power_watts=10.5),
            row(CPU, OLD, 500_000, power_watts=0.0),
            row(CPU, DEPARTED_RUNS, 11_000_000),
            row(CPU, UnattributedReason.IDLE, 90_000_000, base_uj=1, power_watts=30.0),
            row(CPU, UnattributedReason.OTHER, 3_000_000, power_watts=9.5),
            row(DRAM, BERT, 250_000, method=Method.ESTIMATED, power_watts=1.0),
            row(DRAM, UnattributedReason.IDLE, 5_000_000, method=Method.ESTIMATED, power_watts=4.0),
            row(GPU0, BERT, 4_000_000_000_000, held_uj=600_000_000, power_watts=300.0),
            row(GPU0, BERT, 55, method=integrated, power_watts=None),
            row(GPU1, UnattributedReason.UNALLOCATED, 77_000_000, method=integrated),
        ),
        runs=(
            run(BERT, budget_grams=500.0, labels=(("team", "nlp"),), account="a1"),
            run(OLD, ended=WALL - 60, end_reason="exited"),
        ),
        factor_uses={BERT: (FactorUse(FACTOR, 4_000_007_000_000, 400_000_700_000_000),)},
        grid=IntensityState(FACTOR, 86_400.0, "yearly mean of DE, Ember 2025"),
        collectors=(
            CollectorState("rapl", ok=True, seconds=0.0004),
            CollectorState("nvml", ok=False, seconds=0.0, why="no driver; install it"),
        ),
        health=DaemonHealth(loop_seconds=0.004, commit_age_seconds=12.0, exporter_energy_uj=123),
        notes=("rapl: dram is estimated on this machine",),
        node_state=NodeState("pm_counters", {Method.COUNTER: 9_000_000_000}),
    )


MARKET = FACTOR._replace(
    grams_per_kwh=12.0, source="PPA 2026", basis=Basis.UNSTATED, accounting=Accounting.MARKET
)
"""A second intensity."""


def live_grid():
    """Two sources, the first of which fails, and a second, market-based intensity."""
    asked = (("ok", 7), ("unauthorized", 2))
    return IntensityState(
        FACTOR,
        900.0,
        "uk: 344 g/kWh",
        recent=(
            IntensityValue(WALL - 90_000, WALL - 88_200, 1.0),
            IntensityValue(WALL - 900, WALL + 900, 344.0),
        ),
        forecast=(
            IntensityValue(WALL - 900, WALL, 300.0, estimated=True),
            IntensityValue(WALL, WALL + 1800, 250.0, estimated=True),
        ),
        second=IntensityState(MARKET, None, "configured value: 12 g/kWh"),
        feeds=(
            FeedState("electricity_maps", "DE", False, "answered 401", asked, WALL - 60, WALL + 9),
            FeedState("uk", "GB", False, "it has not answered yet", (("ok", 0),), None, WALL),
        ),
    )


@pytest.fixture(scope="session")
def made():
    """The factories of this file: `made.snapshot(rows=...)`, `made.row(...)`, `made.gpu_node()`."""
    return SimpleNamespace(**{k: v for k, v in globals().items() if not k.startswith("_")})


class FakeClock:
    """A clock that is moved only by tests."""

    def __init__(self):
        self.now_ns = 100_500_000_000

    def boottime_ns(self):
        return self.now_ns

    def monotonic_ns(self):
        return self.now_ns

    def wall(self):
        return WALL


class FakeArchive:
    """An archive with a test's records, or an error; it blocks until `go` is set."""

    def __init__(self):
        self.records = []
        self.kept_sums = []
        self.added_up = []
        self.intervals = []
        self.error = None
        self.asked = threading.Semaphore(0)
        self.go = threading.Event()
        self.go.set()

    def ledger_id(self):
        if self.error:
            raise self.error
        return "the ledger"

    def sums(self, by, since, wanted, leaving_out):
        if self.error:
            raise self.error
        self.added_up.append((by, since, wanted, set(leaving_out)))
        return self.kept_sums

    def runs(self, limit, wanted=ANY_RUN, after=None):
        if wanted == ANY_RUN:
            self.asked.release()
            assert self.go.wait(SOON)
        if self.error:
            raise self.error
        return [
            record
            for record in self.records
            if wanted.has(record.run) and (after is None or after.precedes(record.run))
        ][:limit]

    def usage(self, since, until, run=None, *, by_hour=False):
        if self.error:
            raise self.error
        return [
            each for each in self.intervals if since <= each.at < until and run in (None, each.run)
        ]


PATIENT = dict.fromkeys(("handshake_seconds", "request_seconds", "read_seconds"), SOON)


class Site:
    """A web thread, its publisher, and clients."""

    def __init__(self, socket_path, limits, web_config="", telemetry_path="/metrics"):
        self.clock = FakeClock()
        self.archive = FakeArchive()
        self.board = SnapshotPublisher(metric_families())
        self.requests = []
        self.reply = None
        self.socket_path = socket_path
        self.store = WebConfigStore(web_config, self.clock)
        self.web = WebService(
            publisher=self.board,
            archive=self.archive,
            submit=self.submit,
            forms=FORMS,
            add_inner=add_inner,
            clock=self.clock,
            listen_address="127.0.0.1:0",
            socket_path=socket_path,
            telemetry_path=telemetry_path,
            web_config=self.store,
            limits=limits,
            grace_seconds=SOON,
        )
        (self.address,) = self.web.bind()
        self.thread = threading.Thread(target=self.web.run)
        self.thread.start()

    @contextmanager
    def held(self):
        """Pause the server, so that clients connect and send before it accepts."""
        held, go = threading.Event(), threading.Event()
        self.web._loop.call_soon_threadsafe(lambda: held.set() or go.wait(SOON))
        assert held.wait(SOON)
        try:
            yield
        finally:
            go.set()

    def submit(self, request):
        """The loop's inbox: records commands and gives the test's response."""
        self.requests.append(request.command)
        if self.reply is not None:
            request.answer(self.reply)

    def close(self):
        self.archive.go.set()
        self.web.stop()
        self.thread.join(SOON)
        assert not self.thread.is_alive()

    def connect(self, source=None):
        """Connect, also from another address of this machine."""
        address = source and (source, 0)
        return socket.create_connection(self.address, timeout=SOON, source_address=address)

    def connect_agent(self):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(SOON)
        connection.connect(self.socket_path)
        return connection

    def talk(self, data, connect=None):
        """Send bytes on a new connection; return everything until the server closes it."""
        with (connect or self.connect)() as connection:
            connection.sendall(data)
            received = b""
            while chunk := connection.recv(65536):
                received += chunk
        return received

    def ask(self, method, target, body=None, headers=None, *, agent=False, source=None):
        connection = HTTPConnection("localhost")
        connection.sock = self.connect_agent() if agent else self.connect(source)
        try:
            text = body if isinstance(body, str | bytes | None) else json.dumps(body)
            connection.request(method, target, text, headers or {})
            response = connection.getresponse()
            response.content = response.read()
        finally:
            connection.close()
        return response

    def get(self, target, source=None, **headers):
        spelled = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("GET", target, headers=spelled, source=source)

    def json(self, target):
        response = self.get(target)
        assert response.status == 200, response.content
        return json.loads(response.content)


def record(key, **changes):
    """A record as returned by the archive."""
    rows = (row(CPU, key, 1_000_000),)
    return record_of(snapshot(rows=rows), run(key, **changes))


def answer(response: HTTPResponse):
    """Return status and JSON of a response."""
    return response.status, json.loads(response.content)


@pytest.fixture
def open_site(tmp_path):
    """Starts a site with a test's limits, and stops it afterwards.

    It has more patience than a daemon, so that this machine may be as slow as it likes.
    """
    sites = []

    def start(web_config="", telemetry_path="/metrics", **limits):
        path = str(tmp_path / "run" / f"agent{len(sites)}.sock")
        site = Site(path, ServerLimits(**{**PATIENT, **limits}), str(web_config), telemetry_path)
        sites.append(site)
        return site

    yield start
    for site in sites:
        site.close()


@pytest.fixture
def site(open_site):
    """A site with the snapshot `gpu_node`."""
    site = open_site()
    site.board.publish(gpu_node())
    return site
