"""RTE eCO2mix."""

import pytest

from exporter.convert.sources.rte import RteEco2mix
from exporter.errors import FetchError
from exporter.model.intensity import Accounting, Basis, Signal
from tests.grid.server import document
from tests.unit.convert.sources.conftest import NOW

QUARTER = 900.0
LAST = NOW - NOW % QUARTER
AUTUMN, SPRING = 1_761_440_400.0, 1_743_296_400.0
"""When the clocks of Paris change: 2025-10-26 and 2025-03-30, 01:00 UTC."""


@pytest.fixture
def rte(asker):
    made = asker("rte")
    made.serve([(LAST, 32)])
    return made


def test_rows_that_have_no_value_yet_are_not_requested(rte):
    rte.request()
    (asked,) = rte.server.asked
    assert asked.path == "/records"
    assert asked.query["where"] == "taux_co2 is not null"
    assert asked.query["order_by"] == "date_heure desc"


@pytest.mark.parametrize(("missing", "limit"), [(0, "8"), (3600, "12"), (86_400, "100")])
def test_as_many_rows_are_requested_as_are_missing_and_no_more_than_it_gives(rte, missing, limit):
    rte.request(since=NOW - missing)
    assert rte.server.asked[0].query["limit"] == limit


@pytest.mark.parametrize(("change", "before", "after"), [(AUTUMN, 2, 1), (SPRING, 1, 2)])
def test_quarters_of_an_hour_follow_each_other_through_a_change_of_clocks(
    rte, change, before, after
):
    times = [change + place * QUARTER for place in range(-6, 7)]
    rte.serve([(at, 32) for at in times], hours=lambda at: before if at < change else after)
    values = rte.request(now=change + 7200, since=change - 7200).values
    assert [value.start for value in values] == times
    assert {value.end - value.start for value in values} == {QUARTER}


def test_a_time_without_a_zone_is_rejected(rte):
    rows = [{"taux_co2": 32, "date_heure": "2025-01-01T12:00:00"}]
    rte.server.serve = lambda _: document({"results": rows})
    with pytest.raises(FetchError, match="not a time with a time zone"):
        rte.request()


def test_it_counts_the_stack_alone_on_average_by_location():
    assert RteEco2mix().kind == (Signal.AVERAGE, Basis.DIRECT, Accounting.LOCATION)
    assert (RteEco2mix().country, RteEco2mix().place, RteEco2mix().check()) == ("FRA", "FR", ())
