"""Fallback to estimates for stuck counters."""

import os

import pytest

from exporter.clock import read_boot_id
from exporter.model.readings import Device, DeviceKind, Method
from exporter.sample.energy_counters import EnergyCounters
from exporter.sample.registry import open_collectors
from tests.feeder import Package, PowercapTree

CPU0, DRAM0 = Device(DeviceKind.CPU, "package-0"), Device(DeviceKind.DRAM, "package-0-dram")
CPU1 = Device(DeviceKind.CPU, "package-1")
IDLE, FULL = 0.5, 3.0
"""Assumed watts per thread; the machine of `proc` has two threads."""


class Machine:
    """A host with counters and CPU times, advanced second by second."""

    def __init__(self, root, proc, clock, packages):
        self.proc = proc
        self.clock = clock
        self.tree = PowercapTree(root, packages)
        self.counted_seconds = 0.0
        self.ticks = 0
        self.energy_counters = EnergyCounters(())
        self.joules = {}
        self.device_collectors = ()
        self.errors = []
        self.spent = 0

    def open(self, **enabled):
        self.device_collectors = open_collectors(
            sysfs=self.tree.root,
            procfs=self.proc.root,
            clock=self.clock,
            boot_id=read_boot_id(self.proc.root, self.clock),
            enabled=enabled,
            cpu_idle_watts_per_thread=IDLE,
            cpu_full_watts_per_thread=FULL,
            dram_watts_per_gb=0.5,
        ).device_collectors
        return self

    def play(self, seconds, *, busy=True, counts=False):
        """Read once per second, with both threads busy or idle, and counters live or stuck."""
        for _ in range(seconds):
            self.errors = []
            for sampler in self.device_collectors:
                observation = sampler.read()
                self.errors += [observation.error] if observation.error else []
                for interval in self.energy_counters.advance(observation):
                    key = (interval.device, interval.method)
                    self.joules[key] = self.joules.get(key, 0) + interval.energy_uj / 1e6
            self.clock.advance(1)
            self.ticks += 200 if busy else 0
            self.spent += 200
            self.proc.cpu(user=1000 + self.ticks, idle=9000 + self.spent - self.ticks)
            if counts:
                self.tree.advance(1)
        return self

    def states(self):
        return {
            state.info.device: state for state in self.energy_counters.states(self.clock.boot, {})
        }

    def close(self):
        for sampler in self.device_collectors:
            sampler.release()
        self.tree.__exit__()


@pytest.fixture
def machine(tmp_path, proc, clock):
    def build(*packages):
        machine = Machine(tmp_path / "sys", proc, clock, packages)
        built.append(machine)
        return machine

    built = []
    yield build
    for machine in built:
        machine.close()


def test_stuck_counter_is_replaced_by_the_estimate_from_the_start(machine):
    host = machine(Package(100)).open().play(60)
    # Reading 0 shows the counter, reading 1 that it stands still, from which the estimate counts.
    assert host.joules[CPU0, Method.ESTIMATED] == pytest.approx(58 * 2 * FULL)
    assert (CPU0, Method.COUNTER) not in host.joules
    state = host.states()[CPU0]
    assert state.up
    assert state.info.source == "cpu_estimate"


def test_the_fallback_is_logged_and_reported_by_the_collector(machine, caplog):
    host = machine(Package(100)).open().play(60)
    (error,) = host.errors
    assert "the energy counter has not increased for 20 s although the machine was busy" in error
    messages = [record.message for record in caplog.records]
    assert messages == ["energy counters stuck; using estimate"]


def test_counters_of_an_idle_machine_are_not_considered_stuck(machine):
    host = machine(Package(100)).open().play(60, busy=False)
    assert not host.joules.keys() - {(DRAM0, Method.ESTIMATED)}
    assert not host.errors


def test_stuck_memory_counter_is_replaced_too(machine):
    host = machine(Package(0, 0)).open().play(60)
    assert host.joules[DRAM0, Method.ESTIMATED] == pytest.approx(58 * 0.5 * 16.384)


def test_only_the_memory_counter_may_be_stuck(machine):
    host = machine(Package(100, 0)).open().play(60, counts=True)
    assert host.joules[CPU0, Method.COUNTER] == 59 * 100
    assert host.joules[DRAM0, Method.ESTIMATED] > 0
    assert host.states()[CPU0].info.source == "rapl"


def test_recovered_counter_counts_from_its_recovery(machine):
    host = machine(Package(100)).open().play(40).play(60, counts=True)
    # The estimate ends with the third reading that moved, and the counter begins there.
    assert host.joules[CPU0, Method.ESTIMATED] == pytest.approx((43 - 1) * 2 * FULL)
    assert host.joules[CPU0, Method.COUNTER] == (99 - 43) * 100
    assert not host.errors
    assert host.states()[CPU0].info.source == "rapl"


def test_counter_that_stops_and_starts_again_loses_at_most_the_second_of_the_stop(machine):
    host = machine(Package(100)).open().play(20, counts=True).play(50).play(30, counts=True)
    assert host.joules[CPU0, Method.COUNTER] == (20 + 30 - 1 - 3) * 100
    assert host.joules[CPU0, Method.ESTIMATED] == pytest.approx((50 - 1 + 3) * 2 * FULL)


def test_counter_that_jumps_once_has_not_recovered(machine):
    host = machine(Package(100)).open().play(40)
    host.tree.advance(1000)
    host.play(40)
    assert (CPU0, Method.COUNTER) not in host.joules
    assert host.joules[CPU0, Method.ESTIMATED] == pytest.approx(78 * 2 * FULL)


def test_one_stuck_package_of_two_is_not_up(machine):
    host = machine(Package(100), Package(0)).open().play(60, counts=True)
    assert host.joules[CPU0, Method.COUNTER] == 59 * 100
    still = host.states()[CPU1]
    assert not still.up
    assert "has not increased" in still.why


def test_packages_without_an_estimate_of_their_own_are_not_up(machine):
    host = machine(Package(0), Package(0)).open().play(60)
    states = host.states()
    assert (states[CPU0].up, states[CPU1].up) == (True, False)
    assert "until it increases, the energy is estimated" in states[CPU1].why


def test_without_an_estimate_the_device_is_not_up(machine):
    host = machine(Package(100)).open(cpu_estimate=False).play(60)
    assert (CPU0, Method.ESTIMATED) not in host.joules
    state = host.states()[CPU0]
    assert not state.up
    assert "until it increases, the energy is unknown" in state.why
    host.play(10, counts=True)
    assert host.states()[CPU0].up


def test_cpu_times_are_not_read_while_counters_increase(machine, monkeypatch):
    host = machine(Package(100, 20)).open().play(2, counts=True)
    os.remove(os.path.join(host.proc.root, "stat"))
    monkeypatch.setattr(host.proc, "cpu", lambda **_: None)
    host.play(60, counts=True)
    assert host.joules == {(CPU0, Method.COUNTER): 61 * 100, (DRAM0, Method.COUNTER): 61 * 20}


def test_without_cpu_times_counters_are_not_considered_stuck(machine, monkeypatch):
    host = machine(Package(100)).open()
    os.remove(os.path.join(host.proc.root, "stat"))
    monkeypatch.setattr(host.proc, "cpu", lambda **_: None)
    assert not host.play(60).errors


def test_release_closes_every_file(machine, open_files):
    host = machine(Package(100))
    before = open_files()
    host.open().play(60)
    for sampler in host.device_collectors:
        sampler.release()
    assert open_files() == before
