"""What trackers of experiments show of a record."""

import math

import pytest

from exporter.report import figures

RECORD = {
    "energy_uj": 7_200_000_000,
    "carbon_ng": 1_300_000_000,
    "duration_seconds": 36.0,
    "parts": [
        {"device": "gpu", "energy_uj": 3_600_000_000},
        {"device": "gpu", "energy_uj": 1_800_000_000},
        {"device": "cpu", "energy_uj": 1_800_000_000},
    ],
    "intensity": [
        {"zone": "DE", "energy_uj": 1_800_000_000, "grams_per_kwh": 400.0},
        {"zone": "FR", "energy_uj": 3_600_000_000, "grams_per_kwh": 100.0},
        {"zone": None, "energy_uj": 1_800_000_000},
    ],
}


def test_names_carry_units_and_gpus_are_one_sum():
    wanted = {
        "energy_kwh": 0.002,
        "emissions_grams": 1.3,
        "energy_gpu_kwh": 0.0015,
        "energy_cpu_kwh": 0.0005,
        "mean_power_watts": 200.0,
        "intensity_grams_per_kwh": 200.0,
        "duration_seconds": 36.0,
    }
    assert figures.tracked(RECORD) == pytest.approx(wanted)


def test_power_is_there_where_it_is_known():
    assert figures.tracked({**RECORD, "power_watts": 250})["power_watts"] == 250.0
    assert "power_watts" not in figures.tracked({**RECORD, "power_watts": None})


def test_an_intensity_that_is_not_known_is_absent():
    assert "intensity_grams_per_kwh" not in figures.tracked({**RECORD, "intensity": []})


def test_of_what_nobody_measured_there_is_nothing():
    assert figures.tracked({}) == {}


BEGUN = {**RECORD, "ended": None, "energy_uj": 0, "carbon_ng": 0, "parts": [], "intensity": []}


def test_a_run_that_was_not_read_yet_has_no_figures():
    assert figures.tracked(BEGUN) == {}
    assert figures.tracked({**BEGUN, "energy_uj": 1})["energy_kwh"] > 0
    assert figures.tracked({**BEGUN, "ended": 5.0})["energy_kwh"] == 0


def test_names_that_a_program_relies_on_are_nan_before_the_first_reading():
    early = figures.tracked_or_nan(BEGUN)
    assert set(early) == {
        *("energy_kwh", "emissions_grams", "mean_power_watts", "duration_seconds"),
    }
    assert all(math.isnan(value) for value in early.values())
    assert set(early) <= set(figures.tracked(RECORD))
    assert figures.tracked_or_nan(RECORD) == figures.tracked(RECORD)
    assert figures.tracked_or_nan({}) == {}
