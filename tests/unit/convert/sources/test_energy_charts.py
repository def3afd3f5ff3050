"""Energy-Charts."""

import pytest

from exporter.convert.sources.energy_charts import EnergyCharts
from exporter.errors import ConfigError, FetchError
from exporter.model.intensity import Accounting, Basis, Signal
from tests.grid.server import document
from tests.unit.convert.sources.conftest import NOW

QUARTER = 900.0
LAST = NOW - NOW % QUARTER


@pytest.fixture
def charts(asker):
    made = asker("energy_charts", zone="DE")
    made.serve([(LAST - QUARTER, 491.5), (LAST, None)], ahead=[(LAST + QUARTER, 505.0)])
    return made


def answers(asker, **lists):
    asker.server.serve = lambda _: document({"unix_seconds": [LAST, LAST + QUARTER], **lists})


def test_the_newest_value_that_is_not_null_is_the_last(charts):
    assert charts.numbers() == [491.5]


def test_the_country_is_requested_in_small_letters_and_the_day_only_where_it_is_missing(charts):
    charts.request(since=NOW - 60)
    charts.request(since=NOW - 86_400)
    first, second = charts.server.asked
    assert first.query == {"country": "de"}
    assert second.query == {"country": "de", "start": "2024-12-31", "end": "2025-01-01"}


def test_what_is_measured_for_the_time_ahead_is_not_used(charts):
    answers(charts, co2eq=[100, 5], co2eq_forecast=[None, None])
    assert charts.numbers() == [100]


def test_the_forecast_is_estimated_and_reaches_from_now_on(charts):
    (value,) = charts.request().forecast
    assert value == (LAST + QUARTER, LAST + 2 * QUARTER, 505.0, True)


@pytest.mark.parametrize("forecast", [{}, {"co2eq_forecast": []}, {"co2eq_forecast": [1]}])
def test_a_forecast_that_is_missing_or_short_is_no_failure(charts, forecast):
    answers(charts, co2eq=[100, None], **forecast)
    assert charts.numbers() == [100]


@pytest.mark.parametrize("co2eq", [[], [1], [1, 2, 3]])
def test_fewer_values_than_times_or_more_are_a_bad_answer(charts, co2eq):
    answers(charts, co2eq=co2eq)
    with pytest.raises(FetchError, match="different numbers of values and times"):
        charts.request()


@pytest.mark.parametrize("lists", [{"co2eq": None}, {"co2eq": {}}, {"unix_seconds": "now"}])
def test_what_is_no_list_is_a_bad_answer(charts, lists):
    answers(charts, **{"co2eq": [1, 2], **lists})
    with pytest.raises(FetchError, match="is not a list"):
        charts.request()


@pytest.mark.parametrize("apart", [900, 3600])
def test_a_value_holds_as_long_as_its_neighbours_are_apart(charts, apart):
    times = [LAST - apart, LAST - apart, LAST]
    answers(charts, unix_seconds=times[::-1], co2eq=[1, 2, 2])
    assert [value.end - value.start for value in charts.request().values] == [apart, apart]


@pytest.mark.parametrize("zone", ["DEU", "D1", "Germany", "de-lu"])
def test_what_is_no_country_of_two_letters_is_rejected(zone):
    with pytest.raises(ConfigError, match="not a two-letter country code"):
        EnergyCharts(zone=zone).check()


def test_its_basis_is_the_configured_one():
    assert EnergyCharts().kind == (Signal.AVERAGE, Basis.UNSTATED, Accounting.LOCATION)
    assert EnergyCharts(basis="direct").kind[1] is Basis.DIRECT
