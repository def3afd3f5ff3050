"""Factors of the minutes that can be converted."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from exporter.account.backfill import MAX_MINUTES_PER_BACKFILL, factors_for_minutes
from exporter.model.intensity import IntensityInterval
from tests.unit.account.making import FRANCE, GERMANY

NOW = 1_000_000.0 * 60


def always(factor):
    return lambda t0, t1: (IntensityInterval(t0, t1, factor),)


def switching(*times_and_factors):
    """Factors that hold from a time on, until the next one's time."""

    def spells(t0, t1):
        cuts = [(float("-inf"), None), *times_and_factors, (float("inf"), None)]
        return tuple(
            IntensityInterval(max(start, t0), min(end, t1), factor)
            for (start, factor), (end, _) in pairwise(cuts)
            if max(start, t0) < min(end, t1)
        )

    return spells


def test_a_minute_with_a_factor_has_it():
    assert factors_for_minutes((5, 7), always(GERMANY), NOW) == {5: GERMANY, 7: GERMANY}


def test_a_minute_without_a_factor_is_left_out():
    assert factors_for_minutes((5, 7), always(None), NOW) == {}


def test_only_minutes_that_were_requested_are_returned():
    spells = switching((0.0, GERMANY))
    assert list(factors_for_minutes((1, 2, 4, 9), spells, NOW)) == [1, 2, 4, 9]


def test_a_minute_has_to_be_over_for_a_whole_minute():
    at = 600 * 60.0
    minutes = (597, 598, 599, 600)
    assert list(factors_for_minutes(minutes, always(GERMANY), at + 59.9)) == [597, 598]
    assert list(factors_for_minutes(minutes, always(GERMANY), at + 60)) == [597, 598, 599]


def test_the_middle_of_the_minute_decides():
    for second, factor in ((29.0, FRANCE), (30.0, FRANCE), (31.0, GERMANY)):
        spells = switching((0.0, GERMANY), (600 + second, FRANCE))
        assert factors_for_minutes((9, 10, 11), spells, NOW) == {9: GERMANY, 10: factor, 11: FRANCE}


def test_no_more_than_some_at_once_the_oldest_first():
    found = factors_for_minutes(range(10 * MAX_MINUTES_PER_BACKFILL), always(GERMANY), NOW)
    assert list(found) == list(range(MAX_MINUTES_PER_BACKFILL))


def test_minutes_that_stay_without_a_factor_hold_up_no_others():
    spells = switching((60.0 * 10_000, GERMANY))
    assert len(factors_for_minutes(range(10_100), spells, NOW)) == 100


def test_minutes_in_a_row_are_one_request():
    asked = []

    def spells(t0, t1):
        asked.append((t0, t1))
        return (IntensityInterval(t0, t1, None),)

    factors_for_minutes((1, 2, 3, 8), spells, NOW)
    assert asked == [(60, 240), (480, 540)]


@given(st.sets(st.integers(0, 40)), st.lists(st.floats(0, 2_500), max_size=6))
def test_it_equals_a_request_for_each_middle(minutes, times):
    factors = [GERMANY, None, FRANCE] * 2
    spells = switching(*zip(sorted(times), factors, strict=False))
    expected = {}
    for minute in sorted(minutes):
        middle = minute * 60 + 30.0
        (spell,) = spells(middle, middle + 1e-9)
        if spell.factor is not None:
            expected[minute] = spell.factor
    assert factors_for_minutes(sorted(minutes), spells, NOW) == expected
