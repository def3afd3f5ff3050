"""`once`: sample twice, print the metrics and exit. Totals begin at zero and are not stored."""

import argparse
import dataclasses
import os
import sys
import tempfile
import time
from typing import Any

from exporter.cli.config_flags import add_config_flags, config_from_options, located
from exporter.cli.logging_setup import configure_logging


def add(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser("once", help="Print metrics and exit.", description=__doc__)
    add_config_flags(parser)
    parser.set_defaults(main=main)


def main(options: argparse.Namespace) -> int:
    """Print the metrics page; logs go to standard error."""
    config = config_from_options(options)
    configure_logging(config.expose.log_level, config.expose.log_format)
    from exporter.daemon import Daemon

    with tempfile.TemporaryDirectory(prefix="emissions-exporter-") as directory:
        account = dataclasses.replace(config.account, state_directory=directory)
        config = dataclasses.replace(config, account=account)
        with located(options):
            app = Daemon(config, os.environ, settings_file=options.config_file or "")
        page = app.run_once(lambda: time.sleep(config.sample.interval_seconds))
    sys.stdout.buffer.write(page)
    sys.stdout.buffer.flush()
    return 0
