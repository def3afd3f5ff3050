"""`healthcheck`: whether the daemon's loop is alive, as an exit code."""

import argparse
import http.client
import sys
from typing import Any

from exporter.cli.settings import add_flags, settings
from exporter.config import PORT

TIMEOUT_SECONDS = 5.0


def add(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "healthcheck", help="Ask the daemon whether it is alive.", description=__doc__
    )
    add_flags(parser)
    parser.set_defaults(main=main)


def main(options: argparse.Namespace) -> int:
    """Exit code 0 if the daemon that these settings describe is healthy, else 1."""
    host, _, port = settings(options).expose.listen_address.rpartition(":")
    host = host.strip("[]")
    local = "localhost" if host in ("", "0.0.0.0", "::") else host  # noqa: S104  compared only
    connection = http.client.HTTPConnection(local, int(port or PORT), timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/-/healthy")
        response = connection.getresponse()
        text = response.read().decode().strip()
    except (OSError, http.client.HTTPException) as error:
        print(f"emissions-exporter: {local}:{port} does not answer: {error}", file=sys.stderr)
        return 1
    finally:
        connection.close()
    print(text)
    return 0 if response.status == http.client.OK else 1
