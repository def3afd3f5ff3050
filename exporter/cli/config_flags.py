"""Flags of the commands that read settings, made from the types of exporter.config."""

import argparse
import dataclasses
import os
import re
import typing
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from exporter.config import COLLECTORS, Config
from exporter.errors import ConfigError
from exporter.setting import variable
from exporter.settings import Overridden, is_given, load_config

SETTING = re.compile(r"(?:--)?[a-z]+[.-][a-z_.-]*[a-z]")
"""The name or the flag of a setting at the beginning of an error."""


def add_config_flags(parser: argparse.ArgumentParser, shown: Collection[str] | None = None) -> None:
    """Add `--config.file`, a flag for each setting that has one, and collector switches.

    With `shown`, the help lists only these settings, named as "section.key".
    """
    parser.add_argument("--config.file", dest="config_file", metavar="FILE", help="Settings, YAML.")
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
    for collector in COLLECTORS:
        parser.add_argument(
            f"--collector.{collector}",
            dest=f"collector.{collector}",
            action=argparse.BooleanOptionalAction,
            help=f"Use the collector {collector} (default: on)."
            if shown is None
            else argparse.SUPPRESS,
        )


def _metavar(unit: str, hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return "|".join(typing.get_args(hint))
    return unit.upper() or "NAME"


def _help(text: str, default: Any) -> str:
    """The text of a setting with its default; the text itself describes an empty one."""
    shown = "" if default in ("", None) else f" (default: {default})"
    return f"{text}{shown}".replace("%", "%%")


def config_from_options(
    options: argparse.Namespace, overridden: list[Overridden] | None = None
) -> Config:
    """The settings in force for a command. Raises ConfigError.

    Settings of the file that a flag or a variable overrides are appended to `overridden`.
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
    """Errors about a setting begin with the flag, variable or file that it was given by."""
    try:
        yield
    except ConfigError as error:
        error.args = (_with_origin(str(error), options),)
        raise


def _with_origin(text: str, options: argparse.Namespace) -> str:
    """The text with the place of the setting that it begins with, by its name or its flag."""
    begin = SETTING.match(text)
    name = _names().get(begin[0], "") if begin else ""
    if begin is None or not name:
        return text
    rest = text[begin.end() :]
    if getattr(options, name, None) is not None:
        return text if rest.startswith(" (--") else f"{_flag(name)}{rest}"
    if variable(name) in os.environ:
        return f"{variable(name)}{rest}"
    if options.config_file and is_given(options.config_file, name):
        return f"{options.config_file}: {name}{rest}"
    return text


def _flag(name: str) -> str:
    return next((known for known, of in _names().items() if of == name != known), name)


def _names() -> Mapping[str, str]:
    """Names of the settings, by those names and by their flags."""
    found: dict[str, str] = {}
    for section, kind in typing.get_type_hints(Config).items():
        for item in dataclasses.fields(kind):
            name, flag = f"{section}.{item.name}", item.metadata["flag"]
            found |= {name: name, f"--{flag}": name} if flag else {name: name}
    return found
