"""Which runs a list is of: the flags that all lists share."""

import argparse
import datetime as dt
import math

from exporter.cli import prometheus


def add(parser: argparse.ArgumentParser) -> None:
    """Add the flags."""
    parser.add_argument(
        "--since",
        type=_since,
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
        type=amount_of_grams,
        metavar="G",
        help="Runs that emitted at least that much.",
    )
    parser.add_argument(
        "--max-grams",
        type=amount_of_grams,
        metavar="G",
        help="Runs that emitted at most that much.",
    )


def names(options: argparse.Namespace) -> dict[str, str | None]:
    """Which runs the flags select by name, as the daemon is asked for them."""
    return {name: getattr(options, name) for name in ("job_id", "group", "user", "namespace")}


def wants(options: argparse.Namespace, now: float, *, started: float, grams: float) -> bool:
    """Whether a run that began at `started`, wall clock as `now`, is late and large enough."""
    since = since_seconds(options, now)
    return (
        (since is None or started >= since)
        and (options.min_grams is None or grams >= options.min_grams)
        and (options.max_grams is None or grams <= options.max_grams)
    )


def since_seconds(options: argparse.Namespace, now: float) -> float | None:
    """The wall clock from which on a run must have begun; None for any."""
    since: dt.datetime | float | None = options.since
    if since is None:
        return None
    return now - since if isinstance(since, float) else since.timestamp()


def _since(text: str) -> dt.datetime | float:
    """A date, or for how many seconds back."""
    if prometheus.DURATION.fullmatch(text):
        return prometheus.seconds(text)
    try:
        return dt.datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"expected a date as 2026-01-31 or a duration as 30d, found {text!r}"
        ) from None


def amount_of_grams(text: str) -> float:
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
