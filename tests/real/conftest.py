"""One scene, many witnesses: a known truth is played once, and each test asserts one fact of it."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.feeder import Truth
from tests.real.parts import REPOSITORY, Daemon, Prometheus, busy, until

BEFORE_SECONDS, ABSENT_SECONDS, AFTER_SECONDS = 27, 5, 28
WRAP_AFTER_JOULES = 1_500
PACKAGES = ["100:20", "60:10"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.real)


@dataclass
class Scene:
    """What was recorded while the scene was played."""

    truth: Truth
    rapl: Daemon
    estimated: Daemon
    prometheus: Prometheus
    first: dict[str, Any] = field(default_factory=dict)
    before_kill: dict[str, Any] = field(default_factory=dict)
    after_kill: dict[str, Any] = field(default_factory=dict)
    last: dict[str, Any] = field(default_factory=dict)
    receipt: str = ""
    record: dict[str, Any] = field(default_factory=dict)


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """60 s of two fake RAPL packages beside a daemon that estimates; both are killed midway."""
    if shutil.which("prometheus") is None:
        pytest.skip("no prometheus on this machine: `make test` as root installs it")
    root = tmp_path_factory.mktemp("scene")
    sysfs, empty = root / "sys", root / "empty"
    empty.mkdir()
    seconds = BEFORE_SECONDS + ABSENT_SECONDS + AFTER_SECONDS
    with ExitStack() as ends:
        feeder = subprocess.Popen(
            [
                *(sys.executable, str(REPOSITORY / "tests" / "feeder.py"), f"--root={sysfs}"),
                *(f"--package={package}" for package in PACKAGES),
                *("--step=0.005", f"--seconds={seconds + 60}"),
                f"--wrap-package-0-after-joules={WRAP_AFTER_JOULES}",
            ]
        )
        ends.callback(feeder.wait)
        ends.callback(feeder.terminate)
        truth = until(lambda: Truth.read(str(sysfs / "truth.json")), what="the feeder plays")
        rapl = Daemon(root / "rapl", f"--path.sysfs={sysfs}")
        estimated = Daemon(root / "estimated", f"--path.sysfs={empty}")
        for daemon in (rapl, estimated):
            ends.callback(daemon.stop)
            daemon.start()
        prometheus = Prometheus(root / "prometheus", {"rapl": rapl, "estimated": estimated})
        ends.callback(prometheus.stop)
        scene = Scene(truth, rapl, estimated, prometheus)
        play(scene, root)
        yield scene


def play(scene: Scene, root: Path) -> None:
    """A run that lives through the kill, and one that begins and ends after it."""
    rapl = scene.rapl
    scene.first = until(lambda: full(rapl), what="first energies")
    begin_ns = scene.first["at_ns"]
    long = rapl.run("--run-id=long", "--job-id=j1", "--", *busy(BEFORE_SECONDS + 20))
    also = scene.estimated.run("--run-id=also", "--", *busy(BEFORE_SECONDS + 20))
    until(lambda: past(rapl, begin_ns, BEFORE_SECONDS), 60)
    scene.before_kill = rapl.json("/api/v1/snapshot")
    rapl.kill()
    scene.estimated.kill()
    until(lambda: now_ns() - begin_ns >= (BEFORE_SECONDS + ABSENT_SECONDS) * 1e9)
    rapl.start()
    scene.estimated.start()
    scene.after_kill = rapl.json("/api/v1/snapshot")
    output = root / "record.json"
    short = rapl.run("--run-id=short", f"--output={output}", "--", *busy(8))
    _, text = short.communicate(timeout=30)
    scene.receipt = text.decode()
    scene.record = json.loads(output.read_text())
    long.communicate(timeout=60)
    also.communicate(timeout=60)
    until(lambda: past(rapl, begin_ns, BEFORE_SECONDS + ABSENT_SECONDS + AFTER_SECONDS), 60)
    scene.last = rapl.json("/api/v1/snapshot")
    seen = scene.prometheus
    until(lambda: seen.query('emissions_run_end_time_seconds{run_id="long"}'), 20)


def full(daemon: Daemon) -> dict[str, Any] | None:
    snapshot: dict[str, Any] = daemon.json("/api/v1/snapshot")
    energies = [device["counted"]["energy_uj"] for device in snapshot["devices"]]
    return snapshot if energies and all(energies) else None


def past(daemon: Daemon, begin_ns: int, seconds: float) -> bool:
    return bool(daemon.json("/api/v1/snapshot")["at_ns"] - begin_ns >= seconds * 1e9)


def now_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
