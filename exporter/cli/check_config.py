"""`check-config`: validate the settings and print the effective configuration.

The first line is a comment with the carbon intensity that results from the settings.
"""

import argparse
import dataclasses
import sys
from typing import Any

from exporter import formatting
from exporter.cli.config_flags import add_config_flags, config_from_options, located
from exporter.clock import Clock, SystemClock
from exporter.config import Config
from exporter.config_loader import Overridden
from exporter.convert.provider import open_intensity_provider
from exporter.daemon import check_settings
from exporter.errors import ConfigError
from exporter.expose.web_config.store import WebConfigStore
from exporter.redaction import without_passwords
from exporter.sample.sources.replay import ReplayCollector


def add(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "check-config", help="Validate the settings.", description=__doc__
    )
    parser.add_argument("file", metavar="FILE", nargs="?", help="Same as --config.file=FILE.")
    add_config_flags(parser)
    parser.set_defaults(main=main)


def main(options: argparse.Namespace) -> int:
    """Print the effective settings as a YAML settings file; warnings go to stderr.

    Passwords in URLs are redacted.
    """
    import yaml

    if options.file is not None:
        if options.config_file not in (None, options.file):
            raise ConfigError(
                f"check-config: FILE {options.file} and --config.file={options.config_file} "
                "differ; give one of them"
            )
        options.config_file = options.file
    overridden: list[Overridden] = []
    config = config_from_options(options, overridden)
    with located(options):
        intensity, notes = _check(config, options.config_file or "")
    replaced = [f"{setting} in the file is overridden by {by}" for setting, by in overridden]
    for note in (*replaced, *notes):
        print(f"warning: {note}", file=sys.stderr)
    document = {
        name: {key: list(v) if isinstance(v, tuple) else v for key, v in section.items()}
        for name, section in dataclasses.asdict(config).items()
    }
    text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
    print(formatting.printable(f"# intensity: {intensity}"))
    print(without_passwords(text), end="")
    return 0


def _check_recording(path: str, clock: Clock) -> None:
    """Raise ConfigError if the file is not a valid recorded host."""
    try:
        ReplayCollector(path, clock, boot_id="")
    except ConfigError as error:
        raise ConfigError(f"sample.replay: {error}") from None


def _check(config: Config, settings_file: str) -> tuple[str, tuple[str, ...]]:
    """Return a description of the intensity in force, and warnings about the settings.

    Raises ConfigError if a setting is invalid.
    """
    check_settings(config)
    clock = SystemClock()
    if config.sample.replay:
        _check_recording(config.sample.replay, clock)
    convert = dataclasses.asdict(config.convert)
    provider = open_intensity_provider(**convert, clock=clock, settings_file=settings_file)
    notes = (*provider.notes, *WebConfigStore(config.expose.web_config_file, clock).notes)
    return provider.state_at(clock.wall()).why, notes
