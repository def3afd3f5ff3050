"""The command `emissions-exporter`: finds the subcommand and turns errors into one line each."""

import argparse
import errno
import io
import os
import sys
from collections.abc import Sequence

from exporter.cli.arguments import CommandParser, VersionAction
from exporter.client.errors import AgentRefusal, AgentUnreachable
from exporter.errors import EmissionsError

COMMANDS = (
    "serve",
    "once",
    "replay",
    "run",
    "runs",
    "report",
    "card",
    "leaderboard",
    "estimate",
    "intensity",
    "rules",
    "dashboards",
    "slurm-scripts",
    "import",
    "check-config",
    "healthcheck",
    "completion",
)
DEFAULT = "serve"
MODULES = {"import": "import_"}
"""Of commands whose names are words of Python."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the answer is the exit code."""
    repair_standard_streams()
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or (given[0].startswith("-") and given[0] not in ("-h", "--help", "--version")):
        given.insert(0, DEFAULT)
    try:
        options = parser_for(given[0]).parse_args(given)
        exit_code = int(options.main(options))
        sys.stdout.flush()
    except AgentUnreachable as error:
        return _print_error(
            f"no daemon answered ({error}); start one with `emissions-exporter serve`, "
            "or name its socket with --socket.path"
        )
    except AgentRefusal as error:
        return _print_error(str(error))
    except EmissionsError as error:
        return _print_error(str(error), error.exit_code)
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        why = stop_writing(error)
        return _print_error(why) if why else 0
    return exit_code


def parser_for(command: str = "") -> argparse.ArgumentParser:
    """The parser of a command, which alone is imported, to start fast; else of all commands."""
    from importlib import import_module

    parser = CommandParser(
        prog="emissions-exporter",
        description="Energy and emissions of this machine and of every run on it.",
        epilog=f"Without a command: {DEFAULT}.",
    )
    parser.add_argument("--version", action=VersionAction, dest=argparse.SUPPRESS)
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in COMMANDS if command not in COMMANDS else (command,):
        import_module(f"exporter.cli.{MODULES.get(name) or name.replace('-', '_')}").add(subparsers)
    return parser


def _print_error(text: str, exit_code: int = 1) -> int:
    print(f"emissions-exporter: {text}", file=sys.stderr)
    return exit_code


STANDARD_STREAMS = ("stdin", "stdout", "stderr")


def repair_standard_streams() -> None:
    """Give streams that are closed a place; write what the locale cannot show as its number.

    A socket or file that is opened while a stream is closed would get the stream's place, and
    the text that is meant for it.
    """
    for name in STANDARD_STREAMS:
        if getattr(sys, name) is None:
            place = os.open(os.devnull, os.O_RDWR)  # the lowest that is free: the stream's own
            os.set_inheritable(place, True)  # commands that are run need one too
            mode = "r" if name == "stdin" else "w"
            stream = open(place, mode, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115  stays open
            setattr(sys, name, stream)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def stop_writing(error: OSError) -> str:
    """Let the rest of what was printed go; why, empty where the reader has had enough.

    Raises the error again where it is not that of standard output.
    """
    is_full = error.errno == errno.ENOSPC and error.filename is None
    if not is_full and not isinstance(error, BrokenPipeError):
        raise error
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())  # else Python tries once more at its end
    os.close(nothing)
    return f"standard output: {error.strerror}" if is_full else ""
