"""The command `emissions-exporter`: finds the subcommand and turns errors into one line each."""

import argparse
import sys
from collections.abc import Sequence

from exporter.cli import streams
from exporter.cli.parser import Parser, Version
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
    streams.mend()
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or (given[0].startswith("-") and given[0] not in ("-h", "--help", "--version")):
        given.insert(0, DEFAULT)
    try:
        options = parser_for(given[0]).parse_args(given)
        exit_code = int(options.main(options))
        sys.stdout.flush()
    except AgentUnreachable as error:
        return _fail(
            f"no daemon answered ({error}); start one with `emissions-exporter serve`, "
            "or name its socket with --socket.path"
        )
    except AgentRefusal as error:
        return _fail(str(error))
    except EmissionsError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        why = streams.give_up(error)
        return _fail(why) if why else 0
    return exit_code


def parser_for(command: str = "") -> argparse.ArgumentParser:
    """The parser of a command, which alone is imported, to start fast; else of all commands."""
    from importlib import import_module

    parser = Parser(
        prog="emissions-exporter",
        description="Energy and emissions of this machine and of every run on it.",
        epilog=f"Without a command: {DEFAULT}.",
    )
    parser.add_argument("--version", action=Version, dest=argparse.SUPPRESS)
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in COMMANDS if command not in COMMANDS else (command,):
        import_module(f"exporter.cli.{MODULES.get(name) or name.replace('-', '_')}").add(subparsers)
    return parser


def _fail(text: str, exit_code: int = 1) -> int:
    print(f"emissions-exporter: {text}", file=sys.stderr)
    return exit_code
