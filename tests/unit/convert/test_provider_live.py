"""Chains from settings with live sources."""

import json

import pytest

from exporter.convert.live import http
from exporter.convert.live.fetch_process import FetchProcess
from exporter.convert.live.http import detect_cloud_region
from exporter.convert.provider import open_intensity_provider
from exporter.convert.sources import electricity_maps, watttime
from exporter.errors import ConfigError, FetchError
from exporter.model.intensity import Signal
from tests.grid import shapes
from tests.unit.convert.conftest import NOTHING_CONFIGURED

NOW = 1_735_733_400.0
HALF = NOW - NOW % 1800
SITE = {"prometheus": {"url": "http://p:9090", "query": "g"}}
WATTTIME = {"watttime": {"region": "CAISO_NORTH", "username": "ann"}}


class Stub:
    """Stands for the process that asks."""

    def __init__(self, answer=None, failure=None):
        self.answer = answer
        self.failure = failure
        self.jobs = []
        self.is_stopped = False

    def run_job(self, job):
        self.jobs.append(job)
        if self.failure:
            raise self.failure
        if callable(self.answer):
            return self.answer(job)
        return self.answer

    def stop(self):
        self.is_stopped = True


@pytest.fixture(autouse=True)
def _tokens(monkeypatch):
    monkeypatch.setenv(electricity_maps.TOKEN_VARIABLE, "t0k3n")
    monkeypatch.setenv(watttime.PASSWORD_VARIABLE, "t0k3n")


@pytest.fixture
def opened(clock):
    clock.now = NOW

    def make(*sources, **settings):
        given = {
            **NOTHING_CONFIGURED,
            "sources": sources,
            "child": Stub(failure=FetchError("timeout", "no answer")),
        }
        return open_intensity_provider(**given | settings, clock=clock)

    return make


def refusal(opened, *sources, **settings):
    with pytest.raises(ConfigError) as raised:
        opened(*sources, **settings)
    return str(raised.value)


def names(result):
    return [step.name for step in result.chain.steps]


@pytest.mark.parametrize(
    "entry", ["uk", {"uk": None}, {"uk": {}}, {"uk": {"place": "13"}}, {"uk": {"place": "NG1"}}]
)
def test_a_source_is_a_name_alone_or_with_options(opened, entry):
    assert names(opened(entry)) == ["uk"]


@pytest.mark.parametrize(
    "entry", [5, None, [], ["uk"], {}, {"uk": {}, "rte": {}}, {"uk": "GB"}, {"uk": [1]}, {5: {}}]
)
def test_an_entry_of_another_form_is_rejected_with_its_place(opened, entry):
    said = refusal(opened, "rte", entry)
    assert said == "convert.sources: entry 2: expected a name, or a name with its options"


@pytest.mark.parametrize(
    ("entry", "near"),
    [("electricity_map", "electricity_maps"), ("wattime", "watttime"), ("UK", ""), ("ember", "")],
)
def test_a_source_that_does_not_exist_is_rejected_with_a_near_name(opened, entry, near):
    said = refusal(opened, entry)
    assert said.startswith(f"convert.sources: entry 1: {entry}: there is no such key; ")
    assert (f"did you mean {near}?" if near else "known keys: electricity_maps") in said


@pytest.mark.parametrize(
    ("entry", "near"),
    [
        ({"uk": {"plaice": "GB"}}, "place"),
        ({"electricity_maps": {"token": "t"}}, "token_file"),
        ({"prometheus": {"refresh_second": 5}}, "refresh_seconds"),
    ],
)
def test_an_option_that_does_not_exist_is_rejected_with_a_near_name(opened, entry, near):
    said = refusal(opened, entry, zone="DE")
    assert "there is no such key" in said
    assert near in said


def test_the_world_average_has_no_options(opened):
    assert names(opened("world")) == ["world average"]
    assert "there is no such key" in refusal(opened, {"world": {"zone": "DE"}})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"place": 13}, "expected text (put it in quotes)"),
        ({"place": "London"}, "convert.sources: uk: place: 'London' is neither GB"),
        ({"refresh_seconds": 1}, "below the minimum"),
        ({"refresh_seconds": "1h"}, "expected a number of seconds"),
        ({"max_age_seconds": -1}, "below the minimum"),
    ],
)
def test_an_option_with_a_wrong_value_is_rejected_with_what_is_expected(opened, options, said):
    assert said in refusal(opened, {"uk": options})


def test_a_zone_that_the_source_may_not_have_is_a_note_with_a_suggestion(opened):
    (note,) = opened("electricity_maps", zone="US-CAL-CIS0").notes
    assert note.startswith("convert.sources: electricity_maps: 'US-CAL-CIS0' is not among")
    assert "did you mean US-CAL-CISO" in note
    assert note.endswith("it is requested as configured")


@pytest.mark.parametrize("zone", ["US-HI", "PH-LU", "JP", "UK", "GI", "CA-NL", "AU-LH"])
def test_a_zone_that_the_source_has_needs_no_note(opened, zone):
    result = opened("electricity_maps", zone=zone)
    assert result.notes == ()
    assert result.chain.steps[0].state().zone == {"UK": "GB"}.get(zone, zone)


def test_a_table_behind_such_a_source_still_rejects_what_it_cannot_answer_for(opened):
    said = refusal(opened, "electricity_maps", "table", zone="ZZ-NEW")
    assert "convert.zone: no bundled table has 'ZZ-NEW'" in said


def test_the_mean_of_a_country_replaces_a_zone_without_a_value(opened):
    result = opened("electricity_maps", {"table": {"zone": "PH"}}, zone="PH-LU")
    assert result.notes == ()
    assert result.chain.factor_at(NOW).zone == "PH"


@pytest.mark.parametrize("entry", ["uk", "energy_charts"])
def test_uk_means_great_britain(opened, entry):
    assert opened(entry, zone="UK").chain.steps[0].state().zone == "GB"
    assert names(opened({"uk": {"place": "UK"}})) == ["uk"]


@pytest.mark.parametrize("entry", ["electricity_maps", "energy_charts", "table"])
def test_a_source_that_needs_a_zone_is_rejected_without_one(opened, entry):
    assert "zone" in refusal(opened, entry)


@pytest.mark.parametrize(
    ("entry", "zone"), [("uk", "DE"), ("rte", "DE"), ("energinet", "SE"), ("uk", "aws:eu-west-1")]
)
def test_a_source_of_one_country_is_rejected_for_a_zone_of_another(opened, entry, zone):
    assert f"convert.zone is {zone}, which is in" in refusal(opened, entry, zone=zone)


@pytest.mark.parametrize(
    ("entry", "zone"),
    [("uk", "GB"), ("uk", "gbr"), ("rte", "FR"), ("energinet", "DK-DK1"), ("uk", "aws:eu-west-2")],
)
def test_a_source_of_one_country_is_used_for_every_zone_in_it(opened, entry, zone):
    assert names(opened(entry, zone=zone)) == [entry]


@pytest.mark.parametrize(("zone", "country"), [("DE", "DE"), ("deu", "DE"), ("DK-DK1", "DK")])
def test_a_source_of_countries_is_requested_for_the_country_of_the_zone(opened, zone, country):
    (step,) = opened("energy_charts", zone=zone).chain.steps
    assert step.state().zone == country


@pytest.mark.parametrize(
    ("entry", "zone", "area"),
    [
        ("energinet", "DK-DK2", "DK2"),
        ("energinet", "dk-dk1", "DK1"),
        ("energinet", "DK", "DK1"),
        ({"energinet": {"area": "DK2"}}, "DK-DK1", "DK2"),
    ],
)
def test_denmark_is_requested_by_the_area_of_the_zone(opened, entry, zone, area):
    (step,) = opened(entry, zone=zone).chain.steps
    assert step.state().zone == area


def test_an_island_that_is_no_price_area_is_rejected_and_never_taken_for_another(opened):
    assert "expected one of DK1, DK2" in refusal(opened, "energinet", zone="DK-BHM")


def test_a_zone_of_its_own_goes_before_that_of_the_site(opened):
    (step,) = opened({"electricity_maps": {"zone": "FR"}}, zone="DE").chain.steps
    assert step.state().zone == "FR"


@pytest.mark.parametrize(
    "entry", [WATTTIME, {"static": {"grams_per_kwh": 1, "signal": "marginal", "basis": "direct"}}]
)
def test_a_marginal_intensity_is_rejected_as_the_first_and_accepted_as_the_second(opened, entry):
    for fallback in ("same", "any"):
        said = refusal(opened, entry, fallback=fallback)
        assert "is marginal" in said
        assert "move it to convert.second" in said
    result = opened("uk", second=[entry])
    assert result.chain.steps[0].kind[0] is Signal.AVERAGE


def test_a_second_intensity_of_the_same_kind_as_the_first_is_rejected(opened):
    said = refusal(
        opened, "uk", second=[{"watttime": {**WATTTIME["watttime"], "signal": "average"}}]
    )
    assert "watttime is of the same kind as the first intensity (average direct location)" in said


def test_second_intensities_of_different_kinds_are_rejected(opened):
    market = {"static": {"grams_per_kwh": 0, "accounting": "market"}}
    said = refusal(opened, "uk", second=[WATTTIME, market], fallback="any")
    assert "configured value cannot replace watttime" in said
    assert said.endswith("set its option `basis` to that of the first if it has one")


def test_several_of_one_source_are_distinguished_by_a_number(opened):
    other = {"prometheus": {**SITE["prometheus"], "query": "h"}}
    result = opened(SITE, other, SITE)
    assert names(result) == ["prometheus", "prometheus_2", "prometheus_3"]
    assert [feed.name for feed in result.state_at(NOW).feeds] == names(result)


def test_kinds_are_not_mixed_unless_that_is_wanted(opened):
    said = refusal(opened, "uk", "electricity_maps", zone="GB")
    assert "electricity_maps cannot replace uk" in said
    assert "set convert.fallback by EMISSIONS_EXPORTER_CONVERT_FALLBACK=any" in said
    mixed = opened("uk", "electricity_maps", zone="GB", fallback="any")
    assert names(mixed) == ["uk", "electricity_maps"]


def test_a_number_of_ones_own_may_stand_at_the_end_of_a_chain(opened):
    result = opened("uk", "static", grams_per_kwh=99.0)
    assert result.chain.factor_at(NOW).grams_per_kwh == 99


def test_a_token_file_that_everybody_may_read_makes_a_note(opened, tmp_path):
    path = tmp_path / "token"
    path.write_text("t0k3n")
    path.chmod(0o644)
    entry = {"electricity_maps": {"token_file": str(path)}}
    (note,) = opened(entry, zone="DE").notes
    assert note.startswith("convert.sources: electricity_maps: token file")
    assert "t0k3n" not in note


def test_a_missing_token_is_rejected_with_both_ways_to_give_one(opened, monkeypatch):
    monkeypatch.delenv(electricity_maps.TOKEN_VARIABLE)
    said = refusal(opened, "electricity_maps", zone="DE")
    assert said.startswith("convert.sources: electricity_maps: no token: set its file")


def test_the_child_is_given_name_and_options_and_nothing_secret(opened):
    child = Stub(answer=[[[HALF, HALF + 1800, 5.0, False]], []])
    result = opened("electricity_maps", zone="DE", child=child)
    ((refresh, _),) = result.refresh
    refresh()
    (job,) = child.jobs
    assert (job["name"], job["now"], job["options"]["zone"]) == ("electricity_maps", NOW, "DE")
    assert "t0k3n" not in json.dumps(job)
    assert result.chain.factor_at(NOW).grams_per_kwh == 5


def test_the_chain_continues_after_a_restart(opened):
    child = Stub(answer=[[[HALF, HALF + 1800, 5.0, False]], [[HALF, HALF + 1800, 6.0, True]]])
    before = opened("uk", child=child)
    before.refresh[0][0]()
    after = opened("uk", memory=before.memory(), child=child)
    assert after.chain.factor_at(NOW) == before.chain.factor_at(NOW)
    after.refresh[0][0]()
    assert len(child.jobs) == 1
    other = opened({"uk": {"place": "13"}}, memory=before.memory(), child=child)
    assert other.chain.factor_at(NOW) is None


@pytest.mark.parametrize("memory", ["", "spoilt", "[]", '{"[\\"uk\\", {}]": 5}'])
def test_a_memory_that_is_spoilt_is_no_memory(opened, memory):
    assert opened("uk", memory=memory).chain.factor_at(NOW) is None


def test_a_memory_with_invalid_values_is_ignored(opened):
    identity = next(iter(json.loads(opened("uk").memory())))
    spoilt = json.dumps({identity: {"values": [["a", "b", "c", "d"]], "due": None}})
    assert opened("uk", memory=spoilt).chain.factor_at(NOW) is None


def test_the_end_of_the_chain_ends_the_child(opened):
    child = Stub()
    opened("uk", child=child).stop()
    assert child.is_stopped


def test_past_and_forecast_of_the_source_in_force_are_shown(opened):
    child = Stub(answer=[[[HALF, HALF + 1800, 5.0, False]], [[HALF, HALF + 1800, 6.0, True]]])
    result = opened("uk", child=child)
    result.refresh[0][0]()
    state = result.state_at(NOW)
    assert [value.grams_per_kwh for value in (*state.recent, *state.forecast)] == [5, 6]
    assert state.feeds[0].ok


def located(opened, server):
    child = Stub(answer=lambda job: detect_cloud_region(job["locate"]))
    return opened(cloud_metadata=True, child=child, metadata_url=server.url)


@pytest.mark.parametrize(
    "region", [("aws", "eu-west-1"), ("gcp", "europe-west1"), ("azure", "westeurope")]
)
def test_the_cloud_metadata_has_the_region(opened, grid, region):
    result = located(opened, grid(shapes.metadata(*region)))
    place = ":".join(region)
    assert result.notes[0] == f"convert.cloud_metadata: this machine is in {place}"
    assert result.chain.factor_at(NOW).zone == place


def test_a_region_that_no_table_has_is_not_used_and_reported(opened, grid):
    result = located(opened, grid(shapes.metadata("aws", "mars-north-1")))
    assert "aws:mars-north-1 is in no bundled table; set convert.zone" in result.notes[0]
    assert result.chain.factor_at(NOW).zone == "WORLD"


def test_a_region_that_no_table_has_is_used_by_a_source_that_may_know_it(opened):
    child = Stub(answer="aws:mars-north-1")
    result = opened("electricity_maps", cloud_metadata=True, child=child)
    assert result.chain.steps[0].state().zone == "aws:mars-north-1"
    machine, warning = result.notes
    assert machine == "convert.cloud_metadata: this machine is in aws:mars-north-1"
    assert "'aws:mars-north-1' is not among the zones" in warning


def test_a_missing_metadata_service_is_reported(opened, grid):
    result = located(opened, grid(lambda _: (404, {}, b"")))
    assert "no cloud metadata service responds" in result.notes[0]
    assert result.chain.factor_at(NOW).zone == "WORLD"


def test_a_metadata_service_that_hangs_is_given_up(opened, grid, monkeypatch):
    monkeypatch.setattr(http, "METADATA_TIMEOUT_SECONDS", 0.05)
    server = grid(shapes.metadata("aws", "eu-west-1"))
    server.hang_seconds = 60.0
    assert "no cloud metadata service" in located(opened, server).notes[0]


def test_cloud_metadata_is_requested_in_the_fetch_process(opened, grid):
    server = grid(shapes.metadata("gcp", "europe-west1"))
    result = opened(cloud_metadata=True, child=FetchProcess(), metadata_url=server.url)
    assert result.chain.factor_at(NOW).zone == "gcp:europe-west1"


def test_cloud_metadata_is_not_requested_if_a_zone_is_set(opened):
    child = Stub()
    opened(cloud_metadata=True, zone="DE", child=child)
    assert child.jobs == []


def test_live_sources_use_the_region_of_the_cloud_metadata(opened):
    child = Stub(answer="aws:eu-west-2")
    result = opened("electricity_maps", cloud_metadata=True, child=child)
    assert result.chain.steps[0].state().zone == "aws:eu-west-2"
