"""Chains from settings without live sources."""

import pytest

from exporter.convert.provider import open_intensity_provider
from exporter.errors import ConfigError
from exporter.model.intensity import Accounting, Basis
from tests.unit.convert.conftest import NOTHING_CONFIGURED

NOW = 1_735_689_600.0
ROWS = f"time,grams_per_kwh\n{NOW - 60:.0f},222\n"


@pytest.fixture
def opened(clock):
    def make(**settings):
        return open_intensity_provider(**NOTHING_CONFIGURED | settings, clock=clock)

    return make


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "grid.csv"
    path.write_text(ROWS)
    return str(path)


def test_nothing_configured_means_the_world_average_with_a_note(opened):
    result = opened()
    assert result.chain.factor_at(NOW).zone == "WORLD"
    (note,) = result.notes
    assert note.startswith("world average: 473 g/kWh (lifecycle)")
    assert note.endswith(
        "no zone is configured; set convert.zone by --convert.zone=DE, or by "
        "EMISSIONS_EXPORTER_CONVERT_ZONE=DE in the exporter's environment, or by "
        "`zone: DE` under `convert:` in the settings file (--config.file)"
    )
    assert result.chain.state_at(NOW).why == note


def test_a_zone_means_its_yearly_value(opened):
    result = opened(zone=" de ", pue=1.3)
    factor = result.chain.factor_at(NOW)
    assert (factor.zone, factor.pue, factor.step) == ("DE", 1.3, 0)
    assert result.notes == ()
    assert result.states() == ()


@pytest.mark.parametrize(
    ("sources", "text"),
    [
        (["table", "file"], "file will never be used: table always has a value; move table"),
        (["world", {"file": {}}, "table"], "file, table will never be used: world always has"),
    ],
)
def test_a_source_after_one_that_always_has_a_value_is_named(opened, file, sources, text):
    result = opened(zone="DE", file=file, sources=sources, basis="lifecycle")
    assert [note for note in result.notes if text in note] == [*result.notes]
    assert result.notes


def test_a_source_that_always_has_a_value_may_be_the_last(opened, file):
    assert opened(zone="DE", file=file, sources=["file", "table"]).notes == ()


def test_an_unknown_zone_is_rejected_and_never_replaced_by_the_world_average(opened):
    with pytest.raises(ConfigError):
        opened(zone="atlantis")


def test_a_number_of_ones_own_goes_before_everything(opened, file):
    result = opened(grams_per_kwh=12.5, zone="DE", file=file, basis="direct", accounting="market")
    factor = result.chain.factor_at(NOW)
    assert (factor.grams_per_kwh, factor.zone, factor.source) == (12.5, "DE", "configuration")
    assert (factor.basis, factor.accounting) == (Basis.DIRECT, Accounting.MARKET)
    assert result.notes == ("convert.file is not read: convert.grams_per_kwh takes precedence",)
    assert result.refresh == ()


@pytest.mark.parametrize(
    ("number", "said"), [(0.473, "write 473"), (0.02, "write 20"), (0.9999, "write 999.9")]
)
@pytest.mark.parametrize("basis", ["unstated", "lifecycle", "direct"])
def test_a_number_in_kilograms_is_rejected_with_the_one_in_grams(opened, number, basis, said):
    with pytest.raises(ConfigError) as refusal:
        opened(grams_per_kwh=number, basis=basis, zone="DE")
    assert f"grams_per_kwh: {number:g} g/kWh is less than any grid emits" in str(refusal.value)
    assert said in str(refusal.value)


def test_a_number_in_kilograms_is_rejected_in_the_options_of_a_source(opened):
    with pytest.raises(ConfigError, match="write 473"):
        opened(sources=[{"static": {"grams_per_kwh": 0.473}}])
    second = [{"static": {"grams_per_kwh": 0.012, "accounting": "market"}}]
    with pytest.raises(ConfigError, match="write 12"):
        opened(zone="FR", second=second)


@pytest.mark.parametrize("number", [1.0, 1.04, 1500.0])
def test_a_number_that_a_grid_may_have_is_taken(opened, number):
    assert opened(grams_per_kwh=number).chain.factor_at(NOW).grams_per_kwh == number


def kilograms(file):
    with open(file, "w", encoding="utf-8") as written:
        written.write(f"time,grams_per_kwh\n{NOW - 120:.0f},0\n{NOW - 60:.0f},0.473\n")
    return file


def test_a_file_in_kilograms_is_rejected(opened, file):
    with pytest.raises(ConfigError, match=r"each value is below 1 g/kWh: 0.473 g/kWh is less"):
        opened(file=kilograms(file))


@pytest.mark.parametrize("meaning", [{"basis": "direct"}, {"accounting": "market"}])
def test_direct_emissions_and_contracts_may_be_that_small(opened, file, meaning):
    result = opened(file=kilograms(file), **meaning)
    assert result.chain.factor_at(NOW).grams_per_kwh == 0.473


def test_a_zone_that_is_in_no_table_is_a_warning_if_no_table_is_used(opened, file):
    (note,) = opened(zone="Germany", file=file, sources=["file"]).notes
    assert note.startswith("convert.zone: no bundled table has 'Germany'; did you mean DE?")
    assert opened(zone="uk", file=file, sources=["file"]).notes == ()


def test_a_name_in_place_of_a_code_is_named_by_energy_charts(opened):
    with pytest.raises(
        ConfigError, match=r"'Germany' is not a two-letter country code; did you mean DE"
    ):
        opened(zone="Germany", sources=["energy_charts"])


@pytest.mark.parametrize("name", ["table", "energy_charts", "electricity_maps"])
def test_a_source_that_requires_a_zone_is_an_error_without_one(opened, name):
    with pytest.raises(ConfigError, match=r"set convert\.zone") as caught:
        opened(zone="", sources=[name])
    assert "did you mean" not in str(caught.value)
    assert "''" not in str(caught.value)


def test_a_zone_without_a_yearly_value_is_named_with_what_can_be_done(opened):
    with pytest.raises(ConfigError) as caught:
        opened(zone="XX")
    assert str(caught.value) == (
        "convert.zone: XX (Northern Cyprus) is known, but the bundled tables have no yearly value "
        "for it or for its country; set convert.grams_per_kwh by "
        "EMISSIONS_EXPORTER_CONVERT_GRAMS_PER_KWH=400 in the exporter's environment, or by "
        "`grams_per_kwh: 400` under `convert:` in the settings file (--config.file), or list "
        "sources in convert.sources without `table`, which reads the bundled tables"
    )


def test_zero_is_a_number_of_ones_own(opened):
    assert opened(grams_per_kwh=0.0).chain.factor_at(NOW).grams_per_kwh == 0


def test_a_number_without_a_zone_has_no_stated_zone_and_no_age(opened):
    state = opened(grams_per_kwh=12.5, source="our utility").chain.state_at(NOW)
    assert state.factor.zone == "unstated"
    assert state.age_seconds is None
    assert state.why == "configured value: 12.5 g/kWh (basis unstated), our utility"


def test_a_file_falls_back_on_the_yearly_value_of_the_zone(opened, file):
    chain = opened(file=file, zone="DE").chain
    assert chain.factor_at(NOW).grams_per_kwh == 222
    fallback = chain.factor_at(NOW + 3600)
    assert (fallback.step, fallback.grams_per_kwh) == (1, 344.14)


def test_a_file_without_a_zone_never_falls_back_on_the_world_average(opened, file):
    chain = opened(file=file).chain
    assert chain.factor_at(NOW + 3600) is None
    assert (
        chain.state_at(NOW + 3600).why == "file has no value; the carbon counter does not increase"
    )


@pytest.mark.parametrize("meaning", [{"basis": "direct"}, {"accounting": "market"}])
def test_a_file_that_counts_something_else_never_falls_back_with_a_note(opened, file, meaning):
    result = opened(file=file, zone="DE", **meaning)
    assert result.chain.factor_at(NOW + 3600) is None
    (note,) = result.notes
    assert note.startswith("yearly value of DE cannot replace file")


def test_the_file_is_refreshed_by_its_caller_and_has_a_state(opened, file):
    result = opened(file=file)
    with open(file, "w", encoding="utf-8") as rewritten:
        rewritten.write("spoilt")
    ((refresh, _),) = result.refresh
    refresh()
    (state,) = result.states()
    assert not state.ok
    assert state.why in result.chain.state_at(NOW).why
    assert result.chain.factor_at(NOW).grams_per_kwh == 222


@pytest.mark.parametrize("settings_file", ["/etc/emissions-exporter/config.yaml", "c.yaml"])
def test_the_state_of_the_grid_names_the_file_to_write_a_missing_zone_into(opened, settings_file):
    said = f"or by `zone: DE` under `convert:` in {settings_file}"
    assert opened(settings_file=settings_file).chain.state_at(NOW).why.endswith(said)
