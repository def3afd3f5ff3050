"""The firmware's clock, and the comparison of the counter with power."""

import pytest

from exporter.sample.sources.amdgpu.counter_check import CounterCheck, FirmwareClock

SECOND_NS = 1_000_000_000
MS_NS = 1_000_000


class TestFirmwareClock:
    def test_time_is_that_of_the_measurement_and_not_of_the_read(self):
        clock = FirmwareClock()
        clock.boottime_ns(firmware_ns=5 * SECOND_NS, read_ns=100 * SECOND_NS)  # without delay
        late = clock.boottime_ns(firmware_ns=6 * SECOND_NS, read_ns=101 * SECOND_NS + 40 * MS_NS)
        assert abs(late - 101 * SECOND_NS) <= MS_NS

    def test_least_delay_is_learned(self):
        clock = FirmwareClock()
        clock.boottime_ns(firmware_ns=5 * SECOND_NS, read_ns=100 * SECOND_NS + 30 * MS_NS)
        assert clock.boottime_ns(6 * SECOND_NS, 101 * SECOND_NS) == 101 * SECOND_NS

    @pytest.mark.parametrize("ppm", [-80, 80])
    def test_drift_does_not_accumulate(self, ppm):
        clock = FirmwareClock()
        for second in range(100_000):
            firmware_ns = second * SECOND_NS + second * ppm * 1000
            at_ns = clock.boottime_ns(firmware_ns, second * SECOND_NS)
            assert abs(at_ns - second * SECOND_NS) <= MS_NS

    def test_time_never_is_after_the_read(self):
        clock = FirmwareClock()
        for second in range(100):
            read_ns = second * SECOND_NS + (second * 37 % 50) * MS_NS
            assert clock.boottime_ns(second * SECOND_NS, read_ns) <= read_ns

    def test_values_that_do_not_change_keep_their_time(self):
        clock = FirmwareClock()
        first = clock.boottime_ns(SECOND_NS, 100 * SECOND_NS)
        assert clock.boottime_ns(SECOND_NS, 100 * SECOND_NS + 900 * MS_NS) == first

    def test_clock_that_starts_again_is_followed(self):
        clock = FirmwareClock()
        clock.boottime_ns(9_000 * SECOND_NS, 100 * SECOND_NS)
        assert clock.boottime_ns(0, 101 * SECOND_NS) == 101 * SECOND_NS


def checked(counter_watts, power_watts, seconds, step_seconds=1.0):
    """Whether a counter of one rate is wrong, beside a power of another."""
    check = CounterCheck()
    for step in range(round(seconds / step_seconds)):
        at_seconds = 1000 + step * step_seconds
        energy_uj = round(5e6 + counter_watts * step * step_seconds * 1e6)
        check.add(round(at_seconds * 1e9), energy_uj, power_watts)
    return check.is_wrong


class TestCounterCheck:
    def test_counter_that_agrees_is_right(self):
        assert not checked(300, 300, 600)

    def test_frozen_counter_is_wrong_after_a_minute(self):
        """ROCm/amdsmi issue 22."""
        assert not checked(0, 250, 55)
        assert checked(0, 250, 65)

    @pytest.mark.parametrize("factor", [0.3, 3.0, 1000.0])
    def test_counter_of_a_wrong_rate_is_wrong(self, factor):
        """ROCm/amdsmi issue 38."""
        assert checked(250 * factor, 250, 65)

    @pytest.mark.parametrize("factor", [0.6, 1.6])
    def test_power_of_another_time_is_no_reason(self, factor):
        assert not checked(250 * factor, 250, 600)

    def test_little_power_is_no_reason(self):
        assert not checked(0, 8, 600)

    def test_readings_far_apart_are_no_reason(self):
        assert not checked(0, 250, 600, step_seconds=6)

    def test_one_window_is_no_reason(self):
        check = CounterCheck()
        energy_uj = 0
        for second in range(600):
            energy_uj += 0 if 100 < second < 132 else 250_000_000
            check.add((1000 + second) * SECOND_NS, energy_uj, 250)
        assert not check.is_wrong

    @pytest.mark.parametrize(("energy_uj", "watts"), [(None, 250), (5, None)])
    def test_missing_values_are_no_reason(self, energy_uj, watts):
        check = CounterCheck()
        for second in range(600):
            check.add((1000 + second) * SECOND_NS, energy_uj, watts)
        assert not check.is_wrong
