"""What GPUs add: a daemon over the made-up driver, with one process on each card."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.bench import cost
from tests.bench.scene import SETTLE_SECONDS, compiled, running
from tests.nvml.fake import FakeNvml, build
from tests.real.parts import Daemon, get, until

COUNTS = (1, 2, 4, 8, 16)
FIRST_PID = 100_000_000
"""Beyond every real one."""


class GpuStep(NamedTuple):
    """The cost of so many cards."""

    step: cost.Step
    """All threads include those of the made-up driver."""
    driver_ms: float
    """Time per second inside calls into the driver, by the exporter's own metric."""


def steps(directory: Path, ticks: int) -> Iterator[GpuStep]:
    """The curve; each step with a daemon of its own."""
    library = build(directory / "library")
    floor = compiled("floor", directory)
    for count in COUNTS:
        yield _step(directory / str(count), library, floor, count, ticks)


def _step(directory: Path, library: Path, floor: str, count: int, ticks: int) -> GpuStep:
    fake = FakeNvml(directory / "fake", _host(count))
    empty = directory / "sys"
    empty.mkdir()
    daemon = Daemon(directory / "daemon", f"--path.sysfs={empty}", "--log.level=error")
    with running(daemon, **fake.environment(library)):
        until(lambda: len(daemon.devices()) > count, what="the GPUs are shown")
        time.sleep(SETTLE_SECONDS)
        began, inside = time.monotonic(), _driver_ms(daemon)
        step = cost.step(count, daemon, ticks, floor, ["/proc/stat"])
        return GpuStep(step, (_driver_ms(daemon) - inside) / (time.monotonic() - began))


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
