"""`healthcheck`: whether the daemon's loop is alive, as an exit code."""

import argparse
import sys
from typing import Any

from exporter.cli.settings import add_flags, settings
from exporter.config import NOWHERE
from exporter.expose.http.probe import ask

SETTINGS = ("expose.socket", "expose.listen_address", "expose.web_config_file")
"""Where the daemon answers. Its other flags are accepted too, for scripts that give all of them."""


def add(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "healthcheck", help="Ask the daemon whether it is alive.", description=__doc__
    )
    add_flags(parser, SETTINGS)
    parser.set_defaults(main=main)


def main(options: argparse.Namespace) -> int:
    """Exit code 0 if the daemon that these settings describe is healthy, else 1."""
    expose = settings(options).expose
    is_well, said = ask(
        expose.socket,
        "" if expose.listen_address == NOWHERE else expose.listen_address,
        may_be_encrypted=bool(expose.web_config_file),
    )
    if is_well:
        print(said)
        return 0
    print(f"emissions-exporter: {said}", file=sys.stderr)
    return 1
