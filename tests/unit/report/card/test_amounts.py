"""Amounts of emissions, written and read."""

from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exporter import formatting, units
from exporter.estimate import estimate
from exporter.report.card.amounts import (
    find_amounts,
    find_masses,
    hub_value,
    parse_decimal,
    plain_grams,
)
from exporter.report.forms import latex
from exporter.report.forms.registry import FORMS
from tests.unit.report.forms.making import record as made


@pytest.mark.parametrize(
    ("carbon_ng", "text"),
    [
        (35_000, "0.000035"),
        (1, "0.000000001"),
        (3_516_233_232, "3.51623"),
        (83_524 * 10**9, "83524"),
        (100 * 10**9, "100"),
        (123_456_789_012 * 10**9, "123456789012"),
        (0, "0"),
    ],
)
def test_grams_are_plain_decimals(carbon_ng, text):
    assert plain_grams(carbon_ng) == text


@pytest.mark.parametrize(
    ("text", "grams"),
    [
        ("83.524 kg", [83_524]),
        ("1,234 g", [1_234]),
        ("~ 12 t", [12e6]),
        ("0,5 kgCO2eq", [500]),
        ("41.1 kg of CO<sub>2</sub>eq", [41_100]),
        ("2 lbs CO2", [907.18474]),
        ("120 g/kWh, 0.4 kgCO2eq/kWh, 300 g per kWh", []),
        ("16 GB on 8 T4s, 24 tokens, v2.5", []),
        ("35 mg or 0.035 g", [0.035, 0.035]),
        ("16,714 kgs of CO2eq", [16_714_000]),
        ("18t CO2eq", [18e6]),
        ("71.25 kg CO_2 eq.", [71_250]),
        ("163.92 gCO\u2082e", [163.92]),
        ("0.0010 grammes de CO2 \u00e9quivalent", [0.001]),
        ("12 metric tons of CO2", [12e6]),
        ("0.21 in grams of CO2", [0.21]),
        ("~0.06-0.12 kg CO\u2082", [90]),
        ("83.5 \u00b1 2 kg", [83_500]),
        ("350 g CO2eq/kWh, 57g CO2 per kWh, 5 g of carbon per kWh", []),
        ("2.6 pounds, at 500 lbs CO2e per MWh", [1179.340162]),
        ("80G of memory, 24 T tokens, 12 T CO2e", [12e6]),
        ("1.5 x 10^3 kg, version 2.5.1 g, 1e999 kg", []),
    ],
)
def test_masses_are_found_in_texts_and_rates_are_not(text, grams):
    assert [round(found, 9) for _, found in find_amounts(text)] == grams


SPACES = (
    *(" ", "\u00a0", "\u202f", "\u2009", "\u2007", "'", "\u2019", ",", "_"),
    *("\\,", "{~}", "&nbsp;", "&#8239;", "&thinsp;"),
)


@pytest.mark.parametrize("space", SPACES)
def test_digits_are_grouped_as_people_and_markup_group_them(space):
    assert [grams for _, grams in find_amounts(f"8 GPUs: 16{space}714 kg")] == [16_714_000]
    assert [grams for _, grams in find_amounts(f"1{space}016{space}714 kg")] == [1_016_714_000]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.234.567", 1_234_567),
        ("16.714,5", 16_714.5),
        ("16,714.5", 16_714.5),
        ("1 234,5", 1_234.5),
        ("1 234,567", 1_234.567),
        ("1'234.5", 1_234.5),
        ("0,123", 0.123),
        ("1,23,456", 123_456),
        ("4.2e+05", 420_000),
    ],
)
def test_the_last_mark_is_the_decimal_one(text, value):
    assert parse_decimal(text) == value


@pytest.mark.parametrize(
    ("text", "grams", "is_near"),
    [
        ("16.714 kg", 16_714_000, True),
        ("16.714 kg, at a PUE of 1.5", 16_714_000, False),
        ("16,714 kg", 16_714, False),
        ("16,714 kg, at a PUE of 1,5", 16_714, True),
        ("0.002 kg", 1.6, True),
        ("0.002 kg", 1.2, False),
        ("0.000 kg", 0.31, True),
        ("10 to 20 kg", 15_000, True),
        ("10 to 20 kg", 30_000, False),
        ("<0.001 mg", 4e-7, True),
    ],
)
def test_a_mass_is_as_vague_as_its_spelling(text, grams, is_near):
    assert any(mass.is_near(grams) for mass in find_masses(text)) == is_near


@given(st.integers(1, 10**19))
@example(16_714 * 10**12)
@example(16_714_000 * 10**12)
@example(5)
def test_what_is_printed_for_people_is_read(carbon_ng):
    grams = units.grams(carbon_ng)
    exact = Fraction(carbon_ng, 10**9)
    for text in (
        formatting.carbon(carbon_ng),
        estimate.format_carbon(exact),
        f"{plain_grams(carbon_ng)} g",
    ):
        for printed in (text, latex.escape(text), f"emitted {text} CO2eq, at 120 g/kWh"):
            (mass,) = find_masses(printed)
            assert mass.is_near(grams), printed


@given(st.integers(1, 10**19))
@example(16_714 * 10**12)
def test_every_form_of_a_record_is_read(carbon_ng):
    grams = units.grams(carbon_ng)
    document = made(carbon_ng=carbon_ng, carbon_grams=grams)
    for form in ("text", "markdown", "latex", "html", "model-card"):
        written = FORMS[form].write(document)
        assert any(mass.is_near(grams) for mass in find_masses(written)), form


@pytest.mark.parametrize(
    ("text", "value"), [("1,234", 1234), ("1,5", 1.5), ("1_000", 1000), ("1,234,567.8", 1234567.8)]
)
def test_commas_are_thousands_before_three_digits(text, value):
    assert parse_decimal(text) == value


@pytest.mark.parametrize(
    ("value", "reading"),
    [(3.5, 3.5), ("~ 12 t", 12), ("1,234 g", 1), (2.1e-06, 2.1), (0, None), (None, None)],
)
def test_the_hub_reads_the_first_digits(value, reading):
    assert hub_value(value) == reading
