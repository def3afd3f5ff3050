"""What a page costs: to render it, to hand it out, and to get the first one of a new daemon."""

import http.client
import json
import statistics
import time
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
from tests.bench.scene import start
from tests.real.parts import Daemon, until

RUNS = 200
"""With processor and memory of two sockets, this gives a page of about 2,500 samples."""
PAUSE_SECONDS = 0.5
SCRAPE_PAUSE_SECONDS = 0.02
DEVICES = [
    Device(kind, f"package-{number}{suffix}")
    for number in (0, 1)
    for kind, suffix in ((DeviceKind.CPU, ""), (DeviceKind.DRAM, "-dram"))
]
KEYS = [RunKey(1000, f"run-{number:03}", f"{4700 + number}") for number in range(RUNS)]


class Scraped(NamedTuple):
    """What scrapes of one server cost."""

    samples: int
    cpu_ms: float
    """Per scrape, less what the server uses anyway."""
    wall_ms: float
    idle_ms: float
    """CPU time per second without scrapes."""
    rss_mb: float


class Rendered(NamedTuple):
    """What rendering costs; medians of CPU time in us."""

    samples: int
    per_sample: float
    per_repr: float
    """Of Python's `repr` of a float in the same moments: the least that a sample can cost."""


def render(ticks: int) -> Rendered:
    """Render pages whose numbers all change, with time between them for caches to grow cold."""
    renderer = MetricsRenderer(metric_families())
    samples, costs, floors = 0, [], []
    for tick in range(ticks + 1):
        view = SnapshotView(_snapshot(tick))
        time.sleep(PAUSE_SECONDS)
        began = time.process_time_ns()
        text = renderer.render(view).text()
        costs.append((time.process_time_ns() - began) / 1000)
        samples = samples_of(text)
        numbers = [(tick + 1) * 1.2345 * number for number in range(samples)]
        time.sleep(PAUSE_SECONDS)
        began = time.process_time_ns()
        for number in numbers:
            repr(number)
        floors.append((time.process_time_ns() - began) / 1000)
    median = statistics.median
    return Rendered(samples, median(costs[1:]) / samples, median(floors[1:]) / samples)


def scrape_exporter(directory: Path, scrapes: int, idle_seconds: float) -> Scraped:
    """Scrapes of a daemon that plays a host with `RUNS` runs."""
    directory.mkdir()
    fixture = directory / "host.json"
    fixture.write_text(json.dumps(_host()))
    daemon = Daemon(directory)
    process = start(daemon, EMISSIONS_EXPORTER_SAMPLE_REPLAY=str(fixture))
    try:
        until(lambda: len(daemon.json("/api/v1/snapshot")["runs"]) == RUNS, what="the runs play")
        return scrape(process.pid, daemon.port, scrapes, idle_seconds)
    finally:
        process.terminate()
        process.wait(20)


def scrape(pid: int, port: int, scrapes: int, idle_seconds: float) -> Scraped:
    """Scrapes over one connection, as Prometheus makes them, but 50 a second."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    _get(connection)
    began, before = time.monotonic(), cost.process_ms(pid)
    time.sleep(idle_seconds)
    after = cost.process_ms(pid)
    idle_ms_per_second = (after - before) / (time.monotonic() - began)
    walls, body = [], b""
    began, before = time.monotonic(), cost.process_ms(pid)
    for _ in range(scrapes):
        asked = time.perf_counter()
        body = _get(connection)
        walls.append((time.perf_counter() - asked) * 1000)
        time.sleep(SCRAPE_PAUSE_SECONDS)
    used = cost.process_ms(pid) - before
    idle = idle_ms_per_second * (time.monotonic() - began)
    connection.close()
    return Scraped(
        samples_of(body),
        (used - idle) / scrapes,
        statistics.median(walls),
        idle_ms_per_second,
        cost.resident_mb(pid),
    )


def starts(directory: Path, flags: tuple[str, ...], count: int) -> list[float]:
    """Wall time in ms from exec to the first page, of daemons that find a ledger.

    One that is not counted makes the ledger, and the byte code where there is none yet.
    """
    directory.mkdir()
    times = []
    for _ in range(count + 1):
        daemon = Daemon(directory, *flags)
        began = time.perf_counter()
        process = start(daemon)
        try:
            while not _answers(daemon.port):
                time.sleep(0.002)
                assert process.poll() is None, daemon.log()
                assert time.perf_counter() - began < 30, daemon.log()
            times.append((time.perf_counter() - began) * 1000)
        finally:
            process.terminate()
            process.wait(20)
    return times[1:]


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        return b"emissions_device_info" in _get(connection)
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
