"""`healthcheck`: exit with 0 if the daemon is healthy, else with 1."""

import argparse
import http.client
import os
import ssl
import sys
from typing import Any

from exporter.cli.config_flags import add_config_flags, config_from_options
from exporter.client.agent_client import UnixConnection
from exporter.config import NO_LISTENER
from exporter.expose.http.listeners import parse_address

HEALTH_PATH = "/-/healthy"
MAX_ANSWER_BYTES = 4096
TIMEOUT_SECONDS = 20.0
"""Generous, because a daemon with little CPU time answers late."""
WILDCARD_HOSTS = ("", "0.0.0.0", "::")  # noqa: S104  compared only


def probe_daemon(socket_path: str, address: str, *, may_be_encrypted: bool) -> tuple[bool, str]:
    """Return whether the daemon is healthy, and its answer or the error.

    Tries the agent socket first, which requires no certificate, then `address` unless it is empty.
    Raises ConfigError.
    """
    endpoints: list[tuple[str, http.client.HTTPConnection]] = []
    if os.path.exists(socket_path):
        endpoints.append((socket_path, UnixConnection(socket_path, TIMEOUT_SECONDS)))
    if address:
        host, port = parse_address(address)
        local = "localhost" if host in WILDCARD_HOSTS else host
        if may_be_encrypted:
            # The probe connects to its own host, so the certificate is not verified.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            secure = http.client.HTTPSConnection(
                local, port, timeout=TIMEOUT_SECONDS, context=context
            )
            endpoints.append((f"https://{local}:{port}", secure))
        plain = http.client.HTTPConnection(local, port, timeout=TIMEOUT_SECONDS)
        endpoints.append((f"{local}:{port}", plain))
    failures = []
    for name, connection in endpoints:
        try:
            return _exchange(connection)
        except (OSError, http.client.HTTPException) as error:
            # a TLS port closes a connection that begins with plain HTTP
            is_closed = isinstance(error, http.client.RemoteDisconnected)
            hint = "; if it requires TLS, set expose.web_config_file" if is_closed else ""
            failures.append(f"{name} does not answer: {error}{hint}")
    return False, "; ".join(failures) or (
        f"socket {socket_path} does not exist, and the TCP listener is disabled"
    )


def _exchange(connection: http.client.HTTPConnection) -> tuple[bool, str]:
    try:
        connection.request("GET", HEALTH_PATH)
        response = connection.getresponse()
        text = response.read(MAX_ANSWER_BYTES).decode("utf-8", "replace").strip()
        return response.status == http.client.OK, text
    finally:
        connection.close()


SETTINGS = ("expose.socket", "expose.listen_address", "expose.web_config_file")
"""Settings of the daemon's endpoints. All other flags of `serve` are accepted and ignored."""


def add(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "healthcheck", help="Check whether the daemon is healthy.", description=__doc__
    )
    add_config_flags(parser, SETTINGS)
    parser.set_defaults(main=main)


def main(options: argparse.Namespace) -> int:
    """Return 0 if the daemon with these settings is healthy, else 1."""
    expose = config_from_options(options).expose
    is_healthy, answer = probe_daemon(
        expose.socket,
        "" if expose.listen_address == NO_LISTENER else expose.listen_address,
        may_be_encrypted=bool(expose.web_config_file),
    )
    if is_healthy:
        print(answer)
        return 0
    print(f"emissions-exporter: {answer}", file=sys.stderr)
    return 1
