"""`serve`: the daemon, in the foreground, until SIGTERM."""

import argparse
import logging
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from exporter import __version__
from exporter.cli.logs import logged, set_up
from exporter.cli.settings import add_flags, located, settings
from exporter.client.sockets import default_socket
from exporter.config import Config
from exporter.errors import ConfigError, Outdated
from exporter.revision import recorded

log = logging.getLogger(__name__)

SUGGESTION = "try a run:  {program} run{option} --name demo -- python3 -c 'sum(range(10**8))'"
STARTED, RELOADED = "started", "settings reloaded"
"""Events of the log."""
KEPT = "settings not reloaded, the old ones stay: %s"


def add(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser("serve", help="Run the daemon.", description=__doc__)
    add_flags(parser)
    parser.set_defaults(main=main)


def main(options: argparse.Namespace) -> int:
    """Run the daemon; SIGHUP begins anew with the settings as they are then."""
    config = settings(options)
    set_up(config.expose.log_level, config.expose.log_format)
    return logged(partial(_serve, options, config), config.expose.log_format)


def _serve(options: argparse.Namespace, config: Config) -> int:
    from exporter.app import App

    log_start(config, options.config_file)
    before, web_config, event = None, None, STARTED
    while True:
        set_up(config.expose.log_level, config.expose.log_format)
        try:
            with located(options):
                app = App(
                    config,
                    os.environ,
                    web_config=web_config,
                    settings_file=options.config_file or "",
                )
                web_config = app.web_config
                whole = app.serve(partial(announce, event, options.config_file, SUGGESTION))
        except ConfigError as error:
            if before is None:
                raise
            log.error(KEPT, error)  # noqa: TRY400  not a defect
            config, before, event = before, None, ""
            continue
        if not whole:
            logging.shutdown()
            # A thread that hangs in a driver or on a disk would hold us for ever.
            os._exit(Outdated.exit_code if app.reload or app.writer.is_behind else 0)
        if not app.reload:
            return 0
        read, before = _reread(options), config
        config, event = read or config, RELOADED if read else ""


def _reread(options: argparse.Namespace) -> Config | None:
    """The settings as they are now; None where they cannot be read."""
    try:
        return settings(options)
    except ConfigError as error:
        log.error(KEPT, error)  # noqa: TRY400  not a defect
        return None


def log_start(config: Config, config_file: str | None) -> None:
    """Log which program starts, with which files, before anything can fail."""
    known = recorded()
    log.info(
        "starting",
        extra={
            "version": __version__,
            **({"revision": known} if known else {}),
            "python": platform.python_version(),
            "pid": os.getpid(),
            "config_file": config_file or "",
            "state_directory": config.account.state_directory,
        },
    )


def announce(
    event: str, config_file: str | None, suggestion: str, urls: Sequence[str], config: Config
) -> None:
    """Log the event, if any; tell a person where the live page is and what to try next.

    The lines for people are left out where every line has to be JSON.
    """
    if event:
        places = {"urls": " ".join(urls), "socket": config.expose.socket}
        log.info(event, extra={"version": __version__, "config_file": config_file or "", **places})
    if event != STARTED or config.expose.log_format == "json":
        return
    program = sys.argv[0] if not sys.argv[0].endswith("__main__.py") else "python3 -m exporter"
    socket = config.expose.socket
    option = "" if socket == default_socket() else f" --socket.path={shlex.quote(socket)}"
    with suppress(OSError):  # nobody reads them: no reason to stop
        for url in urls:
            print(f"live page:  {url}")
        print(suggestion.format(program=program, option=option), flush=True)
