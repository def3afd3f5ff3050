"""Energi Data Service of Energinet."""

import json

import pytest

from exporter.convert.sources.energinet import Energinet
from exporter.errors import FetchError
from exporter.model.intensity import Accounting, Basis, Signal
from tests.grid.server import document
from tests.unit.convert.sources.conftest import NOW

STEP = 300.0
LAST = NOW - NOW % STEP


@pytest.fixture
def energinet(asker):
    def make(**options):
        made = asker("energinet", **options)
        made.serve([(LAST, 121.0)], ahead=[(LAST - STEP, 1), (LAST, 2), (LAST + STEP, 3)])
        return made

    return make


def test_the_area_is_requested_newest_first_in_utc(energinet):
    asker = energinet()
    asker.request(since=NOW - 3600)
    asked = asker.server.asked[0]
    assert asked.path == "/dataset/CO2Emis"
    assert json.loads(asked.query.pop("filter")) == {"PriceArea": ["DK1"]}
    assert asked.query == {"sort": "Minutes5UTC desc", "limit": "24", "timezone": "UTC"}


def test_each_dataset_is_requested_once(energinet):
    asker = energinet()
    asker.request()
    paths = [asked.path for asked in asker.server.asked]
    assert paths == ["/dataset/CO2Emis", "/dataset/CO2EmisProg"]


def test_times_without_a_zone_are_in_utc(energinet):
    (value,) = energinet().request().values
    assert value.start == LAST


@pytest.mark.parametrize("change", [1_761_440_400.0, 1_743_296_400.0])
def test_values_follow_each_other_through_a_change_of_clocks_in_denmark(energinet, change):
    asker = energinet()
    times = [change + place * STEP for place in range(-15, 16)]
    asker.serve([(at, 100) for at in times])
    values = asker.request(now=change + 7200, since=change - 7200).values
    assert [value.start for value in values] == times


def test_the_forecast_is_estimated_and_reaches_from_now_on(energinet):
    ahead = energinet().request().forecast
    assert [(value.grams_per_kwh, value.estimated) for value in ahead] == [(2, True), (3, True)]


def test_the_value_is_given_where_the_forecast_is_rejected(energinet):
    asker = energinet()
    asker.serve([(LAST, 121.0)], ahead=None)
    assert asker.request()[:2] == (((LAST, LAST + STEP, 121.0, False),), ())


def test_no_forecast_is_requested_if_the_value_is_rejected(energinet):
    asker = energinet()
    asker.server.serve = lambda _: document({}, 429)
    with pytest.raises(FetchError):
        asker.request()
    assert len(asker.server.asked) == 1


def test_an_answer_for_the_other_area_is_rejected(energinet):
    asker = energinet(area="DK2")
    with pytest.raises(FetchError) as raised:
        asker.request()
    assert raised.value.outcome == "wrong_zone"


def test_it_counts_the_stack_alone_on_average_by_location():
    assert Energinet().kind == (Signal.AVERAGE, Basis.DIRECT, Accounting.LOCATION)
    assert (Energinet().place, Energinet(area="DK2").place) == ("DK1", "DK2")
