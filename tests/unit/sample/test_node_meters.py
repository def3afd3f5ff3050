"""Meters of the whole node, and the power of Grace sockets from the same driver."""

import os

import pytest

from exporter.errors import Unavailable
from exporter.model.readings import (
    Device,
    DeviceInfo,
    DeviceKind,
    Interval,
    Method,
    Observation,
    Reading,
)
from exporter.sample.node_meter import NODE, REST, NodeMeter, NodeSettings, node_info
from exporter.sample.power_model import CpuInfo
from exporter.sample.sources.acpi_power_meter import open_grace, open_node
from exporter.sample.sources.board_power import open_board_power
from exporter.sample.sources.pm_counters import open_pm_counters
from tests.unit.sample.conftest import BOOT_ID, THREAD_TIMEOUT_SECONDS

pytestmark = pytest.mark.usefixtures("patient_ticks")

JOULES, MICROSECONDS = 2_178_501_771, 1_734_094_386_462_336
"""A node of HPE Cray: Omnistat pull request 190; the time is from the tests of CEEMS."""


@pytest.fixture
def opened(sysfs, clock):
    """Open a meter; it is released at the end."""
    collectors = []

    def build(opening):
        collectors.append(opening(sysfs.root, clock, BOOT_ID, THREAD_TIMEOUT_SECONDS))
        return collectors[-1]

    yield build
    for collector in collectors:
        collector.release()


class Cray:
    """The controller of a node, whose clock is its own; it updates its files when told to."""

    def __init__(self, sysfs):
        self._sysfs = sysfs
        self.joules, self.microseconds = JOULES, MICROSECONDS
        self.update(0, 0)

    def update(self, joules, seconds, **files):
        self.joules += joules
        self.microseconds += round(seconds * 1_000_000)
        energy = f"{self.joules} J {self.microseconds} us"
        self._sysfs.write("cray/pm_counters", {"startup": 1, "energy": energy, **files})


@pytest.fixture
def cray(sysfs):
    return Cray(sysfs)


def test_energy_of_a_cray_node_has_the_time_of_its_controller(cray, opened, clock):
    collector = opened(open_pm_counters)
    (first,) = collector.read().readings
    assert first.counter_uj == JOULES * 1_000_000
    clock.advance(1.0)
    cray.update(450, 0.9)  # it was measured 0.1 s before it is read
    (second,) = collector.read().readings
    assert second.counter_uj - first.counter_uj == 450_000_000
    assert second.at_ns - first.at_ns == 900_000_000
    assert second.awake_ns - first.awake_ns == 900_000_000


def test_step_of_the_controllers_clock_does_not_move_readings_into_the_future(cray, opened, clock):
    collector = opened(open_pm_counters)
    for step in (3600, -7200):
        clock.advance(1.0)
        cray.update(450, 1.0 + step)
        (reading,) = collector.read().readings
        assert reading.at_ns == clock.boottime_ns()
        assert reading.counter_uj is not None


def test_counter_without_a_time_has_that_of_its_read(sysfs, opened, clock):
    sysfs.write("cray/pm_counters", {"energy": f"{JOULES} J"})
    (reading,) = opened(open_pm_counters).read().readings
    assert (reading.counter_uj, reading.at_ns) == (JOULES * 1_000_000, clock.boottime_ns())


def test_restart_of_the_controller_is_another_epoch(cray, opened, clock):
    collector = opened(open_pm_counters)
    (before,) = collector.read().readings
    clock.advance(1)
    cray.update(10 - JOULES, 1, startup=2)
    (after,) = collector.read().readings
    assert before.epoch != after.epoch
    assert after.counter_uj == 10_000_000


def test_counter_that_its_controller_no_longer_updates_is_a_failure(cray, opened, clock):
    collector = opened(open_pm_counters)
    clock.advance(9)
    assert collector.read().error == ""
    clock.advance(2)
    assert "has not updated the counter for 11 s" in collector.read().error
    cray.update(5000, 12)
    assert collector.read().error == ""


@pytest.mark.parametrize(
    "content", ["", "450 W 1734094386462336 us", "J", "-5 J 1 us", "1.5 J", "9" * 40 + " J"]
)
def test_text_that_is_no_energy_is_a_reason(sysfs, cray, opened, content):
    collector = opened(open_pm_counters)
    sysfs.write("cray/pm_counters", {"energy": content})
    (reading,) = collector.read().readings
    assert reading.counter_uj is None
    assert "expected an energy as" in reading.why


def test_machine_that_is_no_cray_is_unavailable(opened):
    with pytest.raises(Unavailable, match="HPE Cray"):
        opened(open_pm_counters)


def test_only_acpi_meter_is_that_of_the_node(sysfs, opened):
    sysfs.acpi_meter(0, 262_000_000)  # lm-sensors issue 130
    sysfs.acpi_meter(1, 20_000_000, power1_is_battery=1)
    (reading,) = opened(open_node).read().readings
    assert (reading.device, reading.power_watts) == (NODE, 262.0)


def test_acpi_meter_with_its_files_in_hwmon(sysfs, opened):
    sysfs.write(
        "bus/acpi/drivers/power_meter/ACPI000D:00/hwmon/hwmon2", {"power1_average": 262_000_000}
    )
    (reading,) = opened(open_node).read().readings
    assert reading.power_watts == 262.0


def test_several_acpi_meters_are_not_added(sysfs, opened):
    sysfs.acpi_meter(0, 262_000_000, "PSU 1")
    sysfs.acpi_meter(1, 240_000_000, "PSU 2")
    with pytest.raises(Unavailable, match="PSU 1, PSU 2"):
        opened(open_node)


def test_acpi_meter_that_failed_reports_no_power(sysfs, opened):
    """0 W where the firmware has no handler: zenpower issue 14."""
    sysfs.acpi_meter(0, 0)
    with pytest.raises(Unavailable, match="reports 0"):
        opened(open_node)


def test_acpi_meter_with_all_ones_is_said_and_adds_nothing(sysfs, opened, clock):
    """4.29 MW, which is 0xffffffff mW: lm-sensors issues 130 and 460."""
    path = sysfs.acpi_meter(0, 262_000_000)
    meter = NodeMeter(opened(open_node), NodeSettings(), (), BOOT_ID)
    meter.read(())
    clock.advance(1)
    meter.read(())
    with open(os.path.join(path, "power1_average"), "w", encoding="ascii") as file:
        file.write("4294967295000\n")
    clock.advance(1)
    _, state = meter.read(())
    assert (state.ok, "4,294,967 W" in state.why) == (False, True)
    assert meter.state().energy_uj == {Method.INTEGRATED: 262_000_000}


@pytest.fixture
def grace(sysfs):
    """GB200: four meters of each of two sockets; powers from NVIDIA/srt-slurm pull request 481."""
    for socket, watts in ((0, (900, 98, 51, 6.1)), (1, (950, 109, 56, 6.6))):
        for place, name in enumerate(("Module", "Grace", "CPU", "SysIO")):
            meter, microwatts = 4 * socket + place, round(watts[place] * 1_000_000)
            sysfs.acpi_meter(meter, microwatts, f"{name} Power Socket {socket}")


@pytest.mark.usefixtures("grace")
def test_grace_socket_is_neither_its_rail_nor_its_module(sysfs, clock):
    collector = open_grace(sysfs.root, clock, BOOT_ID, CpuInfo())
    observation = collector.read()
    collector.release()
    powers = {reading.device: reading.power_watts for reading in observation.readings}
    names = ("package-0", "package-1")
    sockets = [Device(DeviceKind.CPU, name) for name in names]
    assert powers == dict(zip(sockets, (98.0, 109.0), strict=True))
    assert observation.infos[0].model == "NVIDIA Grace"


@pytest.mark.usefixtures("grace")
def test_meters_of_grace_are_none_of_the_node(opened):
    with pytest.raises(Unavailable, match="no ACPI power meter"):
        opened(open_node)


def test_board_of_power9_is_its_system_sensor(sysfs, opened):
    """Values of the OpenPOWER blog, "Hwmon sensors in P9"."""
    powers = ("Chip 0 ", 157), ("Chip 8 ", 99), ("System", 426), ("APSS 15 ", 426)
    files = {"name": "ibmpowernv"}
    for number, (label, watts) in enumerate(powers, 1):
        files |= {f"power{number}_label": label, f"power{number}_input": watts * 1_000_000}
    sysfs.write("bus/platform/drivers/ibmpowernv/opal-sensor/hwmon/hwmon0", files)
    (reading,) = opened(open_board_power).read().readings
    assert (reading.device, reading.power_watts) == (NODE, 426.0)


@pytest.fixture
def jetson(sysfs):
    """Rails of an Orin Nano; labels and units of NVIDIA and Documentation/hwmon/ina3221.rst."""
    rails = ("VDD_IN", 5000, 1200), ("VDD_CPU_GPU_CV", 5000, 400), ("VDD_SOC", 5000, 300)
    files = {"name": "ina3221", "in7_label": "sum of shunt voltages", "in7_input": 100}
    for number, (label, millivolts, milliamperes) in enumerate(rails, 1):
        files |= {
            f"in{number}_label": label,
            f"in{number}_input": millivolts,
            f"curr{number}_input": milliamperes,
        }
    return sysfs.write("bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1", files)


def test_board_of_a_jetson_is_its_input_rail(jetson, opened):
    collector = opened(open_board_power)
    (reading,) = collector.read().readings
    assert reading.power_watts == 6.0
    with open(os.path.join(jetson, "curr1_input"), "w", encoding="ascii") as file:
        file.write("0\n")
    (reading,) = collector.read().readings
    assert (reading.power_watts, "curr1_input" in reading.why) == (None, True)


def test_rails_alone_are_not_the_board(jetson, opened):
    os.remove(os.path.join(jetson, "in1_label"))
    with pytest.raises(Unavailable, match="ina3221 VDD_IN"):
        opened(open_board_power)


class Meter:
    """A meter with given readings; each tick has one."""

    name = "meter"

    def __init__(self, clock, method=Method.COUNTER):
        self._clock = clock
        self.info: DeviceInfo = node_info(self.name, method=method)

    def set(self, counter_uj=None, power_watts=None, epoch="boot"):
        at_ns = self._clock.boottime_ns()
        reading = Reading(NODE, at_ns, epoch, counter_uj, power_watts)
        self.observation = Observation(self.name, at_ns, (self.info,), (reading,))

    def read(self):
        return self.observation

    def release(self):
        pass


def ticks(meter, clock, *values, **more):
    """Return the sum after each value of a counter."""
    node, sums = NodeMeter(meter, NodeSettings(), (), BOOT_ID), []
    for value in values:
        meter.set(value, **more)
        node.read(())
        state = node.state()
        sums.append(None if state is None else sum(state.energy_uj.values()))
        clock.advance(1)
    return sums


def test_sum_of_a_counter_begins_at_zero_with_its_second_value(clock):
    assert ticks(Meter(clock), clock, 10_000_000, 10_500_000, 11_000_000) == [
        None,
        500_000,
        1_000_000,
    ]


def test_sum_never_decreases_when_the_meter_does(clock):
    sums = ticks(Meter(clock), clock, 9_000_000, 9_500_000, 100, 400_100, 800_100)
    assert sums == [None, 500_000, 500_000, 900_100, 1_300_100]


def test_jump_of_the_meter_is_not_counted(clock):
    """A value in other units is 1000 times as large."""
    sums = ticks(Meter(clock), clock, 9_000_000, 9_500_000, 9_900_000_000_000, 10_500_000)
    assert sums == [None, 500_000, 500_000, 1_500_000]


CPU, GPU = Device(DeviceKind.CPU, "package-0"), Device(DeviceKind.GPU, "gpu-0")


NO_LAG = NodeSettings()


class Node:
    """A node whose devices and meter are read each second; the meter has been read once."""

    def __init__(self, clock, settings=NO_LAG):
        self._clock, self._settings = clock, settings
        self.node_uj = self.parts_uj = self.rest_uj = 0
        self._meter = Meter(clock)
        self._meter.set(0)
        self.start(())
        self.meter.read(())

    def start(self, states):
        """Start a process with the states of the one before."""
        self.meter = NodeMeter(self._meter, self._settings, states, BOOT_ID)

    def advance(self, parts_uj, node_uj, seconds=1, device=CPU):
        """Advance by some time in which a device and the meter count energy; return the rest."""
        t0_ns = self._clock.boottime_ns()
        self._clock.advance(seconds)
        part = Interval(device, t0_ns, self._clock.boottime_ns(), parts_uj, Method.COUNTER)
        self.node_uj += node_uj
        self.parts_uj += parts_uj
        self._meter.set(self.node_uj)
        booked, self.collector = self.meter.read([part])
        assert all(interval.device == REST for interval in booked)
        assert all(interval.energy_uj >= 0 for interval in booked)
        rest_uj = sum(interval.energy_uj for interval in booked)
        self.rest_uj += rest_uj
        return rest_uj


def test_rest_is_a_device_from_its_first_energy_on(clock):
    node = Node(clock)
    assert (node.meter.infos(), node.meter.states(0, {})) == ((), ())
    assert node.advance(300, 500) == 200
    (info,) = node.meter.infos()
    assert (info.device, info.source, info.method) == (REST, "meter", Method.COUNTER)
    (state,) = node.meter.states(clock.boottime_ns(), {REST: 12.5})
    assert (state.up, state.why, state.power_watts) == (True, "", 12.5)


def test_rest_continues_exactly_in_a_process_that_has_the_states_of_the_last(clock):
    node = Node(clock)
    for number in range(1, 40):
        node.advance(number * 1000 % 7777, 5000 + number * 300 % 1111)
        node.start(node.meter.counter_states())
    node.advance(0, 10**6)  # enough for any debt
    assert node.rest_uj + node.parts_uj == node.node_uj


def test_rest_continues_with_energy_of_the_devices_that_the_meter_shows_later(clock):
    node = Node(clock, NodeSettings(lag_seconds=10))
    for _ in range(20):
        node.advance(300, 500)
    assert node.rest_uj == 10 * 200
    node.start(node.meter.counter_states())
    for _ in range(20):
        node.advance(300, 500)
    assert node.rest_uj == 30 * 200


def test_energy_while_no_process_ran_is_in_the_rest_once(clock):
    node = Node(clock)
    node.advance(300, 500)
    node.start(node.meter.counter_states())
    assert node.advance(30_000, 50_000, seconds=100) == 20_000


def test_meter_without_the_gpus_is_not_compared_with_them(clock):
    node = Node(clock, NodeSettings(includes_gpus=False))
    assert node.advance(10**6, 500, device=GPU) == 500
    assert node.advance(300, 500, device=CPU) == 200


def test_devices_above_the_meter_for_ten_minutes_are_said(clock):
    node = Node(clock)
    for _ in range(600):
        node.advance(900, 500)
        assert node.collector.ok
    node.advance(900, 500)
    assert "node_includes_gpus" in node.collector.why
    assert node.rest_uj == 0
