"""A daemon's socket, and an environment in which nobody has named a run."""

import logging
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from exporter.client import environment, track
from tests.agents import serving
from tests.unit.client.kept import Runs

NAMES = {
    *(
        *environment.RANK_VARIABLES,
        *environment.LOCAL_RANK_VARIABLES,
        *environment.WORLD_SIZE_VARIABLES,
        *environment.NODE_COUNT_VARIABLES,
    ),
    *(
        *environment.RUN_ID_VARIABLES,
        *environment.JOB_ID_VARIABLES,
        environment.TRACKED_RUN_ID_VARIABLE,
        "LOCAL_WORLD_SIZE",
    ),
    *(
        *environment.STEP_ID_VARIABLES,
        environment.TORCHELASTIC_RESTART_COUNT,
        "EMISSIONS_EXPORTER_EXPOSE_SOCKET",
    ),
    *(name for scheduler in environment.LAUNCH_SCHEDULERS for name in scheduler.task_variables),
}


@pytest.fixture
def nobody(monkeypatch, tmp_path, caplog):
    """No ids, no ranks; in an empty directory, in a program that has tracked nothing yet."""
    monkeypatch.setattr(track, "_ids_found", {})
    caplog.set_level(logging.WARNING, "emissions")  # another test may have set the root's level
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def runs(nobody, tmp_path, monkeypatch):
    path = str(tmp_path / "agent.sock")
    monkeypatch.setenv("EMISSIONS_EXPORTER_EXPOSE_SOCKET", path)
    with serving(path, Runs()) as answers:
        yield answers


REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def program(runs, tmp_path):
    """Runs a program that has imported the client; its standard output."""

    def run(text, *arguments, **environment):
        path = tmp_path / "program.py"
        head = "from exporter.client import current_run, track\n"
        path.write_text(head + textwrap.dedent(text))
        done = subprocess.run(
            [sys.executable, path, *arguments],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    return run
