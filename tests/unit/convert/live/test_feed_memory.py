"""Memory of a feed over a restart, also if it is invalid."""

import json

import pytest

from exporter.convert.live.feed import FeedMemory, parse_feed_memory
from exporter.model.intensity import IntensityValue
from tests.unit.convert.live.conftest import NOW

HOUR, DAY = 3600.0, 86_400.0


def over_restart(one):
    return parse_feed_memory(json.loads(json.dumps(one.feed.memory()._asdict())))


def test_a_restart_keeps_values_forecast_and_the_next_polling_time(fed):
    before = fed()
    before.says = before.good(
        NOW,
        forecast=(IntensityValue(NOW, NOW + HOUR, 5.0, estimated=True),),
        publisher="p",
        place="FR",
    )
    before.refresh()
    after = fed(past=over_restart(before), now=NOW + 60)
    assert after.feed.state()[1:] == (*before.feed.state()[1:4], (("ok", 0),), NOW, NOW + 900)
    assert after.feed.factors_between(0, NOW + DAY) == before.feed.factors_between(0, NOW + DAY)
    assert after.feed.forecast == before.feed.forecast


def test_a_restart_does_not_forget_failures_and_reports_them(fed):
    before = fed(chance=0.0)
    before.refresh()
    before.fail()
    for _ in range(4):
        before.refresh()
    after = fed(past=over_restart(before), chance=0.0)
    assert (after.feed.is_healthy, after.feed.why) == (
        False,
        "the last request before the restart failed",
    )
    after.fail()
    assert after.refresh() == 960


@pytest.mark.parametrize(("failures", "at_most"), [(0, 990), (1, 26.4 * HOUR)])
def test_a_polling_time_out_of_reach_is_limited_by_a_restart(fed, failures, at_most):
    past = FeedMemory(due=NOW + 365 * DAY, failures=failures, answered=NOW)
    assert fed(past=past).feed.state().due == pytest.approx(NOW + at_most)


GOOD = FeedMemory(values=[[NOW, NOW + 1, 5.0, False]], due=NOW, answered=NOW)._asdict()


@pytest.mark.parametrize(
    "document",
    [
        None,
        5,
        "text",
        [],
        [1, 2],
        {"unknown": 1},
        GOOD | {"values": None},
        GOOD | {"values": [1]},
        GOOD | {"values": [[]]},
        GOOD | {"values": [["a", "b", "c", False]]},
        GOOD | {"values": [[NOW, NOW + 1, None, False]]},
        GOOD | {"values": [[NOW, NOW + 1, float("nan"), False]]},
        GOOD | {"values": [[NOW, NOW + 1, 5.0, False, 1]]},
        GOOD | {"forecast": "abcd"},
        GOOD | {"forecast": [[float("inf"), 1.0, 5.0, False]]},
        GOOD | {"due": "tomorrow"},
        GOOD | {"due": float("nan")},
        GOOD | {"due": 10**400},
        GOOD | {"failures": None},
        GOOD | {"failures": float("inf")},
        GOOD | {"answered": "yes"},
        GOOD | {"answered": float("nan")},
    ],
)
def test_a_memory_that_is_spoilt_is_no_memory(fed, document):
    assert parse_feed_memory(document) == FeedMemory()
    assert fed(past=parse_feed_memory(document)).feed.is_due(NOW)


def test_a_memory_out_of_order_is_put_in_order(fed):
    rows = [[NOW, NOW + 1, 2.0, 0], [NOW - 60, NOW, 1.0, 1], [NOW, NOW + 1, 3.0, 0]]
    past = parse_feed_memory(GOOD | {"values": rows, "failures": -5, "publisher": 7})
    assert [value[2:] for value in past.values] == [(1.0, True), (3.0, False)]
    assert (past.failures, past.publisher) == (0, "7")
