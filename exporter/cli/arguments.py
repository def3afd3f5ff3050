"""The parser of every command: usage errors name the right command, help shows defaults."""

import argparse
import datetime as dt
import difflib
import math
import re
import urllib.parse
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from exporter import __version__
from exporter.client.sockets import default_socket
from exporter.convert.live import credentials
from exporter.errors import ConfigError
from exporter.revision import revision

WITHOUT_RUNBOOK = "Without it, alerts have no such link."


class _DefaultsHelpFormatter(argparse.HelpFormatter):
    """Help in which an option with a default shows it."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help
        takes_value = bool(action.option_strings) and action.nargs != 0
        has_default = action.default not in (None, "", [], argparse.SUPPRESS)
        if not text or not takes_value or not has_default:
            return text
        return f"{text} (default: %(default)s)"


class CommandParser(argparse.ArgumentParser):
    """A parser whose subparsers reject unknown arguments themselves, with their own usage."""

    def __init__(self, **options: Any) -> None:
        """`options` are those of `argparse.ArgumentParser`."""
        super().__init__(formatter_class=_DefaultsHelpFormatter, **options)

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


class VersionAction(argparse.Action):
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


def parse_labels(texts: Iterable[str]) -> dict[str, str]:
    """Names and values of texts as team=nlp; the last of a name counts. Raises ConfigError."""
    return dict(_parse_label(text) for text in texts)


def _parse_label(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise ConfigError(f"--label {text}: expected NAME=VALUE, as in --label team=nlp")
    return name, value


def add_run_filters(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument(
        "--since",
        type=_parse_since,
        metavar="DATE",
        help="Runs that began then or later: 2026-01-31, or 30d.",
    )
    parser.add_argument("--job-id", metavar="ID", help="Runs of that job.")
    parser.add_argument(
        "--group", metavar="NAME", help="Runs of that group, for example of a sweep."
    )
    parser.add_argument("--user", metavar="NAME", help="Runs of that user.")
    parser.add_argument("--namespace", metavar="NAME", help="Runs of pods in that namespace.")
    parser.add_argument(
        "--min-grams",
        type=parse_grams,
        metavar="G",
        help="Runs that emitted at least that much.",
    )
    parser.add_argument(
        "--max-grams",
        type=parse_grams,
        metavar="G",
        help="Runs that emitted at most that much.",
    )


def names(options: argparse.Namespace) -> dict[str, str | None]:
    """Which runs the flags select by name, as the daemon is asked for them."""
    return {name: getattr(options, name) for name in ("job_id", "group", "user", "namespace")}


def is_selected(options: argparse.Namespace, now: float, *, started: float, grams: float) -> bool:
    """Whether a run that began at `started`, wall clock as `now`, is late and large enough."""
    since = started_after(options, now)
    return (
        (since is None or started >= since)
        and (options.min_grams is None or grams >= options.min_grams)
        and (options.max_grams is None or grams <= options.max_grams)
    )


def started_after(options: argparse.Namespace, now: float) -> float | None:
    """The wall clock from which on a run must have begun; None for any."""
    since: dt.datetime | float | None = options.since
    if since is None:
        return None
    return now - since if isinstance(since, float) else since.timestamp()


def _parse_since(text: str) -> dt.datetime | float:
    """A date, or for how many seconds back."""
    if DURATION_PATTERN.fullmatch(text):
        return parse_duration(text)
    try:
        return dt.datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"expected a date as 2026-01-31 or a duration as 30d, found {text!r}"
        ) from None


def parse_grams(text: str) -> float:
    """An amount on a command line. Raises argparse.ArgumentTypeError."""
    try:
        amount = float(text)
    except ValueError:
        amount = math.nan
    if not 0 <= amount < math.inf:
        raise argparse.ArgumentTypeError(f"expected grams, as 12.5, found {text!r}")
    return amount


def count(text: str) -> int:
    """A number of runs on a command line. Raises argparse.ArgumentTypeError."""
    if not text.isascii() or not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a number from 1 on, found {text!r}")
    return int(text)


if TYPE_CHECKING:
    from exporter.report.prometheus_queries import PrometheusApi

DURATION_PATTERN = re.compile(r"([0-9]{1,4})([mhdwy])")
SECONDS_PER_UNIT = {"m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0, "y": 31_536_000.0}
SINCE = "30d"
DEFAULT_LOOKBACK_SECONDS = 30 * SECONDS_PER_UNIT["d"]
SINCE = "30d"
"""How far back is looked if nothing is said."""


def add_prometheus_options(parser: argparse.ArgumentParser) -> None:
    """Add `--prometheus`, its token and `--since`."""
    add_prometheus_server(parser)
    parser.add_argument(
        "--since",
        dest="since_seconds",
        type=parse_duration,
        default=SINCE,
        metavar="DURATION",
        help="How far back to look there: 12h, 30d, 1y.",
    )


def add_prometheus_server(parser: argparse.ArgumentParser) -> None:
    """Add `--prometheus`, and its token or its user and password."""
    parser.add_argument(
        "--prometheus",
        metavar="URL",
        help="Address of a Prometheus, VictoriaMetrics, Mimir or Thanos.",
    )
    parser.add_argument(
        "--prometheus.token-file",
        dest="prometheus_token_file",
        default="",
        metavar="PATH",
        help="File with a bearer token for it; else EMISSIONS_EXPORTER_PROMETHEUS_TOKEN.",
    )
    parser.add_argument(
        "--prometheus.user",
        dest="prometheus_user",
        default="",
        metavar="NAME",
        help="User name of basic auth, in place of a token.",
    )
    parser.add_argument(
        "--prometheus.password-file",
        dest="prometheus_password_file",
        default="",
        metavar="PATH",
        help="Where that user's password is; else EMISSIONS_EXPORTER_PROMETHEUS_PASSWORD.",
    )


def open_prometheus(options: argparse.Namespace) -> "PrometheusApi":
    """The server that the options name. Raises ConfigError."""
    from exporter.report.prometheus_queries import (  # 0.1 s
        PASSWORD_VARIABLE,
        TOKEN_VARIABLE,
        PrometheusApi,
    )

    path, user = options.prometheus_token_file, options.prometheus_user
    password_path = options.prometheus_password_file
    if user:
        if path:
            raise ConfigError("--prometheus.user and --prometheus.token-file are given; give one")
        if not credentials.has_credential(password_path, PASSWORD_VARIABLE):
            raise ConfigError(
                "--prometheus.user: no password: name its file with --prometheus.password-file, "
                f"or set {PASSWORD_VARIABLE}"
            )
        return PrometheusApi(
            options.prometheus,
            credentials.read_credential(password_path, PASSWORD_VARIABLE),
            user=user,
        )
    if password_path:
        raise ConfigError("--prometheus.password-file: give --prometheus.user as well")
    given = credentials.has_credential(path, TOKEN_VARIABLE)
    return PrometheusApi(
        options.prometheus, credentials.read_credential(path, TOKEN_VARIABLE) if given else ""
    )


def parse_duration(text: str) -> float:
    """A duration as 12h or 30d. Raises ArgumentTypeError."""
    found = DURATION_PATTERN.fullmatch(text)
    if not found or not int(found[1]):
        raise argparse.ArgumentTypeError(f"expected a duration as 12h or 30d, found {text!r}")
    return int(found[1]) * SECONDS_PER_UNIT[found[2]]
