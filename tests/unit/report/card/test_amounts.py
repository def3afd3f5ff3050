"""Amounts of emissions, written and read."""

import pytest

from exporter.report.card.amounts import amounts, hub_reading, number, plain


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
    assert plain(carbon_ng) == text


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
    ],
)
def test_masses_are_found_in_texts_and_rates_are_not(text, grams):
    assert [round(found, 9) for _, found in amounts(text)] == grams


@pytest.mark.parametrize(
    ("text", "value"), [("1,234", 1234), ("1,5", 1.5), ("1_000", 1000), ("1,234,567.8", 1234567.8)]
)
def test_commas_are_thousands_before_three_digits(text, value):
    assert number(text) == value


@pytest.mark.parametrize(
    ("value", "reading"),
    [(3.5, 3.5), ("~ 12 t", 12), ("1,234 g", 1), (2.1e-06, 2.1), (0, None), (None, None)],
)
def test_the_hub_reads_the_first_digits(value, reading):
    assert hub_reading(value) == reading
