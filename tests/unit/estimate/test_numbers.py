"""Exact numbers in and out."""

from fractions import Fraction

import pytest

from exporter.estimate.numbers import carbon, energy, number, spelled


@pytest.mark.parametrize(
    "text", ["", "-1", "nan", "inf", "1e9", "1/3", "1_0", "0x1", "1" * 13, "1,5"]
)
def test_what_is_no_plain_decimal_number_is_refused(text):
    with pytest.raises(ValueError, match="expected a number"):
        number(text)


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
    assert spelled(Fraction(value)) == text


def test_amounts_have_the_unit_that_fits():
    assert energy(Fraction("0.099")) == "99 Wh"
    assert energy(Fraction("0.1")) == "0.1 kWh"
    assert carbon(Fraction("99.9")) == "99.9 g"
    assert carbon(Fraction(16989)) == "16.989 kg"


def test_amounts_beside_a_larger_one_have_its_unit():
    assert energy(Fraction("0.099"), Fraction("0.11")) == "0.099 kWh"
    assert carbon(Fraction(50), Fraction(16989)) == "0.05 kg"
    assert carbon(Fraction("0.5"), Fraction("99.9")) == "0.5 g"
