"""DVCLive's own files, and what `dvc` reads of a stage."""

import json
import os
import shutil
import subprocess
import sys
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
            live.log_metric("loss", 1 / (step + 1))
            log(live)
            live.next_step()
    told = json.loads(Path("dvclive/metrics.json").read_text())
    assert told["loss"] == pytest.approx(1 / 3)
    assert told["emissions"]["energy_kwh"] == pytest.approx(run.energy_kwh)
    lines = Path("dvclive/plots/metrics/emissions/energy_kwh.tsv").read_text().splitlines()
    assert len(lines) == 4


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
