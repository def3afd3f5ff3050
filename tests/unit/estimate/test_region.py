"""Regions by code and by name, and greener ones."""

from fractions import Fraction

import pytest

from exporter.errors import ConfigError
from exporter.estimate.region import custom_region, find_region, world_average


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("gcp:us-central1", "gcp:us-central1"),
        ("GCP us-central1", "gcp:us-central1"),
        ("google/us-central1", "gcp:us-central1"),
        ("us-central1", "gcp:us-central1"),
        ("US-EAST-1", "aws:us-east-1"),
        ("amazon:eu-west-1", "aws:eu-west-1"),
        ("azure Paris", "azure:francecentral"),
        ("Germany", "DE"),
        ("deu", "DE"),
        ("Quebec", "CA-QC"),
        ("US-CA", "US-CA"),
        ("world", "WORLD"),
    ],
)
def test_a_place_is_found_by_its_code_or_its_name(text, code):
    assert find_region(text).region.code == code


def test_a_misspelt_place_is_taken_and_named():
    chosen = find_region("Frankfrut")
    assert chosen.region.name == "Frankfurt"
    assert {other.code for other in chosen.others} < {
        "aws:eu-central-1",
        "azure:germanywestcentral",
        "gcp:europe-west3",
    }


def test_the_intensity_is_the_decimal_number_of_the_table():
    assert find_region("aws:us-east-1").region.grams_per_kwh == Fraction("441.9")


@pytest.mark.parametrize("text", ["Georgia", "California", "gcp"])
def test_two_intensities_of_one_name_are_not_guessed_between(text):
    with pytest.raises(ConfigError, match=r"could be .*; name one of them"):
        find_region(text)


def test_a_name_of_several_places_has_an_error_with_their_codes():
    with pytest.raises(ConfigError, match=r"by its code, such as --region US-CA$"):
        find_region("california")


@pytest.mark.parametrize("text", ["gcp:nowhere", "", "  ", "Nothing at all", "x" * 10_000])
def test_a_place_that_is_not_there_is_rejected(text):
    with pytest.raises(ConfigError, match="no bundled table has the region") as error:
        find_region(text)
    assert len(str(error.value)) < 700


def test_a_place_without_a_value_asks_for_one():
    with pytest.raises(ConfigError, match=r"AD is known, but .* give --intensity"):
        find_region("AD")


def test_greener_regions_are_of_the_same_provider_and_in_order():
    chosen = find_region("gcp:us-central1")
    values = [region.grams_per_kwh for region in chosen.greener]
    assert {region.provider for region in chosen.greener} == {"gcp"}
    assert values == sorted(values)
    assert max(values) < chosen.region.grams_per_kwh


def test_a_greener_region_of_the_same_country_is_among_them():
    chosen = find_region("aws:us-east-1")
    assert "USA" in {region.country for region in chosen.greener}
    assert not any("gov" in region.code for region in chosen.greener)


def test_no_region_is_greener_than_the_greenest_or_than_a_country():
    assert find_region("aws:ca-central-1").greener == ()
    assert find_region("DE").greener == ()


def test_a_number_that_is_given_is_of_no_table():
    chosen = custom_region(Fraction(42), "my cellar")
    assert (chosen.region.grams_per_kwh, chosen.region.label) == (42, "my cellar")
    assert chosen.region.source == "as specified"


def test_without_a_place_it_is_the_world():
    assert world_average().region.grams_per_kwh == Fraction("473.01")


@pytest.mark.parametrize("text", ["UK", "uk", "United Kingdom"])
def test_uk_is_great_britain(text):
    assert find_region(text).region.code == "GB"


def test_an_intensity_in_kilograms_is_rejected_with_the_one_in_grams():
    with pytest.raises(ConfigError, match=r"--intensity: 0.473 g/kWh is less .* write 473,"):
        custom_region(Fraction("0.473"), "DE")
    assert custom_region(Fraction(0), "").region.grams_per_kwh == 0
    assert custom_region(Fraction(1), "").region.grams_per_kwh == 1
