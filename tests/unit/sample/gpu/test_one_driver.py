"""What the collector does for each driver: times, epochs, missing counters, sleep, release."""

import logging

import pytest

from exporter.errors import Unavailable
from exporter.model.readings import Device, DeviceKind, Method
from exporter.sample.sources.gpu.driver import ErrorClass, GpuError, GpuValues
from exporter.worker import wait_until
from tests.unit.sample.gpu.conftest import SOON

SECOND_NS = 1_000_000_000


@pytest.fixture
def one(machine):
    machine.card("alpha", 1)
    machine.open("alpha")
    machine.collectors["alpha"].read()
    return machine


def read(machine, values, vendor="alpha"):
    machine.reader(vendor).values = values
    (reading,) = machine.collectors[vendor].read().readings
    return reading


def test_a_gpu_is_read_and_described(one):
    seen = one.collectors["alpha"].read()
    (info,), (reading,) = seen.infos, seen.readings
    assert info.device == reading.device == Device(DeviceKind.GPU, "alpha-0000:01:00.0")
    assert (info.vendor, info.source, info.method) == ("Alpha", "alpha", Method.COUNTER)
    assert (reading.counter_uj, reading.power_watts, reading.epoch) == (1_000_000, 100.0, "boot")
    assert (seen.error, seen.note) == ("", "")


def test_the_time_of_a_measurement_that_the_driver_knows_is_that_of_the_reading(one):
    at_ns = one.clock.now_ns - SECOND_NS
    reading = read(one, GpuValues(7, at_ns=at_ns))
    assert (reading.at_ns, reading.awake_ns, reading.counter_uj) == (at_ns, at_ns, 7)


def test_a_measurement_is_not_later_than_its_read(one):
    reading = read(one, GpuValues(7, at_ns=one.clock.now_ns + SECOND_NS))
    assert reading.at_ns == reading.awake_ns == one.clock.now_ns


def test_values_older_than_ten_seconds_are_no_reading(one):
    at_ns = one.clock.now_ns - 11 * SECOND_NS
    reading = read(one, GpuValues(7, 100.0, at_ns=at_ns))
    assert (reading.counter_uj, reading.power_watts) == (None, None)
    assert "11 s old" in reading.why


def test_the_epoch_has_what_the_driver_adds(one):
    assert read(one, GpuValues(7, epoch="load-3")).epoch == "boot/load-3"


@pytest.mark.parametrize("watts", [-1.0, 1501.0, float("nan")])
def test_an_implausible_power_alone_is_no_reading(one, watts):
    reading = read(one, GpuValues(None, watts))
    assert reading.power_watts is None
    assert "implausible power" in reading.why


def test_a_counter_of_all_ones_is_no_counter(one):
    reading = read(one, GpuValues(2**64 - 1, 100.0))
    assert (reading.counter_uj, reading.power_watts, reading.why) == (None, 100.0, "")


def test_a_failure_without_any_value_is_the_reason(one):
    failed = GpuError("energy: timeout", ErrorClass.TRANSIENT)
    assert read(one, GpuValues(failure=failed)).why == "energy: timeout"
    assert read(one, GpuValues(7, failure=failed)).why == ""


def test_power_without_a_counter_for_thirty_seconds_is_integrated(machine):
    (machine.card("alpha", 1) / "energy_uj").unlink()
    machine.open("alpha").read()
    assert read(machine, GpuValues(None, 100.0, epoch="load-3")).epoch == "boot/load-3"
    machine.clock.advance(31)
    seen = machine.until("alpha", lambda seen: seen.infos[0].method is Method.INTEGRATED)
    assert seen.readings[0].epoch == "boot/load-3/power/0"


def test_a_counter_that_was_seen_once_stays_the_method(one):
    one.clock.advance(31)
    read(one, GpuValues(None, 100.0))
    one.clock.advance(31)
    read(one, GpuValues(None, 100.0))
    looks = one.drivers["alpha"].looks
    seen = one.until("alpha", lambda _: one.drivers["alpha"].looks > looks + 2)
    assert [info.method for info in seen.infos] == [Method.COUNTER]


def test_processes_are_read_at_the_interval_of_the_driver(one):
    reader = one.reader("alpha")
    one.until("alpha", lambda _: reader.polls == 1)
    one.clock.advance(4.9)
    for _ in range(3):
        one.collectors["alpha"].read()
    assert reader.polls == 1
    one.clock.advance(0.2)
    one.until("alpha", lambda _: reader.polls == 2)


def test_processes_are_those_that_the_driver_reports(one):
    one.clock.advance(6)
    seen = one.until("alpha", lambda seen: bool(seen.gpu_activity))
    assert [process.pid for process in seen.gpu_activity[0].gpu_processes] == [1]


def test_processes_that_cannot_be_read_are_unknown(one):
    (one.sysfs / "bus/pci/devices/0000:01:00.0/pids").unlink()
    one.clock.advance(6)
    one.until(
        "alpha",
        lambda seen: any("FileNotFoundError" in each.why for each in seen.gpu_activity),
    )


def test_a_suspended_gpu_is_listed_and_not_read(machine):
    machine.card("alpha", 1, status="suspended")
    machine.open("alpha")
    seen = machine.until("alpha", lambda seen: bool(seen.infos))
    assert "asleep" in seen.readings[0].why
    assert not seen.error
    assert machine.reader("alpha").reads == 0
    machine.card("alpha", 1)
    machine.until("alpha", lambda seen: bool(seen.readings[0].counter_uj))


def test_a_lost_gpu_returns_when_it_is_listed_again(one):
    path = one.sysfs / "bus/pci/devices/0000:01:00.0"
    path.rename(one.sysfs / "unplugged")
    one.until("alpha", lambda seen: seen.readings[0].why == "the GPU is no longer on the bus")
    (one.sysfs / "unplugged").rename(path)
    one.until("alpha", lambda seen: bool(seen.readings[0].counter_uj))


def test_a_gpu_that_is_not_permitted_is_a_note_if_another_can_be_read(one):
    one.drivers["alpha"].failures = (GpuError("GPU 1: not permitted", ErrorClass.DENIED),)
    one.drivers["alpha"].notes = ("GPU 2 is part of a processor",)
    seen = one.until("alpha", lambda seen: bool(seen.note))
    assert seen.note == "GPU 1: not permitted; GPU 2 is part of a processor"
    assert not seen.error


def test_a_missing_driver_is_explained_by_the_driver_that_a_gpu_has(machine):
    machine.card("alpha", 1, driver="radeon")
    driver = machine.driver("alpha")
    driver.error = GpuError("not loaded", ErrorClass.NODE, is_driver_missing=True)
    machine.collectors["alpha"] = machine.collector(driver)
    seen = machine.collectors["alpha"].read()
    assert seen.error.startswith("not loaded; GPU 0000:01:00.0 has the driver radeon; retry in")


def test_an_unexpected_error_of_a_driver_is_retried(one, caplog):
    one.drivers["alpha"].error = ValueError("no number")
    one.until("alpha", lambda seen: "unusable answer: ValueError('no number')" in seen.error)
    one.drivers["alpha"].error = None
    one.clock.advance(61)
    one.until("alpha", lambda seen: not seen.error)
    assert not [record for record in caplog.records if record.exc_info]


def test_a_driver_is_released_and_opened_again(one, caplog):
    caplog.set_level(logging.WARNING)
    driver = one.drivers["alpha"]
    one.collectors["alpha"].release_for(300)
    assert wait_until(lambda: not driver.is_open, SOON)
    assert one.reader("alpha").is_released
    assert "Alpha driver released; GPUs can be reset" in caplog.text
    one.clock.advance(301)
    one.until("alpha", lambda seen: bool(seen.readings[0].counter_uj))
    assert driver.is_open


def test_a_machine_without_gpus_has_no_driver(machine):
    with pytest.raises(Unavailable, match="no Alpha GPU found"):
        machine.driver("alpha")
