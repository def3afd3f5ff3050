"""`import codecarbon`: what it says, and what it hands over."""

import io
import json
import os
import sys
import time
from pathlib import Path

import pytest

from exporter.cli.main import main
from exporter.expose.api.request_bodies import MAX_RUNS
from exporter.expose.http.server import DEFAULT_LIMITS
from exporter.integrations.codecarbon.csv_import import ORIGIN
from tests.agents import serving
from tests.unit.client.kept import Runs

EMISSIONS = Path(__file__).parents[1] / "integrations" / "codecarbon" / "emissions"
TODAY, SHIFTED = (str(EMISSIONS / f"codecarbon-{v}.csv") for v in ("3.3.2", "3.3.0"))


class History(Runs):
    """Takes in all."""

    def __init__(self):
        super().__init__()
        self.taken = []
        self.decide = self._take

    def _take(self, method, path, document):
        assert (method, path) == ("POST", "/v1/history")
        self.taken.append(document["runs"])
        return 200, {"new": len(document["runs"]), "changed": 0, "known": 0}


@pytest.fixture
def history(tmp_path):
    with serving(str(tmp_path / "agent.sock"), History()) as answers:
        yield answers


def test_all_runs_of_all_files_are_handed_over(history, capsys):
    assert main(["import", "codecarbon", TODAY, SHIFTED, f"--socket.path={history.path}"]) == 0
    said = capsys.readouterr()
    assert [len(runs) for runs in history.taken] == [2, 2]
    assert said.out.splitlines() == [
        f"{path}: 2 runs imported, 0 updated, 0 unchanged; 1 earlier row of the same runs"
        for path in (TODAY, SHIFTED)
    ]
    assert said.err.splitlines() == [
        f"{SHIFTED}: line {line}: shifted cells were moved back" for line in (3, 4)
    ]


def test_many_runs_are_handed_over_in_several_requests(history, tmp_path):
    with open(TODAY, encoding="utf-8") as file:
        header, row = file.readlines()[:2]
    path = tmp_path / "many.csv"
    run_id = row.split(",")[2]
    path.write_text(header + "".join(row.replace(run_id, f"run-{n}") for n in range(140)))
    assert main(["import", "codecarbon", str(path), f"--socket.path={history.path}"]) == 0
    assert sum(len(runs) for runs in history.taken) == 140
    assert len(history.taken) < 5
    for runs in history.taken:
        assert len(runs) <= MAX_RUNS
        assert len(json.dumps({"origin": ORIGIN, "runs": runs})) <= DEFAULT_LIMITS.body_bytes


class Terminal(io.StringIO):
    """Says that it is one."""

    def isatty(self):
        return True


def test_a_terminal_shows_how_far_the_import_is(history, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert main(["import", "codecarbon", TODAY, f"--socket.path={history.path}"]) == 0
    first, last, *_ = terminal.getvalue().split("\r")[1:]
    assert (first, last) == (f"[{' ' * 30}] 0 of 2 runs", f"[{'#' * 30}] 2 of 2 runs")
    assert terminal.getvalue().endswith(" \r")


def test_a_run_whose_last_row_is_refused_is_named_with_its_energy(capsys, tmp_path):
    path = tmp_path / "emissions.csv"
    path.write_text(
        "timestamp,run_id,duration,emissions,cpu_energy,gpu_energy,ram_energy,energy_consumed\n"
        "2025-01-02T03:00:10,r1,10,0.005,0.01,0.02,0.005,0.035\n"
        "2025-01-02T03:01:40,r1,100,0.05,0.1,-0.0001,0.05,0.1499\n"
    )
    assert main(["import", "codecarbon", "--dry-run", str(path)]) == 1
    said = capsys.readouterr()
    assert said.err == (
        f"{path}: line 3: rejected: gpu_energy cannot be '-0.0001'. Run r1 is not imported. "
        "The row has 150 Wh.\n"
    )
    assert "0 runs would be imported, 0 Wh" in said.out


ROW = "2025-01-02T03:00:10,{},10,0.005,0.01,0.02,0.005,0.035\n"


def test_rows_without_a_run_id_are_named_with_their_energy(capsys, tmp_path):
    path = tmp_path / "emissions.csv"
    path.write_text(HEADER + "".join(map(ROW.format, ("r1", "None", "", "nan"))))
    assert main(["import", "codecarbon", "--dry-run", str(path)]) == 1
    said = capsys.readouterr()
    assert said.err == (
        f"{path}: line 3 and 2 more: rejected: run_id is missing. They have 105 Wh, counted once "
        "per row\n"
    )
    assert "1 run would be imported, 35.0 Wh, 5.00 g CO2eq; 3 rejected" in said.out


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "is empty"),
        ("version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
        (
            "timestamp,project_name,duration,emissions,energy_consumed\nx,p,1,0.1,0.035\n",
            "rows cannot be told apart or split by device. Its row has 35.0 Wh",
        ),
        (
            "task_name," + "timestamp,run_id,duration,energy_consumed\nfit,x,r,1,0.07\n",
            "import its emissions.csv. Its row has 70.0 Wh",
        ),
    ],
)
def test_a_file_that_cannot_be_read_is_named_and_the_others_are_imported(
    history, capsys, tmp_path, text, error
):
    bad, good = tmp_path / "bad.csv", tmp_path / "good.csv"
    bad.write_text(text)
    good.write_text(HEADER + ROW.format("r1"))
    files = [str(bad), str(good)]
    assert main(["import", "codecarbon", *files, f"--socket.path={history.path}"]) == 1
    said = capsys.readouterr()
    assert error in said.err
    assert len(history.taken[0]) == 1
    assert said.out.startswith(f"{good}: 1 run imported")


HEADER = "timestamp,run_id,duration,emissions,cpu_energy,gpu_energy,ram_energy,energy_consumed\n"
EARLY, LATE = (
    "2025-01-02T03:00:10,r1,10,0.005,0.01,0.02,0.005,0.035\n",
    "2025-01-02T03:01:40,r1,100,0.05,0.1,0,0.05,0.15\n",
)


@pytest.mark.parametrize(
    ("sound", "refused", "told"),
    [
        (EARLY, LATE.replace(",0,", ",-1,"), "0 runs would be imported, 0 Wh"),
        (EARLY, LATE.replace(",0.15", ""), "0 runs would be imported, 0 Wh"),
        (LATE, EARLY.replace(",0.02,", ",-1,"), "1 run would be imported, 150 Wh"),
    ],
)
def test_a_refused_row_in_another_file_counts_as_well(capsys, tmp_path, sound, refused, told):
    paths = [str(tmp_path / name) for name in ("a.csv", "b.csv")]
    for path, row in zip(paths, (sound, refused), strict=True):
        Path(path).write_text(HEADER + row)
    assert main(["import", "codecarbon", "--dry-run", *paths]) == 1
    said = capsys.readouterr()
    assert said.out.startswith(f"{paths[0]}: {told}")
    assert (f"{paths[0]}: run r1 is not imported" in said.err) is told.startswith("0 runs")


def test_grams_in_doubt_are_named_and_in_the_exit_code(capsys, tmp_path):
    path = tmp_path / "emissions.csv"
    path.write_text(
        "timestamp,run_id,duration,emissions,cpu_energy,gpu_energy,ram_energy,energy_consumed\n"
        "2025-01-02T03:00:10,r1,10,,0.01,0.02,0.005,0.035\n"
    )
    assert main(["import", "codecarbon", "--dry-run", str(path)]) == 1
    said = capsys.readouterr()
    assert said.err == (
        f"{path}: line 2: emissions cannot be ''; the energy of the run is imported, its emissions "
        "are unknown\n"
    )
    assert "1 run would be imported, 35.0 Wh, \u2013 CO2eq; 1 without emissions" in said.out


def test_a_dry_run_asks_nobody(capsys, tmp_path):
    none = f"--socket.path={tmp_path / 'none'}"
    assert main(["import", "codecarbon", TODAY, "--dry-run", none]) == 0
    assert "2 runs would be imported, 0.0245 Wh, 1.37 mg CO2eq" in capsys.readouterr().out


def test_a_line_that_is_refused_is_named_and_the_rest_taken_in(history, capsys, tmp_path):
    path = tmp_path / "emissions.csv"
    with open(TODAY, encoding="utf-8") as file:
        path.write_text(file.read() + "\x1b[2J,a,row\n")
    assert main(["import", "codecarbon", str(path), f"--socket.path={history.path}"]) == 1
    said = capsys.readouterr()
    assert f"{path}: line 5: rejected: 35 cells are missing" in said.err
    assert "\x1b" not in said.err
    assert "1 rejected" in said.out
    assert len(history.taken[0]) == 2


def test_times_are_of_the_zone_that_is_named(history, monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    try:
        for zone in ("UTC", "Asia/Tokyo"):
            flags = [f"--timezone={zone}", f"--socket.path={history.path}"]
            assert main(["import", "codecarbon", TODAY, *flags]) == 0
    finally:
        monkeypatch.undo()
        time.tzset()
    utc, tokyo = (runs[0]["ended"] for runs in history.taken)
    assert utc - tokyo == 9 * 3600


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["othertool", TODAY], "invalid choice"),
        (["codecarbon"], "required: FILE"),
        (["codecarbon", TODAY, "--timezone=../etc"], "expected a time zone such as Europe/Berlin"),
    ],
)
def test_a_wrong_call_says_what_is_right(capsys, arguments, why):
    with pytest.raises(SystemExit):
        main(["import", *arguments])
    assert why in capsys.readouterr().err


def test_a_file_that_is_not_there_is_one_line(capsys):
    missing = os.path.join(os.sep, "nowhere", "emissions.csv")
    assert main(["import", "codecarbon", missing]) == 1
    assert capsys.readouterr().err == (
        f"emissions-exporter: {missing}: cannot be read: No such file or directory; "
        "give an emissions.csv of CodeCarbon\n"
    )
