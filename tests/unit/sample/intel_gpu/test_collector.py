"""Energy of a card through the collector: absences, restarts of the exporter, sleep."""

import builtins
import os

import pytest

from exporter.model.readings import CounterEvent, Device, DeviceKind
from exporter.sample.energy_counters import EnergyCounters
from exporter.sample.sources.gpu import collector
from exporter.sample.sources.gpu.collector import GpuCollector
from exporter.sample.sources.gpu.gpu import ASLEEP
from exporter.sample.sources.intel_gpu import IntelDriver
from exporter.worker import wait_until
from tests.intel_cards import XE_FDINFO, EnergyRegister

SOON = 60.0
LOOK_SECONDS = 0.01
GPU = Device(DeviceKind.GPU, "0000:03:00.0")
J = 1_000_000
WAKING_FILES = ("energy", "power1", "fdinfo")
"""Parts of the names of files that wake a card when they are read."""


class Host:
    """A host with one card, and an exporter that can be killed and started again."""

    def __init__(self, tree, clock):
        self.card = tree.card()
        self.register = EnergyRegister(200_000)
        self.card.hwmon(
            6, "xe", energy1_label="card", energy1_input=self.register.read_uj(), power1_cap=10**9
        )
        self.intervals = []
        self.used = 0.0
        self._tree, self._clock = tree, clock
        self._counters = EnergyCounters(())
        self._collector = None
        self.start()

    def start(self):
        """Start the exporter from the counter states of the one before."""
        driver = IntelDriver(str(self._tree.sysfs), str(self._tree.procfs), self._clock)
        self._collector = GpuCollector(
            driver, str(self._tree.sysfs), self._clock, "boot", LOOK_SECONDS
        )
        self._counters = EnergyCounters(self._counters.counter_states())

    def kill(self):
        self._collector.release()

    def use(self, watts, seconds):
        """Let time pass without a read."""
        self._clock.advance(seconds)
        self.register.use(watts * seconds)
        self.used += watts * seconds

    def tick(self):
        """Read the card once; return the observation."""
        self.card.write("hwmon/hwmon6/energy1_input", self.register.read_uj())
        return self.tick_asleep()

    def tick_asleep(self):
        seen = self._collector.read()
        self.intervals += self._counters.advance(seen)
        return seen

    def run(self, watts, seconds):
        for _ in range(seconds):
            self.use(watts, 1)
            self.tick()

    def until(self, condition):
        """Return the first observation that meets the condition, without time passing."""
        seen = []

        def is_met():
            seen[:] = [self.tick_asleep()]
            return condition(seen[0])

        assert wait_until(is_met, SOON), seen
        return seen[0]

    @property
    def counted(self):
        return sum(interval.energy_uj for interval in self.intervals) / J


@pytest.fixture
def host(tree, clock, monkeypatch):
    monkeypatch.setattr(collector, "READ_TIMEOUT_SECONDS", SOON)
    monkeypatch.setattr(collector, "FIRST_READ_TIMEOUT_SECONDS", SOON)
    made = Host(tree, clock)
    made.tick()
    yield made
    made.kill()


def test_a_minute_with_a_kill_and_five_seconds_of_absence_is_exact(host):
    host.run(190, 30)
    host.kill()
    host.use(170, 5)
    host.start()
    host.tick()
    host.run(150, 25)
    assert host.counted == pytest.approx(host.used, abs=0.001)
    assert [interval.restart for interval in host.intervals].count(True) == 1


@pytest.mark.parametrize("watts", [100, 300, 1000])
@pytest.mark.parametrize("minutes", [1, 5, 20])
def test_wraps_while_the_exporter_was_stopped_are_counted(host, watts, minutes):
    host.run(watts, 5)
    host.kill()
    host.use(watts, 60 * minutes)
    host.start()
    host.tick()
    host.run(watts, 5)
    assert host.counted == pytest.approx(host.used, abs=0.001)


def test_wraps_are_those_of_the_power_before(host):
    """The power in the gap is outside of the bound: 2^17 J / 1200 s = 109 W."""
    host.run(300, 5)
    host.kill()
    host.use(700, 1200)
    host.start()
    host.tick()
    assert host.counted - host.used == pytest.approx(-2 * 2**18, abs=0.001)
    assert host.intervals[-1].event is CounterEvent.GAP


def test_energy_of_a_sleep_is_added_on_waking(host):
    host.run(40, 5)
    host.card.write("power/runtime_status", "suspended")
    host.until(lambda seen: seen.infos[0].unread_wrap_uj is None)
    host.use(5, 3 * 3600)
    assert host.tick_asleep().readings[0].why == ASLEEP
    host.card.write("power/runtime_status", "active")
    host.tick()
    assert host.counted == pytest.approx(host.used, abs=0.001)


def test_card_that_lost_its_power_counts_from_its_first_reading_after(host):
    host.run(40, 5)
    counted = host.counted
    host.card.write("power/runtime_status", "suspended")
    host.card.write("power_state", "D3cold")
    host.until(lambda seen: seen.infos[0].unread_wrap_uj is None)
    host.register.lose_power()
    host.use(0, 3600)
    host.card.write("power/runtime_status", "active")
    host.card.write("power_state", "D0")
    host.use(200, 1)
    host.tick()
    host.run(200, 5)
    assert host.counted == pytest.approx(counted + 5 * 200, abs=0.001)


def test_no_file_that_wakes_a_card_is_opened_while_it_sleeps(host, tree, monkeypatch, clock):
    tree.process(10, XE_FDINFO.format(client=1, pdev=GPU.id, rcs=1, ccs=1, total=2))
    host.run(40, 10)
    host.card.write("power/runtime_status", "suspended")
    host.until(lambda seen: seen.infos[0].unread_wrap_uj is None)
    opened = []
    for module, name in ((builtins, "open"), (os, "open")):
        real = getattr(module, name)

        def recorded(path, *arguments, real=real, **named):
            opened.append(str(path))
            return real(path, *arguments, **named)

        monkeypatch.setattr(module, name, recorded)
    for _ in range(200):
        clock.advance(1)
        host.tick_asleep()
    monkeypatch.undo()
    assert any(path.endswith("runtime_status") for path in opened)
    waking = [path for path in opened if any(part in path for part in WAKING_FILES)]
    assert [path for path in waking if not path.endswith("_label")] == []
