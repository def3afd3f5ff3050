"""Mistakes in the emissions of cards, as they are found on the Hub."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.report.card.check import check_card
from exporter.report.card.facts import StatedFacts
from exporter.report.card.merge import merge_card

KG = "## Environmental Impact\nAbout 83.524 kgCO2eq at 0.12 kgCO2eq/kWh.\n"


def card(emissions, body=""):
    return f"---\nlicense: mit\nco2_eq_emissions:{emissions}\n---\n{body}"


def only(text, record=None):
    (found,) = check_card(text, record)
    return found


def test_what_we_write_is_free_of_findings(record):
    assert check_card(merge_card("", record).text, record) == []
    assert check_card(merge_card("", record).text) == []


def test_the_short_form_is_understood():
    assert check_card(card(" 3.516233232503715")) == []
    assert check_card(card(" 83524", KG)) == []


@pytest.mark.parametrize(
    ("emissions", "body", "says"),
    [
        (" 83.524", KG, "83.524 is kilograms written as grams: .* 83524 in grams"),
        (" 0.083524", KG, "tonnes written as grams"),
        (" 83524000", KG, "too large by a factor of 1000"),
        (
            " 411000",
            "## Environmental Impact\n41.1 kg of CO2eq\n",
            "too large by a factor of 10.* 41100 in",
        ),
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
    assert check_card(card(" 83524"), record) == []


def test_a_wrong_unit_is_suspected_where_nothing_emits_so_little():
    body = "## Environmental Impact\n- **Hours used:** 1,439\n"
    found = only(card("\n  emissions: 8.3\n  hardware_used: 3 x RTX 3090", body))
    assert (found.severity, "possibly kilograms" in found.text) == ("warning", True)
    many = only(card("\n  emissions: 83524000000", body))
    assert "possibly too large by a factor of 1000" in many.text


@pytest.mark.parametrize(
    ("value", "grams"),
    [("0.5 kg", "500"), ("'1,234 g'", "1234"), ("~ 12 t", "12000000"), ("2e-6", "2e-06")],
)
def test_a_text_is_an_error_and_says_what_it_is_in_grams(value, grams):
    found = check_card(card(f" {value}"))
    assert found[0].severity == "error"
    assert found[0].text.endswith(f"write {grams} (grams)")


@pytest.mark.parametrize(
    ("emissions", "line", "severity", "says"),
    [
        ("\n  source: x", 3, "error", "has no emissions"),
        ("\n  emissions: .nan", 4, "error", "is not an amount"),
        (" -3", 3, "error", "is not an amount"),
        (f" {'9' * 400}", 3, "error", "is not an amount"),
        (" yes", 3, "error", "is not an amount"),
        (" some", 3, "error", "is not an amount"),
        ("", 3, "error", "has no emissions"),
        (" 0", 3, "warning", "treats 0 as missing"),
        (
            " 0.000035",
            3,
            "warning",
            "reads 3.5 in '3.5e-05'; it misreads every amount below 0.0001, however",
        ),
        (
            "\n  emissions: 1\n  emission: 2",
            5,
            "warning",
            "emission is unknown; did you mean emissions?",
        ),
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


@pytest.mark.parametrize(
    ("emissions", "hardware", "hours", "says"),
    [
        (700, "GeForce RTX 2080 Ti", "10", ""),
        (700_000, "GeForce RTX 2080 Ti", "10", "7e+04 g per GPU hour; possibly too large"),
        (700, "A100 80GB", "10", ""),
        (0.7, "A100 80GB", "10", "0.07 g per GPU hour; possibly kilograms"),
        (16, "8 x A100", "10", "0.2 g per GPU hour; possibly kilograms"),
        (1e6, "A100 GPUs", "10", ""),
        (1e6, "1 A100", "500 GPU-hours", ""),
        (1, "2 \u00d7 AMD EPYC 7763 64-Core Processor", "10", ""),
    ],
)
def test_what_is_possible_depends_on_hardware_and_hours(emissions, hardware, hours, says):
    head = f"\n  emissions: {emissions}\n  hardware_used: {hardware}"
    found = check_card(card(head, f"## Environmental Impact\n\n- **Hours used:** {hours}\n"))
    assert [each.severity for each in found] == ["warning"] * bool(says)
    assert all(says in each.text for each in found)


@pytest.mark.parametrize("text", ["16 714 kg", "16\u00a0714\u202fkg", "16.714 kg", "16'714 kgs"])
def test_grouped_digits_are_one_number(text):
    body = f"## Environmental Impact\n\n- **Carbon Emitted:** {text}\n"
    assert check_card(card(" 16714000", body)) == []


TRACKED = """
  emissions: {}
  energy_consumed: 0.00031
  source: codecarbon
  training_type: fine-tuning
  on_cloud: false
  cpu_model: Intel(R) Core(TM) i5-5350U CPU @ 1.80GHz
  ram_total_size: 8.0
  hours_used: {}"""


@pytest.mark.parametrize(("grams", "kg"), [(0.31, "0.000"), (1.6, "0.002"), (196.708, "0.197")])
def test_the_card_of_sentence_transformers_is_right(grams, kg):
    body = f"### Environmental Impact\n- **Carbon Emitted**: {kg} kg of CO2\n\n### Training\n"
    assert check_card(card(TRACKED.format(grams, 0.024), body)) == []


def test_hours_in_the_metadata_are_taken_where_the_text_has_none():
    head = TRACKED.format(0.03, 3.163) + "\n  hardware_used: 1 x NVIDIA GeForce RTX 3090"
    assert "possibly kilograms" in only(card(head)).text


def test_the_sum_of_phases_is_right():
    body = "## Environmental Impact\n- 16,714 kgs of CO2eq\n- 5,160 kg\n- 1,032 kg\n"
    assert check_card(card(" 22906000", body)) == []


def test_emissions_are_found_outside_the_section_where_there_is_none():
    body = "## Details\n\n- **Training time**: ~ 36 hours\n- **Emissions:** 5.6 KgCO2 (Germany)\n"
    assert "kilograms written as grams: the text says 5.6 Kg" in only(card(" 5.6", body)).text
    assert check_card(card(" 5600", body)) == []
    assert check_card(card(" 5.6", body + "## Environmental Impact\n")) == []


def test_a_list_is_named():
    found = only(card("\n- emissions: 1.2g CO2\n- source: CodeCarbon"))
    assert (found.line, found.severity) == (3, "error")
    assert "co2_eq_emissions is a list" in found.text


def test_a_misspelt_key_is_named_beside_an_amount_that_is_none():
    found = check_card(card("\n  emissions: TBD\n  geographic_location: Denmark"))
    assert [each.severity for each in found] == ["error", "warning"]


def test_a_text_with_its_unit_in_words_is_read():
    assert only(card(" 0.21 in grams of CO2")).text.endswith("write 0.21 (grams)")


@given(st.text(), st.text(alphabet="0123456789.,e+-x kgtG\u202f'<>~/CO2per"))
def test_any_text_is_checked_without_an_error(value, stated):
    body = f"## Environmental Impact\n- **Hours used:** {stated}\n{stated}\n"
    check_card(card(f" {value}", body))
    check_card(card(" 5", body))
    check_card(card(f" '{stated}'".replace("''", ""), body))


@pytest.mark.parametrize(
    "item",
    ["- Carbon emission {}", "- Carbon emissions: {}", "CO2 Emissions {}", "* CO2eq emitted: {}"],
)
def test_an_item_without_a_bold_name_is_compared_too(item):
    """As on d4data/environmental-due-diligence-model."""
    text = card(" 0.1069", f"# Bert\n\n{item.format('0.1069 Kg')}\n")
    assert "kilograms written as grams: the text says 0.1069 Kg" in only(text).text
    assert check_card(card(" 106.9", f"# Bert\n\n{item.format('0.1069 Kg')}\n")) == []


def test_a_section_that_contradicts_the_record_is_an_error_though_the_metadata_agree(record):
    text = merge_card("", record).text.replace("83524 g CO2eq (83.5 kg)", "111 kg CO2eq")
    found = only(text, record)
    assert found.severity == "error"
    assert found.text == "the text says 111 kg: the run emitted 83.5 kg"
    assert "111 kg" in text.splitlines()[found.line - 1]


@pytest.mark.parametrize("hours", ["5000", "0.01", "1 day"])
def test_hours_that_are_not_those_of_the_record_are_a_warning(record, hours):
    text = re.sub(r"(Hours used:\*\* ).*", rf"\g<1>{hours}", merge_card("", record).text)
    found = only(text, record)
    assert found.severity == "warning"
    assert "hours: the run took " in found.text
    assert "Hours used" in text.splitlines()[found.line - 1]


def located(record, location, zone, **more):
    use = {**record["intensity"][0], "zone": zone}
    text = merge_card("", {**record, "intensity": [use]}, StatedFacts(location=location)).text
    return check_card(text, {**record, "intensity": [use]} if more.get("with_record") else None)


@pytest.mark.parametrize("with_record", [False, True])
@pytest.mark.parametrize(
    ("location", "zone", "says"),
    [
        ("Quebec, Canada", "WORLD", "'Quebec, Canada', but the emissions are based on the world"),
        ("Brooklyn", "WORLD", "based on the world average: set convert.zone"),
        ("Quebec, Canada", "DE", "'Quebec, Canada', but the emissions are based on DE"),
        ("Paris, France", "US-CAL-CISO", "but the emissions are based on US-CAL-CISO"),
    ],
)
def test_a_place_that_is_not_that_of_the_grid_is_a_warning(
    record, location, zone, says, with_record
):
    (found,) = located(record, location, zone, with_record=with_record)
    assert (found.severity, found.text[:21]) == ("warning", "geographical_location")
    assert says in found.text


@pytest.mark.parametrize(
    ("location", "zone"),
    [
        ("Frankfurt, Germany", "DE"),
        ("Quebec, Canada", "CA-QC"),
        ("Atlanta, Georgia", "US-GA"),
        ("Brooklyn", "DE"),
        ("Council Bluffs, Iowa", "gcp:us-central1"),
        ("somewhere in France", "a zone of one's own"),
        ("", "WORLD"),
        ("", "DE"),
    ],
)
def test_a_place_that_may_be_that_of_the_grid_is_no_warning(record, location, zone):
    assert located(record, location, zone) == []
    assert located(record, location, zone, with_record=True) == []


def test_the_metadata_and_the_section_that_differ_in_hardware_are_a_warning(record):
    text = merge_card("", record, StatedFacts(hardware="8 V100 GPUs")).text
    assert check_card(text) == []
    (found,) = check_card(text.replace('hardware_used: "8 V100 GPUs"', 'hardware_used: "1 A100"'))
    assert found.text == "hardware_used: '1 A100', but the section says '8 V100 GPUs'"


def test_a_section_of_somebody_else_is_not_compared(record):
    body = "## Environmental Impact\n\n- **Hardware Type:** 3 A100\n- **Carbon Emitted:** 5 g\n"
    assert check_card(card("\n  emissions: 5\n  hardware_used: three A100\n", body)) == []


def test_the_text_of_the_card_is_in_the_warning_about_the_filter():
    assert only(card(" 3 kg")).text == (
        "emissions: '3 kg' is a text, in which the Hub's filter reads 3; write 3000 (grams)"
    )


def test_a_text_with_a_wrong_amount_advises_only_the_right_amount(record):
    found = check_card(card(" 0.5 kg"), {**record, "carbon_ng": 40_512_345_678})
    assert [finding.text for finding in found] == [
        "emissions: '0.5 kg' is a text, in which the Hub's filter reads 0.5",
        "emissions: 500 is too large by a factor of 12.3: the run emitted 40.5 g, 40.5 in grams",
    ]
