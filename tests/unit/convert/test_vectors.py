"""Published figures, from their own inputs, to the last digit that they give.

Each is an energy, a PUE and an intensity, and what the publisher says they come to.
"""

import pytest

from exporter import units

HOUR_NS = 3_600 * units.NANOSECONDS_PER_SECOND
GRAMS_PER_KG = 1_000
GRAMS_PER_TONNE = 1_000_000
GRAMS_PER_POUND = 1_000 * units.GRAMS_PER_KWH_OF_LB_PER_MWH
"""A pound per megawatt hour is its grams in a thousand kilowatt hours."""
ONE_KWH_UJ = units.JOULES_PER_KWH * units.MICROJOULES_PER_JOULE

# Watts of all devices, hours, PUE, g/kWh; kWh with PUE, emissions, and grams in their unit.
POWERS = {
    "calculator, V100 in an own cluster": (300, 100, 1, 432, "30", "12.96", GRAMS_PER_KG),
    "calculator, Google us-central1": (300, 100, 1, 566.3, "30", "16.989", GRAMS_PER_KG),
    "calculator, AWS us-east-1": (400, 100, 1, 367.8, "40", "14.712", GRAMS_PER_KG),
    "calculator, Azure francecentral": (700, 1000, 1, 105, "700", "73.5", GRAMS_PER_KG),
    "calculator, Google europe-west6": (70, 2, 1, 16, "0.14", "0.00224", GRAMS_PER_KG),
    "model card, 3 GPUs": (3 * 350, 439, 1.51, 120, "696.0345", "83.524", GRAMS_PER_KG),
    "model card, 7 GPUs": (7 * 350, 377.8, 1.53, 120, "1416.183", "169.942", GRAMS_PER_KG),
    "model card, PUE 1.2": (3 * 350, 123.6, 1.2, 350, "155.736", "54.508", GRAMS_PER_KG),
    "Strubell, transformer base": (1415.78, 12, 1.58, 954, "26.8", "25.6", GRAMS_PER_POUND),
    "Strubell, transformer big": (1515.43, 84, 1.58, 954, "201.1", "191.9", GRAMS_PER_POUND),
    "Strubell, ELMo": (517.66, 336, 1.58, 954, "274.8", "262.2", GRAMS_PER_POUND),
    "Strubell, NAS": (1515.43, 274_120, 1.58, 954, "656347", "626155", GRAMS_PER_POUND),
    "Patterson, GPT-3": (
        *(10_000 * 330, 14.8 * 24, 1.10, 429),
        *("1289376", "553", GRAMS_PER_TONNE),
    ),
    "Patterson, T5": (512 * 310, 20 * 24, 1.12, 545, "85327.9", "46.5", GRAMS_PER_TONNE),
}
POUNDS = {name for name in POWERS if name.startswith("Strubell")}

# kWh, PUE, g/kWh; kg.
ENERGIES = {
    "Experiment Impact Tracker, California": (1, 1.58, 250.733, "0.39616"),
    "source mix: a quarter coal": (1, 1, 731.59, "0.73159"),
    "CodeCarbon, France": (10, 1, 56.039, "0.56039"),
    "CodeCarbon, United States": (10, 1, 369.473, "3.69473"),
    "CodeCarbon, Canada": (10, 1, 170.043, "1.70043"),
    "CodeCarbon, Norway": (10, 1, 30.08, "0.3008"),
    "CodeCarbon, Sweden": (10, 1, 40.695, "0.40695"),
    "CodeCarbon, unknown country": (10, 1, 475, "4.75"),
    "CodeCarbon, California 2016": (10, 1, 205.269, "2.05269"),
    "CodeCarbon, California by eGRID": (10, 1, 179.064, "1.79064"),
    "CodeCarbon, Quebec": (10, 1, 3.937, "0.03937"),
    "CodeCarbon, Google europe-west1": (10, 1, 122, "1.22"),
}


def to_digits_of(number: float, text: str) -> str:
    """The number with as many decimals as the text has."""
    return f"{number:.{len(text.partition('.')[2])}f}"


@pytest.mark.parametrize("name", POWERS)
def test_power_over_hours_comes_to_the_published_energy_and_emissions(name):
    watts, hours, pue, grams_per_kwh, kwh, emissions, grams_per_unit = POWERS[name]
    # Pounds per megawatt hour, where the publisher counts in pounds.
    intensity = (
        grams_per_kwh * units.GRAMS_PER_KWH_OF_LB_PER_MWH if name in POUNDS else grams_per_kwh
    )
    energy_uj = units.energy_uj(watts, round(hours * HOUR_NS))
    carbon_ng = units.carbon_ng(energy_uj, intensity, pue)
    assert to_digits_of(units.kwh(energy_uj) * pue, kwh) == kwh
    assert to_digits_of(units.grams(carbon_ng) / grams_per_unit, emissions) == emissions


@pytest.mark.parametrize("name", ENERGIES)
def test_energy_comes_to_the_published_emissions(name):
    kwh, pue, grams_per_kwh, kilograms = ENERGIES[name]
    carbon_ng = units.carbon_ng(kwh * ONE_KWH_UJ, grams_per_kwh, pue)
    assert to_digits_of(units.grams(carbon_ng) / GRAMS_PER_KG, kilograms) == kilograms


def test_a_mix_of_a_region_has_the_published_intensity():
    """CodeCarbon's regional mix: half coal, a quarter each of oil and gas, with its factors."""
    mix = {995.725971: 50, 816.6885263: 25, 743.8415916: 25}
    parts_ng = [
        units.carbon_ng(ONE_KWH_UJ * percent // 100, factor, 1.0) for factor, percent in mix.items()
    ]
    assert sum(parts_ng) == 887_995_514_975


def test_a_mix_of_sources_has_the_mean_intensity_of_its_parts():
    """CodeCarbon's example: coal, oil, gas and nuclear, with its factors."""
    mix = {995: 25, 816: 35, 743: 26, 29: 14}
    parts_ng = [
        units.carbon_ng(ONE_KWH_UJ * percent // 100, factor, 1.0) for factor, percent in mix.items()
    ]
    assert units.grams(sum(parts_ng)) == 731.59
