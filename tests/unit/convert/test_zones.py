"""Lookups in the bundled tables."""

import csv
from datetime import UTC, datetime
from importlib import resources

import pytest

from exporter.convert import zones
from exporter.errors import ConfigError
from exporter.model.intensity import Accounting, Basis, Signal


def cells(table):
    with resources.files("exporter.data").joinpath(table).open(encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


@pytest.mark.parametrize("code", ["DE", "de", "DEU", " deu "])
def test_a_country_is_found_by_either_code_in_either_case(code):
    factor = zones.find_factor(code)
    assert (factor.zone, factor.grams_per_kwh, factor.basis) == ("DE", 344.14, Basis.LIFECYCLE)


def test_a_country_prefers_the_country_table_to_the_zone_of_the_same_name():
    assert zones.find_factor("FR").source.startswith("Ember and Energy Institute")


def test_a_value_is_average_located_and_not_estimated():
    factor = zones.find_factor("DE")
    assert factor.signal is Signal.AVERAGE
    assert factor.accounting is Accounting.LOCATION
    assert not factor.estimated
    assert (factor.valid_from, factor.valid_until) == (0, float("inf"))


def test_a_value_is_as_old_as_the_start_of_its_year():
    assert zones.find_factor("DE").as_of == datetime(2024, 1, 1, tzinfo=UTC).timestamp()


def test_the_source_names_publisher_and_year():
    source = "Ember and Energy Institute, processed by Our World in Data, 2024"
    assert zones.find_factor("DE").source == source
    assert zones.world_average().source == source


def test_a_state_with_direct_values_alone_is_direct_and_its_flag_is_shown():
    factor = zones.find_factor("us-ca")
    assert (factor.grams_per_kwh, factor.basis) == (205.3, Basis.DIRECT)
    assert factor.source.endswith("2016 [stale]")


def test_the_newest_lifecycle_value_wins():
    factor = zones.find_factor("CA-QC")
    assert (factor.grams_per_kwh, factor.basis) == (27.4, Basis.LIFECYCLE)
    assert "2023" in factor.source


def test_a_zone_of_electricity_maps_is_found():
    factor = zones.find_factor("US-CAL-CISO")
    assert (factor.zone, factor.grams_per_kwh) == ("US-CAL-CISO", 265.4)


def test_a_basis_that_is_not_stated_is_unstated():
    factor = zones.find_factor("SE1")
    assert factor.basis is Basis.UNSTATED
    assert "low-quality" in factor.source


def test_a_value_without_a_year_is_marked_and_has_no_age():
    factor = zones.find_factor("MX-BC")
    assert "year not stated" in factor.source
    assert factor.as_of == 0


@pytest.mark.parametrize(
    ("code", "zone", "grams_per_kwh"),
    [
        ("aws:eu-west-1", "aws:eu-west-1", 279.7),
        ("GCP:europe-west1", "gcp:europe-west1", 117.6),
        ("azure:westeurope", "azure:westeurope", 253.3),
    ],
)
def test_a_cloud_region_is_found(code, zone, grams_per_kwh):
    factor = zones.find_factor(code)
    assert (factor.zone, factor.grams_per_kwh) == (zone, grams_per_kwh)


def test_a_cloud_region_names_the_publisher_and_the_flags_of_the_value_it_borrows():
    assert "Ember" in zones.find_factor("aws:eu-west-1").source
    source = zones.find_factor("aws:us-west-2").source
    assert "Electricity Maps" in source
    assert source.endswith("2017 [zone-derived, stale]")


def test_the_world_average_is_that_of_our_world_in_data_for_2024():
    factor = zones.world_average()
    assert round(factor.grams_per_kwh) == 473
    assert (factor.zone, factor.basis) == ("WORLD", Basis.LIFECYCLE)
    assert "Our World in Data" in factor.source
    assert "2024" in factor.source


def test_every_row_that_has_a_value_can_be_found():
    codes = {row["alpha2"] for row in cells("country_intensity.csv")}
    codes |= {f"{row['provider']}:{row['region']}" for row in cells("cloud_regions.csv")[::20]}
    codes |= {row["region_code"] for row in cells("region_intensity.csv")[::40]}
    for code in sorted(codes):
        assert zones.find_factor(code).grams_per_kwh > 0


def test_an_unknown_zone_is_rejected_with_the_nearest_and_the_forms():
    with pytest.raises(ConfigError) as refusal:
        zones.find_factor("aws:eu-wst-1")
    text = str(refusal.value)
    assert "convert.zone" in text
    assert "'aws:eu-wst-1'" in text
    assert "did you mean aws:eu-west-1" in text
    assert zones.ZONE_FORMATS in text


def test_the_name_of_a_country_leads_to_its_code():
    with pytest.raises(ConfigError, match=r"did you mean DE\?"):
        zones.find_factor("Germany")


def test_a_zone_like_no_other_is_rejected_without_a_guess():
    with pytest.raises(ConfigError) as refusal:
        zones.find_factor("qqqqqqqqqq")
    assert "did you mean" not in str(refusal.value)


def test_a_zone_without_a_value_names_the_country_that_has_one():
    with pytest.raises(ConfigError, match=r"set convert.zone to AU for the mean of its country"):
        zones.find_factor("AU-NT")


def test_a_zone_without_a_value_names_what_to_write_after_a_source_that_has_it():
    with pytest.raises(ConfigError, match=r"add `table: {zone: PH}` after another source"):
        zones.find_factor("PH-LU")


def test_a_zone_without_a_value_in_a_country_without_one_asks_for_a_number():
    with pytest.raises(ConfigError, match=r"set convert.grams_per_kwh"):
        zones.find_factor("AD")


def test_a_requested_basis_is_returned_or_rejected():
    assert zones.find_factor("GB").basis is Basis.LIFECYCLE
    assert zones.find_factor("GB", Basis.DIRECT).basis is Basis.DIRECT
    with pytest.raises(ConfigError, match="no table has a direct value"):
        zones.find_factor("WORLD", Basis.DIRECT)


CURRENT = (
    *("AU-LH", "BM", "CA", "CA-NL", "CW", "ES-CN-FV", "ES-CN-LZ", "GG", "GI", "JE", "JP", "KY"),
    *("MC", "MO", "MV", "MY", "PH-LU", "PH-MI", "PH-VI", "SC", "US-AK-SEAPA", "US-HI"),
)
"""Those that are new since 2023."""


@pytest.mark.parametrize("zone", [*CURRENT, "DE", "us-cal-ciso", "UK", "DEU", "aws:eu-west-1"])
def test_electricity_maps_has_a_zone_of_the_current_list(zone):
    assert zones.electricity_maps_warning(zone) == ""


@pytest.mark.parametrize(
    ("zone", "said"),
    [
        ("US-HI-OA", "no longer among the zones of Electricity Maps as of 2026-08-21; did you"),
        ("US-HI-OA", "did you mean US-HI or US-AK or US-MIDW-MISO or US?"),
        ("CA-NL-LB", "did you mean CA-NL or"),
        ("ES-CN-FVLZ", "or ES-CN-FV"),
        ("IN-DL", "did you mean IN "),
        ("MX-BC", "did you mean MX?"),
        ("US-CAL-CIS0", "'US-CAL-CIS0' is not among the zones of Electricity Maps as of"),
        ("US-CAL-CIS0", "did you mean US-CAL-CISO or"),
        ("Germany", "did you mean DE? it is requested as configured"),
        ("united kingdom", "did you mean GB?"),
        ("Hawaii", "did you mean US-HI?"),
        ("QQ-QQ1", "as of 2026-08-21; it is requested as configured"),
    ],
)
def test_a_zone_that_electricity_maps_may_not_have_is_a_warning_with_what_is_near(zone, said):
    assert said in zones.electricity_maps_warning(zone)


def test_no_retired_zone_is_suggested():
    retired = {row["zone_key"] for row in cells("zones.csv") if "retired" in row["flag"]}
    assert len(retired) == 40
    for zone in retired:
        hint = zones.electricity_maps_warning(zone).partition("did you mean ")[2].partition("?")[0]
        assert not retired & set(hint.split(" or "))


def test_the_zones_have_the_number_and_the_date_of_their_note():
    current = [row for row in cells("zones.csv") if "retired" not in row["flag"]]
    note = resources.files("exporter.data").joinpath("zones.md").read_text(encoding="utf-8")
    assert f"Zone keys as of **{zones.ZONES_AS_OF}**: {len(current)} are current" in note


def test_a_retired_zone_keeps_its_value():
    assert zones.find_factor("DK-BHM").grams_per_kwh == 89.5
    assert zones.find_factor("MX-BC").grams_per_kwh == 453.1


@pytest.mark.parametrize(("code", "zone"), [("UK", "GB"), ("uk", "GB"), ("EL", "GR")])
def test_a_code_of_the_european_union_is_that_of_the_country(code, zone):
    assert zones.find_factor(code) == zones.find_factor(zone)
    assert zones.find_factor(code).zone == zone
    assert zones.country_of(code) == zones.country_of(zone)
    assert zones.country_alpha2(code) == zone
    assert zones.zone_key(code) == zone


def test_the_name_of_a_country_in_any_case_leads_to_its_code_alone():
    assert "did you mean DE? it can be" in refused("germany")
    assert "did you mean GB? it can be" in refused(" United Kingdom ")


def refused(zone):
    with pytest.raises(ConfigError) as refusal:
        zones.find_factor(zone)
    return str(refusal.value)


@pytest.mark.parametrize(
    ("name", "zone"),
    [
        ("Deutschland", "DE"),
        ("deutschland ", "DE"),
        ("Österreich", "AT"),
        ("España", "ES"),
        ("Polska", "PL"),
        ("Italia", "IT"),
        ("Nederland", "NL"),
        ("Germny", "DE"),
        ("Londn", "aws:eu-west-2"),
        ("Kalifornien", "US-CA"),
    ],
)
def test_a_name_in_the_countrys_own_language_or_misspelt_leads_to_its_code_alone(name, zone):
    assert f"; did you mean {zone}? it can be" in refused(name)


@pytest.mark.parametrize(
    ("code", "said"), [("DEE", "DE or EE"), ("FRA1", "FR"), ("CAL", "CA or CA-NL or CL")]
)
def test_a_code_leads_first_to_those_that_begin_like_it(code, said):
    assert f"did you mean {said}" in refused(code)


@pytest.mark.parametrize("name", ["Frankreich", "Bavaria", "Atlantis"])
def test_a_word_that_is_like_no_other_has_no_suggestion(name):
    assert "did you mean" not in refused(name)


def test_every_name_in_a_countrys_own_language_leads_to_a_zone():
    for zone in zones.NATIVE_NAMES.values():
        assert zones.find_factor(zone).zone == zone


@pytest.mark.parametrize(
    ("zone", "wanted", "is_covered"),
    [
        ("DE", "de", True),
        ("DE", "DEU", True),
        ("GB", "UK", True),
        ("GB", "aws:eu-west-2", True),
        ("aws:eu-west-2", "AWS:eu-west-2", True),
        ("US-CAL-CISO", "aws:us-west-1", True),
        ("US", "US-CAL-CISO", True),
        ("DK1", "DK-DK1", True),
        ("CAISO_NORTH", "US-CAL-CISO", True),
        ("FR", "aws:eu-west-2", False),
        ("FR", "DE", False),
        ("US-NY-NYIS", "aws:us-west-1", False),
        ("US-NY-NYIS", "US-CAL-CISO", False),
        ("US-CAL-CISO", "US", False),
        ("aws:eu-west-1", "aws:eu-west-2", False),
        ("GB", "our-data-center", True),
    ],
)
def test_a_zone_covers_itself_its_cloud_regions_and_as_a_country_all_of_its_places(
    zone, wanted, is_covered
):
    assert zones.covers(zone, wanted) is is_covered
