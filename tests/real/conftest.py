"""One scene, many witnesses: a known truth is played once, and each test asserts one fact of it."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from tests.feeder import Steps, Truth
from tests.real.clocks import Clocks
from tests.real.parts import (
    LONG_SECONDS,
    REPOSITORY,
    Daemon,
    Prometheus,
    again,
    busy,
    metered,
    spin,
    until,
)

KILL_SECONDS, ABSENT_SECONDS, LAST_SECONDS = 27, 5, 60
WRAP_AFTER_JOULES = 1_500
PACKAGES = ["100:20", "60:10"]
RULES = REPOSITORY / "deploy" / "prometheus" / "rules" / "*.yaml"

TWIN_CPU_SECONDS = 4.0
CHILDREN, CHILD_CPU_SECONDS = 20, 0.15


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.real)


@pytest.fixture
def clocks() -> Clocks:
    """Those of this machine, since the test began."""
    return Clocks()


@dataclass
class Scene:
    """What was recorded while the scene was played."""

    root: Path
    truth: Truth
    rapl: Daemon
    estimated: Daemon
    prometheus: Prometheus
    snapshots: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By moment: those of MOMENTS, in this order."""
    receipt: str = ""
    record: dict[str, Any] = field(default_factory=dict)
    stop_code: int = -1
    paces: dict[str, float] = field(default_factory=dict)
    """Of the machine's clocks, while a run worked."""

    @cached_property
    def steps(self) -> Steps:
        """All that were played; for when the scene is over."""
        return Steps(str(self.root / "sys" / "steps"))

    def shown_uj(self, zone: str, at_ns: int) -> int:
        """The energy that a counter truly showed at a moment."""
        return self.truth.shown_uj(zone, at_ns, self.steps)

    def look(self, moment: str) -> None:
        self.snapshots[moment] = self.rapl.json("/api/v1/snapshot")

    def cpu_seconds(self, run_id: str) -> float:
        """What the kernel told the command of the run itself."""
        return float(self.meter(run_id).read_text())

    def meter(self, run_id: str) -> Path:
        return self.root / f"{run_id}.cpu"


MOMENTS = (
    "first",
    "twins_ended",
    "before_kill",
    "after_kill",
    "before_restart",
    "after_restart",
    "last",
)


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """60 s of two fake RAPL packages beside a daemon that estimates; both are killed midway."""
    if shutil.which("prometheus") is None:
        pytest.skip("no prometheus on this machine: `make test` as root installs it")
    root = tmp_path_factory.mktemp("scene")
    sysfs, empty = root / "sys", root / "empty"
    empty.mkdir()
    with ExitStack() as ends:
        feeder = subprocess.Popen(
            [
                *(sys.executable, str(REPOSITORY / "tests" / "feeder.py"), f"--root={sysfs}"),
                *(f"--package={package}" for package in PACKAGES),
                *("--step=0.005", f"--seconds={LAST_SECONDS + 600}"),
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
        daemons = {"rapl": rapl, "estimated": estimated}
        prometheus = Prometheus(root / "prometheus", daemons, str(RULES))
        ends.callback(prometheus.stop)
        scene = Scene(root, truth, rapl, estimated, prometheus)
        play(scene, ends)
        yield scene


def play(scene: Scene, ends: ExitStack) -> None:
    """Two equal runs and a quiet one, a kill, a run with children and a short one, a restart.

    One run lives through the kill, and the quiet one through everything.
    """
    rapl, snapshots = scene.rapl, scene.snapshots
    snapshots["first"] = until(lambda: full(rapl), what="first energies")
    begin_ns = snapshots["first"]["at_ns"]
    quiet = rapl.run("--run-id=quiet", "--", "sleep", "600")
    ends.callback(quiet.communicate)
    ends.callback(quiet.terminate)
    long = rapl.run("--run-id=long", "--job-id=j1", "--", *busy(KILL_SECONDS + 18))
    also = scene.estimated.run("--run-id=also", "--", *busy(KILL_SECONDS + 18))
    clocks = Clocks()
    twins = [metered_run(scene, name, spin(TWIN_CPU_SECONDS)) for name in ("twin-1", "twin-2")]
    for twin in twins:
        twin.communicate(timeout=LONG_SECONDS)
    scene.paces["twin-1"] = clocks.pace
    scene.look("twins_ended")

    until(lambda: past(rapl, begin_ns, KILL_SECONDS), 60)
    scene.look("before_kill")
    rapl.kill()
    scene.estimated.kill()
    killed_ns = now_ns()
    until(lambda: now_ns() - killed_ns >= ABSENT_SECONDS * 1e9)
    rapl.start()
    scene.estimated.start()
    scene.look("after_kill")

    output = scene.root / "record.json"
    clocks = Clocks()
    children = metered_run(scene, "children", again(CHILDREN, spin(CHILD_CPU_SECONDS)))
    short = rapl.run("--run-id=short", f"--output={output}", "--", *busy(5))
    _, text = short.communicate(timeout=LONG_SECONDS)
    scene.receipt = text.decode()
    scene.record = json.loads(output.read_text())
    children.communicate(timeout=LONG_SECONDS)
    scene.paces["children"] = clocks.pace
    for run in (long, also):
        run.communicate(timeout=LONG_SECONDS)

    scene.look("before_restart")
    scene.stop_code = rapl.stop()
    rapl.start()
    scene.look("after_restart")
    until(lambda: past(rapl, begin_ns, LAST_SECONDS), 60)
    scene.look("last")
    seen = scene.prometheus
    until(lambda: seen.query('emissions_run_end_time_seconds{run_id="long"}'))


def metered_run(scene: Scene, run_id: str, command: list[str]) -> "subprocess.Popen[bytes]":
    return scene.rapl.run(f"--run-id={run_id}", "--", *metered(scene.meter(run_id), command))


def full(daemon: Daemon) -> dict[str, Any] | None:
    snapshot: dict[str, Any] = daemon.json("/api/v1/snapshot")
    energies = [device["counted"]["energy_uj"] for device in snapshot["devices"]]
    return snapshot if energies and all(energies) else None


def past(daemon: Daemon, begin_ns: int, seconds: float) -> bool:
    return bool(daemon.json("/api/v1/snapshot")["at_ns"] - begin_ns >= seconds * 1e9)


def now_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)
