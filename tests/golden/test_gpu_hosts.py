"""Pages of hosts with GPUs, byte for byte: read through the made-up driver, and as replayed.

`UPDATE_GOLDEN=1` writes the pages anew.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from exporter.config import AccountConfig, Config, ConvertConfig, SampleConfig
from exporter.daemon import Daemon
from exporter.data import DIRECTORY
from exporter.sample.sources.gpu import collector
from exporter.sample.sources.gpu.gpu import Gpu
from exporter.worker import deadline
from tests.fakes import FakeClock
from tests.golden.test_pages import assert_parsed, stable
from tests.nvml.fake import FakeNvml, attach

HOSTS = Path(__file__).parent / "gpu_hosts"
FILES = {path.stem: path for path in [*HOSTS.glob("*.json"), DIRECTORY / "replay/eight-gpu.json"]}
SECONDS = 30
SOON = 60.0
CALLS = re.compile(r"^emissions_driver_call")
MACHINE = Path(__file__).parent / "hosts" / "virtual-machine"


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    if shutil.which("cc") is None:
        pytest.skip("no C compiler, so there is no made-up driver; apt-get install gcc libc6-dev")
    return tmp_path_factory.mktemp("nvml")


def play(app, clock, second=lambda: None):
    """Return the page after some seconds."""
    app.pipeline.tick()
    for _ in range(SECONDS):
        clock.advance(1)
        second()
        app.pipeline.tick()
    page = app.publisher.current.metrics_page
    app.close()
    return page


def kept(page, path):
    """Compare with the golden page, except numbers and durations of calls."""
    shown = "".join(
        line for line in stable(page.text().decode()).splitlines(True) if not CALLS.match(line)
    )
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(shown)
    assert shown == path.read_text()


def config(directory, **sample):
    return Config(
        SampleConfig(**sample),
        convert=ConvertConfig(zone="DE", pue=1.2),
        account=AccountConfig(state_directory=str(directory / "state")),
    )


@pytest.mark.parametrize("name", sorted(FILES))
def test_page_read_through_the_driver(name, library, tmp_path, monkeypatch):
    attach(library, tmp_path / "fake", monkeypatch)
    # What is asked for in a tick is there in that tick, however busy this machine is.
    monkeypatch.setattr(collector, "READ_TIMEOUT_SECONDS", SOON)
    monkeypatch.setattr(collector, "FIRST_READ_TIMEOUT_SECONDS", SOON)
    monkeypatch.setattr(Gpu, "activity", lambda card: card._activity_worker.result(deadline(SOON)))
    clock = FakeClock()
    fake = FakeNvml(tmp_path / "fake", json.loads(FILES[name].read_text()))
    fake.set_time(clock.now_ns / 1e9, clock.wall())
    only_gpus = dict.fromkeys(("rapl", "cpu_estimate", "dram_estimate"), False)
    machine = {"sysfs": str(tmp_path), "procfs": str(MACHINE / "proc")}
    app = Daemon(config(tmp_path, collectors=only_gpus, **machine), {}, clock)
    page = play(app, clock, lambda: fake.set_time(clock.now_ns / 1e9, clock.wall()))
    kept(page, HOSTS / f"{name}.driver.metrics")
    assert_parsed(page)


@pytest.mark.parametrize("name", sorted(FILES.keys() - {"vgpu-guest"}))
def test_page_as_replayed(name, tmp_path):
    clock = FakeClock()
    page = play(Daemon(config(tmp_path, replay=str(FILES[name])), {}, clock), clock)
    kept(page, HOSTS / f"{name}.replay.metrics")
    assert_parsed(page)


@pytest.mark.real
def test_golden_pages_satisfy_promtool():
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool is not installed; it comes with Prometheus")
    for path in HOSTS.glob("*.metrics"):
        done = subprocess.run(
            [tool, "check", "metrics"], input=path.read_bytes(), capture_output=True, check=False
        )
        assert (done.returncode, done.stdout + done.stderr) == (0, b""), path.name


def test_a_gpu_without_a_driver_is_reported_and_the_rest_works(tmp_path):
    card = tmp_path / "bus/pci/devices/0000:01:00.0"
    card.mkdir(parents=True)
    (card / "vendor").write_text("0x10de\n")
    (card / "class").write_text("0x030200\n")
    program = (
        "import sys; from exporter.clock import SystemClock\n"
        "from exporter.sample.sources.gpu import collector\n"
        "from exporter.sample.sources.nvml import NvmlDriver\n"
        "collector.FIRST_READ_TIMEOUT_SECONDS = 60.0\n"
        "sysfs, clock = sys.argv[1], SystemClock()\n"
        "gpus = collector.GpuCollector(NvmlDriver(sysfs, clock), sysfs, clock, 'boot')\n"
        "print(gpus.read().error)"
    )
    said = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "libnvidia-ml.so.1 not found" in said.stdout
