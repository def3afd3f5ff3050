"""Cells of a real IPython."""

import json

import pytest
from IPython.core.interactiveshell import InteractiveShell

from tests.real.parts import REPOSITORY

pytestmark = [pytest.mark.ml, pytest.mark.filterwarnings("default")]
SPIN = """
import time
end = time.process_time() + 1
while time.process_time() < end: pass
left = 41
"""


@pytest.fixture
def shell(tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    made = InteractiveShell()
    made.run_line_magic("load_ext", "exporter.integrations.notebook")
    return made


def test_a_cell_is_a_run_and_what_it_leaves_is_there(daemon, shell, capsys):
    shell.run_cell_magic("emissions", "training", SPIN)
    assert shell.user_ns["left"] == 41
    said = capsys.readouterr().out
    assert said.startswith("emissions: ")
    assert "CO2eq in" in said
    run_id = said.rpartition("(")[2].rstrip(")\n")
    record = daemon.json(f"/api/v1/runs/{run_id}")
    assert record["name"] == "training"
    assert record["energy_uj"] > 0


def test_a_cell_that_fails_fails_and_shows_its_error_and_what_it_used(daemon, shell, capsys):
    result = shell.run_cell("%%emissions\n1 / 0")
    assert isinstance(result.error_in_exec, ZeroDivisionError)
    said = capsys.readouterr().out
    assert "ZeroDivisionError" in said
    assert "emissions: " in said


def test_a_cell_that_nobody_measures_runs(shell, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("EMISSIONS_EXPORTER_EXPOSE_SOCKET", str(tmp_path / "nobody.sock"))
    shell.run_cell_magic("emissions", "", "left = 1")
    assert shell.user_ns["left"] == 1
    assert "not measured" in capsys.readouterr().out


def test_the_cells_of_the_example_run_in_their_order(daemon, shell, capsys):
    path = REPOSITORY / "examples" / "notebook" / "emissions.ipynb"
    for cell in json.loads(path.read_text())["cells"]:
        if cell["cell_type"] == "code":
            assert shell.run_cell("".join(cell["source"])).success
    assert " CO2eq in " in capsys.readouterr().out
