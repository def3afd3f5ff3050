"""Telling two counters from one that is shown twice."""

from hypothesis import given
from hypothesis import strategies as st

from exporter.sample.mirror import LOOKS, MirrorTrial

WRAP = 1_000


def verdicts(looks, wrap_uj=WRAP):
    trial = MirrorTrial(wrap_uj)
    return [trial.judge(*look) for look in looks]


def test_counter_that_agrees_ten_times_while_moving_is_the_same():
    looks = [(7 * n, 7 * n, 7 * n) for n in range(LOOKS + 1)]
    assert verdicts(looks) == [None] * LOOKS + [True]


def test_counter_that_stands_still_proves_nothing():
    assert verdicts([(5, 5, 5)] * 100) == [None] * 100


def test_value_between_two_readings_of_a_running_counter_agrees():
    assert verdicts([(10, 12, 15)]) == [None]


def test_value_across_a_wrap_agrees():
    assert verdicts([(998, 1, 3)]) == [None]


def test_first_difference_tells_them_apart():
    assert verdicts([(10, 10, 10), (20, 21, 20)]) == [None, False]


def test_value_from_before_is_a_difference():
    assert verdicts([(10, 9, 10)]) == [False]


def test_counter_of_unknown_range_is_compared_as_it_is():
    assert verdicts([(10, 12, 15), (20, 3, 25)], wrap_uj=None) == [None, False]


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 9), st.integers(0, 9)), min_size=11))
def test_one_counter_read_thrice_in_a_row_is_never_taken_for_two(steps):
    looks, now = [], 0
    for gap, until_other, until_after in steps:
        before = now + gap
        other = before + until_other
        now = other + until_after
        looks.append((before % WRAP, other % WRAP, now % WRAP))
    assert False not in verdicts(looks)
