"""`import`: history of other tools, as runs that have ended, for reports and the leaderboard."""

import argparse
import datetime as dt
import sys
import zoneinfo
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from exporter import human
from exporter.client import patience
from exporter.client.agent import Agent
from exporter.integrations.codecarbon.backfill import openmetrics
from exporter.integrations.codecarbon.history import ORIGIN, Found, read

RUNS_AT_ONCE = 15
"""As many as surely fit into one request."""


def add(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser("import", help="Take in history.", description=__doc__)
    parser.add_argument("tool", choices=(ORIGIN,), help="Whose files they are.")
    parser.add_argument("files", nargs="+", metavar="FILE", help="emissions.csv.")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--dry-run", action="store_true", help="Say what it would do.")
    how.add_argument(
        "--openmetrics", action="store_true", help="Print it for `promtool tsdb`, and no more."
    )
    parser.add_argument(
        "--timezone", type=_zone, metavar="NAME", help="Of the times in there; else this machine's."
    )
    parser.add_argument("--node", default="", metavar="NAME", help="Where the runs were.")
    parser.add_argument("--socket.path", dest="socket", default="", metavar="PATH")
    parser.set_defaults(main=main)


def main(options: argparse.Namespace) -> int:
    """Read all files, then hand them over; 1 where a line was refused."""
    found = {path: read(path, options.timezone, options.node) for path in options.files}
    agent = Agent(options.socket)
    for path, of_file in found.items():
        for line, why in of_file.refused:
            print(human.printable(f"{path}: line {line}: refused: {why}"), file=sys.stderr)
        for line in of_file.mended:
            print(f"{path}: line {line}: shifted cells were moved back", file=sys.stderr)
        if not options.openmetrics:
            told = _dry(of_file) if options.dry_run else _told(_hand_over(agent, of_file.runs))
            print(human.printable(f"{path}: {told}{_left_out(of_file)}"))
    if options.openmetrics:
        print(openmetrics([run for of_file in found.values() for run in of_file.runs], ORIGIN))
    return 1 if any(of_file.refused for of_file in found.values()) else 0


def _dry(found: Found) -> str:
    energy_uj = sum(part["energy_uj"] for run in found.runs for part in run["parts"])
    carbon_ng = sum(part["carbon_ng"] for run in found.runs for part in run["parts"])
    used = f"{human.energy(energy_uj)}, {human.carbon(carbon_ng)} CO2eq"
    return f"{len(found.runs)} runs would be taken in, {used}"


def _told(taken: Mapping[str, int]) -> str:
    new, changed, known = taken["new"], taken["changed"], taken["known"]
    return f"{new} runs taken in, {changed} brought up to date, {known} known already"


def _left_out(found: Found) -> str:
    counts = {
        "refused": len(found.refused),
        "earlier rows of the same runs": found.superseded,
        "rows that this exporter wrote": found.own,
    }
    return "".join(f"; {count} {what}" for what, count in counts.items() if count)


def _hand_over(agent: Agent, runs: Sequence[dict[str, Any]]) -> dict[str, int]:
    taken = {"new": 0, "changed": 0, "known": 0}
    for some in _batches(runs):
        answer = patience.start(partial(agent.take_in, ORIGIN, some))
        taken = {name: count + answer[name] for name, count in taken.items()}
    return taken


def _batches(runs: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    for begin in range(0, len(runs), RUNS_AT_ONCE):
        yield list(runs[begin : begin + RUNS_AT_ONCE])


def _zone(name: str) -> dt.tzinfo:
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise argparse.ArgumentTypeError(
            f"expected a zone as Europe/Berlin, found {name!r}"
        ) from None
