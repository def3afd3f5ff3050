"""Argument parser and shared options of all commands."""

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

WITHOUT_RUNBOOK = "Without it, alerts have no link."


class _DefaultsHelpFormatter(argparse.HelpFormatter):
    """Help formatter that appends the default of an option."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help
        takes_value = bool(action.option_strings) and action.nargs != 0
        has_default = action.default not in (None, "", [], argparse.SUPPRESS)
        if not text or not takes_value or not has_default:
            return text
        return f"{text} (default: %(default)s)"


class CommandParser(argparse.ArgumentParser):
    """Argument parser whose subparsers report unknown arguments with their own usage."""

    def __init__(self, **options: Any) -> None:
        """Accept the options of `argparse.ArgumentParser`."""
        # Without abbreviations: `runs --name` would be `runs --namespace`.
        super().__init__(formatter_class=_DefaultsHelpFormatter, allow_abbrev=False, **options)

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Parse; exit with this parser's usage if an argument is unknown."""
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self._reject(unknown)
        return options, unknown

    def _reject(self, unknown: Sequence[str]) -> NoReturn:
        flag = next((text for text in unknown if text.startswith("-")), "").partition("=")[0]
        near = difflib.get_close_matches(flag, self._option_string_actions, 1) if flag else []
        hint = f"; did you mean {near[0]}?" if near else ""
        self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")


class VersionAction(argparse.Action):
    """Print the version, and the source revision if it is known."""

    def __init__(self, **options: Any) -> None:
        """Accept the options of `argparse.Action`."""
        super().__init__(nargs=0, help="Show the version and exit.", **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        """Print the version and exit."""
        source = revision()
        print(f"{parser.prog} {__version__}{f' (revision {source})' if source else ''}")
        parser.exit()


def add_socket_flag(parser: argparse.ArgumentParser) -> None:
    """Add `--socket.path` to a command that connects to a daemon."""
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
    """Add `--runbook.url` to a command that writes alerts."""
    parser.add_argument(
        "--runbook.url",
        dest="runbook_url",
        type=_web_address,
        default=default,
        metavar="URL",
        help="Address of docs/runbook.md; the annotation runbook_url of each alert links to its "
        f"heading there. {without}",
    )


def _web_address(text: str) -> str:
    """Check for an absolute URL without a fragment, or "". Raises ArgumentTypeError."""
    parts = urllib.parse.urlsplit(text)
    is_web = parts.scheme in ("http", "https") and parts.hostname
    if text and (not is_web or set(text) & set(' #"\n')):
        raise argparse.ArgumentTypeError(
            f"not an address such as https://git.example/emissions/docs/runbook.md: {text!r}"
        )
    return text


def label(text: str) -> str:
    """Check that a label has the form NAME=VALUE. Raises argparse.ArgumentTypeError."""
    name, separator, _ = text.partition("=")
    if not separator or not name:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, such as team=nlp, found {text!r}")
    return text


def parse_labels(texts: Iterable[str]) -> dict[str, str]:
    """Parse labels that `label` accepts; the last value of a name wins."""
    return {name: value for name, _, value in (text.partition("=") for text in texts)}


RUN_FILTERS = ("job_id", "group", "user", "namespace", "account")


def add_run_filters(parser: argparse.ArgumentParser) -> None:
    """Add the options that select runs by start, job, group, user, namespace and emissions."""
    parser.add_argument(
        "--since",
        type=_parse_since,
        metavar="DATE",
        help="Only runs started at or after this date (2026-01-31), or within this duration (30d).",
    )
    parser.add_argument("--job-id", metavar="ID", help="Only runs of this job.")
    parser.add_argument(
        "--group", metavar="NAME", help="Only runs of this group, for example a sweep."
    )
    parser.add_argument("--user", metavar="NAME", help="Only runs of this user.")
    parser.add_argument("--namespace", metavar="NAME", help="Only runs of pods in this namespace.")
    parser.add_argument(
        "--account", metavar="NAME", help="Only runs of this account of the scheduler."
    )
    parser.add_argument(
        "--min-grams",
        type=parse_grams,
        metavar="G",
        help="Only runs that emitted at least this many grams of CO2 equivalent.",
    )
    parser.add_argument(
        "--max-grams",
        type=parse_grams,
        metavar="G",
        help="Only runs that emitted at most this many grams of CO2 equivalent.",
    )


def names(options: argparse.Namespace) -> dict[str, str | None]:
    """Return the filters of `add_run_filters` that are parameters of the daemon's API."""
    return {name: getattr(options, name) for name in RUN_FILTERS}


def is_selected(options: argparse.Namespace, now: float, *, started: float, grams: float) -> bool:
    """Whether a run matches --since, --min-grams and --max-grams.

    `now` and `started` are wall-clock times in seconds. Unknown grams are nan, which no limit of
    grams matches.
    """
    since = started_after(options, now)
    return (
        (since is None or started >= since)
        and (options.min_grams is None or grams >= options.min_grams)
        and (options.max_grams is None or grams <= options.max_grams)
    )


def started_after(options: argparse.Namespace, now: float) -> float | None:
    """Return the earliest start of selected runs, in wall-clock seconds; None for no limit."""
    since: dt.datetime | float | None = options.since
    if since is None:
        return None
    return now - since if isinstance(since, float) else since.timestamp()


def _parse_since(text: str) -> dt.datetime | float:
    """Parse a date, or a duration in seconds."""
    if DURATION_PATTERN.fullmatch(text):
        return parse_duration(text)
    try:
        return dt.datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"expected a date such as 2026-01-31 or a duration such as 30d, found {text!r}"
        ) from None


def parse_grams(text: str) -> float:
    """Parse an amount in grams. Raises argparse.ArgumentTypeError."""
    try:
        amount = float(text)
    except ValueError:
        amount = math.nan
    if not 0 <= amount < math.inf:
        raise argparse.ArgumentTypeError(
            f"expected grams of 0 or more, such as 12.5, found {text!r}"
        )
    return amount


def count(text: str) -> int:
    """Parse a positive number of runs. Raises argparse.ArgumentTypeError."""
    if not re.fullmatch("0*[1-9][0-9]{0,17}", text):
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, found {text!r}")
    return int(text)


if TYPE_CHECKING:
    from exporter.report.prometheus_queries import PrometheusApi

DURATION_PATTERN = re.compile(r"([0-9]{1,4})([mhdwy])")
SECONDS_PER_UNIT = {"m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0, "y": 31_536_000.0}
SINCE = "30d"
"""Default of `--since` of queries to Prometheus."""
DEFAULT_LOOKBACK_SECONDS = 30 * SECONDS_PER_UNIT["d"]


def add_prometheus_options(parser: argparse.ArgumentParser) -> None:
    """Add `--prometheus`, its credentials and `--since`."""
    add_prometheus_server(parser)
    parser.add_argument(
        "--since",
        dest="since_seconds",
        type=parse_duration,
        metavar="DURATION",
        help="How far back to look in Prometheus for runs, which are reported with all of their "
        f"energy: 12h, 30d, 1y. (default: {SINCE})",
    )


def check_prometheus_options(command: str, options: argparse.Namespace) -> None:
    """Reject options that have no effect with, or without, --prometheus. Raises ConfigError.

    Without --since, the lookback is that of `SINCE`.
    """
    given = {
        "--since": getattr(options, "since_seconds", None),
        "--prometheus.token-file": options.prometheus_token_file,
        "--prometheus.user": options.prometheus_user,
        "--prometheus.password-file": options.prometheus_password_file,
    }
    if not options.prometheus:
        for flag, value in given.items():
            if value:
                raise ConfigError(
                    f"{command}: {flag} requires --prometheus: it is an option of the query to "
                    "Prometheus"
                )
    elif flag := local_source(options):
        raise ConfigError(
            f"{command}: {flag} cannot be used with --prometheus: no daemon and no ledger is read"
        )
    if given["--since"] is None:
        options.since_seconds = DEFAULT_LOOKBACK_SECONDS


def local_source(options: argparse.Namespace) -> str:
    """Return the flag that selects a daemon or a state directory; "" if none was given."""
    flags = {"--socket.path": "socket", "--path.state": "state"}
    return next((flag for flag, name in flags.items() if getattr(options, name, "")), "")


def add_prometheus_server(parser: argparse.ArgumentParser) -> None:
    """Add `--prometheus` and its credentials: a bearer token, or a user and a password."""
    parser.add_argument(
        "--prometheus",
        metavar="URL",
        help="URL of a Prometheus server, or of a compatible one such as VictoriaMetrics.",
    )
    parser.add_argument(
        "--prometheus.token-file",
        dest="prometheus_token_file",
        default="",
        metavar="PATH",
        help="File with the bearer token; defaults to the token in "
        "EMISSIONS_EXPORTER_PROMETHEUS_TOKEN.",
    )
    parser.add_argument(
        "--prometheus.user",
        dest="prometheus_user",
        default="",
        metavar="NAME",
        help="User name for basic authentication, instead of a token.",
    )
    parser.add_argument(
        "--prometheus.password-file",
        dest="prometheus_password_file",
        default="",
        metavar="PATH",
        help="File with that user's password; defaults to the password in "
        "EMISSIONS_EXPORTER_PROMETHEUS_PASSWORD.",
    )


def open_prometheus(options: argparse.Namespace) -> "PrometheusApi":
    """Return the client of the server that the options name. Raises ConfigError."""
    from exporter.report.prometheus_queries import (  # 0.1 s
        PASSWORD_VARIABLE,
        TOKEN_VARIABLE,
        PrometheusApi,
    )

    path, user = options.prometheus_token_file, options.prometheus_user
    password_path = options.prometheus_password_file
    if user:
        if path:
            raise ConfigError(
                "--prometheus.user and --prometheus.token-file exclude each other; give one of them"
            )
        if not credentials.has_credential(password_path, PASSWORD_VARIABLE):
            raise ConfigError(
                "--prometheus.user requires a password: give its file with "
                f"--prometheus.password-file, or set {PASSWORD_VARIABLE}"
            )
        return PrometheusApi(
            options.prometheus,
            credentials.read_credential(password_path, PASSWORD_VARIABLE),
            user=user,
        )
    if password_path:
        raise ConfigError("--prometheus.password-file requires --prometheus.user")
    has_token = credentials.has_credential(path, TOKEN_VARIABLE)
    return PrometheusApi(
        options.prometheus, credentials.read_credential(path, TOKEN_VARIABLE) if has_token else ""
    )


def parse_duration(text: str) -> float:
    """Parse a duration such as 12h or 30d, in seconds. Raises ArgumentTypeError."""
    match = DURATION_PATTERN.fullmatch(text)
    if not match or not int(match[1]):
        raise argparse.ArgumentTypeError(f"expected a duration such as 12h or 30d, found {text!r}")
    return int(match[1]) * SECONDS_PER_UNIT[match[2]]
