"""`estimate`: what is asked for, and each form of the answer."""

import json
import re

import pytest

from exporter.cli.main import main

T4 = ("--hardware=T4", "--hours=2", "--region=gcp:europe-west6")


@pytest.fixture
def estimate(capsys):
    """The text that an estimate prints."""

    def call(*arguments):
        assert main(["estimate", *arguments]) == 0
        return capsys.readouterr().out

    return call


@pytest.fixture
def refused(capsys):
    """The one line in which it ends."""

    def call(*arguments):
        assert main(["estimate", *arguments]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        return line

    return call


def test_the_answer_says_what_was_taken_and_what_it_comes_to(estimate):
    text = estimate("--hardware=A100 SXM4", "--count=8", "--hours=100", "--region=gcp:us-central1")
    assert text.startswith(
        "8 \u00d7 A100 SXM4 80 GB for 100 h in gcp:us-central1 (Council Bluffs, Iowa) are "
        "estimated to use 320 kWh of electricity and to emit 194.752 kg of CO2 equivalent, at "
        "608.6 g/kWh.\n"
    )
    assert "also matches  NVIDIA A100 SXM4 40GB (400 W)" in text
    assert "gcp:us-west1 (The Dalles, Oregon)        67.7  21.664 kg  88.9 %" in text
    assert "398 g per mile" in text


@pytest.mark.parametrize(("form", "has_advice"), [("text", True), ("markdown", False)])
def test_only_the_text_advises_flags(estimate, form, has_advice):
    text = estimate(*T4, f"--format={form}")
    assert ("set --pue" in text) == ("set --utilization" in text) == has_advice


@pytest.mark.parametrize("form", ["latex", "html"])
def test_a_document_for_a_paper_advises_no_flags(estimate, form):
    text = estimate(*T4, f"--format={form}")
    assert "the power limit" in text
    assert "utilization" not in text


def test_small_emissions_are_not_rounded_away(estimate):
    made = json.loads(estimate(*T4[:2], "--intensity=16", "--format=json"))
    assert (made["energy_kwh"], made["carbon_grams"]) == (0.14, 2.24)


def test_json_has_what_was_asked_and_what_it_was_taken_for(estimate):
    made = json.loads(estimate(*T4, "--pue=1.1", "--utilization=.5", "--format=json"))
    assert made["hardware"]["watts"] == 70
    assert made["region"]["code"] == "gcp:europe-west6"
    assert made["power_watts"] == 35
    assert made["facility_kwh"] == 0.077
    assert made["carbon_grams"] == 0.077 * 36.6
    assert made["greener"][0]["code"] == "gcp:northamerica-northeast1"
    assert "2020" in made["equivalents"]["car_km"]["source"]


@pytest.mark.parametrize(
    ("form", "begins"),
    [
        ("markdown", "## Estimate of energy and emissions\n"),
        ("latex", "% Include with"),
        ("html", "<!doctype html>"),
    ],
)
def test_every_form_has_the_result(estimate, form, begins):
    text = estimate(*T4, f"--format={form}")
    assert text.startswith(begins)
    assert "5.124 g" in text


def test_without_a_place_it_is_the_world_and_says_so(estimate):
    assert "world average, since no region is given" in estimate(*T4[:2])


def test_an_intensity_goes_before_that_of_the_place(estimate):
    text = estimate(*T4, "--intensity=100")
    assert "in gcp:europe-west6 are estimated" in text
    assert "100 g/kWh; gcp:europe-west6; as specified" in text
    assert "Greener" not in text


def test_an_ambiguous_name_is_refused_with_what_it_could_be(refused):
    assert "could be A100 SXM4 80 GB (400 W)" in refused("--hardware=A100", "--hours=1")


def test_what_cannot_be_is_refused(refused):
    assert "--pue 0.5: expected 1 or more" in refused(*T4, "--pue=0.5")


def test_a_negative_number_is_refused_as_such(capsys):
    with pytest.raises(SystemExit):
        main(["estimate", "--hardware=T4", "--hours=-1"])
    assert "--hours: expected a number above 0, found '-1'" in capsys.readouterr().err


@pytest.mark.parametrize("hours", ["nan", "1e99999999", "-1", ""])
def test_what_is_no_number_is_refused(hours, capsys):
    with pytest.raises(SystemExit):
        main(["estimate", "--hardware=T4", f"--hours={hours}"])
    assert "expected a number" in capsys.readouterr().err


def test_greener_regions_have_one_unit_and_one_decimal(estimate):
    lines = estimate("--hardware=350 W", "--hours=1", "--region=gcp:us-central1").splitlines()
    head = next(line for line in lines if line.endswith("saved"))
    rows = [re.split(r"  +", line.strip()) for line in lines[lines.index(head) + 1 :]]
    assert {row[2].rpartition(" ")[2] for row in rows} == {"kg"}
    assert all(re.fullmatch(r"\d+\.\d %", row[3]) for row in rows)


def test_a_misspelled_region_is_shown_with_the_region_it_was_taken_as(estimate):
    text = estimate("--hardware=T4", "--hours=1", "--region=Frnce")
    assert "  region        'Frnce' taken as France\n" in text
    assert "taken as" not in estimate("--hardware=T4", "--hours=1", "--region=France")
