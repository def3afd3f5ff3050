"""`replay [FIXTURE]`: the daemon plays a recorded or made-up host, to be seen without hardware."""

import argparse
import dataclasses
import os
import tempfile
from typing import Any

from exporter import data
from exporter.cli.logs import set_up
from exporter.cli.serve import greet
from exporter.cli.settings import add_flags, settings
from exporter.errors import ConfigError

SHIPPED = "two-socket"
HOSTS = data.DIRECTORY / "replay"


def add(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser("replay", help="Play a recorded host.", description=__doc__)
    parser.add_argument(
        "fixture",
        nargs="?",
        default=SHIPPED,
        help=f"A file, or a host that is shipped: {', '.join(_shipped())} (default: {SHIPPED}).",
    )
    add_flags(parser)
    parser.set_defaults(main=main)


def _shipped() -> list[str]:
    """Names of the hosts that can be played without a file."""
    return sorted(file.stem for file in HOSTS.glob("*.json"))


def main(options: argparse.Namespace) -> int:
    """Serve the fixture; its totals go to a temporary directory unless --path.state is given."""
    config = settings(options)
    set_up(config.expose.log_level, config.expose.log_format)
    from exporter.app import App

    shipped = HOSTS / f"{options.fixture}.json"
    with tempfile.TemporaryDirectory(prefix="emissions-exporter-") as directory:
        fixture = str(shipped) if shipped.is_file() else options.fixture
        if not os.path.isfile(fixture):
            raise ConfigError(
                f"replay {fixture}: there is no such file, and no host of that name is shipped; "
                f"give the path of a fixture, or one of {', '.join(_shipped())}"
            )
        sample = dataclasses.replace(config.sample, replay=fixture)
        account = config.account
        if getattr(options, "account.state_directory") is None:
            account = dataclasses.replace(account, state_directory=directory)
        App(dataclasses.replace(config, sample=sample, account=account), os.environ).serve(greet)
    return 0
