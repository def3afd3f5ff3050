"""Exact parsing and formatting of numbers."""

from fractions import Fraction

import pytest

from exporter.estimate.estimate import format_carbon, format_energy, format_exact, parse_decimal


@pytest.mark.parametrize(
    "text", ["", "-1", "nan", "inf", "1e9", "1/3", "1_0", "0x1", "1" * 13, "1,5"]
)
def test_what_is_no_plain_decimal_number_is_rejected(text):
    with pytest.raises(ValueError, match="expected a number"):
        parse_decimal(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("0", "0"),
        ("400", "400"),
        ("12.96", "12.96"),
        ("696.0345", "696.034"),
        ("123456", "123\u202f456"),
        ("0.0000854", "0.0000854"),
    ],
)
def test_six_digits_are_shown_without_an_exponent(value, text):
    assert format_exact(Fraction(value)) == text


def test_amounts_have_the_unit_that_fits():
    assert format_energy(Fraction("0.099")) == "99 Wh"
    assert format_energy(Fraction("0.1")) == "0.1 kWh"
    assert format_carbon(Fraction("99.9")) == "99.9 g"
    assert format_carbon(Fraction(16989)) == "16.989 kg"


def test_amounts_beside_a_larger_one_have_its_unit():
    assert format_energy(Fraction("0.099"), Fraction("0.11")) == "0.099 kWh"
    assert format_carbon(Fraction(50), Fraction(16989)) == "0.05 kg"
    assert format_carbon(Fraction("0.5"), Fraction("99.9")) == "0.5 g"
