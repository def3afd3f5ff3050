"""Apportionment into exact integer parts."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.model.apportion import apportion

weights = st.lists(
    st.one_of(st.integers(0, 10**18), st.floats(0, 1e300, allow_subnormal=True)),
    min_size=1,
    max_size=40,
).filter(any)
totals = st.integers(0, 10**18)


@given(totals, weights)
def test_the_parts_sum_to_the_total(total, given_weights):
    assert sum(apportion(total, given_weights)) == total


@given(totals, weights)
def test_each_part_is_less_than_one_away_from_its_exact_part(total, given_weights):
    of = sum(Fraction(weight) for weight in given_weights)
    for part, weight in zip(apportion(total, given_weights), given_weights, strict=True):
        assert abs(part - total * Fraction(weight) / of) < 1


@given(totals, weights)
def test_a_weight_of_zero_gets_zero(total, given_weights):
    parts = apportion(total, [*given_weights, 0])
    assert parts[-1] == 0


@given(totals, st.lists(st.integers(0, 10**12), min_size=1, max_size=20).filter(any))
def test_whole_parts_bound_a_smaller_total_split_by_them(total, by):
    parts = apportion(sum(by), by)
    smaller = min(total, sum(by))
    assert all(a <= b for a, b in zip(apportion(smaller, parts), parts, strict=True))


def test_equal_remainders_go_to_the_earlier_part():
    assert apportion(5, [1, 1, 1]) == [2, 2, 1]


def test_the_largest_remainder_gets_what_is_left():
    assert apportion(10, [1, 1, 4]) == [2, 2, 6]
    assert apportion(1, [1, 3, 2]) == [0, 1, 0]


def test_floats_weigh_as_much_as_the_same_integers():
    assert apportion(1_000_003, [0.25, 0.5, 3]) == apportion(1_000_003, [1, 2, 12])


@pytest.mark.parametrize(
    ("total", "by"),
    [
        (1, []),
        (1, [0, 0]),
        (1, [0.0]),
        (1, [2, -1]),
        (-1, [1]),
        (1, [float("nan")]),
        (1, [float("inf"), 1]),
    ],
)
def test_invalid_weights_are_refused(total, by):
    with pytest.raises(ValueError, match="cannot apportion"):
        apportion(total, by)
