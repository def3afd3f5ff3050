"""Fixtures: certificates, and sites with TLS."""

import socket
import ssl

import pytest

from tests.certificates import Authority
from tests.unit.expose.conftest import SOON


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def pair(authority):
    """Certificate and key of a server on loopback."""
    return authority.sign("server", "DNS:localhost", "IP:127.0.0.1")


@pytest.fixture
def secure(open_site, made, pair, tmp_path):
    """Starts a site with a snapshot, TLS and further web config."""

    def start(*more, rest="", **limits):
        path = tmp_path / "web.yml"
        lines = [f"cert_file: {pair[0]}", f"key_file: {pair[1]}", *more]
        path.write_text("tls_server_config:\n  " + "\n  ".join(lines) + "\n" + rest)
        site = open_site(path, **limits)
        site.web_config = path
        site.board.publish(made.gpu_node())
        return site

    return start


@pytest.fixture
def client(authority):
    """Builds the context of a client that trusts the CA."""

    def make(*certificate, version=None):
        context = ssl.create_default_context(cafile=authority.path)
        if certificate:
            context.load_cert_chain(*certificate)
        if version:
            context.minimum_version = context.maximum_version = version
        return context

    return make


def fetch(site, context, target="/-/ready", header=""):
    """Return the status line of a response and the TLS version."""
    with (
        socket.create_connection(site.address, timeout=SOON) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        head = f"GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{header}\r\n"
        connection.sendall(head.encode())
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
        return received, connection.version()


@pytest.fixture(scope="session")
def get():
    return fetch
