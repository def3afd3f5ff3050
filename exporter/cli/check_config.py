"""`check-config`: read the settings, say what is in force or what is wrong.

The first line is a comment with the carbon intensity that follows from the settings.
"""

import argparse
import dataclasses
import sys
from typing import Any

from exporter import human
from exporter.cli.settings import add_flags, settings
from exporter.clock import SystemClock
from exporter.config import NOWHERE
from exporter.convert.registry import open_chain
from exporter.errors import ConfigError
from exporter.expose.http.gate.store import Store
from exporter.expose.http.listen import parse_address
from exporter.expose.http.routes import check_telemetry_path
from exporter.paths import check_paths
from exporter.redaction import without_passwords
from exporter.settings import Overridden


def add(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser("check-config", help="Check the settings.", description=__doc__)
    parser.add_argument("file", metavar="FILE", nargs="?", help="Short for --config.file=FILE.")
    add_flags(parser)
    parser.set_defaults(main=main)


def main(options: argparse.Namespace) -> int:
    """Print every setting in force, as YAML that could be its file; warnings go to stderr.

    Passwords in addresses are left out.
    """
    import yaml

    if options.file is not None:
        if options.config_file not in (None, options.file):
            raise ConfigError(
                f"check-config: two files are given, {options.file} and "
                f"--config.file={options.config_file}; give one"
            )
        options.config_file = options.file
    overridden: list[Overridden] = []
    config = settings(options, overridden)
    check_paths(config)
    if config.expose.listen_address != NOWHERE:
        parse_address(config.expose.listen_address)
    check_telemetry_path(config.expose.telemetry_path)
    clock = SystemClock()
    chain = open_chain(
        **dataclasses.asdict(config.convert), clock=clock, settings_file=options.config_file or ""
    )
    web_config = Store(config.expose.web_config_file, clock)
    replaced = [f"{setting} of the file is overridden by {by}" for setting, by in overridden]
    for note in (*replaced, *chain.notes, *web_config.notes):
        print(f"warning: {note}", file=sys.stderr)
    document = {
        name: {key: list(v) if isinstance(v, tuple) else v for key, v in section.items()}
        for name, section in dataclasses.asdict(config).items()
    }
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    print(human.printable(f"# intensity: {chain.grid(clock.wall()).why}"))
    print(without_passwords(text), end="")
    return 0
