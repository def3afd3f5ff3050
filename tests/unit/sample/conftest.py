import contextlib
import importlib.resources
import os

import pytest

from exporter.sample import power_sensors, threaded_collector
from tests.unit.sample.sysfs import SysfsTree

THREAD_TIMEOUT_SECONDS = 30.0


class ManualClock:
    """All three clocks, advanced by the test; a suspend advances only CLOCK_BOOTTIME."""

    def __init__(self) -> None:
        self.boot = 100_000_000_000
        self.mono = 100_000_000_000

    def boottime_ns(self) -> int:
        return self.boot

    def monotonic_ns(self) -> int:
        return self.mono

    def wall(self) -> float:
        return 1_700_000_000.0 + self.boot / 1e9

    def advance(self, seconds: float) -> None:
        self.boot += round(seconds * 1e9)
        self.mono += round(seconds * 1e9)

    def suspend(self, seconds: float) -> None:
        self.boot += round(seconds * 1e9)


CPUINFO = """\
processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Platinum 8480+
physical id\t: 0
siblings\t: 2
flags\t\t: fpu vme

processor\t: 1
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Platinum 8480+
physical id\t: 0
siblings\t: 2
flags\t\t: fpu vme
"""

BOOT_ID = "11111111-2222-3333-4444-555555555555"


class ProcTree:
    """A procfs with the files that the estimates read."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.write("cpuinfo", CPUINFO)
        self.write("meminfo", "MemTotal:       16000000 kB\nMemFree:          100000 kB\n")
        self.write("sys/kernel/random/boot_id", f"{BOOT_ID}\n")
        self.cpu(user=1000, idle=9000)

    def cpu(
        self, user=0, nice=0, system=0, idle=0, iowait=0, irq=0, softirq=0, steal=0, guest=0
    ) -> None:
        """The first line of stat, in clock ticks."""
        ticks = (user, nice, system, idle, iowait, irq, softirq, steal, guest, 0)
        self.write("stat", f"cpu  {' '.join(map(str, ticks))}\ncpu0 1 2 3 4 5 6 7 8 9 0\n")

    def write(self, name: str, text: str) -> None:
        path = os.path.join(self.root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)


@pytest.fixture
def open_files(tmp_path):
    """Number of files of this test that are open now in addition to those at its start."""

    def count():
        links = [os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
        return sum(_target(link).startswith(str(tmp_path)) for link in links)

    before = count()
    return lambda: count() - before


def _target(link: str) -> str:
    with contextlib.suppress(FileNotFoundError):  # another thread closed it
        return os.readlink(link)
    return ""


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def proc(tmp_path) -> ProcTree:
    return ProcTree(str(tmp_path / "proc"))


@pytest.fixture
def replay_path() -> str:
    """The recorded host in the package."""
    return str(importlib.resources.files("exporter.data") / "replay/two-socket.json")


@pytest.fixture
def sysfs(tmp_path):
    return SysfsTree(str(tmp_path / "sys"))


@pytest.fixture
def patient_ticks(monkeypatch):
    """Ticks wait for the threads of sensors and meters, whatever the load of the machine."""
    monkeypatch.setattr(power_sensors, "READ_TIMEOUT_SECONDS", THREAD_TIMEOUT_SECONDS)
    monkeypatch.setattr(threaded_collector, "FIRST_READ_TIMEOUT_SECONDS", THREAD_TIMEOUT_SECONDS)
