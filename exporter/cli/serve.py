"""`serve`: run the daemon in the foreground until SIGTERM."""

import argparse
import ctypes
import gc
import logging
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

from exporter import __version__
from exporter.cli.config_flags import add_config_flags, config_from_options, located
from exporter.cli.logging_setup import configure_logging, run_logged
from exporter.client.sockets import default_socket
from exporter.config import Config
from exporter.config_loader import Overridden
from exporter.errors import ConfigError, RestartRequired
from exporter.revision import build_revision

log = logging.getLogger(__name__)

NEXT_STEP_HINT = "try a run:  {program} run{option} --name demo -- python3 -c 'sum(range(10**8))'"
STARTED, RELOADED = "started", "settings reloaded"
"""Log events."""
M_ARENA_MAX = -8
"""Parameter of mallopt(3), in glibc's malloc.h: the number of arenas."""
RELOAD_FAILED = "settings not reloaded, the previous ones stay in force"
OVERRIDDEN = "setting in the file is overridden"


def add(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser("serve", help="Run the daemon.", description=__doc__)
    add_config_flags(parser)
    parser.set_defaults(main=main)


def main(options: argparse.Namespace) -> int:
    """Run the daemon; SIGHUP restarts it with the current settings."""
    overridden: list[Overridden] = []
    with _configured():
        config = config_from_options(options, overridden)
    configure_logging(config.expose.log_level, config.expose.log_format)
    return run_logged(partial(_serve, options, config, overridden), config.expose.log_format)


@contextmanager
def _configured() -> Iterator[None]:
    """Set the exit code of errors in settings to EX_CONFIG, with which systemd does not restart."""
    try:
        yield
    except ConfigError as error:
        error.exit_code = os.EX_CONFIG
        raise


def _serve(
    options: argparse.Namespace, config: Config, overridden: Iterable[Overridden] = ()
) -> int:
    from exporter.daemon import Daemon

    _use_one_arena()
    log_start(config, options.config_file)
    log_overridden(overridden)
    before, web_config, event = None, None, STARTED
    reload_error = ""
    while True:
        configure_logging(config.expose.log_level, config.expose.log_format)
        try:
            with located(options):
                with _configured():
                    app = Daemon(
                        config,
                        os.environ,
                        web_config=web_config,
                        settings_file=options.config_file or "",
                        reload_error=reload_error,
                    )
                web_config = app.web_config
                is_clean = app.serve(
                    partial(print_started, event, options.config_file, NEXT_STEP_HINT)
                )
        except ConfigError as error:
            if before is None:
                raise
            log.error(RELOAD_FAILED, extra={"error": str(error)})  # noqa: TRY400  not a defect
            config, before, event = before, None, ""
            reload_error = str(error)
            continue
        if not is_clean:
            logging.shutdown()
            # A thread that hangs in a driver or on a disk would block a normal exit forever.
            os._exit(RestartRequired.exit_code if app.reload or app.writer.is_behind else 0)
        if not app.reload:
            return 0
        del app
        _release_memory()
        before, event, reload_error = config, RELOADED, ""
        replaced: list[Overridden] = []
        try:
            config = config_from_options(options, replaced)
            log_overridden(replaced)
        except ConfigError as error:
            log.error(RELOAD_FAILED, extra={"error": str(error)})  # noqa: TRY400  not a defect
            event, reload_error = "", str(error)


def _use_one_arena() -> None:
    """Let all threads allocate memory from one arena; call it before the first thread is started.

    By default, glibc gives threads arenas of their own, and each arena keeps what its threads have
    freed: up to ten megabytes more. Python's lock lets one thread at a time allocate anyway.
    """
    with suppress(AttributeError):  # other C libraries have no mallopt(3)
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def _release_memory() -> None:
    """Free the daemon from before a reload, and return its memory to the kernel."""
    gc.collect()
    with suppress(AttributeError):  # other C libraries have no malloc_trim(3)
        ctypes.CDLL(None).malloc_trim(0)


def log_overridden(overridden: Iterable[Overridden]) -> None:
    """Log the settings in the file that a flag or variable overrides with another value."""
    for setting, by in overridden:
        log.warning(OVERRIDDEN, extra={"setting": setting, "by": by})


def log_start(config: Config, config_file: str | None) -> None:
    """Log version, process and files before anything can fail."""
    build = build_revision()
    log.info(
        "starting",
        extra={
            "version": __version__,
            **({"revision": build} if build else {}),
            "python": ".".join(map(str, sys.version_info[:3])),
            "pid": os.getpid(),
            "config_file": config_file or "",
            "state_directory": config.account.state_directory,
        },
    )


def print_started(
    event: str, config_file: str | None, suggestion: str, urls: Sequence[str], config: Config
) -> None:
    """Log the event, if any; print the address of the live page and a suggestion to stdout.

    With JSON logs, nothing is printed to stdout.
    """
    if event:
        places = {"urls": " ".join(urls), "socket": config.expose.socket}
        log.info(event, extra={"version": __version__, "config_file": config_file or "", **places})
    if event != STARTED or config.expose.log_format == "json":
        return
    program = sys.argv[0] if not sys.argv[0].endswith("__main__.py") else "python3 -m exporter"
    socket = config.expose.socket
    option = "" if socket == default_socket() else f" --socket.path={shlex.quote(socket)}"
    with suppress(OSError):  # standard output may be closed
        for url in urls:
            print(f"live page:  {url}")
        print(suggestion.format(program=program, option=option), flush=True)
