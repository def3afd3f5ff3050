"""The greenest stretch of time ahead."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.cli.intensity import greenest_window, mean_intensity, remaining_forecast
from exporter.model.intensity import IntensityValue

HOUR = 3600.0


def hours(*numbers):
    return [
        IntensityValue(place * HOUR, (place + 1) * HOUR, float(number))
        for place, number in enumerate(numbers)
    ]


@pytest.mark.parametrize(
    ("numbers", "duration", "until", "start", "grams_per_kwh"),
    [
        ((3, 1, 2), 1, 3, 1, 1),
        ((3, 1, 2), 2, 3, 1, 1.5),
        ((3, 2, 1), 0.5, 3, 2, 1),
        ((3, 2, 1), 1, 2.5, 1.5, 1.5),
        ((1, 1, 1), 1, 3, 0, 1),
        ((2, 1, 1, 2), 3, 4, 0, 4 / 3),
        ((5,), 1, 1, 0, 5),
    ],
)
def test_the_greenest_is_the_lowest_mean_that_ends_in_time_and_of_equals_the_first(
    numbers, duration, until, start, grams_per_kwh
):
    found = greenest_window(hours(*numbers), duration * HOUR, until * HOUR)
    assert (found.start, found.end) == (start * HOUR, (start + duration) * HOUR)
    assert found.grams_per_kwh == pytest.approx(grams_per_kwh)


@pytest.mark.parametrize(("duration", "until"), [(4, 9), (2, 1), (1, 0), (1, -5)])
def test_there_is_none_where_the_forecast_or_the_time_is_too_short(duration, until):
    assert greenest_window(hours(3, 1, 2), duration * HOUR, until * HOUR) is None


def test_there_is_none_without_a_forecast():
    assert greenest_window([], HOUR, HOUR) is None


def test_a_stretch_never_reaches_over_a_gap():
    values = [IntensityValue(0, 10, 5), IntensityValue(20, 30, 1)]
    assert greenest_window(values, 10, 30).start == 20
    assert greenest_window(values, 15, 30) is None
    assert mean_intensity(values, 5, 25) is None


def test_the_mean_is_by_time():
    assert (
        mean_intensity([IntensityValue(0, 30, 1), IntensityValue(30, 40, 5)], 0, 40).grams_per_kwh
        == 2
    )


def test_an_empty_stretch_has_no_mean():
    assert mean_intensity(hours(1), 5, 5) is None


def test_what_is_over_is_cut_off_and_what_is_in_force_fills_up_to_the_first_value():
    values = [IntensityValue(0, 10, 1), IntensityValue(10, 20, 2), IntensityValue(20, 30, 3)]
    assert remaining_forecast(values, 15, 9) == (
        IntensityValue(15, 20, 2),
        IntensityValue(20, 30, 3),
    )
    assert remaining_forecast(values[2:], 15, 9) == (
        IntensityValue(15, 20, 9),
        IntensityValue(20, 30, 3),
    )
    assert remaining_forecast(values[2:], 15, None) == (IntensityValue(20, 30, 3),)
    assert remaining_forecast(values, 30, 9) == ()


pieces = st.lists(
    st.tuples(st.integers(1, 12), st.sampled_from([None, 0, 1, 10, 100, 1000, 2000])),
    min_size=2,
    max_size=8,
)
"""How long something holds, and what: None is a gap."""


@settings(max_examples=400, deadline=None)
@given(pieces, st.sampled_from([0.0, 1_735_733_400.0]), st.integers(1, 20), st.data())
def test_no_window_on_a_fine_grid_of_starts_is_greener(pieces, begin, duration, data):
    values, at = [], begin
    for length, number in pieces:
        if number is not None or not values:
            values.append(IntensityValue(at, at + length, number or 0.0))
        at += length
    longest = max(int(at - begin), duration)
    until = begin + data.draw(st.integers(duration - 1, longest + 1))
    best = greenest_window(values, duration, until)
    starts = [begin + place / 4 for place in range(int(4 * (until - begin - duration)) + 1)]
    others = [
        found for start in starts if (found := mean_intensity(values, start, start + duration))
    ]
    if best is None:
        assert others == []
        return
    assert begin <= best.start
    assert best.end <= until
    assert best.end - best.start == duration
    assert best == mean_intensity(values, best.start, best.end)
    assert best.grams_per_kwh <= min(other.grams_per_kwh for other in others) + 1e-9
