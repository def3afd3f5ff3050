"""A state directory with files of another user: the error names file and remedy."""

import os
import pwd
import re
import subprocess
import sys

import pytest

from exporter.account.database import FILES
from exporter.account.ledger import Ledger

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")

OTHER = pwd.getpwnam("nobody")
OPEN = """
import os, sys
directory, uid = sys.argv[1], int(sys.argv[2])
from exporter.account.journal import Journal
from exporter.account.ledger import Ledger
from exporter.errors import LedgerError
import encodings.ascii, pwd
os.setgroups([])
os.setresgid(uid, uid, uid)
os.setresuid(uid, uid, uid)
try:
    ledger = Ledger(directory, 0.0)
    ledger.start()
    Journal(os.path.join(directory, "journal")).read()
except LedgerError as error:
    print(error)
"""


def _made(tmp_path):
    """A state directory of the other user, below directories that everybody may enter."""
    for above in (tmp_path, *tmp_path.parents):
        if above.name.startswith(("pytest-", "popen-", "test_")):
            above.chmod(0o755)
    directory = tmp_path / "state"
    Ledger(str(directory), 0.0).close()
    for path in (directory, *directory.iterdir()):
        os.chown(path, OTHER.pw_uid, OTHER.pw_gid)
    return directory


def said_by_other(directory, uid=OTHER.pw_uid):
    command = [sys.executable, "-c", OPEN, str(directory), str(uid)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", [name for name in FILES if name != "journal"])
def test_the_file_that_belongs_to_root_is_named_with_the_command_to_run(tmp_path, name):
    directory = _made(tmp_path)
    if not (directory / name).exists():
        (directory / name).touch()
    (directory / name).chmod(0o600)
    os.chown(directory / name, 0, 0)
    said = said_by_other(directory)
    assert f"{directory / name} belongs to root, and this process runs as nobody: " in said
    assert f"`chown -R nobody: {directory}`" in said


def test_a_user_without_a_name_is_given_with_a_group_which_chown_requires(tmp_path):
    directory = _made(tmp_path)
    (directory / "ledger.sqlite").chmod(0o600)
    said = said_by_other(directory, uid=64999)
    (owner,) = re.findall(r"chown -R (\S+) ", said)
    subprocess.run(["chown", "-R", owner, str(directory)], check=True)
    assert directory.stat().st_uid == 64999


def test_a_journal_that_belongs_to_root_is_named(tmp_path):
    directory = _made(tmp_path)
    (directory / "journal").touch(0o600)
    said = said_by_other(directory)
    assert f"{directory}/journal belongs to root, and this process runs as nobody: " in said


def test_a_directory_that_belongs_to_root_is_named(tmp_path):
    directory = _made(tmp_path)
    (directory / "lock").unlink()
    os.chown(directory, 0, 0)
    directory.chmod(0o700)
    assert f"{directory} belongs to root, " in said_by_other(directory)


def test_a_directory_that_cannot_be_created_has_an_error_of_its_own(tmp_path):
    _made(tmp_path)
    missing = tmp_path / "a" / "b"
    said = said_by_other(missing)
    assert said.startswith(f"state directory {missing} cannot be created: Permission denied; ")
    assert f"`install -d -m 0700 -o nobody {missing}`" in said


def test_a_user_without_a_name_is_a_number(tmp_path):
    directory = _made(tmp_path)
    said = said_by_other(directory, 12_345)
    assert "belongs to nobody, and this process runs as 12345: " in said


def test_files_of_the_own_user_are_no_reason(tmp_path):
    assert said_by_other(_made(tmp_path)) == ""
