"""Periodic piecewise linear curves."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from exporter.model.recorded_host import Curve

POINTS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 500)), min_size=1, max_size=8).map(
    lambda points: sorted(points, key=lambda point: point[0])
)


def test_value_is_linear_between_points():
    curve = Curve([(0, 10), (10, 30), (20, 10)], 40)
    assert [curve.at(second) for second in (0, 5, 10, 15, 20)] == [10, 20, 30, 20, 10]


def test_value_is_linear_from_the_last_point_to_the_next_period():
    curve = Curve([(10, 0), (30, 40)], 40)
    assert [curve.at(second) for second in (30, 35, 0, 5, 10)] == [40, 30, 20, 10, 0]


def test_value_repeats_with_the_period():
    curve = Curve([(0, 10), (10, 30)], 40)
    assert curve.at(7) == curve.at(47) == curve.at(4007)


def test_two_points_at_one_time_are_a_step():
    curve = Curve([(0, 10), (10, 10), (10, 50), (20, 50), (20, 10)], 40)
    assert [curve.at(second) for second in (9.999, 10, 19.999, 20)] == [10, 50, 50, 10]
    assert curve.integral(0, 40) == 10 * 10 + 10 * 50 + 20 * 10


def test_step_from_one_period_to_the_next_is_kept():
    curve = Curve([(0, 10), (40, 50)], 40)
    assert (curve.at(0), curve.at(40)) == (10, 10)
    assert curve.integral(0, 80) == 2 * 40 * 30


def test_single_point_is_a_constant():
    curve = Curve([(3, 7)], 10)
    assert curve.at(0) == curve.at(9) == 7
    assert curve.integral(2, 25) == 7 * 23


@pytest.mark.parametrize(
    ("points", "period"), [([], 10), ([(0, 1)], 0), ([(5, 1), (4, 1)], 10), ([(11, 1)], 10)]
)
def test_points_out_of_order_or_period_are_refused(points, period):
    with pytest.raises(ValueError, match=r"curve needs|times must rise"):
        Curve(points, period)


@settings(deadline=None)
@given(POINTS, st.floats(0, 1e6), st.floats(0, 200), st.floats(0, 200))
def test_integral_adds_up_over_any_cut(points, begin, first, second):
    curve = Curve(points, 60)
    middle, end = begin + first, begin + first + second
    parts = curve.integral(begin, middle) + curve.integral(middle, end)
    assert parts == pytest.approx(curve.integral(begin, end), abs=1e-6)


@settings(deadline=None)
@given(POINTS, st.floats(0, 1e4), st.floats(0, 200))
def test_integral_lies_between_the_least_and_the_most_value(points, begin, span):
    values = [value for _, value in points]
    area = Curve(points, 60).integral(begin, begin + span)
    assert min(values) * span - 1e-6 <= area <= max(values) * span + 1e-6


@settings(deadline=None)
@given(POINTS, st.floats(0, 1e4))
def test_short_integral_is_value_times_time(points, begin):
    assume(all(abs(begin % 60 - time) > 0.01 for time in (0, 60, *(time for time, _ in points))))
    curve = Curve(points, 60)
    assert curve.integral(begin, begin + 1e-3) / 1e-3 == pytest.approx(curve.at(begin), abs=1.0)
