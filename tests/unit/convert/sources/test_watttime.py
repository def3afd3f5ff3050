"""WattTime."""

import base64

import pytest

from exporter.convert.sources.watttime import WattTime
from exporter.errors import ConfigError, FetchError
from exporter.model.intensity import Accounting, Basis, Signal
from tests.grid import shapes
from tests.grid.server import document
from tests.unit.convert.sources.conftest import NOW, TOKEN

LAST = NOW - NOW % 300


@pytest.fixture
def watttime(asker):
    def make(**options):
        made = asker("watttime", **options)
        made.serve([(LAST, 1000)])
        return made

    return make


def failure(asker):
    with pytest.raises(FetchError) as raised:
        asker.request()
    return raised.value


def test_pounds_per_megawatt_hour_become_grams_per_kilowatt_hour(watttime):
    assert watttime().numbers() == [pytest.approx(453.59237)]


def test_user_and_password_are_given_for_a_token_that_is_used_from_then_on(watttime):
    asker = watttime()
    asker.request()
    login, *others = asker.server.asked
    given = base64.b64decode(login.headers["authorization"].removeprefix("Basic ")).decode()
    assert given == f"ann:{TOKEN}"
    assert {asked.headers["authorization"] for asked in others} == {
        "Bearer a-token-of-half-an-hour"
    }


@pytest.mark.parametrize("secret", ["a-token-of-half-an-hour", "YW5uOnMzY3JldC93aXRoK3NpZ25zPQ=="])
def test_no_error_tells_what_the_login_gave_or_took(watttime, secret):
    asker = watttime()
    healthy = asker.server.serve
    refused = document({"error": f"bad {secret} here"}, 401)
    asker.server.serve = lambda asked: healthy(asked) if asked.path == "/login" else refused
    assert secret not in str(failure(asker))
    asker.server.serve = lambda asked: refused
    assert secret.startswith("a-") or secret not in str(failure(asker))


@pytest.mark.parametrize("token", ["", None, 5, []])
def test_a_login_without_a_token_is_a_bad_answer(watttime, token):
    asker = watttime()
    asker.serve([(LAST, 1000)], token=token)
    assert failure(asker).outcome == "bad_answer"


def test_the_range_is_requested_in_utc(watttime):
    asker = watttime()
    asker.request(since=NOW - 7200)
    query = asker.server.asked[-1].query
    assert (query["start"], query["end"]) == ("2025-01-01T10:10:00Z", "2025-01-01T12:10:00Z")
    assert (query["region"], query["signal_type"]) == ("CAISO_NORTH", "co2_moer")


def test_an_hour_is_requested_at_least(watttime):
    asker = watttime()
    asker.request(since=NOW - 60)
    assert asker.server.asked[-1].query["start"] == "2025-01-01T11:10:00Z"


@pytest.mark.parametrize("units", ["percentile", "kg_co2_per_mwh", "", None])
def test_other_units_are_rejected(watttime, units):
    asker = watttime()
    asker.serve([(LAST, 63)], units=units)
    assert failure(asker).outcome == "bad_answer"


def test_another_signal_is_rejected(watttime):
    asker = watttime(signal="average")
    assert failure(asker).outcome == "bad_answer"
    asker.serve([(LAST, 1000)], signal_type="co2_aoer")
    assert asker.numbers() == [pytest.approx(453.59237)]


def test_another_region_is_rejected(watttime):
    asker = watttime()
    asker.serve([(LAST, 1000)], region="PJM_NJ")
    assert failure(asker).outcome == "wrong_zone"


def test_where_the_plan_has_no_history_the_first_point_of_the_forecast_is_now(watttime):
    asker = watttime()
    asker.serve(None, ahead=[(LAST, 1000), (LAST + 300, 2000)])
    answer = asker.request()
    assert [value.start for value in answer.values] == [LAST]
    assert [value.start for value in answer.forecast] == [LAST, LAST + 300]
    assert all(value.estimated for value in (*answer.values, *answer.forecast))


def test_where_the_plan_has_neither_the_error_is_reported(watttime):
    asker = watttime()
    asker.serve(None)
    assert failure(asker).outcome == "unauthorized"


def test_the_average_has_no_forecast(watttime):
    asker = watttime(signal="average")
    asker.serve([(LAST, 1000)], ahead=[(LAST, 5)], signal_type="co2_aoer")
    assert asker.request().forecast == ()


@pytest.mark.parametrize("period", ["often", -300, True])
def test_a_period_that_cannot_be_true_gives_no_value(watttime, period):
    asker = watttime()
    asker.serve([(LAST, 1000)], data_point_period_seconds=period)
    assert failure(asker).outcome == "bad_answer"


def test_an_unstated_period_is_five_minutes(watttime):
    asker = watttime()
    asker.serve([(LAST, 1000)], data_point_period_seconds=None)
    (value,) = asker.request().values
    assert value.end - value.start == 300


def test_times_with_offsets_are_the_same_through_a_change_of_clocks(watttime):
    asker = watttime()
    change = 1_730_624_400.0  # 2024-11-03 02:00 -07:00 becomes 01:00 -08:00
    times = [shapes.moment(change - 300, "%Y-%m-%dT%H:%M:%S-07:00", -7)]
    times += [shapes.moment(change, "%Y-%m-%dT%H:%M:%S-08:00", -8)]
    meta = {"region": "CAISO_NORTH", "units": "lbs_co2_per_mwh"}
    data = [{"point_time": at, "value": 1} for at in times]
    asker.server.serve = lambda _: document({"token": "t", "data": data, "meta": meta})
    assert [value.start for value in asker.request().values] == [change - 300, change]


@pytest.mark.parametrize("missing", ["region", "username"])
def test_region_and_user_are_needed(missing):
    options = {"region": "CAISO_NORTH", "username": "ann"} | {missing: ""}
    with pytest.raises(ConfigError, match="region and username are required"):
        WattTime(**options).check()


def test_it_is_marginal_of_the_stack_alone_by_default():
    assert WattTime().kind == (Signal.MARGINAL, Basis.DIRECT, Accounting.LOCATION)
    assert WattTime(signal="average").kind[0] is Signal.AVERAGE
