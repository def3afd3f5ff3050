"""`serve`: the daemon, in the foreground, until SIGTERM."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

from exporter.cli.logs import set_up
from exporter.cli.settings import add_flags, settings
from exporter.config import Config
from exporter.errors import ConfigError

log = logging.getLogger(__name__)


def add(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser("serve", help="Run the daemon.", description=__doc__)
    add_flags(parser)
    parser.set_defaults(main=main)


def main(options: argparse.Namespace) -> int:
    """Run the daemon; SIGHUP begins anew with the settings as they are then."""
    config = settings(options)
    set_up(config.expose.log_level, config.expose.log_format)
    from exporter.app import App

    while True:
        app = App(config, os.environ)
        if not app.serve(greet):
            logging.shutdown()
            os._exit(0)  # a thread that hangs on a disk would hold us for ever
        if not app.reload:
            return 0
        config = _reread(options, config)


def _reread(options: argparse.Namespace, config: Config) -> Config:
    """The settings as they are now; those in force where they are not usable."""
    try:
        return settings(options)
    except ConfigError as error:
        log.error("settings not reloaded, the old ones stay: %s", error)  # noqa: TRY400  no defect
        return config


def greet(urls: Sequence[str]) -> None:
    """Say where the live page is, and how to try a run, ready to be copied."""
    program = sys.argv[0] if not sys.argv[0].endswith("__main__.py") else "python3 -m exporter"
    for url in urls:
        print(f"live page:  {url}")
    print(f"try a run:  {program} run --name demo -- python3 -c 'sum(range(10**8))'", flush=True)
