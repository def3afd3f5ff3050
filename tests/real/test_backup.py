"""The backup and the restore of docs/operations.md, line by line."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.real.parts import REPOSITORY, Daemon, until

pytestmark = pytest.mark.beside

PAGE = (REPOSITORY / "docs" / "operations.md").read_text(encoding="utf-8")
SECTION = PAGE.split("## Backup and restore")[1].split("\n## ")[0]
COMMANDS = [line.strip() for line in re.findall(r"^    (.+)$", SECTION, re.MULTILINE)]


def shell(command: str, state: Path, copy: Path) -> None:
    command = command.replace("/var/lib/emissions-exporter", str(state))
    command = command.replace("/var/backups/emissions-exporter", str(copy))
    command = command.replace("python3", sys.executable)
    subprocess.run(["bash", "-c", command], cwd=state, check=True)


def runs(daemon: Daemon) -> set[str]:
    return {run["run_id"] for run in daemon.json("/api/v1/runs?limit=10")["runs"]}


def record(daemon: Daemon, name: str) -> None:
    socket = f"--socket.path={daemon.socket}"
    command = [sys.executable, "-m", "exporter", "run", socket, f"--run-id={name}", "--", "true"]
    subprocess.run(command, check=True, cwd=REPOSITORY, capture_output=True)


def test_a_backup_of_a_running_daemon_is_restored(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    make, enter, backup, remove, replace = COMMANDS
    assert enter.startswith("cd ")
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"attribute": {"read_environments": False}}))
    daemon = Daemon(tmp_path, f"--config.file={config}")
    request.addfinalizer(daemon.stop)
    state, copy = tmp_path / "state", tmp_path / "copy"
    daemon.start()
    record(daemon, "before")
    daemon.stop()
    daemon.start()
    shell(make, state, copy)
    shell(backup, state, copy)
    assert (copy / "ledger.sqlite").stat().st_mode & 0o777 == 0o600
    record(daemon, "after")
    daemon.pass_ticks(2)
    assert runs(daemon) == {"before", "after"}
    counted = {id_: each["counted"]["energy_uj"] for id_, each in daemon.devices().items()}
    daemon.stop()

    shell(remove, state, copy)
    shell(replace, state, copy)
    daemon.start()
    assert "counters begin at zero" in daemon.log()
    assert runs(daemon) == {"before"}
    begun = daemon.devices()
    until(lambda: all(each["counted"]["energy_uj"] for each in daemon.devices().values()))
    assert all(begun[id_]["counted"]["energy_uj"] < energy for id_, energy in counted.items())
    assert daemon.stop() == 0
