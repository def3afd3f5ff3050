"""The revision that `--version` shows."""

import subprocess
import sys

import pytest

from exporter import __version__, revision
from exporter.cli.main import main


def git(directory, *arguments):
    command = ["git", "-C", str(directory), "-c", "user.name=a", "-c", "user.email=a@b.example"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A clone with the program in it, and no revision recorded."""
    monkeypatch.delenv(revision.REVISION_VARIABLE, raising=False)
    monkeypatch.setattr(revision, "PACKAGE", str(tmp_path / "exporter"))
    file = tmp_path / "exporter" / "data" / "zones.csv"
    file.parent.mkdir(parents=True)
    file.write_text("DE")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "one")
    return tmp_path


def version(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_in_a_clone_it_is_the_commit(clone, capsys):
    commit = git(clone, "rev-parse", "HEAD")
    git(clone, "tag", "v9")
    assert len(commit) == 40
    assert version(capsys) == f"emissions-exporter {__version__} (revision {commit})\n"


def test_a_changed_clone_is_marked(clone):
    commit = git(clone, "rev-parse", "HEAD")
    (clone / "exporter" / "data" / "zones.csv").write_text("FR")
    assert revision.revision() == f"{commit}-dirty"


def test_a_package_has_the_revision_that_it_was_built_from(clone, monkeypatch):
    (clone / "exporter" / "data" / "revision").write_text("abc\n")
    assert revision.revision() == "abc"
    monkeypatch.setenv(revision.REVISION_VARIABLE, "def")
    assert revision.revision() == "def"


@pytest.mark.parametrize("given", ["", "unknown", " \n"])
def test_a_revision_that_is_not_known_is_left_out(tmp_path, given, monkeypatch, capsys):
    monkeypatch.setattr(revision, "PACKAGE", str(tmp_path / "exporter"))
    monkeypatch.setenv(revision.REVISION_VARIABLE, given)
    assert version(capsys) == f"emissions-exporter {__version__}\n"


def test_a_package_inside_another_repository_does_not_have_its_revision(clone, monkeypatch):
    monkeypatch.setattr(revision, "PACKAGE", str(clone / "venv" / "site-packages" / "exporter"))
    assert revision.revision() == ""


def test_without_git_it_is_left_out(clone, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert revision.revision() == ""


def test_a_repository_that_git_cannot_read_has_none(clone):
    (clone / ".git" / "HEAD").unlink()
    assert revision.revision() == ""


def test_the_start_of_a_daemon_does_not_import_what_asks_git():
    program = "import exporter.cli.serve, sys; print('subprocess' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
