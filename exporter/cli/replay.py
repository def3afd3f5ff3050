"""`replay [FIXTURE]`: run the daemon on a recorded or synthetic host, without hardware."""

import argparse
import dataclasses
import os
import tempfile
from functools import partial
from typing import Any

from exporter import data
from exporter.cli.config_flags import add_config_flags, config_from_options, located
from exporter.cli.logging_setup import configure_logging, run_logged
from exporter.cli.serve import STARTED, log_start, print_started
from exporter.client.sockets import default_socket
from exporter.config import Config
from exporter.errors import ConfigError
from exporter.setting import ENVIRONMENT_PREFIX

DEFAULT_HOST = "two-socket"
HOST_DIRECTORY = data.DIRECTORY / "replay"
REPLAY_HINT = (
    "recorded:   the runs shown are part of the recording; `{program} runs{option}` lists them. "
    "To measure your own runs, start the daemon with `{program} serve`"
)
SOCKET_VARIABLE = f"{ENVIRONMENT_PREFIX}EXPOSE_SOCKET"


def add(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser("replay", help="Replay a recorded host.", description=__doc__)
    parser.add_argument(
        "fixture",
        nargs="?",
        default=DEFAULT_HOST,
        help=f"A file, or a bundled host: {', '.join(_bundled_hosts())} (default: {DEFAULT_HOST}).",
    )
    add_config_flags(parser)
    parser.set_defaults(main=main)


def _bundled_hosts() -> list[str]:
    """Return the names of the bundled hosts."""
    return sorted(file.stem for file in HOST_DIRECTORY.glob("*.json"))


def main(options: argparse.Namespace) -> int:
    """Serve the fixture, with state and agent socket in a temporary directory.

    It can therefore run at the same time as another daemon of the user. A state directory or a
    socket that is configured is used instead.
    """
    config = config_from_options(options)
    configure_logging(config.expose.log_level, config.expose.log_format)
    return run_logged(partial(_serve, options, config), config.expose.log_format)


def _serve(options: argparse.Namespace, config: Config) -> int:
    from exporter.daemon import Daemon

    shipped = HOST_DIRECTORY / f"{options.fixture}.json"
    with tempfile.TemporaryDirectory(prefix="emissions-exporter-") as directory:
        fixture = str(shipped) if shipped.is_file() else options.fixture
        if not os.path.isfile(fixture):
            raise ConfigError(
                f"replay {fixture}: no such file or bundled host; "
                f"give the path of a fixture, or one of {', '.join(_bundled_hosts())}"
            )
        sample = dataclasses.replace(config.sample, replay=fixture)
        account = config.account
        if getattr(options, "account.state_directory") is None:
            account = dataclasses.replace(account, state_directory=directory)
        expose = config.expose
        if expose.socket == default_socket() and not _is_socket_set(options):
            expose = dataclasses.replace(expose, socket=f"{directory}/agent.sock")
        config = dataclasses.replace(config, sample=sample, account=account, expose=expose)
        log_start(config, options.config_file)
        ready = partial(print_started, STARTED, options.config_file, REPLAY_HINT)
        with located(options):
            Daemon(config, os.environ, settings_file=options.config_file or "").serve(ready)
    return 0


def _is_socket_set(options: argparse.Namespace) -> bool:
    return getattr(options, "expose.socket") is not None or SOCKET_VARIABLE in os.environ
