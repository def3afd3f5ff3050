"""Asking a daemon on this machine whether it is alive, however it is told to serve."""

import http.client
import os
import socket
import ssl

from exporter.expose.http.listen import parse_address

PATH = "/-/healthy"
TIMEOUT_SECONDS = 20.0
"""A daemon that gets little CPU time answers late."""
EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104  compared only


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a UNIX socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket's path."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ask(socket_path: str, address: str, *, may_be_encrypted: bool) -> tuple[bool, str]:
    """Whether it is alive, and its words; else why it did not answer.

    Its agent socket is asked, which needs no certificate; where that does not answer, `address`,
    unless that is empty. Raises ConfigError.
    """
    doors: list[tuple[str, http.client.HTTPConnection]] = []
    if os.path.exists(socket_path):
        doors.append((socket_path, _UnixConnection(socket_path)))
    if address:
        host, port = parse_address(address)
        local = "localhost" if host in EVERYWHERE else host
        if may_be_encrypted:
            # It asks itself: whose certificate that is, is no question.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            secure = http.client.HTTPSConnection(
                local, port, timeout=TIMEOUT_SECONDS, context=context
            )
            doors.append((f"https://{local}:{port}", secure))
        plain = http.client.HTTPConnection(local, port, timeout=TIMEOUT_SECONDS)
        doors.append((f"{local}:{port}", plain))
    tried = []
    for name, connection in doors:
        try:
            return _exchange(connection)
        except (OSError, http.client.HTTPException) as error:
            tried.append(f"{name} does not answer: {error}")
    return False, "; ".join(tried) or f"{socket_path} is not there, and there is no TCP"


def _exchange(connection: http.client.HTTPConnection) -> tuple[bool, str]:
    try:
        connection.request("GET", PATH)
        response = connection.getresponse()
        return response.status == http.client.OK, response.read().decode().strip()
    finally:
        connection.close()
