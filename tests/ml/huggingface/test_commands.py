"""The commands and the example, with a run of a real daemon."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.real.parts import COMMAND, REPOSITORY, Daemon

huggingface_hub = pytest.importorskip("huggingface_hub")
pytestmark = pytest.mark.ml
EXAMPLE = REPOSITORY / "examples" / "huggingface" / "model_card.py"


def done(directory: Path, *command: str) -> str:
    finished = subprocess.run(
        command,
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_the_example_writes_a_card_that_the_hub_reads(daemon: Daemon, tmp_path: Path) -> None:
    said = done(tmp_path, sys.executable, str(EXAMPLE))
    assert "error" not in said
    card = tmp_path / "tiny-model" / "README.md"
    emissions = huggingface_hub.ModelCard.load(card).data.to_dict()
    assert emissions["co2_eq_emissions"]["emissions"] > 0
    assert emissions["co2_eq_emissions"]["geographical_location"] == "Quebec, Canada"


def test_the_example_leaves_a_readme_of_its_caller_alone(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Mine\n")
    done(tmp_path, sys.executable, str(EXAMPLE))
    assert (tmp_path / "README.md").read_text() == "# Mine\n"


def test_a_run_of_the_daemon_goes_into_a_card_by_its_id(daemon: Daemon, tmp_path: Path) -> None:
    work = "sum(n * n for n in range(20_000_000))"
    done(tmp_path, *COMMAND, "run", "--run-id=by-id", "--", sys.executable, "-c", work)
    done(tmp_path, *COMMAND, "card", "write", "README.md", "by-id")
    done(tmp_path, *COMMAND, "card", "check", "README.md")
    card = huggingface_hub.ModelCard.load(tmp_path / "README.md").data.to_dict()
    grams = daemon.json("/api/v1/runs/by-id")["carbon_grams"]
    assert card["co2_eq_emissions"]["emissions"] == pytest.approx(grams, rel=1e-5)
    assert (
        done(tmp_path, *COMMAND, "report", "by-id", "--format=model-card")
        == (tmp_path / "README.md").read_text()
    )
