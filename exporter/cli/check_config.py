"""`check-config`: read the settings, say what is in force or what is wrong."""

import argparse
import dataclasses
import sys
from typing import Any

from exporter.cli.settings import add_flags, located, settings
from exporter.clock import Clock, SystemClock
from exporter.config import NOWHERE, Config
from exporter.convert.registry import open_chain
from exporter.errors import ConfigError
from exporter.expose.http.gate.store import Store
from exporter.expose.http.listen import parse_address
from exporter.expose.http.routes import check_telemetry_path
from exporter.paths import check_paths
from exporter.redaction import without_passwords
from exporter.sample.sources.replay import Replay


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
    config = settings(options)
    with located(options):
        notes = _notes(config, options.config_file or "")
    for note in notes:
        print(f"warning: {note}", file=sys.stderr)
    document = {
        name: {key: list(v) if isinstance(v, tuple) else v for key, v in section.items()}
        for name, section in dataclasses.asdict(config).items()
    }
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    print(without_passwords(text), end="")
    return 0


def _check_recording(path: str, clock: Clock) -> None:
    """Raise ConfigError for a file that is no recorded host."""
    try:
        Replay(path, clock, boot_id="")
    except ConfigError as error:
        raise ConfigError(f"sample.replay: {error}") from None


def _notes(config: Config, settings_file: str) -> tuple[str, ...]:
    """What a person should know about these settings. Raises ConfigError where one is wrong."""
    check_paths(config)
    if config.expose.listen_address != NOWHERE:
        parse_address(config.expose.listen_address)
    check_telemetry_path(config.expose.telemetry_path)
    clock = SystemClock()
    if config.sample.replay:
        _check_recording(config.sample.replay, clock)
    convert = dataclasses.asdict(config.convert)
    chain = open_chain(**convert, clock=clock, settings_file=settings_file)
    return *chain.notes, *Store(config.expose.web_config_file, clock).notes
