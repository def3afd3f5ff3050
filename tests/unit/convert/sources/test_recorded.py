"""Recorded responses of real servers, and documented ones."""

from datetime import datetime

import pytest

from tests.grid import recorded
from tests.grid.server import document


def at(text):
    return datetime.fromisoformat(text).timestamp()


def by_path(documents):
    """A server with one document for the last part of each path."""

    def serve(asked):
        name = asked.path.rpartition("/")[2]
        return document(documents[name]) if name in documents else document({}, 404)

    return serve


@pytest.fixture
def asked(asker):
    """What a source makes of recorded documents at a moment."""

    def request(name, serve, now, hours, **options):
        made = asker(name, **options)
        made.server.serve = serve
        moment = at(now)
        return made.request(since=moment - hours * 3600, now=moment)

    return request


def rows(values):
    return [(value.start, value.end, value.grams_per_kwh, value.estimated) for value in values]


V4 = by_path(recorded.ELECTRICITY_MAPS_V4)
V3 = by_path(recorded.ELECTRICITY_MAPS_V3)
RECORDED = "2026-08-22T17:34:24Z"


def test_the_history_of_electricity_maps_4(asked):
    answer = asked("electricity_maps", V4, RECORDED, 3, zone="DK-DK2")
    assert rows(answer.values) == [
        (at("2026-08-22T15:00Z"), at("2026-08-22T16:00Z"), 72, False),
        (at("2026-08-22T16:00Z"), at("2026-08-22T17:00Z"), 70, True),
        (at("2026-08-22T17:00Z"), at("2026-08-22T18:00Z"), 75, True),
    ]
    assert [value.grams_per_kwh for value in answer.forecast] == [77, 76, 73]
    assert answer.rejected_count == 0


def test_the_latest_value_of_electricity_maps_4(asked):
    answer = asked("electricity_maps", V4, RECORDED, 1, zone="dk-dk2")
    assert rows(answer.values) == [(at("2026-08-22T17:00Z"), at("2026-08-22T18:00Z"), 75, True)]


def test_the_history_of_electricity_maps_3(asked):
    answer = asked("electricity_maps", V3, "2024-03-06T19:05:00Z", 3, zone="DE")
    assert rows(answer.values)[0] == (at("2024-03-06T17:00Z"), at("2024-03-06T18:00Z"), 633, False)
    assert [value.grams_per_kwh for value in answer.values] == [633, 663, 689]
    assert [value.estimated for value in answer.values] == [False, True, True]
    assert answer.forecast == ()


def test_the_latest_value_of_electricity_maps_3(asked):
    answer = asked("electricity_maps", V3, "2024-03-06T19:05:00Z", 1, zone="US-CAR-DUK")
    assert [value.grams_per_kwh for value in answer.values] == [216]


def test_the_national_forecast_of_great_britain(asked):
    answer = asked("uk", lambda _: document(recorded.UK_NATIONAL), "2020-05-24T21:10Z", 1)
    assert rows(answer.values) == [
        (at("2020-05-24T20:30Z"), at("2020-05-24T21:00Z"), 146, True),
        (at("2020-05-24T21:00Z"), at("2020-05-24T21:30Z"), 148, True),
    ]
    assert [value.grams_per_kwh for value in answer.forecast] == [148, 148, 144]


def test_the_documented_half_hour_of_great_britain(asked):
    answer = asked("uk", lambda _: document(recorded.UK_DOCUMENTED), "2018-01-20T12:10Z", 1)
    assert rows(answer.values) == [(at("2018-01-20T12:00Z"), at("2018-01-20T12:30Z"), 263, False)]


def test_the_documented_forecast_of_watttime(asked):
    serve = by_path({"login": {"token": "t"}, "forecast": recorded.WATTTIME_FORECAST})
    answer = asked("watttime", serve, "2022-07-15T00:02:00Z", 1)
    (value,) = answer.values
    assert value.grams_per_kwh == pytest.approx(394.6, abs=0.05)
    assert (value.start, value.end) == (at("2022-07-15T00:00Z"), at("2022-07-15T00:05Z"))
