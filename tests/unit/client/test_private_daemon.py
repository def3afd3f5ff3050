"""A daemon of one's own, with a stand-in for the daemon."""

import os
import sys

import pytest

from exporter.client import private_daemon
from exporter.client.errors import AgentUnreachable

STAND_IN = """\
#!{python}
import json, os, socket, sys
path = next(a for a in sys.argv if a.startswith("--socket.path=")).partition("=")[2]
facts = dict(argv=sys.argv[1:], env=dict(os.environ), cwd=os.getcwd(), sid=os.getsid(0))
beside = os.path.dirname(path)
with open(f"{{beside}}/facts.json", "w") as file: json.dump(facts, file)
print("a word for the log", file=sys.stderr, flush=True)
if os.path.exists(f"{{beside}}/broken"): sys.exit(1)
with socket.socket(socket.AF_UNIX) as listener:
    listener.bind(path); listener.listen()
    listener.settimeout(20)
    listener.accept()
"""


@pytest.fixture
def place(nobody, monkeypatch, tmp_path):
    """Where the daemon's socket will be."""
    program = tmp_path / "python"
    program.write_text(STAND_IN.format(python=sys.executable))
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setattr(private_daemon, "START_TIMEOUT_SECONDS", 60.0)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "emissions-exporter"


def facts_of(place):
    import json

    return json.loads((place / "facts.json").read_text())


def test_it_listens_at_the_users_socket_and_nowhere_else(place):
    path = private_daemon.start_private_daemon(os.environ)
    assert path == str(place / "agent.sock")
    assert facts_of(place)["argv"] == [
        *("-m", "exporter", "serve", "--web.listen-address=none"),
        *(f"--socket.path={path}", "--exit-when-idle=30"),
    ]


def test_its_directory_is_the_users_alone_and_has_its_log(place):
    private_daemon.start_private_daemon(os.environ)
    assert place.stat().st_mode & 0o777 == 0o700
    assert (place / "daemon.log").read_text() == "a word for the log\n"


def test_it_knows_of_no_run_or_job(place):
    foreign = ("EMISSIONS_RUN_ID", "EMISSIONS_LABELS", "WANDB_RUN_ID", "SLURM_JOB_ID", "SLURM_X")
    private_daemon.start_private_daemon(
        {**os.environ, **dict.fromkeys(foreign, "7"), "KEPT": "yes"}
    )
    environment = facts_of(place)["env"]
    assert not environment.keys() & set(foreign)
    assert environment["KEPT"] == "yes"


def test_it_is_no_part_of_the_programs_session_and_directory(place):
    private_daemon.start_private_daemon(os.environ)
    facts = facts_of(place)
    assert facts["cwd"] == "/"
    assert facts["sid"] != os.getsid(0)


def test_one_that_does_not_come_up_is_said_with_its_log(place, monkeypatch):
    place.mkdir(0o700)
    (place / "broken").touch()
    monkeypatch.setattr(private_daemon, "START_TIMEOUT_SECONDS", 0.1)
    with pytest.raises(AgentUnreachable, match=r"does not answer; see .*daemon\.log"):
        private_daemon.start_private_daemon(os.environ)


def test_one_that_ends_at_once_is_not_waited_for_and_its_last_words_are_said(place, monkeypatch):
    place.mkdir(0o700)
    (place / "broken").touch()
    monkeypatch.setattr(private_daemon, "START_TIMEOUT_SECONDS", 3600.0)
    monkeypatch.setattr(private_daemon, "OTHERS_SECONDS", 0.0)
    with pytest.raises(AgentUnreachable, match=r"daemon\.log; last line: a word for the log$"):
        private_daemon.start_private_daemon(os.environ)
