"""Devices, rest and meter of a node add up on the page of a daemon, also after a crash."""

import json
import re
import shutil
from pathlib import Path

import pytest

from exporter.config import AccountConfig, Config, SampleConfig
from exporter.daemon import Daemon
from exporter.expose.api.documents import snapshot_to_json
from exporter.sample import threaded_collector
from exporter.sample.sources import pm_counters
from tests.fakes import FakeClock
from tests.feeder import Package, PowercapTree

TIMEOUT_SECONDS = 30.0
NODE_WATTS = 200
PROCFS = str(Path(__file__).parents[1] / "golden/hosts/two-socket-intel/proc")
SAMPLE = re.compile(r"^(emissions_\w+)\{([^}]*)\} (\S+)$", re.MULTILINE)


class Machine:
    """A socket of 100 W and its memory of 20 W in a Cray node of 200 W, and its daemons."""

    def __init__(self, root, tree):
        self._root, self._tree, self._clock, self._number = root, tree, FakeClock(), 0
        (root / "sys/cray/pm_counters").mkdir(parents=True)
        self._joules = 10**9
        self._show()
        self.start()

    def start(self):
        config = Config(
            SampleConfig(sysfs=str(self._root / "sys"), procfs=PROCFS),
            account=AccountConfig(state_directory=str(self._root / f"state{self._number}")),
        )
        self.daemon = Daemon(config, {}, self._clock)
        self.daemon.loop.run_tick([])

    def crash(self):
        """Start a daemon with the files that this one has at this moment."""
        state = self._root / f"state{self._number}"
        self._number += 1
        shutil.copytree(state, self._root / f"state{self._number}")
        self.daemon.close()
        self.start()

    def advance(self, seconds=1):
        self._clock.advance(seconds)
        self._tree.advance(seconds)
        self._joules += NODE_WATTS * seconds
        self._show()

    def tick(self):
        self.advance()
        self.daemon.loop.run_tick([])
        return self.joules()

    def joules(self):
        """Return the energy counter of each kind of device, and that of the meter."""
        text = self.daemon.publisher.current.metrics_page.text().decode()
        sums = {}
        for name, labels, value in SAMPLE.findall(text):
            if name == "emissions_device_energy_joules_total":
                kind = re.search('device="([a-z]+)"', labels)[1]
                sums[kind] = sums.get(kind, 0) + float(value)
            elif name == "emissions_node_energy_joules_total":
                sums["meter"] = float(value)
        return sums

    def _show(self):
        path = self._root / "sys/cray/pm_counters/energy"
        path.write_text(f"{self._joules} J {self._clock.boottime_ns() // 1000} us\n")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    monkeypatch.setattr(threaded_collector, "FIRST_READ_TIMEOUT_SECONDS", TIMEOUT_SECONDS)
    monkeypatch.setattr(pm_counters.open_pm_counters, "__defaults__", (TIMEOUT_SECONDS,))
    with PowercapTree(tmp_path / "sys", [Package(100, 20)]) as tree:
        machine = Machine(tmp_path, tree)
        yield machine
        machine.daemon.close()


def test_devices_add_up_to_the_meter_on_every_page(machine):
    for number in range(1, 20):
        joules = machine.tick()
        assert joules == {
            "cpu": 100 * number,
            "dram": 20 * number,
            "rest": 80 * number,
            "meter": NODE_WATTS * number,
        }


def test_rest_is_unattributed(machine):
    machine.tick()
    text = machine.daemon.publisher.current.metrics_page.text().decode()
    reasons = re.findall(
        'unattributed_energy_joules_total{device="rest",.*,reason="(.*)"} (.*)', text
    )
    assert reasons == [("other", "80.0"), ("restart", "0.0")]


def test_devices_add_up_after_a_crash_and_the_time_without_a_daemon(machine):
    for _ in range(5):
        before = machine.tick()
    machine.advance(60)
    machine.crash()
    after = machine.joules()
    parts = sum(after[kind] - before[kind] for kind in ("cpu", "dram", "rest"))
    assert (parts, after["rest"] - before["rest"]) == (60 * NODE_WATTS, 60 * 80)
    assert after["meter"] == 60 * NODE_WATTS
    assert machine.tick()["rest"] - after["rest"] == 80


def test_snapshot_of_a_node_with_a_meter_is_json(machine):
    machine.tick()
    document = json.loads(json.dumps(snapshot_to_json(machine.daemon.publisher.current.view)))
    assert [device["device"] for device in document["devices"]] == ["cpu", "dram", "rest"]
