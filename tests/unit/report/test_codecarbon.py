"""The row of emissions.csv: kilograms, kWh with the PUE inside, watts of the same."""

import csv
import io
import math

import pytest

from exporter.convert.zones import locate_zone
from exporter.model.intensity import Factor
from exporter.model.ledger import Amount, FactorUse
from exporter.model.readings import Device, DeviceKind, Method
from exporter.model.record import RecordPart, RunRecord
from exporter.model.record_document import record_to_json
from exporter.model.workload import SplitMethod
from exporter.report.forms.codecarbon import (
    COLUMNS,
    ConversionOverrides,
    MachineFacts,
    csv_document,
    csv_row,
)
from exporter.report.records import combine_records
from exporter.units import JOULES_PER_KWH
from tests.unit.report.test_text import PARTS, RUN

KWH_UJ = JOULES_PER_KWH * 1_000_000


def made(kwh=30.0, grams_per_kwh=432.0, pue=1.0, zone="FR", seconds=360_000.0, **run):
    energy_uj = round(kwh * KWH_UJ)
    carbon_ng = round(kwh * grams_per_kwh * pue * 1e9)
    factor = Factor(zone, "a table", grams_per_kwh, pue, 0.0, float("inf"), 0.0)
    part = RecordPart(
        Device(DeviceKind.GPU, "GPU-1"),
        Method.COUNTER,
        SplitMethod.EXCLUSIVE,
        Amount(energy_uj, 0, carbon_ng),
    )
    info = RUN._replace(started=1e9, ended=1e9 + seconds, **run)
    uses = (FactorUse(factor, energy_uj, carbon_ng),)
    return record_to_json(RunRecord(info, (part,), uses, at=2e9, node="n1"))


@pytest.mark.parametrize(
    ("watts", "hours", "pue", "grams_per_kwh", "kwh", "kilograms"),
    [
        (300, 100, 1.0, 432.0, 30.0, 12.96),
        (70, 2, 1.0, 16.0, 0.14, 0.00224),
        (1050, 439, 1.51, 120.0, 696.0345, 83.524),
        (2450, 377.8, 1.53, 120.0, 1416.183, 169.942),
        (1050, 123.6, 1.2, 350.0, 155.736, 54.508),
    ],
)
def test_known_runs_are_the_kilograms_and_kwh_that_were_published(
    watts, hours, pue, grams_per_kwh, kwh, kilograms
):
    row = csv_row(made(watts * hours / 1000, grams_per_kwh, pue, seconds=hours * 3600))
    assert row["energy_consumed"] == row["gpu_energy"] == pytest.approx(kwh, rel=1e-6)
    assert row["emissions"] == pytest.approx(kilograms, rel=1e-5)
    assert row["gpu_power"] == pytest.approx(watts * pue)
    assert row["emissions_rate"] == pytest.approx(kilograms / hours / 3600, rel=1e-5)


@pytest.mark.parametrize(
    ("grams_per_kwh", "kilograms"),
    [(56.039, 0.56039), (369.473, 3.69473), (40.695, 0.40695), (475.0, 4.75), (3.937, 0.03937)],
)
def test_ten_kwh_of_a_place_are_its_kilograms(grams_per_kwh, kilograms):
    assert csv_row(made(10.0, grams_per_kwh))["emissions"] == pytest.approx(kilograms)


def test_the_columns_are_todays_in_their_order():
    header, row = csv.reader(io.StringIO(csv_document(made())))
    assert tuple(header) == COLUMNS
    assert len(row) == len(COLUMNS) == 38


def test_energies_of_devices_add_up_to_that_of_the_run():
    row = csv_row(record_to_json(RunRecord(RUN, PARTS, (), at=200.0, node="n1")))
    parts = row["cpu_energy"] + row["gpu_energy"] + row["ram_energy"]
    assert parts == pytest.approx(row["energy_consumed"])
    assert (row["gpu_energy"], row["gpu_count"]) == (0.0, 0)


def test_what_nobody_knows_is_empty_and_not_zero():
    row = csv_row(made())
    assert row["cpu_utilization_percent"] == row["longitude"] == row["cpu_model"] == ""


def test_a_program_says_what_it_knows():
    row = csv_row(made(), MachineFacts("Linux", "3.13.0", 8, "a processor", 15.5))
    assert (row["os"], row["cpu_count"], row["ram_total_size"]) == ("Linux", 8, 15.5)


def test_models_are_those_that_the_record_knows():
    record = made()
    gpus = [{**record["parts"][0], "id": f"GPU-{n}", "model": "H100"} for n in (1, 2)]
    cpu = {**gpus[0], "device": "cpu", "id": "package-0", "model": "EPYC (assumed 3 W per thread)"}
    row = csv_row({**record, "parts": [*gpus, cpu]})
    assert (row["gpu_model"], row["gpu_count"], row["cpu_model"]) == ("2 x H100", 2, "EPYC")
    assert csv_row(record, MachineFacts(cpu_model="Xeon"))["cpu_model"] == "Xeon"


def test_an_open_run_without_time_has_no_infinite_power():
    row = csv_row({**made(), "ended": None, "duration_seconds": 0.0})
    assert (row["gpu_power"], row["emissions_rate"]) == (0.0, 0.0)


def test_another_price_replaces_intensity_and_pue():
    row = csv_row(
        made(10.0, 56.0, 1.2), price=ConversionOverrides(100.0, 1.5, "gcp:europe-west1", 2.0)
    )
    assert row["energy_consumed"] == pytest.approx(15.0)
    assert row["emissions"] == pytest.approx(1.5)
    assert row["water_consumed"] == pytest.approx(30.0)
    assert (row["cloud_provider"], row["cloud_region"]) == ("gcp", "europe-west1")
    assert (row["on_cloud"], row["pue"], row["wue"]) == ("Y", 1.5, 2.0)


def with_unconverted_energy(record):
    """The same record with 1 kWh more, which has no carbon intensity."""
    (part,) = record["parts"]
    return {
        **record,
        "energy_uj": record["energy_uj"] + round(KWH_UJ),
        "parts": [{**part, "energy_uj": part["energy_uj"] + round(KWH_UJ)}],
        "intensity": [*record["intensity"], {"zone": None, "energy_uj": round(KWH_UJ)}],
    }


def test_energy_without_a_carbon_intensity_has_no_pue():
    row = csv_row(with_unconverted_energy(made(4.0, 100.0, 1.5)))
    assert row["energy_consumed"] == row["gpu_energy"] == pytest.approx(7.0)
    assert row["pue"] == pytest.approx(1.4)
    assert row["emissions"] == pytest.approx(0.6)


def test_another_pue_replaces_the_pue_of_the_converted_energy():
    row = csv_row(
        with_unconverted_energy(made(4.0, 100.0, 1.5)), price=ConversionOverrides(pue=2.0)
    )
    assert (row["energy_consumed"], row["pue"]) == (pytest.approx(10.0), 2.0)
    assert row["emissions"] == pytest.approx(0.8)


def test_a_run_without_energy_has_a_pue_of_1():
    assert csv_row(made(0.0))["pue"] == 1.0


def test_another_pue_alone_keeps_the_intensity():
    row = csv_row(made(10.0, 56.0, 1.2), price=ConversionOverrides(pue=1.5))
    assert row["emissions"] == pytest.approx(10 * 1.5 * 0.056)


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        ("FR", ("FRA", "France", "")),
        ("US-CA", ("USA", "United States", "California")),
        ("WORLD", ("", "", "")),
        ("nowhere", ("", "", "")),
    ],
)
def test_a_zone_is_its_country_and_region(zone, expected):
    row = csv_row(made(zone=zone))
    assert (row["country_iso_code"], row["country_name"], row["region"]) == expected


def test_a_cloud_region_is_in_its_country():
    assert locate_zone("aws:eu-west-1")[:2] == ("IRL", "Ireland")


@pytest.mark.parametrize(("scope", "mode"), [("machine", "machine"), ("tree", "process")])
def test_the_scope_is_the_tracking_mode(scope, mode):
    assert csv_row(made(scope=scope))["tracking_mode"] == mode


@pytest.mark.parametrize(
    ("labels", "experiment"),
    [((), "4711"), ((("group", "sweep"),), "sweep"), ((("experiment_id", "e"),), "e")],
)
def test_an_experiment_is_what_the_run_says_or_its_sweep_or_its_job(labels, experiment):
    assert csv_row(made(labels=labels))["experiment_id"] == experiment


def test_several_runs_are_one_row():
    both = combine_records([made(kwh=1.0), made(kwh=2.0)], "both")
    assert csv_row(both)["energy_consumed"] == pytest.approx(3.0)


def test_the_row_of_a_tracker_includes_its_tasks():
    tracker = made(0.86, 400.0)
    sums = {
        name: made(0.14, 400.0)[name]
        for name in ("energy_uj", "held_uj", "carbon_ng", "parts", "intensity")
    }
    inner = {"runs": 2, **sums, "energy_uj": 2 * sums["energy_uj"], "tasks": {"runs": 1, **sums}}
    header, cells = csv.reader(io.StringIO(csv_document({**tracker, "inner": inner})))
    row = dict(zip(header, cells, strict=True))
    assert float(row["energy_consumed"]) == float(row["gpu_energy"]) == pytest.approx(1.0)
    assert float(row["emissions"]) == pytest.approx(0.4)
    assert float(row["duration"]) == tracker["duration_seconds"]


def test_unknown_emissions_are_nan_and_forced_ones_are_known():
    record = made()
    unknown = {**record, "carbon_ng": 0}
    unknown["intensity"] = [{"zone": None, "energy_uj": record["energy_uj"], "carbon_ng": 0}]
    row = csv_row(unknown)
    assert math.isnan(row["emissions"])
    assert math.isnan(row["emissions_rate"])
    assert row["energy_consumed"] == pytest.approx(30.0)
    assert csv_row(unknown, price=ConversionOverrides(100.0))["emissions"] == pytest.approx(3.0)


def test_the_row_of_an_imported_run_has_the_models_of_its_file():
    labels = {"gpu_model": "8 x NVIDIA A100", "cpu_model": "Xeon"}
    row = csv_row({**made(), "origin": "codecarbon", "labels": labels})
    assert (row["gpu_model"], row["gpu_count"]) == ("8 x NVIDIA A100", 8)
    assert row["cpu_model"] == "Xeon"
