"""What trackers of experiments show of a record."""

import math

import pytest

from exporter.report import quantities

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
    assert quantities.tracker_metrics(RECORD) == pytest.approx(wanted)


def test_power_is_there_where_it_is_known():
    assert quantities.tracker_metrics({**RECORD, "power_watts": 250})["power_watts"] == 250.0
    assert "power_watts" not in quantities.tracker_metrics({**RECORD, "power_watts": None})


def test_an_intensity_that_is_not_known_is_absent():
    assert "intensity_grams_per_kwh" not in quantities.tracker_metrics({**RECORD, "intensity": []})


def test_of_what_nobody_measured_there_is_nothing():
    assert quantities.tracker_metrics({}) == {}


BEGUN = {**RECORD, "ended": None, "energy_uj": 0, "carbon_ng": 0, "parts": [], "intensity": []}


def test_a_run_that_was_not_read_yet_has_no_figures():
    assert quantities.tracker_metrics(BEGUN) == {}
    assert quantities.tracker_metrics({**BEGUN, "energy_uj": 1})["energy_kwh"] > 0
    assert quantities.tracker_metrics({**BEGUN, "ended": 5.0})["energy_kwh"] == 0


def test_names_that_a_program_relies_on_are_nan_before_the_first_reading():
    early = quantities.tracked_or_nan(BEGUN)
    assert set(early) == {
        *("energy_kwh", "emissions_grams", "mean_power_watts", "duration_seconds"),
    }
    assert all(math.isnan(value) for value in early.values())
    assert set(early) <= set(quantities.tracker_metrics(RECORD))
    assert quantities.tracked_or_nan(RECORD) == quantities.tracker_metrics(RECORD)
    assert quantities.tracked_or_nan({}) == {}
