"""Pages of made-up machines, byte for byte, each read from a small /sys and /proc of its own.

`UPDATE_GOLDEN=1` writes the pages anew.
"""

import errno
import os
import re
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest

from exporter.attribute.sources.usernames import UsernameCache
from exporter.config import AccountConfig, Config, ConvertConfig, SampleConfig
from exporter.daemon import Daemon
from exporter.errors import RequestRefused
from exporter.model.commands import CommandRequest
from exporter.model.readings import DeviceKind
from exporter.sample import power_sensors
from exporter.sample.sources.gpu import collector
from exporter.sample.sources.gpu.gpu import Gpu
from exporter.sample.sources.intel_gpu import driver
from exporter.worker import deadline
from tests.agents import start_run
from tests.fakes import FakeClock
from tests.golden.test_pages import assert_parsed, stable

HOSTS = Path(__file__).parent / "hosts"
PCI = "bus/pci/devices"
SOON = 60.0
WATTS = {
    "two-socket-intel": {
        "intel-rapl:0": 200,  # wraps on the way
        "intel-rapl:0:0": 20,
        "intel-rapl:1": 150,
        "intel-rapl:1:0": 15,
    },
    "epyc-without-dram": {
        "intel-rapl:0": 180,
        "intel-rapl:0:0": 100,  # core, inside its package
        "intel-rapl:1": 160,
        "intel-rapl:1:0": 90,
    },
    "epyc-hsmp": {},  # 180 W and 160 W by HSMP
    "mirrored-dies": {
        "intel-rapl:0": 120,
        "intel-rapl:1": 120,  # the same counter once more
    },
    "laptop-with-psys": {
        "intel-rapl:0": 12,
        "intel-rapl:0:0": 7,
        "intel-rapl:0:1": 2,
        "intel-rapl:1": 25,  # psys, the whole machine
        "intel-rapl-mmio:0": 12,  # package-0 by another driver
    },
    "virtual-machine": {},
    "unreadable-counters": {  # as to all but root
        "intel-rapl:0": 200,
        "intel-rapl:0:0": 20,
        "intel-rapl:1": 150,
        "intel-rapl:1:0": 15,
    },
    "cgroup-v1": {"intel-rapl:0": 100},
    "cgroup-v2": {"intel-rapl:0": 100},
    "arc-desktop": {
        "intel-rapl:0": 90,
        "intel-rapl:0:0": 60,
        "intel-rapl:0:1": 10,  # uncore with the integrated graphics, inside the package
        f"{PCI}/0000:03:00.0/hwmon/hwmon5/energy1_input": 150,
        f"{PCI}/0000:76:00.0/hwmon/hwmon6/energy1_input": 120,
        f"{PCI}/0000:76:00.0/hwmon/hwmon6/energy2_input": 90,  # package, inside its card
    },
    "gpu-max": {
        "intel-rapl:0": 200,
        "intel-rapl:0:0": 20,
        "intel-rapl:1": 150,
        "intel-rapl:1:0": 15,
        f"{PCI}/0000:29:00.0/hwmon/hwmon7/energy1_input": 450,
        f"{PCI}/0000:29:00.0/hwmon/hwmon45/energy1_input": 200,  # a tile, inside its card
        f"{PCI}/0000:29:00.0/hwmon/hwmon6/energy1_input": 210,
        f"{PCI}/0000:4d:00.0/hwmon/hwmon8/energy1_input": 5,  # asleep
    },
}
"""All zones of each host, and counters of its GPUs, with their power."""
TICKS_PER_SECOND = 19_200_000
"""Of the clock of a GPU."""
GPU_WORK = {
    "arc-desktop": {
        "500/fdinfo/3": {"drm-cycles-ccs": 0.6 * TICKS_PER_SECOND},
        "500/fdinfo/4": {"drm-cycles-ccs": 0.6 * TICKS_PER_SECOND},  # a copy of the descriptor
        "600/fdinfo/3": {"drm-cycles-ccs": 0.3 * TICKS_PER_SECOND},
        "500/fdinfo/5": {"drm-engine-compute": 800_000_000},
    }
}
"""What clients of GPUs use in a second, of TICKS_PER_SECOND or in nanoseconds."""
SECONDS = 15
"""Longer than the detection of duplicate counters takes."""
BUSY_TICKS, IDLE_TICKS = 40, 160
"""CPU time of all threads in a second, in clock ticks."""
PROCESS_TICKS = {500: 10, 600: 5}
"""CPU time of single processes in a second, if a host has some, in clock ticks."""
CGROUP_TICKS = 20
"""That of the cgroup that 600 is in, and from which 15 of them came and went unseen."""
CLOCKS = {
    "cgroup-v1": ("cpu,cpuacct/batch.slice/train.scope/cpuacct.usage", 10_000_000),
    "cgroup-v2": ("batch.slice/train.scope/cpu.stat", 10_000),
}
"""The file under /sys/fs/cgroup with a cgroup's clock, and how far a clock tick moves it."""
REGISTERED = start_run(1001, "ada", 600, "train", scope="cgroup")
"""A run that is charged by the clock of its cgroup; 500 says in its environment which run it is."""


class Host:
    """A copy of a host's tree whose counters can be advanced."""

    def __init__(self, name: str, root: Path) -> None:
        shutil.copytree(HOSTS / name, root, symlinks=True)
        self.sysfs, self.procfs = root / "sys", root / "proc"
        self._watts = WATTS[name]
        self._clock = CLOCKS.get(name)
        self._gpu_work = GPU_WORK.get(name, {})
        mounted = self.procfs / "self/mountinfo"
        mounted.write_text(mounted.read_text().replace(" /sys/", f" {self.sysfs}/"))

    def second(self) -> None:
        """Advance every counter by one second, in place, as the kernel does."""
        for zone, watts in self._watts.items():
            if zone.startswith(PCI):
                _add(self.sysfs / zone, 0, watts * 1_000_000)
            else:
                self._count(self.sysfs / "class/powercap" / zone, watts * 1_000_000)
        for client, work in self._gpu_work.items():
            total = {key.replace("cycles", "total-cycles"): TICKS_PER_SECOND for key in work}
            for key, amount in {**total, **work}.items():
                _add_to_key(self.procfs / client, key, round(amount))
        stat = self.procfs / "stat"
        first, rest = stat.read_text().split("\n", 1)
        name, user, nice, system, idle, *others = first.split()
        user, idle = str(int(user) + BUSY_TICKS), str(int(idle) + IDLE_TICKS)
        stat.write_text(" ".join([name, user, nice, system, idle, *others]) + "\n" + rest)
        if self._clock is not None:
            self._use_cpu(*self._clock)

    def _use_cpu(self, clock: str, units_per_tick: int) -> None:
        for pid, ticks in PROCESS_TICKS.items():
            _add(self.procfs / str(pid) / "stat", 13, ticks)
        number = 1 if clock.endswith("cpu.stat") else 0
        _add(self.sysfs / "fs/cgroup" / clock, number, CGROUP_TICKS * units_per_tick)

    @staticmethod
    def _count(zone: Path, energy_uj: int) -> None:
        wrap_uj = int((zone / "max_energy_range_uj").read_text()) + 1
        counter = zone / "energy_uj"
        counter.write_text(f"{(int(counter.read_text()) + energy_uj) % wrap_uj}\n")


def _add(path: Path, place: int, amount: int) -> None:
    """Add to the number at a place among the words of a file."""
    words = re.split(r"(\s+)", path.read_text())
    words[2 * place] = str(int(words[2 * place]) + amount)
    path.write_text("".join(words))


def _add_to_key(path: Path, key: str, amount: int) -> None:
    """Add to the number after a key."""
    count = re.compile(rf"(?<={key}:\t)\d+")
    path.write_text(count.sub(lambda found: str(int(found[0]) + amount), path.read_text()))


def _refuse_counters(monkeypatch) -> None:
    """Have the kernel refuse them; modes of files would not do for tests that root runs."""
    real = os.open

    def guarded(path, *arguments, **named):
        if str(path).endswith("/energy_uj"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return real(path, *arguments, **named)

    monkeypatch.setattr(os, "open", guarded)


class PerTick:
    """SharedCall by the clock of the test."""

    def __init__(self, work, _):
        self._work, self._lock = work, threading.Lock()
        self._at_ns, self._result = 0, None

    def result(self):
        with self._lock:
            now_ns = self._work.__self__._clock.boottime_ns()
            if self._at_ns != now_ns:
                self._at_ns, self._result = now_ns, self._work()
            return self._result


@pytest.fixture
def gpus(monkeypatch):
    """What is asked of a GPU in a tick is there in that tick, however busy this machine is."""
    monkeypatch.setattr(collector, "READ_TIMEOUT_SECONDS", SOON)
    monkeypatch.setattr(collector, "FIRST_READ_TIMEOUT_SECONDS", SOON)
    monkeypatch.setattr(Gpu, "activity", lambda gpu: gpu._activity_worker.result(deadline(SOON)))
    monkeypatch.setattr(driver, "SharedCall", PerTick)


@pytest.fixture(params=sorted(WATTS))
def name(request):
    return request.param


@pytest.fixture
def current(name, tmp_path, monkeypatch, gpus):
    """Return the page after some seconds; the exporter itself uses no CPU time."""
    monkeypatch.setattr(time, "process_time_ns", lambda: 0)
    monkeypatch.setattr(power_sensors, "READ_TIMEOUT_SECONDS", 30.0)  # on a busy machine too
    monkeypatch.setattr(
        UsernameCache, "name", lambda _, uid: str(uid)
    )  # no directory of users here
    if name == "unreadable-counters":
        _refuse_counters(monkeypatch)
    host, clock = Host(name, tmp_path / "host"), FakeClock()
    config = Config(
        SampleConfig(sysfs=str(host.sysfs), procfs=str(host.procfs)),
        convert=ConvertConfig(zone="DE", pue=1.2),
        account=AccountConfig(state_directory=str(tmp_path / "state")),
    )
    app = Daemon(config, {}, clock)
    answers = []
    app.loop.run_tick([CommandRequest(REGISTERED, answers.append)] if name in CLOCKS else [])
    for _ in range(SECONDS):
        clock.advance(1)
        host.second()
        app.loop.run_tick([])
    app.close()
    assert not any(isinstance(answer, RequestRefused) for answer in answers), answers
    return app.publisher.current


@pytest.fixture
def page(current):
    return current.metrics_page


def test_page_equals_the_golden_page(name, page):
    shown, kept = stable(page.text().decode()), HOSTS / f"{name}.metrics"
    if os.environ.get("UPDATE_GOLDEN"):
        kept.write_text(shown)
    assert shown == kept.read_text()


def test_both_formats_have_the_same_values(page):
    assert_parsed(page)


@pytest.mark.real
def test_page_satisfies_promtool(page):
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool is not installed; it comes with Prometheus")
    done = subprocess.run(
        [tool, "check", "metrics"], input=page.text(), capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


@pytest.mark.parametrize("name", ["unreadable-counters"], indirect=True)
def test_unreadable_counters_are_reported_once_with_the_remedy(current):
    (note,) = [note for note in current.snapshot.notes if note.startswith("rapl: ")]
    assert "only root may read it" in note
    assert "udev rule" in note


@pytest.mark.parametrize("name", sorted(CLOCKS), indirect=True)
def test_cpu_time_of_a_run_is_that_of_its_cgroup_or_of_its_processes(current):
    """Of 40 busy ticks a second the cgroup has 20 and the other run 10."""
    used = {run.key: 0 for run in current.snapshot.runs}
    for row in current.snapshot.rows:
        if row.target in used and row.device.kind is DeviceKind.CPU:
            used[row.target] += row.balance.total.energy_uj
    by_id = {run.run_id: energy_uj for run, energy_uj in used.items()}
    assert by_id["train"] == 2 * by_id["nightly"] > 0


@pytest.mark.parametrize("host", sorted(WATTS))
def test_every_zone_and_gpu_of_a_host_has_its_power(host):
    sysfs = HOSTS / host / "sys"
    zones = {zone.name for zone in (sysfs / "class/powercap").glob("*")}
    counters = {
        str(path.relative_to(sysfs)) for path in sysfs.glob(f"{PCI}/*/hwmon/*/energy*_input")
    }
    assert zones | counters == set(WATTS[host])
