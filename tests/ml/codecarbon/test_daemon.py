"""Our trackers and the import with a real daemon, whose package draws 100 W and memory 20 W."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import codecarbon
import codecarbon.output
import pytest

from exporter.integrations.codecarbon import EmissionsTracker, OfflineEmissionsTracker
from tests.real.parts import COMMAND, REPOSITORY, Daemon, until

EMISSIONS = REPOSITORY / "tests" / "unit" / "integrations" / "codecarbon" / "emissions"
KILLED = """
import time
from exporter.client import track
with track("killed", receipts=None, codecarbon_csv="emissions.csv"):
    print(flush=True)
    time.sleep(60)
"""


def command(daemon: Daemon, *arguments: str) -> str:
    done = subprocess.run(
        [*COMMAND, *arguments, f"--socket.path={daemon.socket}"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_task_and_the_rest_are_the_tracker(daemon: Daemon, tmp_path: Path) -> None:
    with EmissionsTracker("tasks", output_dir=str(tmp_path)) as tracker:
        tracker.start_task("train")
        time.sleep(2)
        task = tracker.stop_task()
        time.sleep(1)
    total = tracker.final_emissions_data
    assert task is not None
    assert total is not None
    assert 0 < task.energy_consumed < total.energy_consumed
    assert 2 <= task.duration <= total.duration - 1
    share = task.duration / total.duration
    assert task.energy_consumed / total.energy_consumed == pytest.approx(share, abs=0.15)


@pytest.mark.parametrize("interval", [-1, 1, 2, 3])
def test_handlers_are_called_as_the_library_calls_them(
    daemon: Daemon, tmp_path: Path, interval: int
) -> None:
    """Each step is longer than the 0.05 s for which the library takes no new measurement."""

    def calls(kind: type, **named: object) -> list[str]:
        made: list[str] = []
        handler = codecarbon.output.BaseOutput()
        for method in ("out", "live_out", "task_out", "exit"):
            setattr(handler, method, lambda *_, name=method: made.append(name))
        tracker = kind(output_handlers=[handler], api_call_interval=interval, **named)
        for step in ("start", "flush", "start_task", "stop_task", "flush", "stop"):
            getattr(tracker, step)()
            made.append(f"{step} has ended")
            time.sleep(0.1)
        return made

    named = {"country_iso_code": "FRA", "output_methods": [], "measure_power_secs": 999}
    ours = calls(OfflineEmissionsTracker, **named)
    theirs = calls(codecarbon.OfflineEmissionsTracker, **named, log_level="error")
    assert ours == theirs


def test_four_trackers_of_the_machine_are_the_machine_once(daemon: Daemon, tmp_path: Path) -> None:
    trackers = [EmissionsTracker(f"t{n}", output_dir=str(tmp_path)) for n in range(4)]
    before_uj = machine_uj(daemon)
    for tracker in trackers:
        tracker.start()
    time.sleep(2)
    for tracker in trackers:
        tracker.stop()
    most = (machine_uj(daemon) - before_uj) / 1e6
    data = [tracker.final_emissions_data for tracker in trackers]
    joules = sum(each.energy_consumed for each in data if each is not None) * 3.6e6
    assert len({each.run_id for each in data if each is not None}) == 4
    assert 0 < joules <= most


def machine_uj(daemon: Daemon) -> int:
    return sum(int(device["counted"]["energy_uj"]) for device in daemon.devices().values())


def test_a_killed_program_has_its_energy_with_the_daemon(daemon: Daemon, tmp_path: Path) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", KILLED],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
    )
    assert program.stdout is not None
    program.stdout.readline()
    program.kill()
    program.communicate()

    def ended() -> str:
        runs = json.loads(command(daemon, "runs", "--format=json"))
        found = [run for run in runs if run["name"] == "killed" and run["ended"]]
        return found[0]["run_id"] if found else ""

    run_id = until(ended, what="the daemon sees that it is gone")
    header, row = csv.reader(command(daemon, "report", run_id, "--format=codecarbon").splitlines())
    assert dict(zip(header, row, strict=True))["project_name"] == "killed"


def test_history_is_in_lists_reports_and_the_leaderboard_once(daemon: Daemon) -> None:
    files = [str(path) for path in sorted(EMISSIONS.glob("*.csv"))]
    before = daemon.devices().keys()
    said = command(daemon, "import", "codecarbon", *files, "--node=laptop")
    assert said.count("2 runs imported") == 3
    again = command(daemon, "import", "codecarbon", *files)
    assert again.count("0 runs imported, 0 updated, 2 unchanged") == 3
    runs = json.loads(command(daemon, "runs", "--group=bert", "--format=json"))
    assert {(run["origin"], run["node"]) for run in runs} == {("codecarbon", "laptop")}
    assert len(runs) == 6
    report = command(daemon, "report", "--group=bert")
    assert "as CodeCarbon reported" in report
    assert "56.039 g/kWh, FR, unstated; CodeCarbon 3.3.2" in report
    board = json.loads(command(daemon, "leaderboard", "--group=bert", "--format=json"))
    assert len(board["runs"]) == 6
    assert daemon.devices().keys() == before
    assert runs[0]["run_id"] in str(daemon.json(f"/api/v1/runs/{runs[0]['run_id']}"))


def test_history_is_still_there_after_a_kill(tmp_path: Path) -> None:
    own = Daemon(tmp_path).start()
    file = str(EMISSIONS / "codecarbon-3.3.2.csv")
    command(own, "import", "codecarbon", file)
    own.kill()
    own.start()
    assert len(json.loads(command(own, "runs", "--group=bert", "--format=json"))) == 2
    own.stop()


def test_without_a_daemon_the_import_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(*COMMAND, "import", "codecarbon", str(EMISSIONS / "codecarbon-3.3.2.csv")),
            f"--socket.path={tmp_path / 'none'}",
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "no daemon answered" in done.stderr


def test_the_example_writes_its_rows_and_its_tasks(daemon: Daemon, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "examples" / "codecarbon" / "same_calls.py")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (remark,) = done.stderr.splitlines()
    assert "world average" in remark
    assert "kg CO2eq" in done.stdout
    with (tmp_path / "emissions.csv").open(newline="") as file:
        assert [row["project_name"] for row in csv.DictReader(file)] == ["example", "decorated"]
    (tasks,) = tmp_path.glob("emissions_base_*.csv")
    with tasks.open(newline="") as file:
        assert [row["task_name"] for row in csv.DictReader(file)] == ["load", "train"]
