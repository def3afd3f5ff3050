"""Polling of several feeds: needed ones and idle ones."""

import json
import logging

import pytest

from exporter.convert.live.feed import FeedPoller, parse_memory
from exporter.convert.sources.static import StaticSource
from tests.unit.convert.live.conftest import NOW


@pytest.fixture
def pair(fed, clock):
    """Two sources, the second for when the first fails, and what asks them."""
    clock.now = NOW
    first, second = fed("first"), fed("second")
    return first, second, FeedPoller([[first.feed, second.feed]], clock)


def test_an_idle_source_is_not_polled_while_the_one_before_is_healthy(pair, clock):
    first, second, feeds = pair
    for _ in range(5):
        feeds.refresh()
        clock.now += 1000
        first.says = first.good(clock.now)
    assert (len(first.asked), len(second.asked)) == (5, 0)


def test_the_next_is_polled_at_once_when_the_one_before_fails(pair):
    first, second, feeds = pair
    first.fail()
    feeds.refresh()
    assert (len(first.asked), len(second.asked)) == (1, 1)


def test_the_next_is_polled_at_once_though_the_last_values_of_the_one_before_still_hold(
    pair, clock
):
    first, second, feeds = pair
    feeds.refresh()
    clock.now += 1000
    first.fail()
    feeds.refresh()
    assert first.feed.factors_between(clock.now, clock.now + 1)
    assert len(second.asked) == 1


def test_the_next_is_polled_when_the_one_before_answers_with_old_values_alone(pair):
    first, second, feeds = pair
    first.says = first.good(NOW - 86_400)
    feeds.refresh()
    assert len(second.asked) == 1


def test_the_next_is_left_alone_again_when_the_one_before_has_recovered(pair, clock):
    first, second, feeds = pair
    first.fail()
    feeds.refresh()
    clock.now += 2000
    first.says = first.good(clock.now)
    feeds.refresh()
    clock.now += 2000
    first.says = first.good(clock.now)
    feeds.refresh()
    assert (len(first.asked), len(second.asked)) == (3, 1)


def test_no_source_is_polled_before_it_is_due(pair):
    first, _, feeds = pair
    feeds.refresh()
    feeds.refresh()
    assert len(first.asked) == 1


def test_a_source_after_one_that_is_always_valid_is_never_polled(fed, clock):
    one = fed()
    fixed = StaticSource(grams_per_kwh=5.0).open(clock)
    FeedPoller([[fixed, one.feed]], clock).refresh()
    assert one.asked == []


def test_each_chain_is_polled_by_itself(fed, clock):
    clock.now = NOW
    one, other = fed("one"), fed("other")
    FeedPoller([[one.feed], [other.feed]], clock).refresh()
    assert (len(one.asked), len(other.asked)) == (1, 1)


def test_only_polled_sources_have_a_state_and_all_are_listed(pair):
    first, _, feeds = pair
    first.says = first.good(NOW)
    assert feeds.collector_states() == ()
    feeds.refresh()
    (state,) = feeds.collector_states()
    assert (state.name, state.ok) == ("intensity_first", True)
    assert [feed.name for feed in feeds.feed_states()] == ["first", "second"]


def test_a_failure_is_logged_once_and_so_is_the_recovery(pair, clock, caplog):
    caplog.set_level(logging.INFO)
    first, _, feeds = pair
    first.fail()
    for _ in range(3):
        feeds.refresh()
        clock.now += 7200
    first.says = first.good(clock.now)
    feeds.refresh()
    said = [(record.message, record.source) for record in caplog.records]
    assert [message for message, source in said if source == "first"] == [
        "intensity source failed",
        "intensity source recovered",
    ]


def test_the_memory_is_the_same_object_until_somebody_was_requested(pair, clock):
    _, _, feeds = pair
    before = feeds.memory()
    assert feeds.memory() is before
    feeds.refresh()
    after = feeds.memory()
    assert after != before
    feeds.refresh()
    assert feeds.memory() is after
    assert set(parse_memory(after)) == {"first", "second"}
    assert json.loads(after)["first"]["answered"] == NOW


@pytest.mark.parametrize("memory", ["", "{", "[]", "5", "null", "[" * 100_000, "\x00"])
def test_a_memory_that_cannot_be_read_is_empty(memory):
    assert parse_memory(memory) == {}
