"""CodeCarbon's own code reads and writes our files, and we its."""

import csv
import dataclasses
import inspect
from pathlib import Path

import codecarbon
import codecarbon.output
import pandas as pd
import pytest
from codecarbon.core.util import backup
from codecarbon.emissions_tracker import BaseEmissionsTracker
from codecarbon.output_methods.emissions_data import EmissionsData, TaskEmissionsData
from codecarbon.output_methods.file import FileOutput

from exporter.integrations import codecarbon as ours
from exporter.integrations.codecarbon import output
from exporter.integrations.codecarbon.csv_import import read_history
from exporter.integrations.codecarbon.csv_writer import write_csv_row
from exporter.integrations.codecarbon.data import TASK_COLUMNS
from exporter.integrations.codecarbon.settings import ARGUMENTS, LOCATION_ARGUMENTS, OF_DECORATOR
from exporter.report.forms.codecarbon import COLUMNS, Row, csv_row
from tests.unit.report.test_codecarbon import made

NUMBERS = [name for name, kind in EmissionsData.__annotations__.items() if kind is float]


def our_row(run_id: str = "ours") -> Row:
    return csv_row(made(10.0, 56.0, 1.2, shown_id=run_id))


def their_data(run_id: str = "theirs") -> EmissionsData:
    row = {**our_row(run_id), "codecarbon_version": codecarbon.__version__, "os": "Linux"}
    return EmissionsData(**{name: None if row[name] == "" else row[name] for name in COLUMNS})


def header(path: Path) -> list[str]:
    with path.open(newline="") as file:
        return next(csv.reader(file))


def test_columns_and_fields_are_those_of_the_library() -> None:
    assert tuple(field.name for field in dataclasses.fields(EmissionsData)) == COLUMNS
    assert tuple(field.name for field in dataclasses.fields(TaskEmissionsData)) == TASK_COLUMNS


def test_arguments_are_those_of_the_library_in_its_order() -> None:
    names = list(inspect.signature(BaseEmissionsTracker.__init__).parameters)
    assert tuple(names[1:]) == ARGUMENTS
    offline = inspect.signature(codecarbon.OfflineEmissionsTracker.__init__).parameters
    keywords = [name for name, each in offline.items() if each.kind is each.KEYWORD_ONLY]
    assert set(keywords) == set(LOCATION_ARGUMENTS)


def test_arguments_of_the_decorator_are_those_of_the_library_in_its_order() -> None:
    names = list(inspect.signature(codecarbon.track_emissions).parameters)
    assert tuple(names[1:]) == OF_DECORATOR


def test_handlers_have_the_methods_and_arguments_of_those_of_the_library() -> None:
    for name in ("BaseOutput", "FileOutput", "LoggerOutput", "GoogleCloudLoggerOutput"):
        of_theirs, of_ours = getattr(codecarbon.output, name), getattr(output, name)
        for method in ("out", "live_out", "task_out", "exit", "__init__"):
            theirs, our = (getattr(each, method) for each in (of_theirs, of_ours))
            counts = [len(inspect.signature(each).parameters) for each in (theirs, our)]
            assert counts[0] == counts[1], (name, method)


def test_what_programs_call_is_there() -> None:
    public = {name for name in dir(codecarbon.EmissionsTracker) if not name.startswith("_")}
    assert public <= set(dir(ours.EmissionsTracker))
    assert set(codecarbon.__all__) <= set(ours.__all__)
    assert {each.value for each in codecarbon.OutputMethod} == {
        each.value for each in ours.OutputMethod
    }


@pytest.mark.parametrize("on_csv_write", ["append", "update"])
def test_the_library_goes_on_with_a_file_of_ours(tmp_path: Path, on_csv_write: str) -> None:
    path = tmp_path / "emissions.csv"
    write_csv_row(str(path), our_row(), replacing=False)
    FileOutput("emissions.csv", str(tmp_path), on_csv_write).out(their_data(), None)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["emissions.csv"]
    frame = pd.read_csv(path)
    assert list(frame.columns) == list(COLUMNS)
    assert list(frame.run_id) == ["ours", "theirs"]
    assert list(frame.emissions) == [pytest.approx(0.672), pytest.approx(0.672)]


@pytest.mark.parametrize("replacing", [False, True])
def test_we_go_on_with_a_file_of_the_library(tmp_path: Path, replacing: bool) -> None:
    path = tmp_path / "emissions.csv"
    FileOutput("emissions.csv", str(tmp_path)).out(their_data(), None)
    for _ in range(2):
        write_csv_row(str(path), our_row(), replacing=replacing)
    frame = pd.read_csv(path)
    assert list(frame.run_id) == ["theirs", "ours"] if replacing else ["theirs", "ours", "ours"]
    assert frame.energy_consumed.tolist()[0] == pytest.approx(12.0)


def test_numbers_of_ours_are_numbers_to_pandas(tmp_path: Path) -> None:
    path = tmp_path / "emissions.csv"
    write_csv_row(str(path), our_row(), replacing=False)
    frame = pd.read_csv(path)
    assert [n for n in NUMBERS if not pd.api.types.is_numeric_dtype(frame[n])] == []


def test_a_file_of_other_columns_gets_the_name_that_the_library_gives_it(tmp_path: Path) -> None:
    for each in ("ours", "theirs"):
        (tmp_path / each).mkdir()
    for _ in range(3):
        for each in ("ours", "theirs"):
            (tmp_path / each / "emissions.csv").write_text("old\n")
        write_csv_row(str(tmp_path / "ours" / "emissions.csv"), our_row(), replacing=False)
        backup(tmp_path / "theirs" / "emissions.csv")
    names = [sorted(p.name for p in (tmp_path / each).iterdir()) for each in ("ours", "theirs")]
    assert names[0] == sorted(["emissions.csv", *names[1]])


def test_what_the_library_writes_now_is_read_to_the_last_digit(tmp_path: Path) -> None:
    tracker = codecarbon.OfflineEmissionsTracker(
        country_iso_code="FRA", output_dir=str(tmp_path), log_level="error", pue=1.3
    )
    tracker.start()
    sum(range(10**6))
    kilograms = tracker.stop()
    (run,) = read_history(str(tmp_path / "emissions.csv")).runs
    carbon_ng = sum(part["carbon_ng"] for part in run["parts"])
    assert carbon_ng == round(kilograms * 1e12)
    assert run["intensity"][0]["pue"] == 1.3
