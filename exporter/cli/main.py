"""Entry point of `emissions-exporter`: dispatches to a subcommand, prints errors as one line."""

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
"""Modules of commands whose names are Python keywords."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
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
        reason = discard_output(error)
        return _print_error(reason) if reason else 0
    return exit_code


def parser_for(command: str = "") -> argparse.ArgumentParser:
    """Return the parser of one command or, for an unknown or empty name, of all commands.

    Imports only the module of that command, so that it starts fast.
    """
    from importlib import import_module

    parser = CommandParser(
        prog="emissions-exporter",
        description="Measure energy and carbon emissions of this machine and of every run on it.",
        epilog=f"The default command is {DEFAULT}.",
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
    """Open /dev/null for closed standard streams; escape characters that stdout cannot encode.

    Otherwise the next socket or file that is opened would get the file descriptor of the closed
    stream, and the text that is written to that stream.
    """
    for name in STANDARD_STREAMS:
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)  # the lowest free one is the stream's own
            os.set_inheritable(descriptor, True)  # child processes need the stream too
            mode = "r" if name == "stdin" else "w"
            stream = open(descriptor, mode, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115  stays open
            setattr(sys, name, stream)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def discard_output(error: OSError) -> str:
    """Redirect standard output to /dev/null after a write error, and return the error message.

    The message is empty if the reader closed the pipe. Re-raises errors that do not come from
    standard output.
    """
    is_full = error.errno == errno.ENOSPC and error.filename is None
    if not is_full and not isinstance(error, BrokenPipeError):
        raise error
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())  # else Python flushes again at exit and fails
    os.close(null)
    return f"standard output: {error.strerror}" if is_full else ""
