"""Human-readable numbers."""

import pytest

from exporter import formatting


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1e-7, "<0.000001"),
        (0.0000012345, "0.000001"),
        (0.0001, "0.0001"),
        (0.0009999, "0.001"),
        (0.00099951, "0.001"),
        (0.0123, "0.0123"),
        (0.09996, "0.100"),
        (0.1234, "0.123"),
        (0.99951, "1.00"),
        (1.234, "1.23"),
        (9.996, "10.0"),
        (12.34, "12.3"),
        (99.96, "100"),
        (1234567.8, "1\u202f234\u202f568"),
    ],
)
def test_numbers_have_three_digits(value, text):
    assert formatting.number(value) == text


@pytest.mark.parametrize(
    ("energy_uj", "text"),
    [
        (0, "0 Wh"),
        (3_600_000_000, "1.00 Wh"),
        (3_599_999_999_999, "1.00 kWh"),
        (3_596_000_000_000, "999 Wh"),
    ],
)
def test_energy_is_in_watt_hours(energy_uj, text):
    assert formatting.energy(energy_uj) == text


@pytest.mark.parametrize(
    ("carbon_ng", "text"),
    [(0, "0 g"), (42_100_000, "42.1 mg"), (12_300_000_000, "12.3 g"), (999_600_000_000, "1.00 kg")],
)
def test_emissions_are_in_grams_and_neighbouring_units(carbon_ng, text):
    assert formatting.carbon(carbon_ng) == text


@pytest.mark.parametrize(
    ("energies_uj", "texts"),
    [
        ([], []),
        ([0, 0], ["0 Wh", "0 Wh"]),
        ([3_600_000_000, 3_600_000], ["1.00 Wh", "0.001 Wh"]),
        ([2 * 10**12, 5_530_000_000_000, 0], ["0.556 kWh", "1.54 kWh", "0 kWh"]),
        ([1, 10**18], ["<0.000001 kWh", "277\u202f778 kWh"]),
    ],
)
def test_energies_of_a_column_are_in_the_unit_of_the_largest(energies_uj, texts):
    scale = formatting.energy_scale(energies_uj)
    assert [scale.text(each) for each in energies_uj] == texts


@pytest.mark.parametrize(
    ("carbons_ng", "texts"),
    [
        ([0], ["0 g"]),
        ([42_100_000, 0, 900], ["42.1 mg", "0 mg", "0.0009 mg"]),
        ([2_170_000_000, 87_900_000], ["2.17 g", "0.0879 g"]),
        ([1_200_000_000_000, 400_000_000_000], ["1.20 kg", "0.400 kg"]),
        ([28_000_000_000, 660_000], ["28.0 g", "0.00066 g"]),
    ],
)
def test_emissions_of_a_column_are_in_the_unit_of_the_largest(carbons_ng, texts):
    scale = formatting.carbon_scale(carbons_ng)
    assert [scale.text(each) for each in carbons_ng] == texts


def test_an_unknown_power_is_a_dash():
    assert formatting.watts(None) == "\u2013"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.93, "0.93"), (3e-5, "3e-05"), (-0.0003, "-0.0003"), (-0.0, "0"), (1e300, "1e+300")],
)
def test_logged_values_keep_six_digits(value, text):
    assert formatting.result_value(value) == text


def test_large_logged_values_are_grouped():
    assert formatting.result_value(123_456_789.1) == formatting.number(123_456_789)


@pytest.mark.parametrize(
    ("part", "whole", "text"), [(999, 1000, ">99 %"), (1001, 1000, ">100 %"), (1.5, 1, "150 %")]
)
def test_only_the_whole_is_100_percent(part, whole, text):
    assert formatting.percentage(part, whole) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(0, 0, "\u2013"), (0, 5, "0 %"), (1, 1000, "<1 %"), (1, 3, "33 %"), (5, 5, "100 %")],
)
def test_a_share_is_a_percentage(part, whole, text):
    assert formatting.percentage(part, whole) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.25, "0.250 s"),
        (59.9, "1 min 0 s"),
        (61, "1 min 1 s"),
        (1.793, "1.8 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (90.5, "1 min 31 s"),
        (3_599.6, "1 h 0 min"),
        (3_630, "1 h 1 min"),
        (7_199.9, "2 h 0 min"),
        (6 * 3_600 + 16 * 60 + 40, "6 h 17 min"),
        (86_399, "1 d"),
        (30 * 86_400, "30 d"),
        (91_800, "1 d 2 h"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations_have_two_units(seconds, text):
    assert formatting.duration(seconds) == text


def test_timestamps_are_utc():
    assert formatting.timestamp(1_790_000_000) == "2026-09-21 14:13:20"


@pytest.mark.parametrize(
    "hostile", ["\x1b", "\n", "\r", "\x9b", "\u202e", "\u2066", "\u2028", "\0"]
)
def test_control_characters_are_replaced(hostile):
    assert formatting.printable(f"a{hostile}b") == "a\ufffdb"


def test_plain_text_is_unchanged():
    assert formatting.printable("b\xe9rt \u4e2d (1\u202f000 J)") == "b\xe9rt \u4e2d (1\u202f000 J)"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_csv_cells_are_not_formulas(text):
    assert formatting.csv_cell(text) == f"'{text}"


@pytest.mark.parametrize("value", ["bert-2", "", -1.5, None, formatting.UNKNOWN])
def test_other_csv_cells_are_unchanged(value):
    assert formatting.csv_cell(value) == value
