"""Electricity Maps."""

import pytest

from exporter.convert.sources.electricity_maps import TOKEN_VARIABLE, ElectricityMaps
from exporter.errors import ConfigError, FetchError
from exporter.model.intensity import Accounting, Basis, Signal
from tests.grid import shapes
from tests.grid.server import document
from tests.unit.convert.sources.conftest import NOW, TOKEN

HOUR = 3600.0
LAST = NOW - NOW % HOUR


@pytest.fixture
def maps(asker):
    def make(**options):
        made = asker("electricity_maps", **options)
        made.serve([(LAST - HOUR, 300), (LAST, 322)])
        return made

    return make


def outcome(asker):
    with pytest.raises(FetchError) as raised:
        asker.request()
    return raised.value.outcome


def test_the_token_goes_into_a_header_and_into_no_address(maps):
    asker = maps()
    asker.request()
    assert {asked.headers["auth-token"] for asked in asker.server.asked} == {TOKEN}
    assert all(TOKEN not in asked.query.values() for asked in asker.server.asked)


@pytest.mark.parametrize(("hours", "path"), [(1, "latest"), (2, "latest"), (3, "history")])
def test_the_last_day_is_requested_only_if_something_of_it_is_missing(maps, hours, path):
    asker = maps()
    asker.request(since=NOW - hours * HOUR)
    assert asker.server.asked[0].path == f"/carbon-intensity/{path}"


def test_it_may_not_answer_for_where_the_caller_seems_to_be(maps):
    asker = maps(zone="de", basis="direct", estimates=False)
    asker.serve([(LAST, 100)], basis="direct")
    asker.request()
    assert asker.server.asked[0].query == {
        "zone": "DE",
        "emissionFactorType": "direct",
        "disableEstimations": "true",
        "disableCallerLookup": "true",
    }


@pytest.mark.parametrize("path", ["/v3", "/v3/"])
def test_version_3_gets_its_own_parameter(maps, path):
    asker = maps()
    asker.source = ElectricityMaps(zone="DE", url=asker.server.url + path)
    asker.request()
    (first, *_) = asker.server.asked
    assert first.path == "/v3/carbon-intensity/history"
    assert first.query["shouldUseFallbackCallerLookup"] == "false"
    assert "disableCallerLookup" not in first.query


def test_version_4_is_the_default():
    assert ElectricityMaps(zone="DE").url == "https://api.electricitymaps.com/v4"


def test_a_cloud_region_is_looked_up_by_the_source(maps):
    asker = maps(zone="AWS:eu-central-1")
    asker.request()
    query = asker.server.asked[0].query
    assert (query["dataCenterProvider"], query["dataCenterRegion"]) == ("aws", "eu-central-1")
    assert "zone" not in query
    assert asker.source.place == "aws:eu-central-1"


@pytest.mark.parametrize("zone", ["FR", "de", "DE-LU", "", None])
def test_an_answer_for_another_zone_is_rejected(maps, zone):
    asker = maps()
    asker.serve([(LAST, 50)], zone=zone)
    assert outcome(asker) == "wrong_zone"


def test_an_answer_from_another_country_than_the_cloud_region_is_rejected(maps):
    asker = maps(zone="aws:eu-west-1")
    assert outcome(asker) == "wrong_zone"
    asker.serve([(LAST, 50)], zone="IE")
    assert asker.numbers() == [50]


@pytest.mark.parametrize("zone", ["xx:new-region-1", "aws:mars-north-1"])
def test_a_cloud_region_that_is_in_no_table_is_taken_from_wherever_the_source_finds_it(maps, zone):
    asker = maps(zone=zone)
    assert asker.numbers() == [300, 322]


@pytest.mark.parametrize(("zone", "sent"), [("UK", "GB"), ("deu", "DE"), (" us-hi ", "US-HI")])
def test_other_codes_of_a_country_are_sent_as_its_zone(maps, zone, sent):
    asker = maps(zone=zone)
    asker.serve([(LAST, 50)], zone=sent)
    assert asker.numbers() == [50]
    assert asker.server.asked[0].query["zone"] == sent
    assert asker.source.place == sent


@pytest.mark.parametrize("basis", ["direct", "", None, 1])
def test_values_of_another_basis_are_rejected(maps, basis):
    asker = maps()
    asker.serve([(LAST, 50)], basis=basis)
    assert outcome(asker) == "bad_answer"


def test_values_without_a_basis_count_the_requested_basis(maps):
    asker = maps()
    row = {"zone": "DE", "carbonIntensity": 5, "datetime": shapes.moment(LAST)}
    asker.server.serve = lambda _: document({**row, "history": [row]})
    assert asker.numbers() == [5]


def test_estimated_values_say_so(maps):
    asker = maps()
    asker.serve([(LAST, 50)], estimated=True)
    assert asker.request().values[0].estimated


def test_estimated_values_are_none_where_they_are_not_good_enough(maps):
    asker = maps(estimates=False)
    asker.serve([(LAST, 50)], estimated=True)
    assert outcome(asker) == "no_value"


@pytest.mark.parametrize(
    ("granularity", "seconds"),
    [("5_minutes", 300), ("15_minutes", 900), ("hourly", 3600), (7, 3600)],
)
def test_a_value_is_valid_for_the_granularity_of_the_response(maps, granularity, seconds):
    asker = maps()
    asker.serve([(LAST, 50)], granularity=granularity)
    (value,) = asker.request().values
    assert value.end - value.start == seconds


def test_the_forecast_is_what_is_not_over_and_is_estimated(maps):
    asker = maps()
    asker.serve([(LAST, 50)], ahead=[(LAST - HOUR, 1), (LAST, 2), (LAST + HOUR, 3)])
    ahead = asker.request().forecast
    assert [(value.grams_per_kwh, value.estimated) for value in ahead] == [(2, True), (3, True)]


@pytest.mark.parametrize("number", ["n/a", True, {}])
def test_a_spoilt_forecast_does_not_spoil_the_value(maps, number):
    asker = maps()
    asker.serve([(LAST, 50)], ahead=[(LAST + HOUR, number)])
    assert asker.numbers() == [50]
    assert asker.request().forecast == ()


def test_a_forecast_for_another_zone_is_not_used(maps):
    asker = maps()
    here = shapes.electricity_maps([(LAST, 50)])
    there = shapes.electricity_maps([], ahead=[(LAST + HOUR, 1)], zone="FR")
    asker.server.serve = lambda asked: (there if "forecast" in asked.path else here)(asked)
    assert asker.request().forecast == ()


@pytest.mark.parametrize("when", ["2025-01-01T12:00:00", "yesterday", 1_735_732_800, None])
def test_a_time_without_a_zone_is_rejected(maps, when):
    asker = maps()
    row = {"zone": "DE", "carbonIntensity": 5, "datetime": when}
    asker.server.serve = lambda _: document({**row, "history": [row]})
    assert outcome(asker) == "bad_answer"


def test_its_kind_is_average_by_location_on_the_wanted_basis():
    kind = ElectricityMaps(zone="DE", basis="direct").kind
    assert kind == (Signal.AVERAGE, Basis.DIRECT, Accounting.LOCATION)


def test_it_needs_a_zone():
    with pytest.raises(ConfigError, match="a zone is required"):
        ElectricityMaps(zone=" ").check()


@pytest.mark.parametrize("zone", ["US-HI", "JP", "CA-NL", "PH-LU", "UK", "aws:eu-west-1"])
def test_a_zone_that_it_has_needs_no_warning(monkeypatch, zone):
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    assert ElectricityMaps(zone=zone).check() == ()


@pytest.mark.parametrize(
    ("zone", "said"),
    [
        ("US-CAL-CIS0", "did you mean US-CAL-CISO"),
        ("Germany", "did you mean DE?"),
        ("US-HI-OA", "is no longer among the zones"),
        ("aws:mars-north-1", "is not among the zones"),
        ("ZZ-NEW", "it is requested as configured"),
    ],
)
def test_a_zone_that_it_may_not_have_is_a_warning(monkeypatch, zone, said):
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    (warning,) = ElectricityMaps(zone=zone).check()
    assert said in warning


def test_a_zone_that_no_list_has_yet_brings_values(maps):
    asker = maps(zone="zz-new")
    asker.serve([(LAST, 50)], zone="ZZ-NEW")
    assert asker.numbers() == [50]
