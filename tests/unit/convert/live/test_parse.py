"""Strict parsing of sources' responses."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.convert.live.parse import (
    MAX_VALUE_SECONDS,
    RawValue,
    clean_values,
    format_time,
    parse_number,
    parse_time,
    require_values,
)
from exporter.errors import FetchError


@pytest.mark.parametrize(("given", "read"), [(1, 1.0), (0.5, 0.5), ("7", 7.0), (" 1e2 ", 100.0)])
def test_numbers_are_read_also_as_text(given, read):
    assert parse_number(given) == read


@pytest.mark.parametrize(
    "given", [None, True, False, "", "many", "nan", "inf", math.nan, math.inf, [], {}, 10**400]
)
def test_what_is_no_finite_number_is_rejected(given):
    with pytest.raises(FetchError, match="is not a number"):
        parse_number(given)


@pytest.mark.parametrize(
    "text",
    [
        "2025-10-26T02:30:00+02:00",
        "2025-10-26T01:30:00+01:00",
        "2025-10-26T00:30Z",
        "2025-10-26T00:30:00.000Z",
        "20251026T003000Z",
        "2025-10-25T17:30:00-07:00",
    ],
)
def test_a_time_is_the_same_in_every_zone_and_spelling(text):
    assert parse_time(text) == 1_761_438_600


def test_the_hour_that_comes_twice_is_two_hours_with_an_offset():
    first, second = parse_time("2025-10-26T02:30:00+02:00"), parse_time("2025-10-26T02:30:00+01:00")
    assert second - first == 3600


@pytest.mark.parametrize("given", ["2025-10-26T00:30:00", "", "now", None, 5, [], "9999-99-99"])
def test_a_time_without_a_zone_is_rejected(given):
    with pytest.raises(FetchError, match="is not a time with a time zone"):
        parse_time(given)


def test_a_time_without_a_zone_is_in_utc_if_the_source_uses_utc():
    assert parse_time("2025-10-26T00:30:00", utc=True) == 1_761_438_600


def test_a_moment_is_spelled_in_utc():
    assert format_time(1_761_438_600.9) == "2025-10-26T00:30:00Z"


def test_a_value_ends_at_the_next_and_not_later_than_its_step():
    found, _ = clean_values([RawValue(0, 1), RawValue(60, 2), RawValue(1000, 3)], 300)
    assert [(value.start, value.end) for value in found] == [(0, 60), (60, 360), (1000, 1300)]


def test_an_end_that_is_stated_reaches_at_most_to_the_next():
    found, _ = clean_values([RawValue(0, 1, end=500), RawValue(100, 2, end=150)], 300)
    assert [(value.start, value.end) for value in found] == [(0, 100), (100, 150)]


@pytest.mark.parametrize("end", [10, 0, 10 + MAX_VALUE_SECONDS + 1])
def test_a_value_that_holds_for_no_time_or_for_days_is_rejected(end):
    assert clean_values([RawValue(10, 1, end=end)], 300) == ((), 1)


@pytest.mark.parametrize(("start", "kept"), [(600, 1), (601, 0)])
def test_a_clock_of_the_source_may_be_ahead_by_ten_minutes(start, kept):
    found, set_aside = clean_values([RawValue(start, 1)], 300, now=0)
    assert (len(found), set_aside) == (kept, 1 - kept)


def test_of_two_values_for_one_time_the_later_in_the_list_counts():
    found, _ = clean_values([RawValue(0, 1), RawValue(0, 2)], 300)
    assert [value.grams_per_kwh for value in found] == [2]


def test_nothing_and_nothing_true_are_different_failures():
    with pytest.raises(FetchError) as nothing:
        require_values((), 0, "somebody")
    with pytest.raises(FetchError) as untrue:
        require_values((), 3, "somebody")
    assert (nothing.value.outcome, untrue.value.outcome) == ("no_value", "bad_answer")


raws = st.builds(
    RawValue,
    st.integers(0, 10_000),
    st.one_of(st.none(), st.floats(-100, 3000)),
    st.booleans(),
    st.one_of(st.none(), st.integers(0, 20_000)),
)


@given(st.lists(raws, max_size=12), st.integers(1, 4000), st.integers(0, 10_000))
def test_values_are_in_order_never_overlap_and_none_is_lost_uncounted(given, step, now):
    found, set_aside = clean_values(given, step, now)
    assert all(value.start < value.end for value in found)
    assert all(0 <= value.grams_per_kwh <= 2000 for value in found)
    assert all(one.end <= after.start for one, after in itertools.pairwise(found))
    good = {raw.start for raw in given if raw.number is not None}
    assert len(found) <= len(good)
    assert len(found) + set_aside <= len([raw for raw in given if raw.number is not None])
    assert bool(found) or bool(set_aside) or not good
