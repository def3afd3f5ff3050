"""Intensity from another exporter."""

import pytest

from exporter.convert.sources.exporter import ExporterSource
from exporter.errors import ConfigError, FetchError
from exporter.model.intensity import Accounting, Basis, Signal
from tests.unit.convert.sources.conftest import NOW

HOUR = 3600.0
LAST = NOW - NOW % HOUR
YEARLY = {"valid_from": 0.0, "valid_until": None, "as_of": 1_704_067_200.0, "source": "OWID, 2024"}


@pytest.fixture
def other(asker):
    def make(**options):
        made = asker("exporter", **options)
        made.serve([(LAST, 322)], ahead=[(LAST, 1), (LAST + HOUR, 2)])
        return made

    return make


def failure(asker):
    with pytest.raises(FetchError) as raised:
        asker.request()
    return raised.value


def test_factors_name_the_source_and_the_zone_of_the_other(other):
    answer = other().request()
    assert (answer.publisher, answer.place) == ("Electricity Maps, by another exporter", "DE")


def test_the_pue_of_the_other_is_not_counted(other):
    assert other().numbers() == [322]


def test_its_forecast_is_passed_on(other):
    assert [value.grams_per_kwh for value in other().request().forecast] == [1, 2]


def test_an_estimated_value_of_the_other_is_marked(other):
    asker = other()
    asker.serve([(LAST, 322)], estimated=True)
    assert asker.request().values[0].estimated


@pytest.mark.parametrize(
    "counts", [{"signal": "marginal"}, {"basis": "direct"}, {"accounting": "market"}]
)
def test_another_kind_is_rejected_unless_configured(other, counts):
    asker = other()
    asker.serve([(LAST, 322)], **counts)
    assert failure(asker).outcome == "wrong_kind"
    asker = other(**counts)
    asker.serve([(LAST, 322)], **counts)
    assert asker.numbers() == [322]


def test_another_zone_than_the_one_that_is_set_is_rejected(other):
    assert failure(other(zone="FR")).outcome == "wrong_zone"
    assert other(zone="DE").numbers() == [322]


def test_a_cloud_region_is_served_by_the_source_of_its_country(other):
    assert other(zone="aws:eu-central-1").numbers() == [322]
    assert failure(other(zone="aws:eu-west-2")).outcome == "wrong_zone"


def test_the_reason_of_a_missing_value_is_shown(other):
    asker = other()
    asker.serve([])
    assert "electricity_maps has no value" in str(failure(asker))


def test_a_yearly_value_holds_for_this_hour_and_as_far_back_as_requested(other):
    asker = other()
    asker.serve([(NOW, 344)], **YEARLY)
    long_ago, recent = asker.request(since=NOW - 86_400).values
    assert (long_ago.start, long_ago.end) == (NOW - 86_400, recent.start)
    lately = asker.request(since=NOW - 60).values[0]
    assert lately.start == LAST


def test_a_yearly_value_is_as_old_here_as_there(other):
    asker = other()
    assert asker.request().as_of is None
    asker.serve([(NOW, 344)], **YEARLY)
    assert asker.request().as_of == YEARLY["as_of"]


@pytest.mark.parametrize(
    ("until", "max_age_seconds", "end"),
    [
        (LAST + 3 * HOUR, 600, max(LAST + HOUR, NOW + 600)),
        (LAST + 3 * HOUR, 7_200, NOW + 7_200),
        (LAST + HOUR, 7_200, LAST + HOUR),
    ],
)
def test_the_last_value_is_used_as_long_as_configured_here_and_no_longer_than_there(
    asker, until, max_age_seconds, end
):
    made = asker("exporter", max_age_seconds=max_age_seconds)
    made.serve([(LAST, 322)], valid_until=until)
    assert made.request().values[-1].end == end


@pytest.mark.parametrize("until", [LAST, LAST - 1, 1e15])
def test_a_value_that_ends_at_no_possible_time_is_rejected(other, until):
    asker = other()
    asker.serve([(LAST, 322)], valid_until=until)
    assert asker.request().rejected_count == 1


@pytest.mark.parametrize("url", ["", "intensity:10680", "unix:/run/agent.sock"])
def test_without_an_address_it_is_rejected(url):
    with pytest.raises(ConfigError, match="url: expected the other exporter as http://HOST:10680"):
        ExporterSource(url=url).check()


def test_its_kind_is_the_configured_one():
    assert ExporterSource().kind == (Signal.AVERAGE, Basis.LIFECYCLE, Accounting.LOCATION)
    assert (ExporterSource().place, ExporterSource(zone="DE").place) == ("unstated", "DE")
