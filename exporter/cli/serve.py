"""`serve`: the daemon, in the foreground, until SIGTERM."""

import argparse
import logging
import os
from typing import Any

from exporter.cli.logs import set_up
from exporter.cli.settings import add_flags, settings


def add(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser("serve", help="Run the daemon.", description=__doc__)
    add_flags(parser)
    parser.set_defaults(main=main)


def main(options: argparse.Namespace) -> int:
    """Run the daemon. Without file and flags it works with what the machine has."""
    config = settings(options)
    set_up(config.expose.log_level, config.expose.log_format)
    from exporter.app import App

    if not App(config, os.environ).serve():
        logging.shutdown()
        os._exit(0)  # a thread that hangs on a disk would hold us for ever
    return 0
