"""Computation of energy from counters: wraps, resets, suspect readings and suspends."""

import os
import random
from itertools import pairwise
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.model.readings import (
    CounterEvent,
    CounterState,
    Device,
    DeviceInfo,
    DeviceKind,
    Method,
    Reading,
)
from exporter.sample.counter_arithmetic import advance_counter, without_implausible
from exporter.sample.energy_counters import EnergyCounters
from exporter.sample.sources.rapl import RaplCollector
from tests.intel_cards import EnergyRegister

GPU = Device(DeviceKind.GPU, "GPU-1")
SECOND = 1_000_000_000
J = 1_000_000
INFO = DeviceInfo(GPU, "", "", "test", power_cap_watts=1000.0)
WRAPPING = INFO._replace(wrap_uj=262_143 * J)
POWER_ONLY = INFO._replace(method=Method.INTEGRATED)


def at(second, counter=None, watts=None, epoch="boot", awake=None):
    """A reading; the counter in joules, both times in seconds."""
    counter_uj = None if counter is None else round(counter * J)
    why = "no answer" if counter is None and watts is None else ""
    awake_ns = 0 if awake is None else round(awake * SECOND)
    return Reading(GPU, round(second * SECOND), epoch, counter_uj, watts, why, awake_ns)


def advance(position, reading, info):
    """`advance_counter` without implausible values, as the exporter calls it."""
    return advance_counter(position, without_implausible(reading, info), info)


def feed(readings, info=INFO, position=None):
    """Return the last state and all intervals."""
    intervals = []
    for reading in readings:
        position, interval = advance(position, reading, info)
        if interval is not None:
            intervals.append(interval)
    return position, intervals


def joules(intervals):
    return sum(interval.energy_uj for interval in intervals) / J


def events(intervals):
    return [interval.event for interval in intervals if interval.event]


class TestTrustedCounter:
    def test_first_reading_is_a_baseline_without_energy(self):
        position, intervals = feed([at(1, 5000)])
        assert not intervals
        assert (position.raw_uj, position.at_ns, position.epoch) == (5000 * J, SECOND, "boot")

    def test_energy_is_the_difference_between_two_readings(self):
        _, (interval,) = feed([at(1, 5000), at(2, 5300)])
        assert interval.energy_uj == 300 * J
        assert (interval.t0_ns, interval.t1_ns) == (SECOND, 2 * SECOND)
        assert (interval.method, interval.event) == (Method.COUNTER, None)

    def test_state_keeps_the_mean_power_of_the_interval(self):
        position, _ = feed([at(1, 5000), at(3, 5300)])
        assert position.power_watts == 150.0

    def test_state_keeps_no_power_beyond_the_cap(self):
        position, _ = feed([at(1, 5000), at(1.01, 5200)])
        assert position.power_watts == 1000.0

    def test_unchanged_counter_yields_no_interval(self):
        position, _ = feed([at(1, 5000), at(2, 5100)])
        assert feed([at(3, 5100), at(4, 5100)], position=position) == (position, [])

    def test_stuck_counter_books_the_difference_when_it_increases_again(self):
        stuck = [at(second, 5000) for second in range(1, 12)]
        _, intervals = feed([at(0, 4700), *stuck, at(12, 8300), at(13, 8600)])
        assert [interval.energy_uj // J for interval in intervals] == [300, 3300, 300]
        assert (intervals[1].t0_ns, intervals[1].t1_ns) == (SECOND, 12 * SECOND)
        assert events(intervals) == []

    def test_method_of_the_energy_is_that_of_the_counter(self):
        estimated = INFO._replace(method=Method.ESTIMATED)
        _, (interval,) = feed([at(1, 0), at(2, 10)], estimated)
        assert interval.method is Method.ESTIMATED

    def test_other_epoch_is_a_baseline(self):
        position, intervals = feed([at(1, 5000), at(2, 7, epoch="later"), at(3, 9, epoch="later")])
        assert joules(intervals) == 2
        assert position.epoch == "later"

    def test_same_moment_twice_books_nothing(self):
        position, intervals = feed([at(1, 5000), at(2, 5100), at(2, 5150), at(1.5, 5050)])
        assert joules(intervals) == 100
        assert position.raw_uj == 5100 * J

    def test_restored_state_marks_one_interval_as_spanning_a_restart(self):
        position, _ = feed([at(1, 5000), at(2, 5100)])
        after, intervals = feed(
            [at(20, 6000), at(21, 6100)], position=position._replace(restored=True)
        )
        assert [interval.restart for interval in intervals] == [True, False]
        assert not after.restored


class TestUnreadableCounter:
    def test_failed_reading_changes_nothing(self):
        position, _ = feed([at(1, 5000), at(2, 5100)])
        assert advance_counter(position, at(3), INFO) == (position, None)

    def test_failed_first_reading_is_no_baseline(self):
        assert advance_counter(None, at(1), INFO) == (None, None)

    def test_pending_energy_is_booked_exactly_when_the_counter_returns(self):
        _, intervals = feed([at(1, 5000), *(at(s) for s in range(2, 600)), at(600, 95_000)])
        (interval,) = intervals
        assert interval.energy_uj == 90_000 * J
        assert (interval.t0_ns, interval.t1_ns) == (SECOND, 600 * SECOND)


class TestSuspectReading:
    def test_dip_and_return_is_a_glitch_and_loses_nothing(self):
        _, intervals = feed([at(1, 22e6), at(2, 22e6 + 300), at(3, 200), at(4, 22e6 + 900)])
        assert joules(intervals) == 900
        assert events(intervals) == [CounterEvent.GLITCH]

    def test_interval_after_a_glitch_spans_from_the_last_good_reading(self):
        _, intervals = feed([at(1, 1000), at(2, 9e9), at(3, 1200)])
        assert (intervals[0].t0_ns, intervals[0].t1_ns) == (SECOND, 3 * SECOND)

    def test_implausible_jump_is_suspect_for_one_reading(self):
        position, intervals = feed([at(1, 1000), at(2, 9e9)])
        assert not intervals
        assert (position.suspect_uj, position.suspect_at_ns) == (9e9 * J, 2 * SECOND)

    def test_reset_books_all_that_the_new_counter_shows(self):
        position, intervals = feed([at(1, 22e6), at(2, 100), at(3, 400), at(4, 700)])
        assert joules(intervals) == 700
        assert events(intervals) == [CounterEvent.RESET]
        assert intervals[0].t0_ns == SECOND
        assert position.suspect_uj is None

    def test_reset_counter_with_implausible_value_books_its_growth(self):
        _, intervals = feed([at(1, 22e6), at(2, 9e6), at(3, 9e6 + 400), at(4, 9e6 + 700)])
        assert joules(intervals) == 700
        assert events(intervals) == [CounterEvent.RESET]
        assert intervals[0].t0_ns == 2 * SECOND

    def test_glitch_right_after_a_reset_loses_nothing(self):
        _, intervals = feed([at(1, 22e6), at(2, 100), at(3, 9e9), at(4, 700), at(5, 800)])
        assert joules(intervals) == 800
        assert events(intervals) == [CounterEvent.RESET]

    def test_two_different_glitches_in_a_row_lose_nothing(self):
        _, intervals = feed([at(1, 1000), at(2, 9e9), at(3, 5), at(4, 1600)])
        assert joules(intervals) == 600

    def test_unchanged_dip_is_not_a_reset(self):
        _, intervals = feed([at(1, 22e6), at(2, 0), at(3, 0), at(4, 0), at(5, 22e6 + 800)])
        assert joules(intervals) == 800
        assert events(intervals) == [CounterEvent.GLITCH]

    def test_failed_reading_after_a_suspect_does_no_harm(self):
        _, intervals = feed([at(1, 1000), at(2, 5), at(3), at(4, 1300)])
        assert joules(intervals) == 300

    def test_suspect_survives_a_restart(self):
        position, _ = feed([at(1, 22e6), at(2, 100)])
        _, intervals = feed([at(50, 14_500)], position=position._replace(restored=True))
        assert joules(intervals) == 14_500
        assert intervals[0].restart

    @pytest.mark.parametrize(("delta", "booked"), [(1700, True), (1701, False)])
    def test_plausible_is_one_and_a_half_times_the_cap_and_a_fifth_of_a_second(self, delta, booked):
        _, intervals = feed([at(1, 1000), at(2, 1000 + delta)])
        assert bool(intervals) is booked


class TestWrap:
    def test_fall_within_reach_is_one_wrap_as_soon_as_the_next_reading_agrees(self):
        position, intervals = feed([at(1, 262_100), at(2, 57)], WRAPPING)
        assert not intervals
        position, (interval,) = feed([at(3, 157)], WRAPPING, position)
        assert interval.energy_uj == 200 * J
        assert interval.event is CounterEvent.WRAP
        assert (interval.t0_ns, interval.t1_ns) == (SECOND, 3 * SECOND)
        assert position.suspect_uj is None

    def test_dip_to_zero_just_before_a_wrap_is_no_wrap(self):
        _, intervals = feed([at(1, 261_000), at(2, 0), at(3, 261_800), at(4, 262_000)], WRAPPING)
        assert [interval.energy_uj for interval in intervals] == [800 * J, 200 * J]
        assert events(intervals) == [CounterEvent.GLITCH]

    def test_dip_to_zero_before_a_wrap_that_comes_true_loses_nothing(self):
        _, intervals = feed([at(1, 262_000), at(2, 0), at(3, 257), at(4, 657)], WRAPPING)
        assert joules(intervals) == 800
        assert events(intervals) == [CounterEvent.WRAP]

    def test_glitch_right_after_a_wrap_loses_nothing(self):
        _, intervals = feed(
            [at(1, 262_100), at(2, 57), at(3, 9e9), at(4, 157), at(5, 257)], WRAPPING
        )
        assert joules(intervals) == 300
        assert events(intervals) == [CounterEvent.WRAP]

    def test_unchanged_counter_after_a_decrease_is_no_wrap(self):
        _, intervals = feed([at(1, 262_000), at(2, 0), at(3, 0), at(4, 262_100)], WRAPPING)
        assert joules(intervals) == 100
        assert events(intervals) == [CounterEvent.GLITCH]

    def test_wrap_across_a_restart_is_booked_by_the_process_that_comes_after(self):
        position, _ = feed([at(1, 262_000), at(2, 262_100)], WRAPPING)
        later = [at(12, 957), at(13, 1057), at(14, 1157)]
        _, intervals = feed(later, WRAPPING, position._replace(restored=True))
        assert [(interval.energy_uj, interval.restart) for interval in intervals] == [
            (1100 * J, True),
            (100 * J, False),
        ]

    def test_what_was_used_before_counters_began_at_zero_is_uncounted_once(self):
        position, _ = feed([at(1, 5000), at(2, 5100)])
        position, intervals = feed(
            [at(20, 6000), at(21, 6100)],
            position=position._replace(restored=True, uncounted=True),
        )
        assert [(each.energy_uj // J, each.uncounted) for each in intervals] == [
            (900, True),
            (100, False),
        ]
        assert not position.uncounted

    def test_integrated_power_is_counted_and_the_following_counter_is_not(self):
        position, _ = feed([at(1, 5000), at(2, 5100)])
        waiting = [at(second, watts=100.0) for second in (400, 401, 402)]
        position, intervals = feed(
            waiting, position=position._replace(restored=True, uncounted=True)
        )
        assert [(each.energy_uj // J, each.uncounted) for each in intervals] == [
            (0, True),
            (100, False),
            (100, False),
        ]
        _, (interval,) = feed([at(403, 9000)], position=position)
        assert (interval.energy_uj // J, interval.uncounted) == (3700, True)

    def test_integrated_power_is_uncounted_until_the_first_reading_after_counters_began(self):
        position, _ = feed([at(1, watts=100.0), at(2, watts=100.0)], POWER_ONLY)
        _, intervals = feed(
            [at(20, watts=100.0), at(21, watts=100.0)],
            POWER_ONLY,
            position._replace(restored=True, uncounted=True),
        )
        assert [each.uncounted for each in intervals] == [True, False]

    def test_fall_out_of_reach_is_suspect(self):
        position, intervals = feed([at(1, 100_000), at(2, 57)], WRAPPING)
        assert not intervals
        assert position.suspect_uj == 57 * J

    def test_value_beyond_the_range_is_suspect(self):
        _, intervals = feed([at(1, 100_000), at(2, 262_143 + 100_050)], WRAPPING)
        assert not intervals

    def test_long_absence_takes_the_wraps_nearest_to_the_power_before(self):
        _, intervals = feed(
            [at(0, 1000), at(1, 1400), at(3601, (1400 + 400 * 3600) % 262_143)], WRAPPING
        )
        assert joules(intervals) == 400 * 3601
        assert events(intervals) == [CounterEvent.GAP]

    def test_several_wraps_in_one_gap_are_off_by_whole_wraps_at_most(self):
        """The last power is half of that in the gap; the energy within a wrap is exact."""
        true = 800 * 3600
        _, intervals = feed([at(0, 1000), at(1, 1400), at(3601, (1400 + true) % 262_143)], WRAPPING)
        assert (true + 400 - joules(intervals)) % 262_143 == 0
        assert abs(joules(intervals) - 400 * 3601) <= 262_143 / 2

    def test_without_a_power_before_the_fewest_wraps_are_taken(self):
        _, intervals = feed([at(0, 1000), at(3600, 900)], WRAPPING)
        assert joules(intervals) == 262_143 - 100

    @given(
        watts=st.floats(1, 900),
        start=st.integers(0, 262_142),
        gaps=st.lists(st.floats(0.1, 150), min_size=1, max_size=60),
    )
    def test_any_series_shorter_than_a_wrap_apart_is_exact(self, watts, start, gaps):
        now, raw, readings = 0.0, start * J, [Reading(GPU, 0, "boot", start * J)]
        true = {}
        for gap in gaps:
            now += gap
            raw += round(watts * gap * J)
            true[round(now * SECOND)] = raw - start * J
            readings.append(Reading(GPU, round(now * SECOND), "boot", raw % (262_143 * J)))
        _, intervals = feed(readings, WRAPPING)
        until = intervals[-1].t1_ns if intervals else 0
        assert sum(interval.energy_uj for interval in intervals) == true.get(until, 0)
        assert until in [0, *true][-2:]  # a wrap at the end is still open


REGISTER = INFO._replace(unread_wrap_uj=2**18 * J, power_cap_watts=2000.0)
"""A counter that the kernel accumulates from a register of 2^18 J, when something reads it."""
GAPS = [(watts, minutes) for watts in (100, 300, 1000) for minutes in (1, 5, 20)]


def counted_over_gap(
    watts_before, watts, minutes, *, watts_after=None, is_exact=True, other_reads=0
):
    """Counted and used joules of a minute read every second, a gap, and a minute more.

    `other_reads`: reads by another program in the gap, evenly spaced. `is_exact`: see
    EnergyRegister.
    """
    register = EnergyRegister(250_000, is_exact=is_exact)
    gap = 60 * minutes
    readings, second = [at(0, register.read_uj() / J)], 0
    for step, power in [
        *((1, watts_before) for _ in range(60)),
        (gap, watts),
        *((1, watts if watts_after is None else watts_after) for _ in range(60)),
    ]:
        for _ in range(other_reads if step == gap else 0):
            register.use(power * step / (other_reads + 1))
            register.read_uj()
        register.use(power * step / (other_reads + 1 if step == gap else 1))
        second += step
        readings.append(at(second, register.read_uj() / J))
    _, intervals = feed(readings, REGISTER)
    used = 60 * watts_before + gap * watts + 60 * (watts if watts_after is None else watts_after)
    return joules(intervals), used, events(intervals)


class TestRegisterThatNothingReads:
    """The number of wraps that are lost in a gap is the one nearest to the power before.

    So the energy is exact if the mean power in the gap differs from the power before by less than
    2^17 J divided by the gap: 2,185 W over 1 minute, 437 W over 5, 109 W over 20. Otherwise it is
    wrong by a multiple of 2^18 J.
    """

    @pytest.mark.parametrize(("watts", "minutes"), GAPS)
    @pytest.mark.parametrize("is_exact", [True, False], ids=["newer xe", "i915"])
    def test_gap_at_constant_power_is_exact(self, watts, minutes, is_exact):
        """With i915 each wrap loses a unit of the register, 61 uJ."""
        counted, used, _ = counted_over_gap(watts, watts, minutes, is_exact=is_exact)
        assert counted == pytest.approx(used, abs=0.001)

    @pytest.mark.parametrize(("watts", "minutes"), GAPS)
    @pytest.mark.parametrize("sign", [-0.9, 0.9])
    def test_gap_is_exact_if_the_power_changes_by_less_than_the_bound(self, watts, minutes, sign):
        inside = max(0, watts + sign * 2**17 / (60 * minutes))
        counted, used, _ = counted_over_gap(watts, min(inside, 1900), minutes, watts_after=watts)
        assert counted == pytest.approx(used, abs=0.001)

    @pytest.mark.parametrize(
        ("watts_before", "watts", "minutes", "wraps"),
        [
            (900, 900 + 440, 5, -1),
            (1000, 1000 - 440, 5, 1),
            (300, 300 + 112, 20, -1),
            (300, 300 - 112, 20, 1),
            (1000, 100, 20, 4),
            (100, 1000, 20, -4),
        ],
    )
    def test_gap_is_wrong_by_whole_wraps_if_the_power_changes_by_more(
        self, watts_before, watts, minutes, wraps
    ):
        counted, used, found = counted_over_gap(watts_before, watts, minutes)
        assert counted - used == pytest.approx(wraps * 2**18, abs=0.001)
        assert found == [CounterEvent.GAP]

    @pytest.mark.parametrize(("watts_before", "watts"), [(100, 1000), (1000, 300)])
    def test_gap_is_exact_if_another_program_read_the_counter(self, watts_before, watts):
        """An increase above the range of the register is complete."""
        counted, used, found = counted_over_gap(watts_before, watts, 20, other_reads=40)
        assert counted == pytest.approx(used, abs=0.001)
        assert found == []

    def test_short_time_between_reads_loses_no_wrap_and_is_no_gap(self):
        counted, used, found = counted_over_gap(1900, 1900, 1)
        assert counted == pytest.approx(used, abs=0.001)
        assert found == []

    def test_gap_across_a_restart_continues_with_the_power_before(self):
        register = EnergyRegister(1000)
        position, _ = feed([at(0, register.read_uj() / J)], REGISTER)
        register.use(300)
        position, _ = feed([at(1, register.read_uj() / J)], REGISTER, position)
        register.use(300 * 1200)
        _, (interval,) = feed(
            [at(1201, register.read_uj() / J)], REGISTER, position._replace(restored=True)
        )
        assert interval.energy_uj / J == pytest.approx(300 * 1200, abs=0.001)
        assert (interval.restart, interval.event) == (True, CounterEvent.GAP)

    def test_register_that_restarts_within_seconds_is_not_taken_for_a_wrap(self):
        """After a reset of the card, the kernel adds up to 2^18 J that were not used."""
        register = EnergyRegister(100_000)
        readings = [at(0, register.read_uj() / J)]
        for second in range(1, 20):
            register.use(200)
            if second == 10:
                register.lose_power()
            readings.append(at(second, register.read_uj() / J))
        _, intervals = feed(readings, REGISTER)
        assert 17 * 200 <= joules(intervals) <= 19 * 200
        assert events(intervals) == [CounterEvent.RESET]


class TestPowerOnly:
    def test_trapezoid_between_two_readings(self):
        _, (interval,) = feed([at(1, watts=100), at(3, watts=200)], POWER_ONLY)
        assert interval.energy_uj == 300 * J
        assert interval.method is Method.INTEGRATED

    def test_failed_reading_is_bridged_and_not_zero(self):
        _, intervals = feed([at(1, watts=100), at(2), at(3, watts=100)], POWER_ONLY)
        assert joules(intervals) == 200

    def test_gap_over_five_minutes_is_counted_and_not_invented(self):
        _, intervals = feed([at(1, watts=100), at(302, watts=100), at(303, watts=100)], POWER_ONLY)
        assert joules(intervals) == 100
        assert events(intervals) == [CounterEvent.GAP]


NO_POWERS = [4_294_967.295, 1001.0, -1.0, float("nan"), float("inf"), float("-inf")]


class TestImplausiblePower:
    @pytest.mark.parametrize("watts", NO_POWERS)
    def test_it_is_bridged_between_plausible_readings(self, watts):
        readings = [at(n, watts=w) for n, w in enumerate([70, 70, watts, 70, 70])]
        _, intervals = feed(readings, POWER_ONLY)
        assert joules(intervals) == 280
        assert events(intervals) == []

    @pytest.mark.parametrize("watts", NO_POWERS)
    def test_first_and_last_reading_book_nothing(self, watts):
        readings = [at(n, watts=w) for n, w in enumerate([watts, 70, 70, watts])]
        _, intervals = feed(readings, POWER_ONLY)
        assert joules(intervals) == 70

    @pytest.mark.parametrize("watts", NO_POWERS)
    def test_it_never_replaces_a_counter(self, watts):
        lost = [at(s, watts=watts if s % 2 else 100) for s in range(2, 61)]
        _, intervals = feed([at(0, 0), at(1, 100), *lost, at(61, 6100)])
        assert joules(intervals) == 6100
        assert all(interval.energy_uj <= 6000 * J for interval in intervals)

    def test_a_stored_implausible_power_is_not_integrated(self):
        position, _ = feed([at(0, watts=70)], POWER_ONLY)
        kept = position._replace(power_watts=4_294_967.295, restored=True)
        _, intervals = feed([at(2, watts=70)], POWER_ONLY, kept)
        assert joules(intervals) == 140

    def test_power_beside_a_counter_does_not_matter(self):
        _, intervals = feed([at(0, 0, watts=4e6), at(1, 100, watts=4e6), at(2, 200, watts=4e6)])
        assert joules(intervals) == 200


@pytest.mark.parametrize("raw_uj", [2**63, 2**64 - 1, -1])
def test_counter_beyond_63_bits_is_no_reading(raw_uj):
    odd = [Reading(GPU, s * SECOND, "boot", raw_uj) for s in (2, 3)]
    position, intervals = feed([at(0, 0), at(1, 100), *odd, at(4, 400)])
    assert joules(intervals) == 400
    assert position.suspect_uj is None
    assert feed([Reading(GPU, SECOND, "boot", raw_uj)]) == (None, [])


class TestPowerReplacesCounter:
    def readings(self, until, watts=100):
        return [at(0, 0), at(1, 100), *(at(s, watts=watts) for s in range(2, until))]

    def test_missing_counter_is_waited_for_thirty_seconds(self):
        _, intervals = feed(self.readings(32))
        assert joules(intervals) == 100

    def test_then_power_is_integrated_from_the_last_good_counter(self):
        position, intervals = feed(self.readings(61))
        assert joules(intervals) == 100 * 60
        assert {interval.method for interval in intervals[1:]} == {Method.INTEGRATED}
        assert position.provisional_uj == 100 * 59 * J

    def test_returning_counter_adds_what_power_missed(self):
        _, intervals = feed([*self.readings(61), at(61, 6600)])
        assert joules(intervals) == 6600
        assert intervals[-1].method is Method.COUNTER

    def test_intervals_follow_each_other_without_overlap(self):
        _, intervals = feed([*self.readings(61), at(61, 6600), at(62, 6700)])
        edges = [(interval.t0_ns, interval.t1_ns) for interval in intervals]
        assert all(before[1] == after[0] for before, after in pairwise(edges))

    def test_energy_booked_in_excess_is_paid_from_a_tenth_of_later_increments(self):
        start = [*self.readings(61), at(61, 5950)]
        position, _ = feed(start)
        assert position.debt_uj == 50 * J
        later = [at(61 + n, 5950 + 100 * n) for n in range(1, 8)]
        position, intervals = feed([*start, *later])
        assert [interval.energy_uj // J for interval in intervals[-7:]] == [90] * 5 + [100] * 2
        assert joules(intervals) == 5950 + 700
        assert position.debt_uj == 0

    def test_counter_reset_meanwhile_continues_without_gap_or_overlap(self):
        lost = [at(s, watts=100) for s in range(2, 61)]
        restarted = [at(61 + n, 100 * n, watts=100) for n in range(10)]
        _, intervals = feed([at(0, 9e6), at(1, 9e6 + 100), *lost, *restarted])
        assert joules(intervals) == 100 * 70
        assert events(intervals) == [CounterEvent.RESET]

    def test_counter_stuck_at_a_false_value_is_integrated_over(self):
        stuck = [at(s, 22e6, watts=100) for s in range(2, 120)]
        _, intervals = feed([at(0, 0), at(1, 100), *stuck])
        assert joules(intervals) == 100 * 119

    def test_stuck_counter_is_integrated_over_and_trued_up(self):
        stuck = [at(s, 100, watts=100) for s in range(2, 61)]
        _, intervals = feed([at(0, 0), at(1, 100, watts=100), *stuck, at(61, 6600, watts=100)])
        assert joules(intervals) == 6600
        assert {interval.method for interval in intervals[1:-1]} == {Method.INTEGRATED}

    def test_suspect_from_before_the_integration_is_not_counted_again(self):
        lost = [at(s, watts=100) for s in range(3, 61)]
        back = [at(61 + n, 100 * n + 7, watts=100) for n in range(5)]
        _, intervals = feed([at(0, 9e6), at(1, 9e6 + 100), at(2, 5), *lost, *back])
        assert joules(intervals) == 100 * 65


class TestSleep:
    NIGHT = 8 * 3600

    def readings(self, *joules, **power):
        """Readings once per second, with a suspend of eight hours before the last one."""
        *before, last = joules
        awake = [at(1 + n, value, **power, awake=1 + n) for n, value in enumerate(before)]
        end = 1 + len(before)
        return [*awake, at(end + self.NIGHT, last, **power, awake=end)]

    def test_energy_is_what_the_counter_shows_and_no_wraps_are_invented(self):
        _, intervals = feed(self.readings(1000, 1010, 1060), WRAPPING)
        assert [interval.energy_uj for interval in intervals] == [10 * J, 50 * J]
        assert events(intervals) == []

    def test_interval_has_the_length_of_the_time_awake(self):
        position, intervals = feed(self.readings(1000, 1010, 1060), WRAPPING)
        end_ns = (3 + self.NIGHT) * SECOND
        assert (intervals[-1].t0_ns, intervals[-1].t1_ns) == (end_ns - SECOND, end_ns)
        assert position.power_watts == 50.0

    def test_counter_that_lost_its_value_asleep_is_a_reset(self):
        first = self.readings(200_000, 200_010, 5)
        position, intervals = feed(first, WRAPPING)
        assert position.suspect_uj == 5 * J
        last = first[-1]
        later = at(last.at_ns / SECOND + 1, 17, awake=last.awake_ns / SECOND + 1)
        _, (interval,) = feed([later], WRAPPING, position)
        assert (interval.energy_uj, interval.event) == (17 * J, CounterEvent.RESET)
        assert len(intervals) == 1

    def test_sleep_after_a_suspect_does_not_make_it_plausible(self):
        _, intervals = feed(self.readings(22e6, 5, 1e6))
        assert not intervals

    def test_power_is_integrated_over_the_time_awake(self):
        _, intervals = feed(self.readings(None, None, None, watts=100), POWER_ONLY)
        assert [interval.energy_uj for interval in intervals] == [100 * J] * 2

    def test_power_replacing_a_counter_is_integrated_over_the_time_awake(self):
        missing = [None] * 60
        _, intervals = feed(self.readings(0, *missing, watts=100))
        assert joules(intervals) == 60 * 100

    def test_several_sleeps_in_a_row_are_all_left_out(self):
        nap = 3600
        readings = [at(1, 0, awake=1), at(2, 10, awake=2), at(3 + nap, 1e9, awake=3)]
        readings += [at(4 + 2 * nap, 30, awake=4), at(5 + 3 * nap, 40, awake=5)]
        position, intervals = feed(readings, WRAPPING)
        assert [interval.energy_uj for interval in intervals] == [10 * J, 20 * J, 10 * J]
        assert (position.at_ns, position.awake_ns) == ((5 + 3 * nap) * SECOND, 5 * SECOND)

    def test_sleep_while_no_daemon_ran_is_excluded_too(self):
        position, _ = feed([at(1, 1000, awake=1), at(2, 1010, awake=2)], WRAPPING)
        later = at(12 + self.NIGHT, 1110, awake=12)
        _, (interval,) = feed([later], WRAPPING, position._replace(restored=True))
        assert interval.energy_uj == 100 * J
        assert interval.restart

    def test_state_without_awake_time_counts_all_time_as_awake(self):
        position, _ = feed([at(1, 1000), at(2, 1400)], WRAPPING)
        later = at(3602, (1400 + 400 * 3600) % 262_143, awake=1)
        after, (interval,) = feed([later], WRAPPING, position)
        assert interval.energy_uj == 400 * 3600 * J
        assert after.awake_ns == SECOND

    def test_time_between_reading_two_clocks_is_no_sleep(self):
        _, intervals = feed([at(1, 0, awake=1), at(2, 10, awake=1.99), at(3, 20, awake=3)])
        edges = [(interval.t0_ns, interval.t1_ns) for interval in intervals]
        assert edges == [(SECOND, 2 * SECOND), (2 * SECOND, 3 * SECOND)]


def simulate(steps, fail, glitch, info, seed=7, resets=()):
    """Counted, true and unknowable microjoules of a device that varies between 50 and 700 W.

    Unknowable is what is used from the last good reading before a reset to the first after it.
    The last readings are good. A false value that the device may have reached by then is left out:
    nothing tells it from a true one.
    """
    rng = random.Random(seed)
    raw = true = 10_000 * J
    begin = None
    good_true, reset, unknowable = true, False, 0
    position, counted, worst = None, 0, 0
    for step in range(steps):
        used = round(rng.uniform(50, 700) * J)
        true += used
        raw += used
        if step in resets:
            raw, reset = round(used * rng.random()), True
        if info.wrap_uj is not None:
            raw %= info.wrap_uj
        draw = rng.random() if 0 < step < steps - 3 else 1.0
        counter = raw
        if draw < fail:
            counter = None
        elif draw < fail + glitch:
            counter = false_value(rng, position)
        else:
            if reset:
                unknowable += true - good_true
            good_true, reset = true, False
        reading = Reading(GPU, (step + 1) * SECOND, "boot", counter)
        position, interval = advance(position, reading, info)
        begin = true if begin is None else begin
        if interval is not None:
            counted += interval.energy_uj
            worst = min(worst, interval.energy_uj)
    assert worst >= 0
    return counted, true - begin, unknowable


def false_value(rng, position):
    """A dip to zero, or a value above the plausible energy of 20 s."""
    while True:
        value = rng.choice([0, rng.randrange(10**12), rng.randrange(10**15)])
        if not 0 <= value - position.raw_uj <= 20 * 1500 * J:
            return value


@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied"), FileNotFoundError(2, "No such file")]
)
def test_counter_file_lost_for_a_minute_is_pending_and_then_exact(
    error, tmp_path, clock, monkeypatch
):
    """Permission or file lost at runtime: no estimate replaces it, and no energy is lost."""
    zone = tmp_path / "class/powercap/intel-rapl:0"
    zone.mkdir(parents=True)
    (zone / "name").write_text("package-0\n")
    (zone / "max_energy_range_uj").write_text(f"{262_143 * J - 1}\n")
    rapl, energy_counters = None, EnergyCounters(())
    booked = []
    for second in range(70):
        (zone / "energy_uj").write_text(f"{(200_000 + 100 * second) * J}\n")
        rapl = rapl or RaplCollector(str(tmp_path), clock, "boot")
        with monkeypatch.context() as patch:
            lost = 5 <= second < 65
            if lost:
                patch.setattr(os, "pread", Mock(side_effect=error))
            booked.append(joules(energy_counters.advance(rapl.read())))
        (state,) = energy_counters.states(clock.boottime_ns(), {})
        assert state.up is not lost
        assert (error.strerror in state.why or "only root" in state.why) is lost
        clock.advance(1)
    rapl.release()
    assert booked == [0, *[100] * 4, *[0] * 60, 6100, *[100] * 4]


TEN_THOUSANDTH = 10_000
RESETS = range(500, 10_000, 950)


@pytest.mark.parametrize("info", [INFO, WRAPPING], ids=["plain", "wrapping"])
@pytest.mark.parametrize("seed", [0, 1, 12, 20, 39])
def test_thirty_percent_failures_and_two_percent_glitches_stay_within_a_ten_thousandth(seed, info):
    counted, true, _ = simulate(10_000, 0.3, 0.02, info, seed)
    assert abs(counted - true) <= true / TEN_THOUSANDTH


@pytest.mark.parametrize("seed", range(3))
def test_resets_alone_lose_no_more_than_was_used_between_the_readings_around_them(seed):
    counted, true, unknowable = simulate(10_000, 0.0, 0.0, INFO, seed, RESETS)
    assert 0 <= true - counted <= unknowable <= len(RESETS) * 700 * J


@pytest.mark.parametrize("info", [INFO, WRAPPING], ids=["plain", "wrapping"])
@pytest.mark.parametrize("seed", range(5))
def test_faults_and_resets_together_stay_within_the_sum_of_their_bounds(seed, info):
    counted, true, unknowable = simulate(10_000, 0.3, 0.02, info, seed, RESETS)
    assert abs(true - counted) <= unknowable + true / TEN_THOUSANDTH


def test_faultless_series_is_exact():
    counted, true, _ = simulate(2_000, 0.0, 0.0, INFO)
    assert counted == true


READINGS = st.lists(
    st.tuples(
        st.floats(0.01, 400),
        st.none() | st.integers(0, 10**13),
        st.none() | st.floats(0, 1000),
        st.sampled_from(["a", "a", "a", "b"]),
    ),
    max_size=60,
)


@given(READINGS, st.sampled_from([INFO, WRAPPING, POWER_ONLY]))
def test_whatever_is_read_energy_is_never_negative_nor_beyond_the_cap(series, info):
    position, now = None, 0
    for gap, counter, watts, epoch in series:
        now += round(gap * SECOND)
        reading = Reading(GPU, now, epoch, counter, watts)
        position, interval = advance(position, reading, info)
        if interval is not None:
            elapsed = (interval.t1_ns - interval.t0_ns) / SECOND
            assert interval.t0_ns < interval.t1_ns == now
            assert interval.energy_uj >= 0
            if interval.method is Method.INTEGRATED:
                assert interval.energy_uj <= 1000 * elapsed * J + 1
        if position is not None:
            assert position.debt_uj >= 0
            assert position.provisional_uj >= 0


@given(READINGS)
def test_a_restart_between_any_two_readings_changes_no_energy(series):
    def total(restart):
        position: CounterState | None = None
        now = energy = 0
        for gap, counter, watts, epoch in series:
            if restart and position is not None:
                position = position._replace(restored=True)
            now += round(gap * SECOND)
            reading = Reading(GPU, now, epoch, counter, watts)
            position, interval = advance(position, reading, INFO)
            energy += interval.energy_uj if interval else 0
        return energy

    assert total(restart=True) == total(restart=False)


class TestRangeThatTheCounterDisproves:
    def test_energy_above_the_range_is_booked(self):
        readings = [at(1, 262_000), at(2, 262_100), at(3, 262_200), at(4, 262_300)]
        _, intervals = feed(readings, WRAPPING)
        assert joules(intervals) == 300
        assert not events(intervals)

    def test_fall_from_above_the_range_is_a_reset_and_no_wrap(self):
        _, intervals = feed([at(1, 300_000), at(2, 10), at(3, 110)], WRAPPING)
        assert joules(intervals) == 110
        assert events(intervals) == [CounterEvent.RESET]

    def test_jump_above_the_range_is_suspect(self):
        _, intervals = feed([at(1, 1000), at(2, 400_000), at(3, 1200)], WRAPPING)
        assert joules(intervals) == 200
        assert events(intervals) == [CounterEvent.GLITCH]
