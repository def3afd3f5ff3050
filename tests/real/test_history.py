"""Runs are still there when the daemon that measured them has ended, on a machine without another.

The commands are told of another place for the system's daemon, which this machine may have.
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.parts import LONG_SECONDS, REPOSITORY, Daemon, busy, spin, until

PROGRAM = """
import sys
from exporter.cli import run_sources
from exporter.client import sockets
sockets.SYSTEM_SOCKET = run_sources.SYSTEM_STATE_DIRECTORY = "/nowhere"
"""
COMMAND = "from exporter.cli.main import main\nsys.exit(main(sys.argv[1:]))"
SPIN = "while time.process_time() < 1: pass"


class Home:
    """A user's home and runtime directory, and what the user does there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = root / ".local" / "state" / "emissions-exporter"
        (root / "runtime").mkdir()
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("EMISSIONS_", "XDG_"))
        }
        self.environment |= {
            "HOME": str(root),
            "XDG_RUNTIME_DIR": str(root / "runtime"),
            "PYTHONPATH": str(REPOSITORY),
            "EMISSIONS_EXPORTER_ATTRIBUTE_READ_ENVIRONMENTS": "false",
        }

    def python(self, text: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-c", PROGRAM + textwrap.dedent(text), *arguments],
            env=self.environment,
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=LONG_SECONDS,
            check=False,
        )

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return self.python(COMMAND, *arguments)

    def report(self, run_id: str) -> dict[str, Any]:
        done = self.command("report", run_id, "--format=json")
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def end_daemon(self, number: int = signal.SIGTERM) -> None:
        """End the daemon that was started for the user."""
        os.kill(int((self.state / "lock").read_text()), number)
        until(lambda: not self.has_daemon(), what="the daemon ends")

    def has_daemon(self) -> bool:
        """Whether one holds the lock of the state directory."""
        if not (self.state / "lock").exists():
            return False
        with (self.state / "lock").open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path)
    yield made
    if made.has_daemon():
        made.end_daemon()


def test_a_run_without_a_daemon_is_measured_and_its_history_stays(home: Home) -> None:
    done = home.command(
        *("run", "--run-id=hello", "--budget-grams=0.000001", "--"),
        *("sh", "-c", f"{sys.executable} -S -c 'import time\n{SPIN}'; exit 3"),
    )
    assert done.returncode == 3, done.stderr
    assert "\nRun hello\n" in done.stderr
    assert "  budget     exceeded by " in done.stderr
    measured = home.report("hello")
    assert measured["energy_uj"] > 0
    home.end_daemon()
    kept = home.report("hello")
    for name in ("energy_uj", "carbon_ng", "held_uj", "parts", "started", "ended", "node"):
        assert kept[name] == measured[name], name
    assert kept["budget_exceeded"] is True
    for command in (["runs"], ["runs", "--by=user"], ["leaderboard"], ["report", "hello"]):
        said = home.command(*command)
        assert said.returncode == 0, said.stderr
        assert f"reading runs from {home.state}/ledger.sqlite\n" in said.stderr
        assert len(said.stderr.splitlines()) == 1
    card = home.command("card", "write", "README.md", "hello")
    assert card.returncode == 0, card.stderr
    assert "emissions-exporter" in (home.root / "README.md").read_text()


def test_the_history_of_track_stays_and_the_next_run_is_added_to_it(home: Home) -> None:
    program = """
        import time
        from exporter.client import track
        tracker = track(sys.argv[1], run_id=sys.argv[1], receipts=None)
        run = tracker.start()
        while time.process_time() < 1: pass
        run.log(accuracy=0.5)
        run.stop()
        print(tracker.energy_joules)
    """
    joules = []
    for name in ("first", "second"):
        done = home.python(program, name)
        assert done.returncode == 0, done.stderr
        joules.append(float(done.stdout))
        home.end_daemon()
    found = json.loads(home.command("runs", "--format=json").stdout)
    assert [each["run_id"] for each in found] == ["second", "first"]
    assert [each["energy_joules"] for each in found] == pytest.approx(joules[::-1])
    (user,) = json.loads(home.command("runs", "--by=user", "--format=json").stdout)
    assert user["energy_uj"] == sum(each["energy_uj"] for each in found)
    assert found[0]["logged"] == {"accuracy": 0.5}


def test_what_a_killed_daemon_did_not_commit_is_said_to_be_missing_until_the_next_one(
    home: Home,
) -> None:
    done = home.command("run", "--run-id=lost", "--", *spin(1))
    assert done.returncode == 0
    measured = home.report("lost")
    home.end_daemon(signal.SIGKILL)
    said = home.command("runs", "--format=json")
    assert "ledger.sqlite does not contain the energy used " in said.stderr
    kept = [each["energy_uj"] for each in json.loads(said.stdout) if each["run_id"] == "lost"]
    assert sum(kept) <= measured["energy_uj"]
    assert home.command("run", "--run-id=next", "--", "true").returncode == 0
    home.end_daemon()
    said = home.command("runs", "--format=json")
    assert "lacks" not in said.stderr
    energies = {each["run_id"]: each["energy_uj"] for each in json.loads(said.stdout)}
    assert energies["lost"] == measured["energy_uj"]


def test_a_daemon_that_writes_meanwhile_is_not_disturbed(home: Home, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"account": {"commit_seconds": 1}}))
    daemon = Daemon(tmp_path / "daemon", f"--config.file={config}").start()
    try:
        run = daemon.run("--run-id=long", "--", *busy(4))
        seen: list[int] = []
        while run.poll() is None:
            said = home.command("runs", "--format=json", f"--path.state={daemon.directory}/state")
            assert said.returncode == 0, said.stderr
            seen += [
                each["energy_uj"] for each in json.loads(said.stdout) if each["run_id"] == "long"
            ]
        run.communicate()
        measured = daemon.json("/api/v1/runs/long")["energy_uj"]
        assert seen == sorted(seen)
        assert len(set(seen)) > 1
        assert daemon.json("/api/v1/snapshot")["health"]["ledger_errors"] == 0
    finally:
        daemon.stop()
    assert "level=error" not in daemon.log()
    kept = home.command("report", "long", "--format=json", f"--path.state={daemon.directory}/state")
    assert json.loads(kept.stdout)["energy_uj"] == measured
