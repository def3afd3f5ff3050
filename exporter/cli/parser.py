"""The parser of every command: usage errors name the right command, help shows defaults."""

import argparse
import difflib
import urllib.parse
from collections.abc import Sequence
from typing import Any, NoReturn

from exporter import __version__
from exporter.client.sockets import default_socket
from exporter.revision import revision

WITHOUT_RUNBOOK = "Without it, alerts have no such link."


class _Help(argparse.HelpFormatter):
    """Help in which an option with a default shows it."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help
        takes_value = bool(action.option_strings) and action.nargs != 0
        has_default = action.default not in (None, "", [], argparse.SUPPRESS)
        if not text or not takes_value or not has_default:
            return text
        return f"{text} (default: %(default)s)"


class Parser(argparse.ArgumentParser):
    """A parser whose subparsers reject unknown arguments themselves, with their own usage."""

    def __init__(self, **options: Any) -> None:
        """`options` are those of `argparse.ArgumentParser`."""
        super().__init__(formatter_class=_Help, **options)

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Parse; exits with this parser's usage where an argument is not known."""
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self._refuse(unknown)
        return options, unknown

    def _refuse(self, unknown: Sequence[str]) -> NoReturn:
        flag = next((text for text in unknown if text.startswith("-")), "").partition("=")[0]
        near = difflib.get_close_matches(flag, self._option_string_actions, 1) if flag else []
        hint = f"; did you mean {near[0]}?" if near else ""
        self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")


class Version(argparse.Action):
    """Print the version, and the revision of the source where it is known."""

    def __init__(self, **options: Any) -> None:
        """`options` are those of `argparse.Action`."""
        super().__init__(nargs=0, help="Show the version and exit.", **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        """Print them, and exit."""
        known = revision()
        print(f"{parser.prog} {__version__}{f' (revision {known})' if known else ''}")
        parser.exit()


def add_socket_flag(parser: argparse.ArgumentParser) -> None:
    """Add `--socket.path` of the commands that talk to a daemon."""
    parser.add_argument(
        "--socket.path",
        dest="socket",
        default="",
        metavar="PATH",
        help=f"Agent socket of the daemon (default: {default_socket()})".replace("%", "%%"),
    )


def add_runbook_flag(
    parser: argparse.ArgumentParser, default: str | None = "", without: str = WITHOUT_RUNBOOK
) -> None:
    """Add `--runbook.url` of the commands that write alerts."""
    parser.add_argument(
        "--runbook.url",
        dest="runbook_url",
        type=_web_address,
        default=default,
        metavar="URL",
        help="Address under which docs/runbook.md can be read; each alert links to its heading "
        f"there, in its annotation runbook_url. {without}",
    )


def _web_address(text: str) -> str:
    """An absolute address without a fragment, or nothing. Raises ArgumentTypeError."""
    parts = urllib.parse.urlsplit(text)
    is_web = parts.scheme in ("http", "https") and parts.hostname
    if text and (not is_web or set(text) & set(' #"\n')):
        raise argparse.ArgumentTypeError(
            f"not an address such as https://git.example/emissions/docs/runbook.md: {text!r}"
        )
    return text
