"""The benchmark of seven models, with few images and short rounds, on a host of known power."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from exporter.report.leaderboard.entry import attach_serving_runs, make_entries
from tests.real.parts import REPOSITORY, Daemon

MODELS = 7
ROUNDS = 2


@pytest.fixture(scope="module")
def said(made_up_daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Where it ran, and what it printed."""
    directory = tmp_path_factory.mktemp("benchmark")
    wishes = ["--images=400", "--seconds=0.3", f"--rounds={ROUNDS}"]
    wishes += ["--html=board.html", "--plots=plots"]
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / "examples/benchmark/benchmark.py"), *wishes],
        cwd=directory,
        env={
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "EMISSIONS_EXPORTER_EXPOSE_SOCKET": made_up_daemon.socket,
        },
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return directory, done.stdout


@pytest.fixture(scope="module")
def records(said: tuple[Path, str]) -> list[dict[str, Any]]:
    found = said[0].glob("emissions/benchmark/*/*.json")
    return [json.loads(file.read_text()) for file in found]


def test_each_training_and_each_round_is_a_run_that_ended(records: list[dict[str, Any]]) -> None:
    assert len(records) == MODELS * (1 + ROUNDS)
    assert all(record["ended"] for record in records)


def test_the_models_are_good_and_say_how_large_they_are(records: list[dict[str, Any]]) -> None:
    trained = [record for record in records if not record["labels"].get("serves")]
    assert len(trained) == MODELS
    assert all(record["logged"]["accuracy"] > 0.6 for record in trained)
    assert all(record["logged"]["parameters"] >= 650 for record in trained)


def test_what_inferences_emit_is_known_of_each_with_its_spread(
    records: list[dict[str, Any]],
) -> None:
    runs = attach_serving_runs(make_entries(records))
    assert len(runs) == MODELS
    for run in runs:
        assert len(run.serving_runs) == ROUNDS
        assert all(served.energy_uj and served.units["inferences"] for served in run.serving_runs)


def test_the_plots_have_each_model(said: tuple[Path, str]) -> None:
    page = (said[0] / "board.html").read_text()
    assert "CO2eq per 10\u202f000 inferences" in page
    for name in ("results", "emissions", "per-unit"):
        assert (said[0] / "plots" / f"{name}.png").stat().st_size > 10_000
        drawing = (said[0] / "plots" / f"{name}.svg").read_text()
        assert all(f">{model}<" in drawing for model in ("decision-tree", "random-forest"))
    assert "Pareto" in said[1]
