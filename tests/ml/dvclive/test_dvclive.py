"""DVCLive's own files, and what `dvc` reads of a stage."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from dvclive import Live

from exporter.integrations.dvclive import log, track
from tests.real.parts import REPOSITORY, SPIN

pytestmark = [pytest.mark.ml, pytest.mark.filterwarnings("default")]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A repository of git and DVC."""
    monkeypatch.chdir(tmp_path)
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, check=True)
    return tmp_path


def dvc(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def stage(path, cpu_seconds):
    (path / "train.py").write_text(SPIN.format(cpu_seconds))
    command = f"{sys.executable} -m exporter run --dvc=emissions.json -- {sys.executable} train.py"
    stages = {
        "train": {
            "cmd": command,
            "deps": ["train.py"],
            "metrics": [{"emissions.json": {"cache": False}}],
        }
    }
    (path / "dvc.yaml").write_text(json.dumps({"stages": stages}))


def test_each_step_stands_beside_the_programs_own_metrics(daemon, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Live(save_dvc_exp=False, dvcyaml=None) as live, track(live, "train", receipts=None) as run:
        for step in range(3):
            spin(1.1)  # the daemon reads each second
            live.log_metric("loss", 1 / (step + 1))
            log(live)
            live.next_step()
    told = json.loads(Path("dvclive/metrics.json").read_text())
    assert told["loss"] == pytest.approx(1 / 3)
    assert told["emissions"]["energy_kwh"] == pytest.approx(run.energy_kwh)
    lines = Path("dvclive/plots/metrics/emissions/energy_kwh.tsv").read_text().splitlines()
    assert 3 <= len(lines) <= 4


def spin(cpu_seconds):
    end = time.process_time() + cpu_seconds
    while time.process_time() < end:
        pass


def opened(**options):
    return Live(save_dvc_exp=False, dvcyaml=None, **options)


def logged():
    return json.loads(Path("dvclive/metrics.json").read_text())["emissions"]


def test_two_runs_of_one_live_are_summed_up(daemon, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with opened() as live:
        with track(live, "one", receipts=None) as first:
            spin(0.5)
        with track(live, "two", receipts=None) as second:
            spin(0.5)
            log(live)
            live.next_step()
    assert first.run_id != second.run_id
    energy_kwh = first.energy_kwh + second.energy_kwh
    assert logged()["energy_kwh"] == pytest.approx(energy_kwh)
    assert logged()["emissions_grams"] == pytest.approx(
        first.emissions_grams + second.emissions_grams
    )
    seconds = first.record["duration_seconds"] + second.record["duration_seconds"]
    assert logged()["duration_seconds"] == pytest.approx(seconds)
    assert logged()["mean_power_watts"] == pytest.approx(energy_kwh * 3.6e6 / seconds)


def test_a_resumed_live_continues_its_run(daemon, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with opened() as live, track(live, "train", receipts=None) as first:
        spin(0.5)
        log(live)
        live.next_step()
    before = logged()["energy_kwh"]
    with opened(resume=True) as live, track(live, "train", receipts=None) as second:
        spin(0.5)
    assert second.run_id == first.run_id
    assert logged()["energy_kwh"] == pytest.approx(second.energy_kwh)
    assert logged()["energy_kwh"] > before > 0


@pytest.mark.parametrize("named", [{"run_id": "another"}, {"name": "other"}])
def test_a_resumed_live_adds_the_run_that_continues_with_another_id(
    daemon, tmp_path, monkeypatch, named
):
    monkeypatch.chdir(tmp_path)
    options = {"name": "train", "receipts": None}
    with opened() as live, track(live, **options) as first:
        spin(0.5)
    with opened(resume=True) as live, track(live, **{**options, **named}) as second:
        spin(0.5)
    assert second.run_id != first.run_id
    assert logged()["energy_kwh"] == pytest.approx(first.energy_kwh + second.energy_kwh)


def test_what_an_older_version_logged_is_added_to(daemon, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with opened() as live:
        live.log_metric("emissions/energy_kwh", 2.0, plot=False)
        live.log_metric("emissions/emissions_grams", 800.0, plot=False)
        live.log_metric("emissions/duration_seconds", 3600.0, plot=False)
    with opened(resume=True) as live, track(live, "train", receipts=None) as run:
        spin(0.5)
    assert logged()["energy_kwh"] == pytest.approx(2.0 + run.energy_kwh)
    assert logged()["emissions_grams"] == pytest.approx(800.0 + run.emissions_grams)


def test_a_live_that_is_not_resumed_begins_at_nothing(daemon, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        with opened() as live, track(live, "train", receipts=None) as run:
            spin(0.3)
        assert logged()["energy_kwh"] == pytest.approx(run.energy_kwh)


def test_stages_are_compared_by_dvc(daemon, project):
    stage(project, 1)
    dvc("repro")
    first = json.loads((project / "emissions.json").read_text())
    assert "emissions_grams" in dvc("metrics", "show", "--md")
    subprocess.run(["git", "add", "-A"], check=True)
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *who, "commit", "-qm", "one"], check=True)
    stage(project, 3)
    dvc("repro")
    (changed,) = json.loads(dvc("metrics", "diff", "--json")).values()
    assert changed["energy_kwh"]["old"] == first["energy_kwh"] > 0
    assert changed["energy_kwh"]["diff"] > 0


def test_a_stage_that_nobody_measures_is_no_failed_stage(project, monkeypatch):
    monkeypatch.setenv("EMISSIONS_EXPORTER_EXPOSE_SOCKET", str(project / "nobody.sock"))
    stage(project, 0)
    dvc("repro")
    assert json.loads((project / "emissions.json").read_text()) == {}


def test_the_example_leaves_its_last_numbers(example, tmp_path):
    assert " J, in dvclive/metrics.json" in example("dvclive/train.py")
    told = json.loads((tmp_path / "dvclive" / "metrics.json").read_text())
    assert told["emissions"]["emissions_grams"] > 0


def test_the_example_of_a_stage_runs_as_it_is(daemon, project, monkeypatch):
    shutil.copytree(REPOSITORY / "examples" / "dvc", project, dirs_exist_ok=True)
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable), prepend=os.pathsep)
    dvc("repro")
    assert json.loads((project / "emissions.json").read_text())["energy_kwh"] > 0
