"""CodeCarbon's trackers: its arguments, its files, its kilograms."""

import asyncio
import csv
import dataclasses
import datetime as dt
import inspect
import io
import json
import logging
import math
import os
import pickle
import threading
import types

import pytest

import exporter.integrations.codecarbon as ours
from exporter.client import track
from exporter.convert import zones
from exporter.integrations.codecarbon import (
    EmissionsTracker,
    OfflineEmissionsTracker,
    TaskEmissionsTracker,
    track_emissions,
    track_task_emissions,
)
from exporter.integrations.codecarbon.data import TASK_COLUMNS
from exporter.integrations.codecarbon.output import (
    BaseOutput,
    FileOutput,
    GoogleCloudLoggerOutput,
    LoggerOutput,
)
from exporter.integrations.codecarbon.settings import ARGUMENTS, OF_DECORATOR, read_tracker_settings
from exporter.model.readings import Device, DeviceKind
from exporter.report.forms.codecarbon import COLUMNS, ConversionOverrides, csv_document
from exporter.report.inner import with_inner, with_other_tasks
from exporter.units import JOULES_PER_KWH


@pytest.fixture(autouse=True)
def _nothing_was_said(monkeypatch, tmp_path):
    monkeypatch.setattr(EmissionsTracker, "_warned", set())
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def rows(path="emissions.csv"):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def settings(*given, environment=None, **named):
    return read_tracker_settings(ARGUMENTS, given, named, environment or {})


def test_stop_gives_kilograms_and_writes_a_row(seconds):
    tracker = EmissionsTracker("bert")
    tracker.start()
    seconds.pass_seconds(5)
    assert tracker.stop() == tracker.final_emissions == pytest.approx(0.5)
    (row,) = rows()
    assert tuple(row) == COLUMNS
    assert (row["project_name"], row["tracking_mode"]) == ("bert", "machine")
    assert float(row["emissions"]) == pytest.approx(0.5)
    assert float(row["energy_consumed"]) == pytest.approx(5.0)
    data = tracker.final_emissions_data
    assert (data.emissions, data.country_iso_code) == (pytest.approx(0.5), "DEU")
    assert (data.region, data.longitude, data.cloud_provider) == (None, None, "")


def test_a_second_stop_gives_the_same_and_writes_nothing(seconds):
    with EmissionsTracker() as tracker:
        seconds.pass_seconds(1)
    assert tracker.stop() == pytest.approx(0.1)
    assert len(rows()) == 1


def test_the_whole_machine_is_asked_for_unless_the_process_is(seconds):
    for mode in ("machine", "process"):
        with EmissionsTracker(tracking_mode=mode):
            pass
    assert [each["scope"] for each in seconds.told("runs")] == ["machine", "tree"]


def test_stop_without_start_warns_that_start_is_missing(seconds, caplog):
    tracker = EmissionsTracker()
    assert tracker.stop() is None
    assert tracker.stop() is None
    assert math.isnan(tracker.final_emissions_data.energy_consumed)
    (warning,) = [each.getMessage() for each in caplog.records]
    assert warning == "stop() without start(): nothing was measured; call start()"
    tracker.start()
    tracker.stop()
    assert len(caplog.records) == 1


@pytest.mark.parametrize(("on_csv_write", "count"), [("append", 3), ("update", 1)])
def test_flush_adds_a_row_or_updates_it(seconds, on_csv_write, count):
    with EmissionsTracker(on_csv_write=on_csv_write) as tracker:
        seconds.pass_seconds(1)
        assert tracker.flush() == pytest.approx(0.1)
        tracker.flush()
    assert len(rows()) == count


def test_a_task_is_what_its_run_and_the_one_around_it_used_meanwhile(seconds):
    with EmissionsTracker("bert") as tracker:
        seconds.pass_seconds(1)
        tracker.start_task("train")
        seconds.pass_seconds(10)
        data = tracker.stop_task()
        seconds.pass_seconds(2)
    assert data.energy_consumed == pytest.approx(10.0)
    assert tracker.final_emissions_data.energy_consumed == pytest.approx(13.0)
    (path,) = [name for name in os.listdir() if name.startswith("emissions_base_")]
    (task,) = rows(path)
    assert (tuple(task), task["task_name"]) == (TASK_COLUMNS, "train")
    assert float(task["energy_consumed"]) == pytest.approx(data.energy_consumed)
    assert float(task["ram_energy"]) == pytest.approx(data.ram_energy)
    assert data.tracking_mode == tracker.final_emissions_data.tracking_mode == "machine"


def has_rates_of_its_own_duration(row):
    duration, energy = float(row["duration"]), float(row["cpu_energy"])
    power, rate = float(row["cpu_power"]), float(row["emissions_rate"])
    return (power, rate) == (
        pytest.approx(energy * JOULES_PER_KWH / duration),
        pytest.approx(float(row["emissions"]) / duration),
    )


def test_power_and_rate_of_a_tracker_with_tasks_are_means_over_the_duration_of_the_row(seconds):
    with EmissionsTracker("bert") as tracker:
        seconds.pass_seconds(1)
        tracker.start_task("train")
        seconds.pass_seconds(10)
        data = tracker.stop_task()
        seconds.pass_seconds(1)
        tracker.flush()
    (path,) = [name for name in os.listdir() if name.startswith("emissions_base_")]
    (task,) = rows(path)
    assert float(task["duration"]) == 10.0
    assert float(task["cpu_power"]) == pytest.approx(3.6e6)
    assert data.cpu_power == pytest.approx(3.6e6)
    for row in (*rows(), task, tracker.final_emissions_data.values, data.values):
        assert has_rates_of_its_own_duration(row)


def test_tasks_without_a_start_are_added_up(seconds):
    tracker = EmissionsTracker()
    for name in ("load", "train"):
        tracker.start_task(name)
        seconds.pass_seconds(3)
        assert tracker.stop_task(name).emissions == pytest.approx(0.3)
    assert tracker.stop() == pytest.approx(0.6)
    assert float(rows()[0]["duration"]) == pytest.approx(6.0)
    assert [each["scope"] for each in seconds.told("runs")] == ["machine", "machine"]


def reported(record):
    """The row that `report --format codecarbon` writes."""
    return next(csv.DictReader(io.StringIO(csv_document(record))))


@pytest.mark.parametrize("is_killed", [False, True])
def test_the_reported_row_of_a_tracker_includes_its_tasks(seconds, is_killed):
    tracker = EmissionsTracker("bert")
    tracker.start()
    seconds.pass_seconds(1)
    tracker.start_task("train")
    seconds.pass_seconds(10)
    if not is_killed:
        tracker.stop_task()
        tracker.stop()
    own, task = (seconds._record(known) for known in seconds.known.values())
    inside = [{**task, "inside": own["run_id"]}]
    record = with_inner(own, lambda outer: inside if outer is own else [])
    row = reported(record)
    assert (float(row["energy_consumed"]), float(row["emissions"])) == pytest.approx((11.0, 1.1))
    tracker.stop()
    written = rows()[-1]
    assert float(written["energy_consumed"]) == pytest.approx(float(row["energy_consumed"]))
    assert written["run_id"] == row["run_id"]


def test_the_reported_row_of_tasks_without_a_start_includes_all_of_them(seconds):
    tracker = EmissionsTracker("bert")
    for name in ("load", "train", "load"):
        tracker.start_task(name)
        seconds.pass_seconds(3)
        tracker.stop_task()
    tracker.stop()
    (written,) = rows()
    runs = [seconds._record(known) for known in seconds.known.values()]
    (record,) = [run for run in runs if run["run_id"] == written["run_id"]]
    row = reported(with_other_tasks(record, lambda group: runs))
    for column in ("energy_consumed", "emissions", "duration"):
        assert float(row[column]) == pytest.approx(float(written[column]))
    assert float(row["energy_consumed"]) == pytest.approx(9.0)
    assert row["project_name"] == written["project_name"] == "bert"
    last = dt.datetime.fromtimestamp(max(run["ended"] for run in runs), dt.UTC).astimezone()
    assert row["timestamp"] == written["timestamp"] == f"{last:%FT%T}"


def test_a_task_that_is_open_ends_with_its_tracker(seconds):
    tracker = EmissionsTracker()
    tracker.start()
    tracker.start_task()
    tracker.start_task("second")
    seconds.pass_seconds(4)
    assert tracker.stop() == pytest.approx(0.4)
    assert tracker.stop_task() is None


def test_decorators_measure_each_call_and_give_what_the_function_gives(seconds):
    @track_emissions(project_name="f", save_to_file=False)
    def doubled(number):
        return 2 * number

    @track_emissions
    async def later():
        return 3

    tracker = EmissionsTracker(save_to_file=False)

    @track_task_emissions(tracker=tracker, task_name="t")
    def task():
        seconds.pass_seconds(1)

    assert (doubled(4), asyncio.run(later())) == (8, 3)
    task()
    assert tracker.stop() == pytest.approx(0.1)
    with TaskEmissionsTracker("own"):
        pass
    assert len(rows()) == 2
    assert [each["name"] for each in seconds.told("runs")][:2] == ["f", "codecarbon"]


def test_a_function_that_fails_still_has_its_row(seconds):
    @track_emissions()
    def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert len(rows()) == 1


def test_a_place_counts_by_its_table_and_the_daemons_own_as_the_daemon_did(seconds):
    kilograms = []
    for country in ("FRA", "DEU"):
        tracker = OfflineEmissionsTracker(country_iso_code=country)
        tracker.start()
        seconds.pass_seconds(10)
        kilograms.append(tracker.stop())
    assert kilograms[0] == pytest.approx(zones.find_factor("FRA").grams_per_kwh / 100)
    assert kilograms[1] == pytest.approx(1.0)
    assert [row["country_iso_code"] for row in rows()] == ["FRA", "DEU"]


def test_a_forced_intensity_pue_and_wue_are_in_the_numbers(seconds):
    forced = {"force_carbon_intensity_g_co2e_kwh": 50.0, "pue": 2.0, "wue": 1.5}
    tracker = EmissionsTracker(**forced)
    tracker.start()
    seconds.pass_seconds(10)
    assert tracker.stop() == pytest.approx(1.0)
    data = tracker.final_emissions_data
    assert (data.energy_consumed, data.water_consumed) == (pytest.approx(20), pytest.approx(30))


@pytest.mark.parametrize(
    ("arguments", "is_own"),
    [
        ({}, False),
        ({"country_iso_code": "SWE"}, True),
        ({"pue": 1.2}, False),
        ({"force_carbon_intensity_g_co2e_kwh": 50.0}, True),
    ],
)
def test_the_client_warns_of_the_world_average_unless_a_place_or_an_intensity_is_given(
    seconds, arguments, is_own
):
    tracker = EmissionsTracker(**arguments)
    tracker.start()
    assert tracker._track.has_own_intensity is is_own
    tracker.stop()


def test_a_forced_intensity_in_kilograms_is_said_and_used_as_given(seconds, caplog):
    tracker = EmissionsTracker(force_carbon_intensity_g_co2e_kwh=0.473)
    tracker.start()
    seconds.pass_seconds(10)
    assert tracker.stop() == pytest.approx(0.00473)
    (said,) = [each.getMessage() for each in caplog.records]
    assert "0.473 g/kWh is less than any grid emits" in said
    assert "it is used as given" in said


def test_what_has_no_effect_is_said_once(seconds, caplog):
    for _ in range(2):
        EmissionsTracker(gpu_ids=[0], save_to_prometheus=True, api_key="s3cret", newer=1)
    said = [each.getMessage() for each in caplog.records]
    assert len(said) == 4
    assert "s3cret" not in " ".join(said)


def test_what_nobody_misses_is_not_said(caplog):
    EmissionsTracker(measure_power_secs=1, allow_multiple_runs=True)
    EmissionsTracker(gpu_ids=None, save_to_prometheus=False, rapl_prefer_psys=False)
    assert not caplog.records


@pytest.mark.parametrize(
    ("log_level", "count"),
    [("info", 1), ("WARNING", 1), ("error", 0), (logging.ERROR, 0), ("40", 0), ("odd", 1)],
)
def test_remarks_are_warnings_to_log_level(caplog, log_level, count):
    EmissionsTracker(gpu_ids=[0], log_level=log_level)
    assert len(caplog.records) == count


@pytest.mark.parametrize(("log_level", "count"), [("error", 1), ("critical", 0)])
def test_what_is_not_written_is_an_error_to_log_level(seconds, caplog, log_level, count):
    with open("file", "w", encoding="utf-8"):
        pass
    with EmissionsTracker(output_dir="file", log_level=log_level):
        pass
    assert len(caplog.records) == count


def test_handlers_get_the_total_and_what_is_new_and_may_fail(seconds, caplog):
    got = []

    class Handler:
        def out(self, total, delta):
            got.append((total.energy_consumed, delta.energy_consumed))

        def exit(self):
            raise RuntimeError("gone")

    with EmissionsTracker(output_handlers=[Handler()]) as tracker:
        seconds.pass_seconds(1)
        tracker.flush()
        seconds.pass_seconds(2)
    assert got == [(pytest.approx(1), pytest.approx(1)), (pytest.approx(3), pytest.approx(2))]
    assert "not written: gone" in caplog.text


def test_without_a_daemon_the_program_goes_on(nobody, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("EMISSIONS_EXPORTER_EXPOSE_SOCKET", str(tmp_path / "none.sock"))
    with caplog.at_level(logging.WARNING), EmissionsTracker() as tracker:
        assert tracker.flush() is None
        tracker.start_task("t")
        assert tracker.stop_task() is None
    assert tracker.stop() is None
    assert f"{tracker.final_emissions_data.energy_consumed:.3f} kWh" == "nan kWh"
    assert not os.path.exists("emissions.csv")
    assert "not measured, the program continues" in caplog.text


def test_a_directory_that_cannot_be_written_is_said(seconds, caplog):
    with open("file", "w", encoding="utf-8"):
        pass
    with EmissionsTracker(output_dir="file") as tracker:
        seconds.pass_seconds(1)
    assert tracker.final_emissions == pytest.approx(0.1)
    assert "not written" in caplog.text


def test_files_come_before_the_environment_and_that_before_arguments(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    for place, name in ((tmp_path / "home", "home"), (tmp_path, "here")):
        (place / ".codecarbon.config").write_text(f"[codecarbon]\nproject_name={name}\npue=1.{5}\n")
    environment = {"CODECARBON_EXPERIMENT_NAME": "e%s", "codecarbon_wue": "2"}
    made = settings(environment=environment)
    assert (made.project_name, made.experiment_name) == ("here", "e%s")
    assert made.price == ConversionOverrides(pue=1.5, litres_per_kwh=2.0)
    assert settings("given", environment=environment).project_name == "given"


def test_what_a_file_or_the_environment_asks_for_in_vain_is_said_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".codecarbon.config").write_text(
        "[codecarbon]\napi_endpoint=https://api\napi_key=k\norganization_id=o\nproject_id=p\n"
        "experiment_id=e\nforce_cpu_power=100\nsave_to_prometheus=false\nsave_to_api=true\n"
    )
    made = settings(environment={"CODECARBON_GPU_IDS": "0, 1", "CODECARBON_LOG_LEVEL": "WARNING"})
    assert sorted(remark.split()[0] for remark in made.remarks) == [
        *("force_cpu_power", "gpu_ids", "save_to_api"),
    ]
    assert made.experiment_id == "e"


@pytest.mark.parametrize("content", ["no section", "[codecarbon]\na\n[codecarbon]\n", "\xff"])
def test_a_spoilt_file_of_settings_is_passed_over(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".codecarbon.config").write_text(content, encoding="latin-1")
    assert settings().project_name == "codecarbon"


@pytest.mark.parametrize(
    ("named", "has_csv"),
    [
        ({}, True),
        ({"save_to_file": False}, False),
        ({"save_to_file": "False"}, False),
        ({"output_methods": [ours.OutputMethod.API]}, False),
        ({"output_methods": [ours.OutputMethod.CSV], "save_to_file": False}, True),
        ({"output_methods": "api, CSV"}, True),
        ({"output_methods": []}, False),
        ({"output_methods": ""}, False),
        ({"output_methods": None}, True),
        ({"output_methods": [], "save_to_file": True}, False),
    ],
)
def test_a_file_is_written_unless_that_was_not_asked_for(named, has_csv):
    assert bool(settings(**named).path) is has_csv


@pytest.mark.parametrize("pue", ["much", float("nan"), -1, [1]])
def test_what_is_no_amount_is_said_and_has_no_effect(pue):
    made = settings(pue=pue)
    assert made.price.pue is None
    assert "is not a valid amount" in made.remarks[0]


@pytest.mark.parametrize(
    ("methods", "said"),
    [
        (["csv", "logger"], []),
        ([ours.OutputMethod.API], ["api has no effect here: no data is sent to a server"]),
        ("csv, prometheus", ["prometheus has no effect here: Prometheus scrapes"]),
        (["boamps", "cvs"], ["boamps has no effect", "cvs has no effect here: unknown argument"]),
        ([], []),
    ],
)
def test_output_methods_that_write_nothing_are_said(methods, said):
    made = settings(output_methods=methods, logging_logger=object())
    assert len(made.remarks) == len(said)
    assert all(text in remark for text, remark in zip(said, made.remarks, strict=True))


def test_too_many_arguments_are_an_error_as_ever():
    with pytest.raises(TypeError):
        EmissionsTracker(*range(50))


def test_track_keeps_a_row_up_to_date(seconds):
    with track("bert", receipts=None, progress=False, codecarbon_csv="a/e.csv"):
        seconds.pass_seconds(2)
    (row,) = rows("a/e.csv")
    assert float(row["energy_consumed"]) == pytest.approx(2.0)


def test_track_of_several_nodes_adds_a_row_for_each(seconds, monkeypatch):
    monkeypatch.setenv("SLURM_NNODES", "2")
    for _ in range(2):
        with track("bert", run_id="r", receipts=None, progress=False, codecarbon_csv="e.csv"):
            pass
    assert [row["run_id"] for row in rows("e.csv")] == ["r", "r"]


def test_a_file_that_cannot_be_written_does_not_stop_the_run(seconds, caplog):
    os.mkdir("e.csv")
    with track("bert", receipts=None, progress=False, codecarbon_csv="e.csv") as run:
        seconds.pass_seconds(2)
    assert run.energy_kwh == pytest.approx(2.0)
    assert "record not written" in caplog.text


def test_the_names_are_those_that_programs_import():
    assert inspect.isclass(ours.EmissionsTracker)
    assert issubclass(ours.OfflineEmissionsTracker, ours.EmissionsTracker)


@pytest.mark.parametrize("has_start", [True, False])
def test_tasks_of_one_name_in_a_loop_return_what_each_used(seconds, has_start):
    tracker = EmissionsTracker()
    if has_start:
        tracker.start()
    used = []
    for count in (1, 2, 3):
        tracker.start_task("epoch")
        seconds.pass_seconds(count)
        used.append(tracker.stop_task("epoch").energy_consumed)
    assert used == [pytest.approx(1), pytest.approx(2), pytest.approx(3)]
    assert tracker.stop() == pytest.approx(0.6)
    (path,) = [name for name in os.listdir() if name.startswith("emissions_base_")]
    names = [row["task_name"] for row in rows(path)]
    assert [name.split("_")[0] for name in names] == ["epoch"] * 3
    assert [float(row["energy_consumed"]) for row in rows(path)] == [pytest.approx(u) for u in used]
    assert len(set(names)) == 3


def test_a_name_that_no_task_had_ends_none(seconds):
    with EmissionsTracker() as tracker:
        tracker.start_task("epoch")
        assert tracker.stop_task("epochs") is None
        seconds.pass_seconds(2)
        assert tracker.stop_task("epoch").energy_consumed == pytest.approx(2)
        assert tracker.stop_task("epoch") is None


def test_data_is_a_dataclass_as_is_that_of_tasks(seconds):
    got = []
    handler = types.SimpleNamespace(
        out=lambda *_: None, exit=lambda: None, task_out=lambda data, _: got.extend(data)
    )
    with EmissionsTracker(output_handlers=[handler]) as tracker:
        tracker.start_task("t")
        seconds.pass_seconds(2)
        task = tracker.stop_task()
    as_dict = dataclasses.asdict(tracker.final_emissions_data)
    assert tuple(as_dict) == COLUMNS
    assert as_dict["energy_consumed"] == pytest.approx(2)
    assert dataclasses.replace(task, emissions=3.0).emissions == pytest.approx(3)
    assert tuple(dataclasses.asdict(got[0])) == TASK_COLUMNS
    assert repr(pickle.loads(pickle.dumps(got[0]))) == repr(got[0])
    assert as_dict["longitude"] is None


def test_the_difference_of_two_data_is_that_of_their_sums(seconds):
    data = []
    handler = types.SimpleNamespace(out=lambda total, _: data.append(total), exit=lambda: None)
    with EmissionsTracker(output_handlers=[handler], save_to_file=False) as tracker:
        seconds.pass_seconds(1)
        tracker.flush()
        seconds.pass_seconds(4)
    data[1].compute_delta_emission(data[0])
    assert (data[1].energy_consumed, data[1].emissions) == (pytest.approx(4), pytest.approx(0.4))


def drained(made):
    async def gathered():
        return [each async for each in made]

    return list(made) if inspect.isgenerator(made) else asyncio.run(gathered())


@pytest.mark.parametrize("decorator", [track_emissions, track_task_emissions])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_generator_is_measured_until_it_is_exhausted(seconds, decorator, is_async):
    def sync():
        for _ in range(3):
            seconds.pass_seconds(2)
            yield 1

    async def asynchronous():
        for _ in range(3):
            seconds.pass_seconds(2)
            yield 1

    function = decorator(asynchronous if is_async else sync)
    assert inspect.isasyncgenfunction(function) is is_async
    assert drained(function()) == [1, 1, 1]
    (row,) = rows()
    assert float(row["energy_consumed"]) == pytest.approx(6)


@pytest.mark.parametrize("has_task", [False, True])
def test_a_forked_child_writes_no_row_and_ends_nothing_of_its_parent(seconds, has_task, tmp_path):
    called = []
    handler = types.SimpleNamespace(
        out=lambda *_: called.append(1),
        exit=lambda: os.mkdir(f"exit-{os.getpid()}"),
        task_out=lambda *_: None,
    )
    with EmissionsTracker(output_handlers=[handler]) as tracker:
        if has_task:
            tracker.start_task("t")
        seconds.pass_seconds(1)
        if (child := os.fork()) == 0:
            tracker.flush()
            tracker.stop()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert not os.path.exists("emissions.csv")
        assert not seconds.told("end")
        seconds.pass_seconds(2)
    (row,) = rows()
    assert float(row["energy_consumed"]) == pytest.approx(3)
    assert os.path.isdir(f"exit-{os.getpid()}")
    assert len([name for name in os.listdir() if name.startswith("exit-")]) == 1


def test_a_tracker_that_a_child_begins_is_the_childs(seconds):
    tracker = EmissionsTracker()
    if (child := os.fork()) == 0:
        tracker.start()
        tracker.stop()
        os._exit(0)
    os.waitpid(child, 0)
    assert len(rows()) == 1


@pytest.mark.parametrize(
    ("place", "zone"),
    [
        ({"country_iso_code": "SWE", "region": "SE3"}, "SE3"),
        ({"country_iso_code": "SWE", "region": "SE-SE3"}, "SE-SE3"),
        ({"country_iso_code": "NOR", "region": "no1"}, "NO1"),
        ({"country_iso_code": "USA", "region": "NY"}, "US-NY"),
        ({"country_iso_code": "USA", "region": "us-ny "}, "US-NY"),
        ({"country_iso_code": "USA", "region": "New York"}, "US-NY"),
        ({"country_2letter_iso_code": "US", "region": "TX"}, "US-TX"),
        ({"country_iso_code": "CAN", "region": "QC"}, "CA-QC"),
        ({"country_iso_code": "CAN", "region": "quebec"}, "CA-QC"),
        ({"country_iso_code": "USA"}, "US"),
        ({"country_iso_code": "USA", "region": " "}, "US"),
        ({"country_iso_code": "USA", "region": "CAL-CISO"}, "US-CAL-CISO"),
    ],
)
def test_a_region_is_found_by_its_code_and_by_its_name(place, zone):
    made = settings(**place)
    assert (made.price.zone, made.remarks) == (zone, ())


@pytest.mark.parametrize(
    ("place", "zone", "word"),
    [
        ({"country_iso_code": "USA", "region": "XX"}, "US", "'XX'"),
        ({"country_iso_code": "SWE", "region": "NO1"}, "SE", "'NO1'"),
        ({"country_iso_code": "FRA", "region": "Bretagne"}, "FR", "'Bretagne'"),
        ({"region": "SE3"}, None, "'SE3'"),
        ({"country_iso_code": "DEU", "cloud_provider": "aws", "cloud_region": "x"}, "DE", "aws:x"),
    ],
)
def test_a_place_that_no_table_knows_is_named(place, zone, word):
    made = settings(**place)
    assert made.price.zone == zone
    assert word in made.remarks[0]


def test_an_unknown_location_is_reported_with_the_accepted_codes():
    (remark,) = settings(country_iso_code="XXX").remarks
    assert remark.startswith("location 'XXX' is in no table; the daemon's carbon intensity is used")
    assert "; did you mean XKX? a location is a country_iso_code of three letters (DEU)" in remark
    assert "a cloud_provider and cloud_region (aws and eu-west-1)" in remark


@pytest.mark.parametrize(
    ("place", "suggested"),
    [
        ({"country_iso_code": "Germany"}, "did you mean DEU? "),
        ({"country_iso_code": "DUE"}, "did you mean DEU? "),
        ({"country_iso_code": "QQQ"}, "is used; a location"),
        ({"cloud_provider": "aws", "cloud_region": "eu-west-9"}, "did you mean aws:eu-west-3 or "),
    ],
)
def test_a_country_is_suggested_by_its_code_of_three_letters(place, suggested):
    (remark,) = settings(**place).remarks
    assert suggested in remark


@pytest.mark.parametrize("name", ["EMISSIONS_RUN_ID", "MLFLOW_RUN_ID", "TORCHELASTIC_RUN_ID"])
def test_trackers_under_an_id_from_outside_have_what_was_used_since_their_start(
    seconds, monkeypatch, name
):
    monkeypatch.setenv(name, "given")
    kilograms = []
    for used in (5, 2):
        with EmissionsTracker() as tracker:
            seconds.pass_seconds(used)
        kilograms.append(tracker.final_emissions)
    assert kilograms == pytest.approx([0.5, 0.2])
    assert [float(row["energy_consumed"]) for row in rows()] == pytest.approx([5.0, 2.0])


def test_a_run_that_another_program_began_counts_from_the_start_of_the_tracker(
    seconds, monkeypatch
):
    monkeypatch.setenv("MLFLOW_RUN_ID", "given")
    for used in (5, 2):
        monkeypatch.setattr(track, "_ids_found", {})
        tracker = EmissionsTracker(on_csv_write="append")
        tracker.start()
        tracker.start_task("fit")
        seconds.pass_seconds(used)
        assert tracker.stop_task().energy_consumed == pytest.approx(used)
        seconds.pass_seconds(1)
        assert tracker.flush() == pytest.approx((used + 1) / 10)
        assert tracker.stop() == pytest.approx((used + 1) / 10)
        assert tracker.final_emissions_data.energy_consumed == pytest.approx(used + 1)


def test_a_task_without_a_run_around_it_counts_from_its_own_start(seconds, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", "given")
    for used in (5, 2):
        monkeypatch.setattr(track, "_ids_found", {})
        tracker = EmissionsTracker()
        tracker.start_task("fit")
        seconds.pass_seconds(used)
        assert tracker.stop_task().energy_consumed == pytest.approx(used)
        assert tracker.stop() == pytest.approx(used / 10)


class Live(BaseOutput):
    """Notes kilowatt hours of what is given to it, in the order of the calls."""

    def __init__(self):
        self.calls = []

    def out(self, total, delta):
        self.calls.append(("out", round(total.energy_consumed), round(delta.energy_consumed)))

    def live_out(self, total, delta):
        self.calls.append(("live", round(total.energy_consumed), round(delta.energy_consumed)))


@pytest.mark.parametrize(
    ("interval", "calls"),
    [
        (1, [("live", 0, 0), ("live", 1, 1), ("out", 1, 0), ("live", 3, 2), ("out", 3, 0)]),
        (2, [("live", 1, 1), ("out", 1, 0), ("out", 3, 2)]),
        ("3", [("out", 1, 1), ("live", 3, 2), ("out", 3, 0)]),
        (-1, [("out", 1, 1), ("out", 3, 2)]),
        (None, [("out", 1, 1), ("out", 3, 2)]),
        ("often", [("out", 1, 1), ("out", 3, 2)]),
    ],
)
def test_live_out_is_called_at_each_measurement_that_api_call_interval_counts(
    seconds, interval, calls
):
    handler = Live()
    tracker = EmissionsTracker(
        output_handlers=[handler], api_call_interval=interval, measure_power_secs=999
    )
    tracker.start()
    seconds.pass_seconds(1)
    tracker.flush()
    seconds.pass_seconds(2)
    tracker.stop()
    assert handler.calls == calls


def test_live_out_is_called_while_the_program_runs(seconds):
    called = threading.Semaphore(0)
    handler = types.SimpleNamespace(out=lambda *_: None, live_out=lambda *_: called.release())
    with EmissionsTracker(
        output_handlers=[handler], api_call_interval="2", measure_power_secs="0.01"
    ):
        assert all(called.acquire(timeout=10) for _ in range(3))


def test_the_end_of_a_task_is_a_measurement_too(seconds):
    handler = Live()
    tracker = EmissionsTracker(output_handlers=[handler], api_call_interval=1)
    tracker.start_task("t")
    seconds.pass_seconds(2)
    tracker.stop_task()
    assert handler.calls == [("live", 2, 2)]


def test_what_live_out_raises_is_said_and_the_program_goes_on(seconds, caplog):
    def fail(*_):
        raise RuntimeError("gone")

    handler = types.SimpleNamespace(out=lambda *_: None, live_out=fail)
    with EmissionsTracker(output_handlers=[handler], api_call_interval=1) as tracker:
        seconds.pass_seconds(1)
    assert tracker.final_emissions == pytest.approx(0.1)
    assert "not written: gone" in caplog.text


def test_a_handler_may_stop_the_tracker(seconds):
    handler = types.SimpleNamespace(out=lambda *_: tracker.stop())
    tracker = EmissionsTracker(output_handlers=[handler], api_call_interval=1)
    tracker.start()
    seconds.pass_seconds(1)
    assert tracker.flush() == tracker.final_emissions == pytest.approx(0.1)


@pytest.mark.parametrize(
    "named",
    [{"save_to_logger": True}, {"output_methods": "logger"}, {"output_methods": ["LOGGER"]}],
)
def test_a_logger_gets_a_line_of_json_that_any_reader_takes(seconds, caplog, named):
    caplog.set_level(logging.INFO, "mine")
    output = LoggerOutput(logging.getLogger("mine"))
    with EmissionsTracker("bert", logging_logger=output, **named):
        seconds.pass_seconds(1)
    (line,) = [each.getMessage() for each in caplog.records if each.name == "mine"]

    def refuse(constant):
        raise ValueError(constant)

    data = json.loads(line, parse_constant=refuse)
    assert (data["project_name"], data["emissions"]) == ("bert", pytest.approx(0.1))


def test_a_logger_of_google_cloud_gets_a_structure(seconds):
    got = []
    logger = types.SimpleNamespace(log_struct=lambda payload, severity: got.append(payload))
    output = GoogleCloudLoggerOutput(logger)
    with EmissionsTracker(save_to_logger=True, save_to_file=False, logging_logger=output):
        seconds.pass_seconds(1)
    assert got[0]["emissions"] == pytest.approx(0.1)
    assert not os.path.exists("emissions.csv")


def test_a_logger_is_not_written_to_unless_that_was_asked_for(seconds):
    with EmissionsTracker(logging_logger=LoggerOutput(None)):
        pass
    assert "save_to_logger has no effect" in settings(save_to_logger=True).remarks[0]


def test_utilization_is_that_of_the_machine_and_gpus_that_are_not_there_have_none(seconds):
    with EmissionsTracker() as tracker:
        tracker.start_task("t")
        seconds.pass_seconds(1)
        task = tracker.stop_task()
    (row,) = rows()
    for data in (task, tracker.final_emissions_data):
        assert 0 < data.ram_utilization_percent < 100
        assert data.ram_used_gb < data.ram_total_size
        assert data.gpu_utilization_percent == 0.0
    assert float(row["ram_used_gb"]) == pytest.approx(tracker.final_emissions_data.ram_used_gb)
    assert row["gpu_utilization_percent"] == "0.0"


def test_a_run_with_gpus_has_no_utilization_of_theirs(seconds):
    seconds.device = Device(DeviceKind.GPU, "GPU-1")
    with EmissionsTracker() as tracker:
        seconds.pass_seconds(1)
    data = tracker.final_emissions_data
    assert math.isnan(data.gpu_utilization_percent)
    assert json.loads(data.toJSON())["gpu_utilization_percent"] is None
    assert rows()[0]["gpu_utilization_percent"] == ""
    assert tracker.get_detected_hardware()["gpu_count"] == 1


def test_the_run_is_known_by_its_id_after_it_has_stopped(seconds):
    tracker = EmissionsTracker()
    assert tracker.run_id == ""
    with tracker:
        run_id = tracker.run_id
    assert tracker.run_id == run_id == rows()[0]["run_id"] != ""


def test_texts_that_are_longer_than_the_daemon_takes_are_whole_in_the_file(seconds):
    prompt = "why is the sky blue? \N{SNOWMAN}\udcff" * 500
    with EmissionsTracker(project_name=prompt, experiment_id=prompt) as tracker:
        tracker.start_task(prompt)
        seconds.pass_seconds(1)
        tracker.stop_task()
    assert tracker.final_emissions_data.experiment_id == prompt
    for told in seconds.told("runs"):
        texts = [told["name"], *told["labels"].values()]
        assert all(0 < len(text.encode()) <= 200 for text in texts)


@pytest.mark.parametrize("place", ["argument", "environment"])
def test_a_country_from_anywhere_is_a_country(monkeypatch, caplog, place):
    if place == "environment":
        monkeypatch.setenv("CODECARBON_COUNTRY_ISO_CODE", "FRA")
        OfflineEmissionsTracker()
    else:
        OfflineEmissionsTracker(country_iso_code="FRA")
    assert not caplog.records
    monkeypatch.delenv("CODECARBON_COUNTRY_ISO_CODE", raising=False)
    OfflineEmissionsTracker()
    assert "country_iso_code is missing" in caplog.text


def test_arguments_of_the_decorator_without_their_names(seconds):
    position = OF_DECORATOR.index("country_iso_code")
    given = [True if name == "save_to_file" else None for name in OF_DECORATOR[: position - 1]]

    @track_emissions(None, *given, True, "FRA")
    def function():
        seconds.pass_seconds(10)

    function()
    assert rows()[0]["country_iso_code"] == "FRA"


def test_names_that_public_programs_read_are_there(seconds):
    tracker = EmissionsTracker()
    assert (tracker._total_energy.kWh, tracker._prepare_emissions_data()) == (0.0, None)
    tracker.start()
    tracker.start_task("load")
    seconds.pass_seconds(2)
    tracker.stop_task()
    seconds.pass_seconds(1)
    tracker._measure_power_and_energy()
    assert tracker._prepare_emissions_data().energy_consumed == pytest.approx(3)
    tracker.stop()
    assert tracker._prepare_emissions_data() is tracker.final_emissions_data
    assert tracker._total_energy.kWh == tracker._total_cpu_energy.kWh == pytest.approx(3)
    assert tracker._total_gpu_energy.kWh == tracker._total_ram_energy.kWh == 0
    ((name, task),) = tracker._tasks.items()
    assert (name, task.emissions_data.energy_consumed) == ("load", pytest.approx(2))


def test_the_hardware_has_the_keys_that_programs_print():
    hardware = EmissionsTracker().get_detected_hardware()
    assert set(hardware) == {
        *("ram_total_size", "cpu_count", "cpu_physical_count", "cpu_model"),
        *("gpu_count", "gpu_model", "gpu_ids"),
    }
    assert hardware["cpu_physical_count"] in {None, *range(1, 10_000)}


def test_a_signal_stops_the_tracker(seconds):
    tracker = EmissionsTracker()
    tracker.start()
    tracker.service_shutdown(15, None)
    assert tracker.final_emissions is not None


@pytest.mark.parametrize(("given", "is_kept"), [(321, 321.0), ("5", 5.0), (-1, None), ("x", None)])
def test_a_forced_intensity_can_be_read(given, is_kept):
    tracker = EmissionsTracker(force_carbon_intensity_g_co2e_kwh=given)
    assert tracker.force_carbon_intensity_g_co2e_kwh == is_kept


@pytest.mark.parametrize(("on_csv_write", "count"), [("append", 2), ("update", 1)])
def test_a_handler_may_write_a_file_while_the_program_runs(seconds, on_csv_write, count):
    class Continuous(FileOutput):
        def live_out(self, total, delta):
            self.out(total, delta)

    output = Continuous("live.csv", "results", on_csv_write)
    with EmissionsTracker("bert", output_handlers=[output], api_call_interval=2, output_methods=[]):
        seconds.pass_seconds(1)
    made = rows("results/live.csv")
    assert [row["project_name"] for row in made] == ["bert"] * count
    assert tuple(made[0]) == COLUMNS
    assert (made[0]["longitude"], made[0]["gpu_utilization_percent"]) == ("", "0.0")
    assert not os.path.exists("emissions.csv")


def test_runs_of_trackers_are_of_the_group_that_an_import_of_their_file_has(seconds):
    for named in ({"project_name": "bert"}, {}):
        with EmissionsTracker(**named) as tracker:
            tracker.start_task("fit")
            tracker.stop_task()
    groups = [each["labels"]["group"] for each in seconds.told("runs")]
    assert groups == ["bert", "bert", "codecarbon", "codecarbon"]
    assert [row["experiment_id"] for row in rows()] == ["", ""]


def test_tasks_of_one_name_are_runs_that_are_told_apart_by_a_number(seconds):
    with EmissionsTracker("bert") as tracker:
        for _ in range(3):
            tracker.start_task("fit")
            tracker.stop_task()
    names = [each["name"] for each in seconds.told("runs")]
    assert names == ["bert", "bert: fit", "bert: fit #2", "bert: fit #3"]
