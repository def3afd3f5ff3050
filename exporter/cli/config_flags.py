"""Command-line flags for settings, generated from the dataclasses in exporter.config."""

import argparse
import dataclasses
import os
import re
import typing
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from exporter.config import Config
from exporter.config_loader import Overridden, is_given, load_config
from exporter.errors import ConfigError
from exporter.sample.registry import COLLECTOR_NAMES
from exporter.setting import variable

SETTING = re.compile(r"(?:--)?[a-z]+[.-][a-z_.-]*[a-z]")
"""Name or flag of a setting at the beginning of an error message."""


def add_config_flags(parser: argparse.ArgumentParser, shown: Collection[str] | None = None) -> None:
    """Add `--config.file`, the flags of settings, and the collector switches.

    If `shown` is given, the help lists only these settings, named "section.key".
    """
    parser.add_argument(
        "--config.file", dest="config_file", metavar="FILE", help="Settings file (YAML)."
    )
    for name, section in typing.get_type_hints(Config).items():
        hints = typing.get_type_hints(section)
        for item in dataclasses.fields(section):
            flag = item.metadata["flag"]
            if not flag or flag == "collector":
                continue
            parser.add_argument(
                f"--{flag}",
                dest=f"{name}.{item.name}",
                metavar=_metavar(item.metadata["unit"], hints[item.name]),
                help=_help(item.metadata["text"], item.default)
                if shown is None or f"{name}.{item.name}" in shown
                else argparse.SUPPRESS,
            )
    for collector in COLLECTOR_NAMES:
        parser.add_argument(
            f"--collector.{collector}",
            dest=f"collector.{collector}",
            action=argparse.BooleanOptionalAction,
            help=f"Enable the collector {collector} (default: on)."
            if shown is None
            else argparse.SUPPRESS,
        )


def _metavar(unit: str, hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return "|".join(typing.get_args(hint))
    return unit.upper() or "NAME"


def _help(text: str, default: Any) -> str:
    """Return the help of a setting with its default; an empty default is part of the text."""
    shown = "" if default in ("", None) else f" (default: {default})"
    return f"{text}{shown}".replace("%", "%%")


def config_from_options(
    options: argparse.Namespace, overridden: list[Overridden] | None = None
) -> Config:
    """Return the effective settings of a command. Raises ConfigError.

    Settings in the file that a flag or a variable overrides are appended to `overridden`.
    """
    flags: dict[tuple[str, str], Any] = {}
    switches: dict[str, bool] = {}
    for name, value in vars(options).items():
        section, _, key = name.partition(".")
        if value is None or not key:
            continue
        if section == "collector":
            switches[key] = value
        else:
            flags[section, key] = value
    if switches:
        flags["sample", "collectors"] = switches
    return load_config(options.config_file, os.environ, flags, overridden)


@contextmanager
def located(options: argparse.Namespace) -> Iterator[None]:
    """Prefix errors about a setting with the flag, variable or file that set it."""
    try:
        yield
    except ConfigError as error:
        error.args = (_with_origin(str(error), options),)
        raise


def _with_origin(text: str, options: argparse.Namespace) -> str:
    """Replace the setting at the beginning of an error by where it was set."""
    match = SETTING.match(text)
    name = _names().get(match[0], "") if match else ""
    if match is None or not name:
        return text
    rest = text[match.end() :]
    if getattr(options, name, None) is not None:
        return text if rest.startswith(" (--") else f"{_flag(name)}{rest}"
    if variable(name) in os.environ:
        return f"{variable(name)}{rest}"
    if options.config_file and is_given(options.config_file, name):
        return f"{options.config_file}: {name}{rest}"
    return text


def _flag(name: str) -> str:
    return next((flag for flag, setting in _names().items() if setting == name != flag), name)


def _names() -> Mapping[str, str]:
    """Return the names of settings, keyed by name and by flag."""
    found: dict[str, str] = {}
    for section, kind in typing.get_type_hints(Config).items():
        for item in dataclasses.fields(kind):
            name, flag = f"{section}.{item.name}", item.metadata["flag"]
            found |= {name: name, f"--{flag}": name} if flag else {name: name}
    return found
