"""Calculation of estimates, against published numbers with their own factors."""

from fractions import Fraction

import pytest

from exporter.errors import ConfigError
from exporter.estimate import hardware, region
from exporter.estimate.document import EQUIVALENTS
from exporter.estimate.estimate import Estimate, EstimateRequest, validate

LB_PER_KWH = "453.59237"


def estimate(watts, hours, grams_per_kwh, devices=1, pue="1", utilization="1"):
    asked = EstimateRequest(devices, Fraction(hours), Fraction(pue), Fraction(utilization))
    validate(asked)
    place = region.custom_region(Fraction(grams_per_kwh), "")
    return Estimate(asked, hardware.find_hardware(f"{watts} W"), place)


@pytest.mark.parametrize(
    ("watts", "hours", "grams_per_kwh", "more", "kwh", "grams"),
    [
        pytest.param(300, "100", "432", {}, "30", "12960", id="Lacoste, private"),
        pytest.param(300, "100", "566.3", {}, "30", "16989", id="V100 in Iowa"),
        pytest.param(400, "100", "367.8", {}, "40", "14712", id="A100 in Virginia"),
        pytest.param(700, "1000", "105", {}, "700", "73500", id="H100 in France"),
        pytest.param(70, "2", "16", {}, "0.14", "2.24", id="T4 in Zurich"),
        pytest.param(
            350, "439", "120", {"devices": 3, "pue": "1.51"}, "696.0345", "83524.14", id="card 1"
        ),
        pytest.param(
            350, "377.8", "120", {"devices": 7, "pue": "1.53"}, "1416.1833", "169941.996", id="2"
        ),
        pytest.param(
            350, "123.6", "350", {"devices": 3, "pue": "1.2"}, "155.736", "54507.6", id="card 3"
        ),
    ],
)
def test_published_estimates_come_out_to_the_last_digit(
    watts, hours, grams_per_kwh, more, kwh, grams
):
    made = estimate(watts, hours, grams_per_kwh, **more)
    assert (made.facility_kwh, made.carbon_grams) == (Fraction(kwh), Fraction(grams))


@pytest.mark.parametrize(
    ("watts", "hours", "kwh", "pounds"),
    [
        ("1415.78", 12, 26.8, 25.6),
        ("1515.43", 84, 201.1, 191.9),
        ("517.66", 336, 274.8, 262.2),
        ("1515.43", 274_120, 656_347, 626_155),
    ],
)
def test_strubell_2019_comes_out_with_its_own_factors(watts, hours, kwh, pounds):
    grams_per_kwh = Fraction("0.954") * Fraction(LB_PER_KWH)
    made = estimate(watts, hours, grams_per_kwh, pue="1.58")
    assert float(made.facility_kwh) == pytest.approx(kwh, rel=2e-3)
    assert float(made.carbon_grams / Fraction(LB_PER_KWH)) == pytest.approx(pounds, rel=2e-3)


@pytest.mark.parametrize(
    ("watts", "days", "processors", "pue", "grams_per_kwh", "mwh", "tonnes"),
    [(330, "14.8", 10_000, "1.10", "429", 1289, 553), (310, "20", 512, "1.12", "545", 85.3, 46.5)],
)
def test_patterson_2021_comes_out_with_its_own_factors(
    watts, days, processors, pue, grams_per_kwh, mwh, tonnes
):
    made = estimate(watts, Fraction(days) * 24, grams_per_kwh, processors, pue)
    assert float(made.facility_kwh / 1_000) == pytest.approx(mwh, rel=1e-3)
    assert float(made.carbon_grams / 10**6) == pytest.approx(tonnes, rel=1e-3)


def test_utilization_scales_the_power_limit():
    made = estimate(400, "10", "100", devices=2, utilization="0.25")
    assert (made.watts, made.energy_kwh) == (200, 2)


def test_equivalents_are_those_of_the_calculator():
    amounts = {each.key: float(12_960 / each.grams) for each in EQUIVALENTS}
    assert amounts["car_km"] == pytest.approx(52.4, abs=0.05)
    assert amounts["coal_kg"] == pytest.approx(6.50, abs=0.005)
    assert amounts["tree_seedlings"] == 0.216


def test_every_equivalent_cites_a_year():
    assert all("2020" in each.source for each in EQUIVALENTS)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (EstimateRequest(0, Fraction(1)), "--count"),
        (EstimateRequest(10**10, Fraction(1)), "--count"),
        (EstimateRequest(1, Fraction(0)), "--hours"),
        (EstimateRequest(1, Fraction(10**10)), "--hours"),
        (EstimateRequest(1, Fraction(1), pue=Fraction("0.9")), "--pue 0.9"),
        (EstimateRequest(1, Fraction(1), utilization=Fraction(0)), "--utilization"),
        (EstimateRequest(1, Fraction(1), utilization=Fraction("1.1")), "--utilization 1.1"),
    ],
)
def test_what_cannot_be_is_rejected(asked, said):
    with pytest.raises(ConfigError, match=f"estimate: {said}"):
        validate(asked)
