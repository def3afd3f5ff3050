"""The wheel, built from a copy of the repository and installed into an environment of its own."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from exporter import __version__
from tests.real.parts import REPOSITORY

pytestmark = [pytest.mark.real, pytest.mark.beside]


def done(*command: str | Path, cwd: Path) -> str:
    """What a command prints; that it fails, fails the test."""
    made = subprocess.run(
        list(map(str, command)), cwd=cwd, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stdout + made.stderr
    return made.stdout


@pytest.fixture(scope="module")
def program() -> Iterator[Path]:
    """The command as it was installed from the wheel."""
    with TemporaryDirectory() as name:
        room = Path(name)
        listed = done("git", "ls-files", "-z", "-co", "--exclude-standard", cwd=REPOSITORY)
        for file in filter(None, listed.split("\0")):
            source, copy = REPOSITORY / file, room / "copy" / file
            if source.is_file():
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(source.read_bytes())
        git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.example"]
        for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all of it"]):
            done(*git, *arguments, cwd=room / "copy")
        done(sys.executable, "-m", "venv", room / "venv", cwd=room)
        pip = [room / "venv/bin/python", "-m", "pip", "--disable-pip-version-check"]
        done(*pip, "wheel", "--no-deps", "--wheel-dir", room, room / "copy", cwd=room)
        (wheel,) = room.glob("*.whl")
        done(*pip, "install", wheel, cwd=room)
        yield room / "venv/bin/emissions-exporter"


def test_a_wheel_knows_the_revision_of_the_clone_that_it_was_built_from(
    program: Path, tmp_path: Path
) -> None:
    commit = done("git", "rev-parse", "HEAD", cwd=program.parents[2] / "copy").strip()
    said = done(program, "--version", cwd=tmp_path)
    assert said == f"emissions-exporter {__version__} (revision {commit})\n"


def test_the_manual_page_is_where_man_looks(program: Path) -> None:
    page = program.parents[1] / "share/man/man1/emissions-exporter.1"
    assert page.read_bytes() == (REPOSITORY / "docs/emissions-exporter.1").read_bytes()


def test_who_installed_the_wheel_gets_dashboards_rules_and_alerts(
    program: Path, tmp_path: Path
) -> None:
    assert done(program, "dashboards", "out", cwd=tmp_path).count("\n") == 18
    for written, source in {
        "dashboards": "dashboards/generated",
        "prometheus/rules": "deploy/prometheus/rules",
        "grafana": "deploy/grafana",
    }.items():
        for path in (REPOSITORY / source).rglob("*.*"):
            copy = tmp_path / "out" / written / path.relative_to(REPOSITORY / source)
            assert copy.read_bytes() == path.read_bytes()
    assert "alert: EmissionsCollectorDown" in (
        tmp_path / "out/prometheus/alerts/health.yaml"
    ).read_text(encoding="utf-8")
