"""The prolog and epilog of Slurm, written by the command."""

import os
import subprocess
import tomllib
from pathlib import Path

import pytest

from exporter.cli import dashboards, slurm_scripts
from exporter.cli.main import main

ROOT = Path(__file__).resolve().parents[3]
NAMES = ("epilog.sh", "prolog.sh")


def test_both_scripts_are_written_executable_and_named(tmp_path, capsys):
    out = tmp_path / "lib" / "slurm"
    assert main(["slurm-scripts", str(out)]) == 0
    assert sorted(os.listdir(out)) == list(NAMES)
    for name in NAMES:
        assert (out / name).read_bytes() == (ROOT / "deploy/slurm" / name).read_bytes()
        assert (out / name).stat().st_mode & 0o777 == 0o755
    assert capsys.readouterr().out.split() == [str(out / name) for name in NAMES]


def test_they_run_where_they_were_written(tmp_path):
    main(["slurm-scripts", str(tmp_path)])
    jobs = tmp_path / "jobs"
    environment = {
        "EMISSIONS_JOBS_DIRECTORY": str(jobs),
        "SLURM_JOB_ID": "17",
        "SLURM_JOB_UID": "7",
    }
    subprocess.run([tmp_path / "prolog.sh"], env=environment, check=True)
    assert os.listdir(jobs) == ["17"]
    subprocess.run([tmp_path / "epilog.sh"], env=environment, check=True)
    assert os.listdir(jobs) == []


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_script_that_differs_is_replaced_only_by_force(tmp_path, umask, capsys):
    before = os.umask(umask)
    try:
        main(["slurm-scripts", str(tmp_path)])
        script = tmp_path / "prolog.sh"
        script.write_text("mine")
        script.chmod(0o644)
        assert main(["slurm-scripts", str(tmp_path)]) == 1
        assert f"first {script}; " in capsys.readouterr().err
        assert script.read_text() == "mine"
        assert main(["slurm-scripts", str(tmp_path), "--force"]) == 0
    finally:
        os.umask(before)
    assert script.read_bytes() == (ROOT / "deploy/slurm/prolog.sh").read_bytes()
    assert script.stat().st_mode & 0o777 == 0o755
    assert sorted(os.listdir(tmp_path)) == list(NAMES)


def test_a_place_that_cannot_be_written_is_named(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["slurm-scripts", str(tmp_path / "file")]) == 1
    assert f"{tmp_path}/file/epilog.sh: cannot be written" in capsys.readouterr().err


def test_wheels_have_every_folder_that_the_commands_write():
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    included = built["targets"]["wheel"]["force-include"]
    wanted = {
        source: f"exporter/data/monitoring/{name}" for name, source in dashboards.FOLDERS.items()
    }
    assert included == {
        **wanted,
        slurm_scripts.SOURCE: f"exporter/data/{slurm_scripts.NAME}",
    }


def test_the_image_is_built_with_every_folder_that_the_wheel_has():
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    dockerfile = (ROOT / "Dockerfile").read_text().splitlines()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for source in built["targets"]["wheel"]["force-include"]:
        assert f"COPY {source} {source}" in dockerfile
        assert any(source == line[1:] or source.startswith(f"{line[1:]}/") for line in ignored)
