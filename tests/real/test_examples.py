"""The examples run as they are and say what they used."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.fed import daemon_of_100_watts
from tests.real.parts import REPOSITORY, Daemon

pytestmark = pytest.mark.real
EXAMPLES = REPOSITORY / "examples"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with daemon_of_100_watts(tmp_path_factory.mktemp("examples")) as made:
        yield made


def output(daemon: Daemon, directory: Path, *command: str) -> str:
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "EMISSIONS_EXPORTER_EXPOSE_SOCKET": daemon.socket,
        "PYTHONUNBUFFERED": "",  # else a line and its end are written apart, and ranks mix them
    }
    done = subprocess.run(
        [sys.executable, *command],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_script_counts_and_leaves_a_receipt(daemon: Daemon, tmp_path: Path) -> None:
    said = output(daemon, tmp_path, str(EXAMPLES / "python_script.py"))
    run_id = said.split(":")[0]
    assert " J, " in said
    (receipt,) = (tmp_path / "emissions").glob("*.json")
    record = json.loads(receipt.read_text())
    assert (record["run_id"], record["units"]) == (run_id, {"samples": 640.0})
    assert record["energy_uj"] > 0


def test_the_ranks_are_one_run(daemon: Daemon, tmp_path: Path) -> None:
    said = output(daemon, tmp_path, str(EXAMPLES / "torchrun_like.py")).splitlines()
    assert len(said) == 4
    (run_id,) = {line.split("run ")[1].partition(":")[0] for line in said}
    assert all(line.endswith(" J of all ranks so far") for line in said)
    assert daemon.json(f"/api/v1/runs/{run_id}")["units"] == {"samples": 32.0}


def test_the_cells_of_the_notebook_run_in_their_order(daemon: Daemon, tmp_path: Path) -> None:
    notebook = json.loads((EXAMPLES / "notebook.ipynb").read_text())
    cells = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    assert " J, " in output(daemon, tmp_path, "-c", "\n".join(cells))
