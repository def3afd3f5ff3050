"""The generated pages of the documentation."""

import inspect
import os
import re
import shutil
import subprocess
import tomllib

import pytest

from docs import generate
from docs.manual import manual
from exporter import client
from exporter.cli.command_tree import describe_parser
from exporter.cli.main import parser_for
from exporter.client import track
from exporter.expose.metrics import metric_families
from exporter.model.workload import UnattributedReason


@pytest.fixture
def here(tmp_path, monkeypatch):
    shutil.copy(generate.HERE / "record.md", tmp_path)
    monkeypatch.setattr(generate, "HERE", tmp_path)
    return tmp_path


def test_every_example_is_in_the_list_of_examples():
    examples = generate.HERE.parent / "examples"
    listed = (examples / "README.md").read_text()
    files = [file for file in examples.iterdir() if file.suffix in (".py", ".sh", ".ipynb")]
    files += [file for file in examples.glob("*/*") if file.suffix in (".py", ".ipynb")]
    ours = [str(file.relative_to(examples)) for file in files]
    folders = ("benchmark/", "dvc/")
    assert [name for name in ours if name not in listed and not name.startswith(folders)] == []


def test_every_extra_is_in_the_page_of_installing():
    root = generate.HERE.parent
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    page = (root / "docs" / "install.md").read_text()
    extras = project["optional-dependencies"]
    assert [name for name in extras if f"`{name}`" not in page and f"[{name}]" not in page] == []


def test_every_metric_family_is_described():
    page = generate.metrics_reference()
    for family in metric_families():
        assert page.count(f"| `{family.name}` |") == 1


def test_every_reason_for_which_energy_is_in_no_run_is_described():
    page = generate.metrics_reference()
    for reason in UnattributedReason:
        assert page.count(f"| `{reason}` |") == 1


def test_a_setting_is_shown_with_its_type_unit_default_flag_and_variable():
    row = (
        "| `interval_seconds` | number | seconds | `1` | `--sample.interval` "
        "| `EMISSIONS_EXPORTER_SAMPLE_INTERVAL_SECONDS` | Sampling interval. |"
    )
    assert row in generate.configuration()


def test_every_row_has_as_many_cells_as_its_head():
    lines = (generate.configuration() + generate.metrics_reference()).splitlines()
    tables = [line.count(" | ") for line in lines if line.startswith("|")]
    assert set(tables) == {6, 4, 3, 1}  # settings, options of sources, metrics, reasons


def test_the_generated_pages_are_current():
    assert generate.stale(generate.pages()) == [], "run `make docs`"


def test_what_was_written_passes_the_check(here):
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0


def test_a_stale_page_fails_the_check_and_is_left_alone(here, capsys):
    generate.main([])
    (here / "metrics.md").write_text("old")
    assert generate.main(["--check"]) == 1
    said = capsys.readouterr().err
    assert said == "docs/metrics.md: not generated from this code, run `make docs`\n"
    assert (here / "metrics.md").read_text() == "old"


def test_every_double_that_the_table_of_doubles_names_is_there():
    tests = generate.HERE.parent / "tests"
    rows = [line for line in (tests / "README.md").read_text().splitlines() if "| `" in line]
    names = [
        name for row in rows for name in re.findall(r"`([\w/][\w/*.-]*\.\w+)", row.split("|")[1])
    ]
    assert len(names) > 20
    assert [name for name in names if not list(tests.glob(name))] == []


def test_the_manual_has_every_command_with_its_options():
    page = manual()
    for command in describe_parser(parser_for()).commands:
        assert f'.SS "{" ".join(command.words)}'.replace("-", "\\-") in page
        for option in command.options:
            for flag in option.flags:
                assert f"\\fB{flag}\\fR".replace("-", "\\-") in page


def test_the_manual_is_the_same_for_every_user(monkeypatch):
    before = manual()
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    monkeypatch.setattr(os, "geteuid", lambda: 7)
    assert manual() == before
    assert "/run/user/7" not in before


@pytest.mark.skipif(shutil.which("groff") is None, reason="no groff")
def test_groff_has_no_complaint_about_the_manual():
    command = ["groff", "-man", "-Tutf8", "-ww", "-rCHECKSTYLE=3"]
    done = subprocess.run(command, input=manual(), capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_the_page_of_the_client_has_every_argument_of_track_and_all_that_a_run_has():
    page = (generate.HERE / "python.md").read_text()
    arguments = [name for name in inspect.signature(track.__init__).parameters if name != "self"]
    of_run = ("run_id", "job_id", "energy_joules", "energy_kwh", "emissions_grams", "is_measured")
    asked = ("record", "refresh", "log", "count", "progress")
    for name in (*arguments, *of_run, *asked, *client.__all__):
        assert re.search(rf"\b{name}\b", page), name


def test_the_page_of_the_client_has_the_defaults_of_track():
    page = (generate.HERE / "python.md").read_text()
    defaults = inspect.signature(track.__init__).parameters
    for name in ("scope", "receipts", "on_budget", "private", "strict", "interval_seconds"):
        row = next(line for line in page.splitlines() if re.match(rf"\| `{name}`", line))
        shown = str(defaults[name].default).removesuffix(".0")
        assert shown in row.split(" | ")[1]


def test_no_page_installs_from_an_index_that_does_not_have_the_package():
    pages = [
        *generate.HERE.glob("integrations/*.md"),
        *generate.HERE.parent.glob("examples/*/*.py"),
    ]
    found = [page.name for page in pages if "pip install 'emissions-exporter[" in page.read_text()]
    assert found == []


def test_the_changelog_has_the_schema_of_the_ledger():
    text = (generate.HERE.parent / "CHANGELOG.md").read_text()
    [number] = re.findall(r"it has schema\s+(\d+)", text.partition("\n## [0.")[0])
    assert int(number) == len(list((generate.HERE.parent / "exporter").glob("*/migrations/*.sql")))


def test_every_file_and_function_in_the_tables_of_the_architecture_exists():
    page = (generate.HERE / "architecture.md").read_text()
    root = generate.HERE.parent
    rows = [line.split("|")[1:-1] for line in page.splitlines() if line.startswith("| ")]
    walks = [row for row in rows if len(row) == 3 and re.search(r"`[\w/]+\.(py|sh)`", row[1])]
    assert len(walks) > 40
    for _, places, names in walks:
        paths = [
            path if (path := root / "exporter" / place).exists() else root / place
            for place in re.findall(r"`([^`]+)`", places)
        ]
        text = "\n".join(path.read_text() for path in paths if path.is_file())
        assert all(path.exists() for path in paths), places
        for name in re.findall(r"`([^`]+)`", names):
            for part in name.split("."):
                assert re.search(rf"(def|class) {part}\b|self\.{part}\b", text), (name, places)
