"""The command `emissions-exporter`: finds the subcommand and turns errors into one line each."""

import argparse
import sys
from collections.abc import Sequence

from exporter import __version__
from exporter.client.errors import AgentRefusal, AgentUnreachable
from exporter.errors import EmissionsError

COMMANDS = (
    "serve",
    "once",
    "replay",
    "run",
    "runs",
    "report",
    "intensity",
    "rules",
    "check-config",
    "healthcheck",
)
DEFAULT = "serve"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the answer is the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or (given[0].startswith("-") and given[0] not in ("-h", "--help", "--version")):
        given.insert(0, DEFAULT)
    options = _parser(given[0]).parse_args(given)
    try:
        return int(options.main(options))
    except AgentUnreachable as error:
        return _fail(
            f"no daemon answered ({error}); start one with `emissions-exporter serve`, "
            "or name its socket with --socket.path"
        )
    except AgentRefusal as error:
        return _fail(str(error))
    except EmissionsError as error:
        return _fail(str(error), error.exit_code)
    except BrokenPipeError:
        return 0
    except KeyboardInterrupt:
        return 130


def _parser(command: str) -> argparse.ArgumentParser:
    """The parser; only the command that is wanted is imported, to start fast."""
    from importlib import import_module

    parser = argparse.ArgumentParser(
        prog="emissions-exporter",
        description="Energy and emissions of this machine and of every run on it.",
        epilog=f"Without a command: {DEFAULT}.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in COMMANDS if command not in COMMANDS else (command,):
        import_module(f"exporter.cli.{name.replace('-', '_')}").add(subparsers)
    return parser


def _fail(text: str, exit_code: int = 1) -> int:
    print(f"emissions-exporter: {text}", file=sys.stderr)
    return exit_code
