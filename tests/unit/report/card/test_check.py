"""Mistakes in the emissions of cards, as they are found on the Hub."""

import re

import pytest

from exporter.report.card.check import findings
from exporter.report.card.merge import merged

KG = "## Environmental Impact\nAbout 83.524 kgCO2eq at 0.12 kgCO2eq/kWh.\n"


def card(emissions, body=""):
    return f"---\nlicense: mit\nco2_eq_emissions:{emissions}\n---\n{body}"


def only(text, record=None):
    (found,) = findings(text, record)
    return found


def test_what_we_write_is_free_of_findings(record):
    assert findings(merged("", record).text, record) == []
    assert findings(merged("", record).text) == []


def test_the_short_form_is_understood():
    assert findings(card(" 3.516233232503715")) == []
    assert findings(card(" 83524", KG)) == []


@pytest.mark.parametrize(
    ("emissions", "body", "says"),
    [
        (" 83.524", KG, "83.524 is kilograms written as grams: .* 83524 in grams"),
        (" 0.083524", KG, "tonnes written as grams"),
        (" 83524000", KG, "a thousand times too much"),
        (" 411000", "## Environmental Impact\n41.1 kg of CO2eq\n", "10 times too much.* 41100 in"),
        ("\n  emissions: 41", KG, "only 0.000491 of it"),
    ],
)
def test_a_wrong_unit_is_told_by_the_text(emissions, body, says):
    found = only(card(emissions, body))
    assert found.severity == "error"
    assert found.line == (4 if "\n" in emissions else 3)
    assert re.search(says, found.text)


def test_a_wrong_unit_is_told_by_the_record(record):
    assert (
        "kilograms written as grams: the run emitted 83.5 kg" in only(card(" 83.524"), record).text
    )
    assert findings(card(" 83524"), record) == []


def test_a_wrong_unit_is_suspected_where_nothing_emits_so_little():
    body = "## Environmental Impact\n- **Hours used:** 1,439\n"
    found = only(card("\n  emissions: 8.3\n  hardware_used: 3 x RTX 3090", body))
    assert (found.severity, "perhaps kilograms" in found.text) == ("warning", True)
    many = only(card("\n  emissions: 83524000000", body))
    assert "perhaps a thousand times too much" in many.text


@pytest.mark.parametrize(
    ("value", "grams"),
    [("0.5 kg", "500"), ("'1,234 g'", "1234"), ("~ 12 t", "12000000"), ("2e-6", "2e-06")],
)
def test_a_text_is_an_error_and_says_what_it_is_in_grams(value, grams):
    found = findings(card(f" {value}"))
    assert found[0].severity == "error"
    assert found[0].text.endswith(f"in grams it is {grams}")


@pytest.mark.parametrize(
    ("emissions", "line", "severity", "says"),
    [
        ("\n  source: x", 3, "error", "has no emissions"),
        ("\n  emissions: .nan", 4, "error", "no amount"),
        (" -3", 3, "error", "no amount"),
        (f" {'9' * 400}", 3, "error", "no amount"),
        (" yes", 3, "error", "no amount"),
        (" some", 3, "error", "no amount"),
        ("", 3, "error", "has no emissions"),
        (" 0", 3, "warning", "taken for missing"),
        (" 0.000035", 3, "warning", "reads 3.5 for 3.5e-05"),
        ("\n  emissions: 1\n  emission: 2", 5, "warning", "emission is none of emissions, source"),
        ("\n  emissions: 1\n  training_type: tune", 5, "warning", "'tune' is not pre-training or"),
    ],
)
def test_what_the_hub_misreads_is_found_with_its_line(emissions, line, severity, says):
    found = only(card(emissions))
    assert (found.line, found.severity, says in found.text) == (line, severity, True)


def test_malformed_metadata_and_none_at_all_are_findings():
    assert only("---\na: [\n---\n").severity == "error"
    assert only("---\na: &a [*a]\n---\n").severity == "error"
    assert only("# Model\n").text.startswith("no co2_eq_emissions")
