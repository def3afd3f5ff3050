"""States and intervals of all devices from observations."""

import pytest

from exporter.model.readings import (
    CounterEvent,
    CounterState,
    Device,
    DeviceInfo,
    DeviceKind,
    Method,
    Observation,
    Reading,
)
from exporter.sample.energy_counters import SUSPECT_READINGS, EnergyCounters

SECOND = 1_000_000_000
A, B = Device(DeviceKind.CPU, "package-0"), Device(DeviceKind.CPU, "package-1")
INFOS = tuple(DeviceInfo(device, "", "", "rapl", 400.0, wrap_uj=10**12) for device in (A, B))


def observe(second, a=None, b=None, error=""):
    readings = tuple(
        Reading(device, second * SECOND, "boot", counter, why="" if counter is not None else "gone")
        for device, counter in ((A, a), (B, b))
    )
    return Observation("rapl", second * SECOND, INFOS, readings, error=error)


def state(energy_counters, second, device=A, powers=None):
    states = energy_counters.states(second * SECOND, powers or {})
    return next(item for item in states if item.info.device == device)


def test_every_device_advances_by_its_own_reading():
    energy_counters = EnergyCounters(())
    assert energy_counters.advance(observe(1, 100, 7000)) == ()
    intervals = energy_counters.advance(observe(2, 130, 7050))
    assert [(interval.device, interval.energy_uj) for interval in intervals] == [(A, 30), (B, 50)]


def test_one_unreadable_device_does_not_hold_the_other():
    energy_counters = EnergyCounters(())
    energy_counters.advance(observe(1, 100, 7000))
    (interval,) = energy_counters.advance(observe(2, None, 7050))
    assert interval.device == B


def test_given_states_are_continued_as_a_restart():
    energy_counters = EnergyCounters([CounterState(A, 100, SECOND, "boot")])
    intervals = energy_counters.advance(observe(9, 180, 7000))
    assert [(interval.energy_uj, interval.restart) for interval in intervals] == [(80, True)]


def test_states_of_devices_not_seen_are_kept():
    left = CounterState(Device(DeviceKind.GPU, "GPU-1"), 100, SECOND, "boot")
    energy_counters = EnergyCounters([left])
    energy_counters.advance(observe(9, 180, 7000))
    assert left._replace(restored=True) in energy_counters.counter_states()
    assert len(energy_counters.counter_states()) == 3


def test_infos_are_those_observed():
    energy_counters = EnergyCounters(())
    energy_counters.advance(observe(1, 100, 7000))
    assert energy_counters.infos() == INFOS


def test_state_of_a_good_device():
    energy_counters = EnergyCounters(())
    energy_counters.advance(observe(1, 100, 7000))
    good = state(energy_counters, 3, powers={A: 55.0})
    assert (good.up, good.why, good.age_seconds, good.power_watts) == (True, "", 2.0, 55.0)


def test_unknown_power_is_none_and_not_zero():
    energy_counters = EnergyCounters(())
    energy_counters.advance(observe(1, 100, 7000))
    assert state(energy_counters, 1).power_watts is None


def test_state_of_an_unreadable_device_has_a_reason_and_ages():
    energy_counters = EnergyCounters(())
    energy_counters.advance(observe(1, 100, 7000))
    energy_counters.advance(observe(4, None, 7000))
    bad = state(energy_counters, 4)
    assert (bad.up, bad.why, bad.age_seconds) == (False, "gone", 3.0)


def test_device_never_read_ages_from_when_it_was_first_seen():
    energy_counters = EnergyCounters(())
    energy_counters.advance(observe(1))
    energy_counters.advance(observe(6))
    assert state(energy_counters, 6).age_seconds == 5.0


def test_suspect_reading_does_not_count_as_good():
    energy_counters = EnergyCounters(())
    energy_counters.advance(observe(1, 100, 7000))
    energy_counters.advance(observe(2, 10**11, 7000))
    assert state(energy_counters, 2).age_seconds == 1.0


def test_failed_collector_takes_its_devices_down():
    energy_counters = EnergyCounters(())
    energy_counters.advance(observe(1, 100, 7000))
    energy_counters.advance(Observation("rapl", 2 * SECOND, (), (), error="driver gone"))
    assert (state(energy_counters, 2).up, state(energy_counters, 2).why) == (False, "driver gone")


def test_failure_of_another_source_leaves_a_device_up():
    energy_counters = EnergyCounters(())
    energy_counters.advance(observe(1, 100, 7000))
    energy_counters.advance(Observation("nvml", 2 * SECOND, (), (), error="driver gone"))
    assert state(energy_counters, 2).up


def test_events_begin_at_zero_and_are_counted():
    energy_counters = EnergyCounters(())
    energy_counters.advance(observe(1, 10**12 - 50, 7000))
    assert state(energy_counters, 1).events == dict.fromkeys(CounterEvent, 0)
    energy_counters.advance(observe(2, 50, 7000))
    energy_counters.advance(observe(3, 150, 7000))
    assert state(energy_counters, 3).events[CounterEvent.WRAP] == 1
    assert state(energy_counters, 3, B).events[CounterEvent.WRAP] == 0


def test_published_states_do_not_change_later():
    energy_counters = EnergyCounters(())
    energy_counters.advance(observe(1, 10**12 - 50, 7000))
    before = state(energy_counters, 1)
    energy_counters.advance(observe(2, 50, 7000))
    energy_counters.advance(observe(3, 150, 7000))
    assert before.events[CounterEvent.WRAP] == 0


def test_events_that_cannot_happen_have_no_count():
    plain, power = Device(DeviceKind.GPU, "plain"), Device(DeviceKind.GPU, "power")
    infos = (
        DeviceInfo(plain, "", "", "nvml", 400.0),
        DeviceInfo(power, "", "", "nvml", 400.0, method=Method.INTEGRATED),
    )
    energy_counters = EnergyCounters(())
    energy_counters.advance(Observation("nvml", SECOND, infos, ()))
    assert set(state(energy_counters, 1, plain).events) == {
        CounterEvent.RESET,
        CounterEvent.GLITCH,
        CounterEvent.GAP,
    }
    assert set(state(energy_counters, 1, power).events) == {CounterEvent.GAP}


def test_device_with_suspect_readings_is_reported_and_recovers(caplog):
    energy_counters = EnergyCounters(())
    energy_counters.advance(observe(1, 100, 7000))
    absurd = 10**11
    for second in range(2, 2 + SUSPECT_READINGS):
        assert state(energy_counters, second).up
        energy_counters.advance(observe(second, absurd * (second % 2 + 1), 7000))
    suspect = state(energy_counters, 9)
    assert not suspect.up
    assert "faster than 400 W" in suspect.why
    assert [record.message for record in caplog.records] == ["device not counted"]
    energy_counters.advance(observe(9, 200, 7000))
    assert state(energy_counters, 9).up


@pytest.mark.parametrize("counter", [-1, 1 << 63, (1 << 64) - 1])
def test_implausible_counter_is_no_reading(counter):
    energy_counters = EnergyCounters(())
    energy_counters.advance(observe(1, 100, 7000))
    energy_counters.advance(observe(2, counter, 7050))
    bad = state(energy_counters, 2)
    assert (bad.up, bad.why) == (False, "the energy counter has an implausible value")
    energy_counters.advance(observe(3, 300, 7100))
    assert state(energy_counters, 3).up
    assert all(0 <= position.raw_uj < 1 << 63 for position in energy_counters.counter_states())


@pytest.mark.parametrize("watts", [70_000.0, -1.0, float("inf"), float("nan")])
def test_device_with_only_implausible_power_is_not_up(watts):
    info = INFOS[0]._replace(method=Method.INTEGRATED, wrap_uj=None)
    energy_counters = EnergyCounters(())
    for second, power in enumerate((70.0, watts), start=1):
        reading = Reading(A, second * SECOND, "boot", power_watts=power)
        energy_counters.advance(Observation("rapl", second * SECOND, (info,), (reading,)))
    shown = state(energy_counters, 2)
    assert (shown.up, shown.age_seconds) == (False, 1.0)
    assert "the plausible maximum is 400 W" in shown.why


def test_implausible_power_with_a_valid_counter_is_ignored():
    energy_counters = EnergyCounters(())
    reading = Reading(A, SECOND, "boot", 100, power_watts=70_000.0)
    energy_counters.advance(Observation("rapl", SECOND, INFOS[:1], (reading,)))
    assert (state(energy_counters, 1).up, state(energy_counters, 1).why) == (True, "")
