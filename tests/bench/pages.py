"""What a page costs: to render it, to hand it out, and to get the first one of a new daemon."""

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from exporter.expose.exposition import MetricsRenderer
from exporter.expose.metrics import metric_families
from exporter.expose.snapshot_view import SnapshotView
from exporter.model.ledger import Amount, Balance
from exporter.model.readings import Device, DeviceInfo, DeviceKind, Method
from exporter.model.runs import RunInfo, RunKey
from exporter.model.snapshot import (
    AccountSnapshot,
    DaemonHealth,
    DeviceState,
    IntensityState,
    Snapshot,
)
from exporter.model.workload import AttributionTarget, SplitMethod, UnattributedReason
from tests.bench import cost
from tests.bench.scene import running
from tests.bench.tracker import start_python_ms
from tests.real.parts import LONG_SECONDS, Daemon, free_port, get, until

RUNS = 200
"""With processor and memory of two sockets, this gives a page of about 2,500 samples."""
PAUSE_SECONDS = 0.5
SCRAPE_PAUSE_SECONDS = 0.02
AFTER_SECONDS = 0.01
OWN = b"emissions_device_info"
DEVICES = [
    Device(kind, f"package-{number}{suffix}")
    for number in (0, 1)
    for kind, suffix in ((DeviceKind.CPU, ""), (DeviceKind.DRAM, "-dram"))
]
READY_PAGE = """
import socket, sys
page = sys.stdin.buffer.read()
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    client, _ = server.accept()
    while client.recv(65536):
        client.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(page) + page)
"""
"""The least that a server in Python can do: it parses no request and has one page."""
KEYS = [RunKey(1000, f"run-{number:03}", f"{4700 + number}") for number in range(RUNS)]


class Scraped(NamedTuple):
    """What scrapes of one server cost; in ms."""

    samples: int
    cpu: Sequence[float]
    """CPU time from each request until `AFTER_SECONDS` after its answer."""
    walls: Sequence[float]
    idle_ms: float
    """CPU time per second without scrapes."""


class Rendered(NamedTuple):
    """What rendering costs: CPU time in us, by turns."""

    samples: int
    per_sample: Sequence[float]
    per_repr: Sequence[float]
    """Of Python's `repr` of a float: the least that a sample can cost in Python."""


def render(ticks: int) -> Rendered:
    """Render pages whose numbers all change, with time between them for caches to grow cold."""
    renderer = MetricsRenderer(metric_families())
    samples, costs, floors = 0, [], []
    for tick in range(ticks + 1):
        view = SnapshotView(_snapshot(tick))
        time.sleep(PAUSE_SECONDS)
        began = time.process_time_ns()
        text = renderer.render(view).text()
        used_ns = time.process_time_ns() - began
        samples = samples_of(text)
        costs.append(used_ns / 1000 / samples)
        numbers = [(tick + 1) * 1.2345 * number for number in range(samples)]
        time.sleep(PAUSE_SECONDS)
        began = time.process_time_ns()
        for number in numbers:
            repr(number)
        floors.append((time.process_time_ns() - began) / 1000 / samples)
    return Rendered(samples, costs[1:], floors[1:])


def scrape_exporter(directory: Path, scrapes: int, idle_seconds: float) -> tuple[Scraped, Scraped]:
    """Scrapes of a daemon that plays a host with `RUNS` runs and, by turns, of the floor."""
    directory.mkdir()
    fixture = directory / "host.json"
    fixture.write_text(json.dumps(_host()))
    daemon = Daemon(directory)
    with ExitStack() as ends:
        pid = ends.enter_context(running(daemon, EMISSIONS_EXPORTER_SAMPLE_REPLAY=str(fixture)))
        until(lambda: len(daemon.json("/api/v1/snapshot")["runs"]) == RUNS, what="the runs play")
        port = free_port()
        floor = ends.enter_context(
            subprocess.Popen([sys.executable, "-c", READY_PAGE, str(port)], stdin=subprocess.PIPE)
        )
        ends.callback(floor.terminate)
        assert floor.stdin is not None
        floor.stdin.write(get(f"{daemon.url}/metrics"))
        floor.stdin.close()
        until(lambda: get(f"http://127.0.0.1:{port}"), what="the floor answers")
        servers = (pid, daemon.port), (floor.pid, port)
        own, least = scrape(servers, scrapes, SCRAPE_PAUSE_SECONDS, idle_seconds)
        return own, least


def scrape(
    servers: Sequence[tuple[int, int]], scrapes: int, pause_seconds: float, idle_seconds: float
) -> Iterator[Scraped]:
    """Scrape servers, each a pid and a port, by turns, on connections that stay open."""
    connections = [http.client.HTTPConnection("127.0.0.1", port, timeout=10) for _, port in servers]
    bodies = [_get(connection) for connection in connections]
    idles = [cost.per_second(pid, idle_seconds) for pid, _ in servers]
    cpu: list[list[float]] = [[] for _ in servers]
    walls: list[list[float]] = [[] for _ in servers]
    for _ in range(scrapes):
        for number, (pid, _) in enumerate(servers):
            asked, before = time.perf_counter(), cost.process_ms(pid)
            _get(connections[number])
            walls[number].append((time.perf_counter() - asked) * 1000)
            time.sleep(AFTER_SECONDS)
            cpu[number].append(cost.process_ms(pid) - before)
        time.sleep(pause_seconds)
    yield from map(Scraped, map(samples_of, bodies), cpu, walls, idles)


class Starts(NamedTuple):
    """Wall times from exec in ms, by turns."""

    exporter: Sequence[float]
    """Until the first page."""
    python: Sequence[float]
    """Until the end of a program that does nothing."""


def starts(directory: Path, flags: tuple[str, ...], count: int) -> Starts:
    """Daemons that find a ledger; one that is not counted makes it."""
    directory.mkdir()
    daemons, python = [], []
    for _ in range(count + 1):
        python.append(start_python_ms())
        daemon = Daemon(directory, *flags)
        began = time.perf_counter()
        with running(daemon):
            assert daemon.process is not None
            await_page(daemon.process, daemon.port, OWN)
            daemons.append((time.perf_counter() - began) * 1000)
    return Starts(daemons[1:], python[1:])


def await_page(process: "subprocess.Popen[bytes]", port: int, wanted: bytes) -> None:
    """Wait for the first page that has `wanted`."""
    deadline = time.monotonic() + LONG_SECONDS
    while not _shows(port, wanted):
        time.sleep(0.002)
        assert process.poll() is None, f"{process.args!r} ended"
        assert time.monotonic() < deadline, f"{process.args!r} has no page with {wanted!r}"


def _shows(port: int, wanted: bytes) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        return wanted in _get(connection)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _get(connection: http.client.HTTPConnection) -> bytes:
    connection.request("GET", "/metrics")
    return connection.getresponse().read()


def samples_of(page: bytes) -> int:
    """How many samples a page has."""
    return sum(not line.startswith(b"#") for line in page.splitlines())


def _snapshot(tick: int) -> Snapshot:
    parties: list[AttributionTarget] = [*KEYS, UnattributedReason.IDLE, UnattributedReason.OTHER]
    rows = []
    for device in DEVICES:
        for number, target in enumerate(parties):
            energy_uj = (tick + 1) * (1_234_567 + 7919 * number) * (1 + len(device.id))
            split = (
                SplitMethod.REST if isinstance(target, UnattributedReason) else SplitMethod.CPU_TIME
            )
            amount = Amount(energy_uj, 0, energy_uj * 131)
            rows.append(
                AccountSnapshot(
                    device, target, Method.COUNTER, split, Balance(amount), energy_uj / 3e6
                )
            )
    states = [
        DeviceState(
            DeviceInfo(device, "made up", "none", "rapl", 1000.0), True, "", 0.01, 90 + tick / 7, {}
        )
        for device in DEVICES
    ]
    runs = [
        RunInfo(key, key.run_id, "alice", "registered", 1.7e9, shown_id=key.run_id) for key in KEYS
    ]
    return Snapshot(
        tick=tick,
        at_ns=tick * cost.NANOSECONDS_PER_SECOND,
        wall=1.7e9 + tick,
        node="bench",
        interval_seconds=1.0,
        devices=tuple(states),
        rows=tuple(rows),
        runs=tuple(runs),
        factor_uses={},
        grid=IntensityState(None, None, ""),
        collectors=(),
        health=DaemonHealth(),
    )


def _host() -> dict[str, object]:
    """A host for the source `replay`."""
    devices = [
        {
            "kind": device.kind.value,
            "id": device.id,
            "model": "made up",
            "vendor": "none",
            "power_cap_watts": 400,
            "wrap_uj": 262_143_328_851,
            "watts": [[0, 90], [300, 160]],
        }
        for device in DEVICES
    ]
    workload = [
        {
            "run_id": key.run_id,
            "job_id": key.job_id,
            "name": key.run_id,
            "user": "alice",
            "labels": {},
            "starts": 0,
            "ends": 600,
            "cpu": [[0, 0.1], [300, 0.4]],
            "memory_bytes": 100_000_000,
        }
        for key in KEYS
    ]
    return {
        "host": "bench",
        "period_seconds": 600,
        "threads": 128,
        "memory_total_bytes": 274_877_906_944,
        "devices": devices,
        "workload": workload,
    }
