"""Where a replay keeps what it writes."""

import os

import pytest

from exporter import daemon
from exporter.cli import main as command
from exporter.client.sockets import default_socket

VARIABLE = "EMISSIONS_EXPORTER_EXPOSE_SOCKET"


@pytest.fixture
def played(monkeypatch):
    """The settings of the daemons that a replay would start."""
    found = []

    class Daemon:
        def __init__(self, config, _environment, **_named):
            found.append(config)

        def serve(self, ready):
            ready(["http://localhost:1/"], found[-1])

    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(daemon, "Daemon", Daemon)
    return found


def test_a_replay_has_an_agent_socket_of_its_own_and_says_how_to_ask_it(played, capsys):
    assert command.main(["replay", "mig-node"]) == 0
    assert command.main(["replay", "mig-node"]) == 0
    sockets = [config.expose.socket for config in played]
    assert default_socket() not in sockets
    assert len(set(sockets)) == 2
    for config in played:
        assert os.path.dirname(config.expose.socket) == config.account.state_directory
    assert f"runs --socket.path={sockets[0]}` lists them" in capsys.readouterr().out


def test_a_socket_that_is_set_is_used(played, monkeypatch, tmp_path):
    path = str(tmp_path / "agent.sock")
    assert command.main(["replay", f"--socket.path={path}"]) == 0
    file = tmp_path / "config.yaml"
    file.write_text(f"expose: {{socket: {path}}}\n")
    assert command.main(["replay", f"--config.file={file}"]) == 0
    assert command.main(["replay", f"--socket.path={default_socket()}"]) == 0
    monkeypatch.setenv(VARIABLE, default_socket())
    assert command.main(["replay"]) == 0
    assert [config.expose.socket for config in played] == [path, path, *[default_socket()] * 2]
