"""What GPUs add: a daemon over the made-up driver, with one process on each card."""

import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.bench import cost
from tests.bench.scene import SETTLE_SECONDS, start
from tests.nvml.fake import FakeNvml, build
from tests.real.parts import Daemon, get, until

COUNTS = (1, 2, 4, 8, 16)
FIRST_PID = 100_000_000
"""Beyond every real one."""


class GpuStep(NamedTuple):
    """The cost of so many cards."""

    gpus: int
    ticks: Sequence[float]
    """CPU time of the main thread in ms."""
    whole_ms: float
    """CPU time per second of all threads, the made-up driver's own included."""
    driver_ms: float
    """Time per second inside calls into the driver, by the exporter's own metric."""
    rss_mb: float


def steps(directory: Path, ticks: int) -> Iterator[GpuStep]:
    """The curve; each step with a daemon of its own."""
    library = build(directory / "library")
    for count in COUNTS:
        yield _step(directory / str(count), library, count, ticks)


def _step(directory: Path, library: Path, count: int, ticks: int) -> GpuStep:
    fake = FakeNvml(directory / "fake", _host(count))
    empty = directory / "sys"
    empty.mkdir()
    daemon = Daemon(directory / "daemon", f"--path.sysfs={empty}", "--log.level=error")
    process = start(daemon, **fake.environment(library))
    try:
        until(lambda: len(daemon.devices()) > count, what="the GPUs are shown")
        time.sleep(SETTLE_SECONDS)
        began, whole, inside = time.monotonic(), cost.process_ms(process.pid), _driver_ms(daemon)
        at_ns = daemon.json("/api/v1/snapshot")["at_ns"]
        measured = list(cost.ticks(process.pid, at_ns, ticks))
        seconds = time.monotonic() - began
        return GpuStep(
            count,
            measured,
            (cost.process_ms(process.pid) - whole) / seconds,
            (_driver_ms(daemon) - inside) / seconds,
            cost.resident_mb(process.pid),
        )
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(directory)


def _driver_ms(daemon: Daemon) -> float:
    name = b"emissions_driver_call_seconds_total{"
    lines = get(f"{daemon.url}/metrics").splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name)) * 1000


def _host(count: int) -> dict[str, Any]:
    gpus = [
        {
            "kind": "gpu",
            "id": f"GPU-{number}",
            "model": "made up",
            "power_limit_watts": 700,
            "watts": [[0, 100], [300, 600]],
        }
        for number in range(count)
    ]
    strangers = [
        {
            "id": gpu["id"],
            "pid": FIRST_PID + number,
            "starts": 0,
            "ends": 600,
            "active": [[0, 0.5]],
        }
        for number, gpu in enumerate(gpus)
    ]
    return {"period_seconds": 600, "devices": gpus, "strangers": strangers}
