"""Distinguishing two counters from one that is shown twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.sample.sources.rapl import (
    MAX_COPY_SKEW_UJ,
    MIN_DIFFERENT_READINGS,
    MIN_EQUAL_READINGS,
    DuplicateCounterTest,
)

WRAP = 1_000


def verdicts(looks, wrap_uj=WRAP):
    trial = DuplicateCounterTest(wrap_uj)
    return [trial.compare(*look) for look in looks]


def test_counter_that_agrees_ten_times_while_moving_is_the_same():
    looks = [(7 * n, 7 * n, 7 * n) for n in range(MIN_EQUAL_READINGS + 1)]
    assert verdicts(looks) == [None] * MIN_EQUAL_READINGS + [True]


def test_unchanged_counter_proves_nothing():
    assert verdicts([(5, 5, 5)] * 100) == [None] * 100


def test_value_between_two_readings_of_a_running_counter_agrees():
    assert verdicts([(10, 12, 15)]) == [None]


def test_value_across_a_wrap_agrees():
    assert verdicts([(998, 1, 3)]) == [None]


@pytest.mark.parametrize("other", [21, 19])
def test_consecutive_differences_distinguish_counters(other):
    looks = [(10, 10, 10), *[(20, other, 20)] * MIN_DIFFERENT_READINGS]
    assert verdicts(looks) == [None] * MIN_DIFFERENT_READINGS + [False]


def test_copies_that_are_written_one_after_the_other_are_the_same():
    late = [
        (7 * n, 7 * n - 7 * (n % MIN_DIFFERENT_READINGS > 0), 7 * n)
        for n in range(4 * MIN_EQUAL_READINGS)
    ]
    assert set(verdicts(late)) == {None, True}


@pytest.mark.parametrize("other_uj", [10 + MAX_COPY_SKEW_UJ, 10 + 2 * MAX_COPY_SKEW_UJ])
@pytest.mark.parametrize("wrap_uj", [None, 4 * MAX_COPY_SKEW_UJ])
def test_a_large_difference_distinguishes_counters_at_once(other_uj, wrap_uj):
    assert verdicts([(8, other_uj, 9)], wrap_uj) == [False]
    assert verdicts([(other_uj, 8, other_uj)], wrap_uj) == [False]


def test_small_difference_across_a_wrap_is_small():
    assert verdicts([(3, 4 * MAX_COPY_SKEW_UJ - 3, 3)], 4 * MAX_COPY_SKEW_UJ) == [None]


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 9), st.integers(0, 9)), min_size=11))
def test_one_counter_read_thrice_is_never_two(steps):
    looks, now = [], 0
    for gap, until_other, until_after in steps:
        before = now + gap
        other = before + until_other
        now = other + until_after
        looks.append((before % WRAP, other % WRAP, now % WRAP))
    assert False not in verdicts(looks)
