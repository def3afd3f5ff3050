"""A user without rights gets all that can be had, and is told what cannot and how to allow it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.feeder import Package, PowercapTree
from tests.real.parts import COMMAND, REPOSITORY, free_port, get, let_others_in, until

NOBODY = 65534


def as_nobody(command: list[str], home: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        command,
        cwd=REPOSITORY,
        env={
            "HOME": str(home),
            "PATH": "/usr/bin:/bin",
            "TMPDIR": str(home),
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        stderr=subprocess.PIPE,
    )


@pytest.fixture
def home(tmp_path):
    """A home that another user can reach, or a skip."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    let_others_in(tmp_path)
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    try:
        probe = as_nobody([sys.executable, "-c", "import exporter.daemon"], home)
    except PermissionError:
        pytest.skip(f"other users may not run {sys.executable}")
    _, error = probe.communicate(timeout=30)
    if probe.returncode:
        pytest.skip(f"other users cannot use {sys.executable}: {error.decode().splitlines()[-1]}")
    return home


@pytest.fixture
def answer(home, tmp_path):
    """What a daemon of nobody shows on a host whose counters only root may read."""
    sysfs = tmp_path / "sys"
    with PowercapTree(str(sysfs), [Package(100, 20)]):
        for counter in sysfs.rglob("energy_uj"):
            counter.chmod(0o400)
        port = free_port()
        daemon = as_nobody(
            [*COMMAND, "serve", f"--path.sysfs={sysfs}", f"--web.listen-address=127.0.0.1:{port}"],
            home,
        )
        try:
            until(lambda: get(f"http://127.0.0.1:{port}/-/ready"))
            run = as_nobody([*COMMAND, "run", "--run-id=mine", "--", "true"], home)
            _, receipt = run.communicate(timeout=30)
            snapshot = json.loads(get(f"http://127.0.0.1:{port}/api/v1/snapshot"))
        finally:
            daemon.terminate()
            daemon.communicate(timeout=20)
    return snapshot, receipt.decode(), daemon.returncode


def test_a_user_measures_runs_and_is_told_how_to_read_the_counters(answer, home):
    snapshot, receipt, code = answer
    assert "Run mine" in receipt
    assert "estimated" in receipt
    remedy = " ".join(snapshot["notes"])
    assert "rapl" in remedy
    assert "root" in remedy
    assert "chmod" in remedy or "udev" in remedy
    assert (home / ".local/state/emissions-exporter/ledger.sqlite").exists()
    assert code == 0
