"""A machine that was suspended, shown by a time namespace: the sleep costs no energy."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real import parts
from tests.real.parts import COMMAND, Daemon, until

SLEEP_SECONDS = 8 * 3_600
SUSPENDED = ["unshare", "--time", f"--boottime={SLEEP_SECONDS}", "--fork", "--kill-child"]
"""Runs a command where only the clock that counts a suspend is ahead."""


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    if shutil.which("unshare") is None:
        pytest.skip("no unshare(1) on this machine")
    if subprocess.run([*SUSPENDED, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not make time namespaces")
    empty = tmp_path / "sys"
    empty.mkdir()
    daemon = Daemon(tmp_path / "daemon", f"--path.sysfs={empty}")
    yield daemon.start()
    daemon.kill()  # unshare hears no other signal, and takes its child with it


def test_a_suspend_while_the_daemon_was_away_is_booked_as_no_energy(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = until(lambda: powered(daemon), what="the power of the memory is known")
    began = time.monotonic()
    daemon.kill()
    monkeypatch.setattr(parts, "COMMAND", [*SUSPENDED, *COMMAND])
    daemon.start()
    after = until(lambda: powered(daemon))
    awake_seconds = time.monotonic() - began
    gained_uj = after["counted"]["energy_uj"] - before["counted"]["energy_uj"]
    assert 0 < gained_uj < before["power_watts"] * (awake_seconds + 2) * 1e6
    assert daemon.json("/api/v1/snapshot")["health"]["imbalance_uj"] == 0


def powered(daemon: Daemon) -> dict | None:
    memory = daemon.devices()["package-0-dram"]
    return memory if memory["power_watts"] else None
