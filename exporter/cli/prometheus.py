"""The options of commands that ask a Prometheus."""

import argparse
import re
from typing import TYPE_CHECKING

from exporter.convert.live import secret

if TYPE_CHECKING:
    from exporter.report.prometheus_api import Api

DURATION = re.compile(r"([0-9]{1,4})([mhdwy])")
SECONDS_OF = {"m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0, "y": 31_536_000.0}
SINCE_SECONDS = 30 * SECONDS_OF["d"]
SINCE = "30d"
"""How far back is looked if nothing is said."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add `--prometheus`, its token and `--since`."""
    add_server(parser)
    parser.add_argument(
        "--since",
        dest="since_seconds",
        type=seconds,
        default=SINCE,
        metavar="DURATION",
        help="How far back to look there: 12h, 30d, 1y.",
    )


def add_server(parser: argparse.ArgumentParser) -> None:
    """Add `--prometheus` and its token."""
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


def opened(options: argparse.Namespace) -> "Api":
    """The server that the options name. Raises ConfigError."""
    from exporter.report.prometheus_api import TOKEN_VARIABLE, Api  # 0.1 s

    path = options.prometheus_token_file
    given = secret.is_given(path, TOKEN_VARIABLE)
    return Api(options.prometheus, secret.read(path, TOKEN_VARIABLE) if given else "")


def seconds(text: str) -> float:
    """A duration as 12h or 30d. Raises ArgumentTypeError."""
    found = DURATION.fullmatch(text)
    if not found or not int(found[1]):
        raise argparse.ArgumentTypeError(f"expected a duration as 12h or 30d, found {text!r}")
    return int(found[1]) * SECONDS_OF[found[2]]
