"""`healthcheck`: whether the daemon's loop is alive, as an exit code."""

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
TIMEOUT_SECONDS = 20.0
"""A daemon that gets little CPU time answers late."""
WILDCARD_HOSTS = ("", "0.0.0.0", "::")  # noqa: S104  compared only


def probe_daemon(socket_path: str, address: str, *, may_be_encrypted: bool) -> tuple[bool, str]:
    """Whether it is alive, and its words; else why it did not answer.

    Its agent socket is asked, which needs no certificate; where that does not answer, `address`,
    unless that is empty. Raises ConfigError.
    """
    doors: list[tuple[str, http.client.HTTPConnection]] = []
    if os.path.exists(socket_path):
        doors.append((socket_path, UnixConnection(socket_path, TIMEOUT_SECONDS)))
    if address:
        host, port = parse_address(address)
        local = "localhost" if host in WILDCARD_HOSTS else host
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
        connection.request("GET", HEALTH_PATH)
        response = connection.getresponse()
        return response.status == http.client.OK, response.read().decode().strip()
    finally:
        connection.close()


SETTINGS = ("expose.socket", "expose.listen_address", "expose.web_config_file")
"""Where the daemon answers. Its other flags are accepted too, for scripts that give all of them."""


def add(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "healthcheck", help="Ask the daemon whether it is alive.", description=__doc__
    )
    add_config_flags(parser, SETTINGS)
    parser.set_defaults(main=main)


def main(options: argparse.Namespace) -> int:
    """Exit code 0 if the daemon that these settings describe is healthy, else 1."""
    expose = config_from_options(options).expose
    is_well, said = probe_daemon(
        expose.socket,
        "" if expose.listen_address == NO_LISTENER else expose.listen_address,
        may_be_encrypted=bool(expose.web_config_file),
    )
    if is_well:
        print(said)
        return 0
    print(f"emissions-exporter: {said}", file=sys.stderr)
    return 1
