"""Description of commands, options and arguments as data, derived from the parsers."""

import argparse
from collections.abc import Iterator
from typing import NamedTuple

from exporter.client.sockets import SYSTEM_SOCKET, default_socket

PATHS = ("FILE", "PATH", "DIRECTORY")
"""Metavars of options that take a path."""
DEFAULT_SOCKET_TEXT = f"{SYSTEM_SOCKET} for root, under $XDG_RUNTIME_DIR for others"


class OptionSpec(NamedTuple):
    """An option, or a positional argument."""

    flags: tuple[str, ...]
    """Empty for a positional argument."""
    metavar: str
    """Empty for an option without a value."""
    choices: tuple[str, ...]
    """Accepted values; empty if any value is accepted."""
    text: str
    is_repeated: bool
    """Whether it may be given more than once or take more than one value."""
    is_required: bool

    @property
    def is_path(self) -> bool:
        """Whether its value is a path."""
        return self.metavar in PATHS


class CommandSpec(NamedTuple):
    """A command with its subcommands, for example `card` with `card write`."""

    words: tuple[str, ...]
    """Words typed after the name of the program."""
    summary: str
    description: str
    options: tuple[OptionSpec, ...]
    arguments: tuple[OptionSpec, ...]
    commands: tuple["CommandSpec", ...]

    def all(self) -> Iterator["CommandSpec"]:
        """Yield this command and all its subcommands, recursively."""
        yield self
        for command in self.commands:
            yield from command.all()


def describe_parser(
    parser: argparse.ArgumentParser, words: tuple[str, ...] = (), summary: str = ""
) -> CommandSpec:
    """Describe a parser and its subparsers. The result does not depend on user or machine."""
    options: list[OptionSpec] = []
    arguments: list[OptionSpec] = []
    commands: list[CommandSpec] = []
    for action in parser._actions:  # noqa: SLF001  argparse has no public list
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            summaries = {each.dest: each.help or "" for each in action._choices_actions}  # noqa: SLF001
            for name, below in action.choices.items():
                commands.append(describe_parser(below, (*words, name), summaries.get(name, "")))
        elif action.help != argparse.SUPPRESS:
            (options if action.option_strings else arguments).append(_option(parser, action))
    return CommandSpec(
        words,
        summary,
        parser.description or summary,
        tuple(options),
        tuple(arguments),
        tuple(commands),
    )


def _option(parser: argparse.ArgumentParser, action: argparse.Action) -> OptionSpec:
    takes_value = action.nargs != 0
    metavar = str(action.metavar or action.dest.upper()) if takes_value else ""
    choices = [str(choice) for choice in action.choices or ()]
    if not choices and "|" in metavar:
        choices = metavar.split("|")
    text = parser._get_formatter()._expand_help(action) if action.help else ""  # noqa: SLF001
    is_many = action.nargs in ("*", "+", argparse.REMAINDER)
    return OptionSpec(
        tuple(action.option_strings),
        metavar,
        tuple(choices),
        text.replace(f"(default: {default_socket()})", f"(default: {DEFAULT_SOCKET_TEXT})"),
        is_many or isinstance(action, argparse._AppendAction),  # noqa: SLF001
        # `required` of an argument without a flag differs between releases of Python.
        action.required if action.option_strings else action.nargs not in ("?", "*"),
    )
