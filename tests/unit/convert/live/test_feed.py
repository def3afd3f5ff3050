"""Live feed: polling times, backoff, and the values in force."""

import pytest

from exporter.convert.live.feed import FeedMemory
from exporter.convert.sources.base import FetchResult
from exporter.model.intensity import IntensityValue
from tests.unit.convert.live.conftest import NOW

HOUR, DAY = 3600.0, 86_400.0


def spans(feed, t0=0.0, t1=NOW + 10 * DAY):
    return [(row.valid_from - NOW, row.valid_until - NOW) for row in feed.factors_between(t0, t1)]


def test_a_feed_that_was_never_polled_is_due_and_has_a_reason(fed):
    feed = fed().feed
    assert feed.is_due(NOW)
    assert not feed.is_healthy
    assert not feed.was_polled
    assert feed.why == "no response yet"


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 855.0), (0.5, 900.0), (1.0, 945.0)])
def test_after_a_good_answer_it_waits_for_its_period_give_or_take_a_part_left_to_chance(
    fed, chance, seconds
):
    assert fed(chance=chance).refresh() == pytest.approx(seconds)


def test_it_is_not_due_before_its_time_and_is_at_it(fed):
    one = fed()
    wait = one.refresh()
    assert not one.feed.is_due(NOW + wait - 1)
    assert one.feed.is_due(NOW + wait)


def test_failures_double_the_wait_up_to_an_hour(fed):
    one = fed(chance=0.0)
    one.fail()
    waits = [one.refresh() for _ in range(9)]
    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]


def test_after_many_failures_the_wait_is_still_an_hour(fed):
    one = fed(chance=0.0, past=FeedMemory(failures=10**6))
    one.fail()
    assert one.refresh() == 3600


def test_a_source_with_a_longer_period_is_left_alone_for_as_long(fed):
    one = fed(chance=0.0, past=FeedMemory(failures=30), refresh_seconds=4 * HOUR)
    one.fail()
    assert one.refresh() == 4 * HOUR


@pytest.mark.parametrize("outcome", ["unauthorized", "rate_limited"])
def test_a_rejected_key_and_a_limit_are_left_alone_for_longer_at_once(fed, outcome):
    one = fed(chance=0.0)
    one.fail(outcome)
    assert [one.refresh() for _ in range(6)] == [900, 900, 900, 900, 960, 1920]


@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_retry_after_is_respected_and_never_shortened_by_jitter(fed, chance):
    one = fed(chance=chance)
    one.fail("rate_limited", 5000.0)
    assert 5000 <= one.refresh() <= 5500


def test_retry_after_is_limited_to_a_day(fed):
    one = fed(chance=0.0)
    one.fail("rate_limited", 7 * DAY)
    assert one.refresh() == DAY


def test_a_short_retry_after_does_not_shorten_the_backoff(fed):
    one = fed(chance=0.0)
    one.fail("server_error", 1.0)
    assert one.refresh() == 60


def test_one_good_answer_ends_the_failures(fed):
    one = fed(chance=0.0)
    one.fail()
    one.refresh()
    assert (one.feed.is_healthy, one.feed.why) == (False, "it said server_error")
    one.says = one.good(NOW)
    assert one.refresh() == pytest.approx(855)
    assert (one.feed.is_healthy, one.feed.why) == (True, "")
    one.fail()
    assert one.refresh() == 60


def test_how_often_it_was_requested_is_counted_by_how_that_went(fed):
    one = fed()
    one.refresh()
    one.says = one.good(NOW, rejected_count=2)
    one.refresh()
    one.fail("timeout")
    one.refresh()
    one.says = one.good(NOW - DAY)
    one.refresh(NOW + 10 * HOUR)
    counted = dict(one.feed.state().requests)
    assert counted == {"ok": 1, "set_aside": 1, "timeout": 1, "stale": 1}


def test_values_that_were_rejected_are_reported_and_no_failure(fed):
    one = fed()
    one.says = one.good(NOW, rejected_count=2)
    one.refresh()
    assert one.feed.is_healthy
    assert "2 implausible values were rejected" in one.feed.why


def test_the_last_values_stay_through_failures_until_they_are_too_old(fed):
    one = fed()
    one.refresh()
    one.fail()
    one.refresh(NOW + 60)
    assert spans(one.feed) == [(0, 7200)]
    assert one.feed.factors_between(NOW + 7200, NOW + 7201) == []


@pytest.mark.parametrize(("max_age", "until"), [(0, 3600), (60, 3600), (7200, 7200)])
def test_a_value_holds_for_its_own_interval_or_its_greatest_age(fed, max_age, until):
    one = fed(max_age_seconds=max_age)
    one.refresh()
    assert spans(one.feed) == [(0, until)]


def test_a_value_ends_where_the_next_begins_and_never_later_than_it_may(fed):
    one = fed(max_age_seconds=0)
    starts = (NOW - 5 * HOUR, NOW - 1800, NOW)
    one.says = FetchResult(tuple(IntensityValue(start, start + HOUR, 1.0) for start in starts))
    one.refresh()
    assert spans(one.feed) == [(-5 * HOUR, -4 * HOUR), (-1800, 0), (0, HOUR)]


def test_answers_add_up_and_the_newer_word_counts(fed):
    one = fed()
    one.refresh()
    one.says = FetchResult(
        (IntensityValue(NOW, NOW + 1, 7.0), IntensityValue(NOW + HOUR, NOW + 2 * HOUR, 8.0))
    )
    one.refresh(NOW + HOUR)
    assert [value.grams_per_kwh for value in one.feed.recent] == [7, 8]


def test_what_is_older_than_two_days_is_forgotten(fed):
    one = fed()
    one.refresh()
    one.says = one.good(NOW + 3 * DAY)
    one.refresh(NOW + 3 * DAY)
    assert [value.start for value in one.feed.recent] == [NOW + 3 * DAY]


def test_an_answer_without_a_value_in_force_is_stale_and_has_a_reason(fed):
    one = fed(chance=0.5)
    one.says = one.good(NOW - DAY)
    assert one.refresh() == 900
    assert not one.feed.is_healthy
    assert "the newest value is too old" in one.feed.why


def test_a_forecast_stays_until_there_is_another(fed):
    one = fed()
    ahead = (IntensityValue(NOW, NOW + HOUR, 5.0, estimated=True),)
    one.says = one.good(NOW, forecast=ahead)
    one.refresh()
    one.says = one.good(NOW)
    one.refresh()
    assert one.feed.forecast == ahead


def test_it_is_requested_from_its_start_then_from_its_last_value_but_never_for_more_than_a_day(fed):
    one = fed()
    one.refresh(NOW + 60)
    one.refresh(NOW + 2 * HOUR)
    one.refresh(NOW + 3 * DAY)
    assert [since - NOW for _, since in one.asked] == [0, 0, 2 * DAY]


def test_a_clock_that_is_set_back_neither_stops_polling_nor_requests_the_future(fed):
    one = fed()
    one.refresh()
    then = NOW - 30 * DAY
    assert one.feed.is_due(then)
    one.refresh(then)
    assert one.asked[-1] == (then, then)
    assert not one.feed.is_due(then + 1)


def test_a_clock_that_goes_back_by_a_little_polls_no_sooner(fed):
    one = fed()
    one.refresh()
    assert not one.feed.is_due(NOW - 1)


def test_publisher_and_place_are_those_of_the_answer_where_it_tells(fed):
    one = fed()
    one.refresh()
    assert one.feed.factors_between(NOW, NOW + 1)[0][:2] == ("DE", "somebody")
    one.says = one.good(NOW, publisher="another", place="FR")
    one.refresh()
    assert one.feed.factors_between(NOW, NOW + 1)[0][:2] == ("FR", "another")


def test_a_value_is_as_old_as_its_start_or_as_the_answer_tells(fed):
    one = fed()
    one.refresh()
    now = one.feed.factors_between(NOW, NOW + 1)[0]
    assert now.as_of == now.valid_from
    one.says = one.good(NOW, as_of=1.0)
    one.refresh()
    assert one.feed.factors_between(NOW, NOW + 1)[0].as_of == 1.0


def test_being_broken_off_by_the_end_of_the_exporter_is_no_failure(fed):
    one = fed()
    one.refresh()
    before = one.feed.memory()
    one.fail("stopped")
    one.refresh(NOW + 900)
    assert one.feed.memory() == before
    assert one.feed.is_healthy
