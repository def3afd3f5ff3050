"""The Carbon Intensity API of Great Britain."""

from itertools import pairwise

import pytest

from exporter.convert.sources.uk import CarbonIntensityUk
from exporter.errors import ConfigError, FetchError
from exporter.model.intensity import Accounting, Basis, Signal
from tests.grid.server import document
from tests.unit.convert.sources.conftest import NOW

HALF = 1800.0
LAST = NOW - NOW % HALF


@pytest.fixture
def uk(asker):
    def make(**options):
        made = asker("uk", **options)
        made.serve([(LAST - HALF, 263)], ahead=[(LAST, 266), (LAST + HALF, 100)])
        return made

    return make


def outcome(asker):
    with pytest.raises(FetchError) as raised:
        asker.request()
    return raised.value.outcome


def test_what_was_measured_goes_before_what_was_expected_and_the_rest_is_estimated(uk):
    values = uk().request().values
    assert [(value.grams_per_kwh, value.estimated) for value in values] == [
        (263, False),
        (266, True),
    ]


def test_a_measured_zero_is_no_missing_value(uk):
    asker = uk()
    intensity = {"forecast": 5, "actual": 0}
    row = {"from": "2025-01-01T12:00Z", "to": "2025-01-01T12:30Z", "intensity": intensity}
    asker.server.serve = lambda _: document({"data": [row]})
    assert asker.numbers() == [0]


def test_the_forecast_begins_with_the_half_hour_that_is_under_way(uk):
    assert [value.start for value in uk().request().forecast] == [LAST, LAST + HALF]


def test_two_days_are_requested_from_half_an_hour_before_what_is_missing(uk):
    asker = uk()
    asker.request(since=NOW - 7200)
    assert asker.server.asked[0].path == "/intensity/2025-01-01T09:40Z/fw48h"


@pytest.mark.parametrize(
    ("place", "path", "said"),
    [
        ("13", "regionid/13", {"regionid": 13}),
        (" ng1 ", "postcode/NG1", {"postcode": "NG1", "regionid": 9}),
        ("9", "regionid/9", {}),
    ],
)
def test_values_of_a_region_are_all_estimated(uk, place, path, said):
    asker = uk(place=place)
    asker.serve([(LAST, 312)], **said)
    (value,) = asker.request().values
    assert (value.grams_per_kwh, value.estimated) == (312, True)
    assert asker.server.asked[0].path.endswith(f"/fw48h/{path}")


def test_the_region_may_stand_in_a_list(uk):
    asker = uk(place="13")
    intensity = {"forecast": 7}
    row = {"from": "2025-01-01T12:00Z", "to": "2025-01-01T12:30Z", "intensity": intensity}
    asker.server.serve = lambda _: document({"data": [{"regionid": 13, "data": [row]}]})
    assert asker.numbers() == [7]


@pytest.mark.parametrize(("place", "said"), [("13", {"regionid": 9}), ("NG1", {"postcode": "SW1"})])
def test_an_answer_for_another_region_is_rejected(uk, place, said):
    asker = uk(place=place)
    asker.serve([(LAST, 312)], **said)
    assert outcome(asker) == "wrong_zone"


def test_a_half_hour_of_which_nothing_is_known_is_left_out(uk):
    asker = uk()
    row = {"from": "2025-01-01T12:00Z", "to": "2025-01-01T12:30Z", "intensity": None}
    asker.server.serve = lambda _: document({"data": [row]})
    assert outcome(asker) == "no_value"


def test_a_half_hour_that_ends_before_it_begins_is_a_bad_answer(uk):
    asker = uk()
    row = {"from": "2025-01-01T12:30Z", "to": "2025-01-01T12:00Z", "intensity": {"forecast": 1}}
    asker.server.serve = lambda _: document({"data": [row]})
    assert outcome(asker) == "bad_answer"


@pytest.mark.parametrize(
    "times",
    [
        ("2025-10-26T01:30+01:00", "2025-10-26T01:00+00:00", "2025-10-26T01:30+00:00"),
        ("2025-03-30T00:30+00:00", "2025-03-30T02:00+01:00", "2025-03-30T02:30+01:00"),
    ],
)
def test_times_with_offsets_are_half_an_hour_apart_through_a_change_of_clocks(uk, times):
    asker = uk()
    rows = [{"from": at, "to": to, "intensity": {"forecast": 1}} for at, to in pairwise(times)]
    asker.server.serve = lambda _: document({"data": rows})
    values = asker.request(now=1_800_000_000.0).values
    assert [value.end - value.start for value in values] == [HALF, HALF]


@pytest.mark.parametrize("place", ["", "0", "18", "London", "NG1 5DT", "DE", "-1", "1.5"])
def test_what_is_no_place_is_rejected(place):
    with pytest.raises(ConfigError, match="neither GB, nor a region"):
        CarbonIntensityUk(place=place).check()


def test_it_counts_the_stack_alone_on_average_by_location():
    assert CarbonIntensityUk().kind == (Signal.AVERAGE, Basis.DIRECT, Accounting.LOCATION)
