"""Pages of made-up machines, byte for byte, each read from a small /sys and /proc of its own.

`UPDATE_GOLDEN=1` writes the pages anew.
"""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.app import App
from exporter.config import Account, Config, Convert, Sample
from tests.fakes import FakeClock
from tests.golden.test_pages import stable

HOSTS = Path(__file__).parent / "hosts"
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
}
"""Each host's zones and their power; every zone of its tree is here."""
SECONDS = 15
"""Longer than it takes to find out which packages mirror each other."""
BUSY_TICKS, IDLE_TICKS = 40, 160
"""CPU time of all threads in a second, in clock ticks."""


class Host:
    """A copy of a host's tree, in which time can pass."""

    def __init__(self, name: str, root: Path) -> None:
        shutil.copytree(HOSTS / name, root)
        self.sysfs, self.procfs = root / "sys", root / "proc"
        self._watts = WATTS[name]

    def second(self) -> None:
        """Advance every counter by one second, in place, as the kernel does."""
        for zone, watts in self._watts.items():
            self._count(self.sysfs / "class/powercap" / zone, watts * 1_000_000)
        stat = self.procfs / "stat"
        first, rest = stat.read_text().split("\n", 1)
        name, user, nice, system, idle, *others = first.split()
        user, idle = str(int(user) + BUSY_TICKS), str(int(idle) + IDLE_TICKS)
        stat.write_text(" ".join([name, user, nice, system, idle, *others]) + "\n" + rest)

    @staticmethod
    def _count(zone: Path, energy_uj: int) -> None:
        wrap_uj = int((zone / "max_energy_range_uj").read_text()) + 1
        counter = zone / "energy_uj"
        counter.write_text(f"{(int(counter.read_text()) + energy_uj) % wrap_uj}\n")


@pytest.fixture(params=sorted(WATTS))
def name(request):
    return request.param


@pytest.fixture
def page(name, tmp_path, monkeypatch):
    """The page after some seconds; the exporter itself uses no CPU time."""
    monkeypatch.setattr(time, "process_time_ns", lambda: 0)
    host, clock = Host(name, tmp_path / "host"), FakeClock()
    config = Config(
        Sample(sysfs=str(host.sysfs), procfs=str(host.procfs)),
        convert=Convert(zone="DE", pue=1.2),
        account=Account(state_directory=str(tmp_path / "state")),
    )
    app = App(config, {}, clock)
    app.pipeline.tick()
    for _ in range(SECONDS):
        clock.advance(1)
        host.second()
        app.pipeline.tick()
    page = app.board.current.page
    app.close()
    return page


def test_page_is_the_one_that_is_kept(name, page):
    shown, kept = stable(page.text().decode()), HOSTS / f"{name}.metrics"
    if os.environ.get("UPDATE_GOLDEN"):
        kept.write_text(shown)
    assert shown == kept.read_text()


def test_both_formats_are_parsed_and_say_the_same(page):
    def values(families):
        return {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }

    text, openmetrics = page.text().decode(), page.openmetrics().decode()
    assert values(parse_text(text)) == values(parse_openmetrics(openmetrics)) != {}


@pytest.mark.real
def test_page_satisfies_promtool(page):
    tool = shutil.which("promtool")
    if tool is None:
        pytest.skip("promtool is not installed; it comes with Prometheus")
    done = subprocess.run(
        [tool, "check", "metrics"], input=page.text(), capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


@pytest.mark.parametrize("host", sorted(WATTS))
def test_every_zone_of_a_host_has_its_power(host):
    powercap = HOSTS / host / "sys/class/powercap"
    assert {zone.name for zone in powercap.glob("*")} == set(WATTS[host])
