"""`serve`: the daemon, in the foreground, until SIGTERM."""

import argparse
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from exporter.cli.logs import set_up
from exporter.cli.settings import add_flags, settings
from exporter.client.sockets import default_socket
from exporter.config import Config
from exporter.errors import ConfigError, Outdated

log = logging.getLogger(__name__)

DEMO = "python3 -c 'sum(range(10**8))'"
KEPT = "settings not reloaded, the old ones stay: %s"


def add(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser("serve", help="Run the daemon.", description=__doc__)
    add_flags(parser)
    parser.set_defaults(main=main)


def main(options: argparse.Namespace) -> int:
    """Run the daemon; SIGHUP begins anew with the settings as they are then."""
    from exporter.app import App

    config, before = settings(options), None
    web_config = None
    while True:
        set_up(config.expose.log_level, config.expose.log_format)
        try:
            app = App(config, os.environ, web_config=web_config)
            web_config = app.web_config
            whole = app.serve(greet)
        except ConfigError as error:
            if before is None:
                raise
            log.error(KEPT, error)  # noqa: TRY400  not a defect
            config, before = before, None
            continue
        if not whole:
            logging.shutdown()
            # A thread that hangs in a driver or on a disk would hold us for ever.
            os._exit(Outdated.exit_code if app.reload or app.writer.is_behind else 0)
        if not app.reload:
            return 0
        config, before = _reread(options, config), config


def _reread(options: argparse.Namespace, config: Config) -> Config:
    """The settings as they are now; those in force where they cannot be read."""
    try:
        return settings(options)
    except ConfigError as error:
        log.error(KEPT, error)  # noqa: TRY400  not a defect
        return config


def greet(urls: Sequence[str], config: Config) -> None:
    """Say where the live page is, and how to try a run, ready to be copied."""
    program = sys.argv[0] if not sys.argv[0].endswith("__main__.py") else "python3 -m exporter"
    socket = config.expose.socket
    option = "" if socket == default_socket() else f" --socket.path={shlex.quote(socket)}"
    for url in urls:
        print(f"live page:  {url}")
    print(f"try a run:  {program} run{option} --name demo -- {DEMO}", flush=True)
