"""`card`: records into cards, and mistakes with their place."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from exporter.cli.main import main
from tests.agents import Answers, serving


@pytest.fixture
def receipt(tmp_path):
    path = tmp_path / "record.json"
    record = {
        "version": 1,
        "run_id": "bert",
        "job_id": "",
        "node": "n1",
        "started": 0,
        "ended": 9,
        "at": 9,
        "duration_seconds": 9.0,
        "energy_uj": 10**9,
        "held_uj": 0,
        "carbon_ng": 10**12,
        "parts": [],
        "intensity": [],
    }
    path.write_text(json.dumps(record))
    return str(path)


def test_a_record_is_merged_and_what_stood_there_is_said(receipt, tmp_path, capsys):
    path = tmp_path / "README.md"
    path.write_text("---\nco2_eq_emissions: 3.5\n---\n# Mine\n")
    arguments = ["--training-type=fine-tuning", "--location=Brooklyn", "--hardware=1 laptop"]
    assert main(["card", "write", str(path), "--record", receipt, *arguments]) == 0
    assert capsys.readouterr().err == f"{path}: wrote emissions of bert (previously 3.5)\n"
    text = path.read_text()
    assert 'training_type: "fine-tuning"\n  geographical_location: "Brooklyn"\n' in text
    assert "# Mine\n" in text
    assert main(["card", "check", str(path), "--record", receipt]) == 0


def test_an_error_in_a_card_is_printed_with_its_line_and_is_the_exit_code(tmp_path, capsys):
    path = tmp_path / "README.md"
    path.write_text("---\nlicense: mit\nco2_eq_emissions: 0.5 kg\n---\n")
    assert main(["card", "check", str(path)]) == 1
    assert capsys.readouterr().out.startswith(f"{path}:3: error: emissions: '0.5 kg' is a text")


def test_a_warning_is_no_error(tmp_path):
    path = tmp_path / "README.md"
    path.write_text("# Mine\n")
    assert main(["card", "check", str(path)]) == 0


def test_a_run_is_found_by_its_name(receipt, tmp_path, capsys):
    path = tmp_path / "README.md"
    record = {**json.loads(Path(receipt).read_text()), "name": "bert-3e-05", "run_id": "r1"}
    answers = Answers()
    answers.decide = lambda _, asked, __: (
        (200, {"runs": [record]}) if "?" in asked else (404, {"error": "no run 'bert-3e-05'"})
    )
    with serving(str(tmp_path / "agent.sock"), answers):
        arguments = [str(path), "bert-3e-05", f"--socket.path={answers.path}"]
        assert main(["card", "write", *arguments]) == 0
    assert "emissions: 1000\n" in path.read_text()


def test_the_command_of_the_documentation_for_a_group_works_as_it_is_written(receipt, tmp_path):
    page = (Path(__file__).parents[3] / "docs/integrations/huggingface.md").read_text()
    (command,) = re.findall(r"    (emissions-exporter report --group .*\n.*/dev/stdin)", page)
    record = json.loads(Path(receipt).read_text())
    runs = [{**record, "run_id": each, "labels": {"group": "sweep-1"}} for each in ("a", "b")]
    with serving(str(tmp_path / "agent.sock"), Answers({"runs": runs})) as answers:
        subprocess.run(
            [
                "bash",
                "-ec",
                f'emissions-exporter() {{ {sys.executable} -m exporter "$@"; }}\n{command}',
            ],
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": str(Path(__file__).parents[3]),
                "EMISSIONS_EXPORTER_EXPOSE_SOCKET": answers.path,
            },
            check=True,
            timeout=60,
        )
        assert "group=sweep-1" in answers.asked[0][1]
    assert "emissions: 2000\n" in (tmp_path / "README.md").read_text()


def test_either_a_run_or_a_record_is_needed(tmp_path, capsys):
    assert main(["card", "write", str(tmp_path / "README.md")]) == 1
    assert "give either RUN or --record" in capsys.readouterr().err
    assert not (tmp_path / "README.md").exists()


def test_models_need_a_bound(capsys):
    assert main(["card", "models"]) == 1
    assert "give --min-grams, --max-grams or both" in capsys.readouterr().err


@pytest.mark.parametrize("bound", ["nan", "-1", "inf", "few"])
def test_a_bound_that_is_no_amount_is_refused(bound, capsys):
    with pytest.raises(SystemExit):
        main(["card", "models", f"--max-grams={bound}"])
    assert f"expected grams of 0 or more, such as 12.5, found {bound!r}" in capsys.readouterr().err


def test_no_models_at_all_are_not_asked_for(capsys):
    assert main(["card", "models", "--max-grams=1", "--limit=0"]) == 1
    assert "--limit 0: expected at least 1" in capsys.readouterr().err


def test_a_place_that_is_not_that_of_the_grid_is_said_when_the_card_is_written(
    receipt, tmp_path, capsys
):
    use = {"zone": "WORLD", "source": "a table", "grams_per_kwh": 473.0, "pue": 1.0}
    more = {"basis": "lifecycle", "energy_uj": 10**9, "carbon_ng": 10**12}
    record = {**json.loads(Path(receipt).read_text()), "intensity": [{**use, **more}]}
    Path(receipt).write_text(json.dumps(record))
    path = tmp_path / "README.md"
    arguments = [str(path), "--record", receipt, "--location=Quebec, Canada"]
    assert main(["card", "write", *arguments]) == 0
    said = capsys.readouterr().err.splitlines()[1]
    assert said.startswith(f"{path}:5: warning: geographical_location: 'Quebec, Canada', but the")


@pytest.mark.parametrize(
    ("names", "code", "said"),
    [
        (["warm up", "bert"], 0, "emissions of r0"),
        (["warm up", "warm up"], 1, "2 runs are named 'warm up'; give a run id instead: r0, r1"),
        (["bert", ""], 1, "no run of that id is known"),
    ],
)
def test_a_run_is_found_by_a_name_that_only_it_has(names, code, said, receipt, tmp_path, capsys):
    with open(receipt, encoding="utf-8") as file:
        record = json.load(file)
    runs = [record | {"run_id": f"r{n}", "name": name} for n, name in enumerate(names)]
    answers = Answers()
    answers.decide = lambda _, path, __: (
        (200, {"runs": runs})
        if path.startswith("/v1/runs?")
        else (404, {"error": "no run of that id is known"})
    )
    with serving(str(tmp_path / "agent.sock"), answers):
        card, socket = str(tmp_path / "README.md"), f"--socket.path={answers.path}"
        assert main(["card", "write", card, "warm up", socket]) == code
    assert said in capsys.readouterr().err
