"""Opening of listening sockets."""

import errno
import os
import socket
import stat

import pytest

from exporter.errors import ConfigError
from exporter.expose.http import listeners
from exporter.expose.http.listeners import listen_tcp, listen_unix, parse_address


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        (":10680", ("", 10680)),
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("[::1]:9", ("::1", 9)),
        ("node.example:80", ("node.example", 80)),
    ],
)
def test_addresses_are_parsed(address, parts):
    assert parse_address(address) == parts


@pytest.mark.parametrize("address", ["10680", "::1:9", "host:", "host:http", "host:65536", "h:-1"])
def test_an_invalid_address_is_rejected_with_the_flag(address):
    with pytest.raises(ConfigError, match=r"--web\.listen-address="):
        parse_address(address)


def test_no_host_means_every_address():
    (listener,) = listen_tcp(":0")
    with listener:
        port = listener.getsockname()[1]
        socket.create_connection(("127.0.0.1", port), timeout=10).close()
        if listener.family == socket.AF_INET6:
            socket.create_connection(("::1", port), timeout=10).close()


def test_without_ipv6_every_address_is_ipv4(monkeypatch):
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    (listener,) = listen_tcp(":0")
    with listener:
        assert listener.family == socket.AF_INET


def test_an_address_of_another_machine_is_rejected():
    with pytest.raises(ConfigError, match="listen: Cannot assign requested address; choose an add"):
        listen_tcp("192.0.2.1:0")


def test_a_privileged_port_is_rejected_with_the_remedy(monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied (while attempting to bind on ...)")

    monkeypatch.setattr(socket, "create_server", refuse)
    with pytest.raises(
        ConfigError, match="listen: Permission denied; ports below 1024 require root"
    ):
        listen_tcp("127.0.0.1:80")


def test_a_port_in_use_is_rejected_for_every_address():
    taken = socket.create_server(("", 0))
    with taken, pytest.raises(ConfigError, match="address in use by another program"):
        listen_tcp(f":{taken.getsockname()[1]}")


def test_an_unknown_host_is_rejected(monkeypatch):
    def unknown(*args, **kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(ConfigError, match=r"cannot resolve nowhere.example"):
        listen_tcp("nowhere.example:1")


def test_anyone_may_connect_to_the_agent_socket(tmp_path):
    path = str(tmp_path / "agent.sock")
    with listen_unix(path):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o666


@pytest.mark.parametrize(("uid", "mode"), [(0, 0o755), (None, 0o700)])
def test_the_directory_is_open_for_all_only_if_it_is_roots(tmp_path, monkeypatch, uid, mode):
    mine = os.geteuid()
    monkeypatch.setattr(listeners.os, "geteuid", lambda: 0 if uid == 0 else mine or 1000)
    monkeypatch.setattr(listeners, "_check_owner", lambda *_: None)
    path = tmp_path / "new" / "agent.sock"
    with listen_unix(str(path)):
        assert stat.S_IMODE(path.parent.stat().st_mode) == mode


def test_a_stale_socket_file_is_replaced(tmp_path):
    path = str(tmp_path / "agent.sock")
    listen_unix(path).close()
    with listen_unix(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


def test_a_socket_in_use_is_not_replaced(tmp_path):
    path = str(tmp_path / "agent.sock")
    with listen_unix(path), socket.socket(socket.AF_UNIX) as client:
        with pytest.raises(ConfigError, match="in use by another daemon"):
            listen_unix(path)
        client.connect(path)


def test_a_file_at_the_socket_path_is_not_deleted(tmp_path):
    path = tmp_path / "agent.sock"
    path.write_text("precious")
    with pytest.raises(ConfigError, match="a file that is not a socket exists there"):
        listen_unix(str(path))
    assert path.read_text() == "precious"


def test_a_directory_of_another_user_is_rejected(tmp_path, monkeypatch):
    monkeypatch.setattr(listeners.os, "geteuid", lambda: 4_000_000)
    os.chown(tmp_path, 4_000_001, -1) if os.getuid() == 0 else None
    with pytest.raises(ConfigError, match="belongs to user"):
        listen_unix(str(tmp_path / "agent.sock"))


def test_a_path_that_is_too_long_is_rejected(tmp_path):
    with pytest.raises(ConfigError, match=r"the limit of the kernel is 107; choose a shorter"):
        listen_unix(str(tmp_path / ("x" * 200)))
