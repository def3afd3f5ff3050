"""The collector `nvml` with the fake driver, in this process."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from exporter.clock import SystemClock
from exporter.model.readings import Observation, Reading
from exporter.sample.sources.gpu import collector
from exporter.sample.sources.gpu.collector import GpuCollector
from exporter.sample.sources.nvml import NvmlDriver
from exporter.worker import wait_until
from tests.nvml.fake import FakeNvml, attach

LOOK_SECONDS = 0.02
SOON = 30.0
"""Timeout that is far longer than any wait here takes."""
SHORT = 0.1
"""Timeout for calls that hang."""


def gpu(number: int, **more: Any) -> dict[str, Any]:
    """A GPU that draws 100 W, 200 W and so on."""
    return {
        "kind": "gpu",
        "id": f"GPU-{number}",
        "model": "NVIDIA H200",
        "pci_bus_id": f"00000000:{number + 1:02X}:00.0",
        "power_limit_watts": 700,
        "watts": [[0, 100 * (number + 1)]],
        **more,
    }


def host(*gpus: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"period_seconds": 600, "devices": list(gpus), **more}


def make_collector(sysfs: Path, clock: Any) -> GpuCollector:
    driver = NvmlDriver(str(sysfs), clock)
    return GpuCollector(driver, str(sysfs), clock, "boot", LOOK_SECONDS)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler, so there is no made-up driver; apt-get install gcc libc6-dev")
    return tmp_path_factory.mktemp("nvml")


class Bench:
    """A collector and its fake driver."""

    def __init__(self, directory: Path, described: dict[str, Any], clock: Any) -> None:
        self.fake = FakeNvml(directory / "fake", described)
        self.sysfs = directory / "sys"
        self.nvml = make_collector(self.sysfs, clock)

    def read(self) -> Observation:
        return self.nvml.read()

    def readings(self) -> dict[str, Reading]:
        return {reading.device.id: reading for reading in self.read().readings}

    def until(self, condition: Callable[[Observation], bool]) -> Observation:
        """Return the first observation that meets the condition."""
        seen: list[Observation] = []

        def is_met() -> bool:
            seen[:] = [self.read()]
            return condition(seen[0])

        assert wait_until(is_met, SOON), seen
        return seen[0]

    def is_healthy(self, observation: Observation) -> bool:
        """Whether every GPU has energy and power."""
        count = len(self.fake.gpus)
        return len(observation.readings) == count and all(
            reading.counter_uj and reading.power_watts for reading in observation.readings
        )


@pytest.fixture
def impatient(bench: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use short timeouts for a driver that hangs."""
    monkeypatch.setattr(collector, "READ_TIMEOUT_SECONDS", SHORT)
    monkeypatch.setattr(collector, "FIRST_READ_TIMEOUT_SECONDS", SHORT)


@pytest.fixture
def bench(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Bench]]:
    """Makes a collector over cards; the first two of the plain sort where none are given.

    However busy this machine is, what is asked for in a reading is there in that reading, unless
    the test is `impatient`.
    """
    attach(library, tmp_path / "fake", monkeypatch)
    monkeypatch.setattr(collector, "READ_TIMEOUT_SECONDS", SOON)
    monkeypatch.setattr(collector, "FIRST_READ_TIMEOUT_SECONDS", SOON)
    made: list[Bench] = []

    def make(*gpus: dict[str, Any], clock: Any = None, **more: Any) -> Bench:
        described = host(*(gpus or (gpu(0), gpu(1))), **more)
        made.append(Bench(tmp_path, described, clock or SystemClock()))
        return made[0]

    yield make
    for each in made:
        each.fake.heal()
        each.nvml.release()
