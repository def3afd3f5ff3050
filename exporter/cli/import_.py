"""`import`: history of other tools, as runs that have ended, for reports and the leaderboard."""

import argparse
import datetime as dt
import json
import math
import sys
import zoneinfo
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from exporter import human, units
from exporter.cli.parser import add_socket_flag
from exporter.cli.progress import progress_bar
from exporter.client import patience
from exporter.client.agent import Agent
from exporter.integrations.codecarbon.backfill import openmetrics
from exporter.integrations.codecarbon.history import ORIGIN, Found, Refusal, read

RUNS_AT_ONCE, BYTES_AT_ONCE = 100, 60_000
"""What the daemon accepts in one request, less its head and the keys around the runs."""


def add(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "import", help="Import run history from another tool.", description=__doc__
    )
    parser.add_argument("tool", choices=(ORIGIN,), help="The tool that wrote the files.")
    parser.add_argument("files", nargs="+", metavar="FILE", help="An emissions.csv.")
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--dry-run", action="store_true", help="Print what would be imported, and import nothing."
    )
    how.add_argument(
        "--openmetrics",
        action="store_true",
        help="Print the history for `promtool tsdb`, and import nothing.",
    )
    parser.add_argument(
        "--timezone",
        type=_zone,
        metavar="NAME",
        help="Time zone of the times in the files; else that of this machine.",
    )
    parser.add_argument(
        "--node", default="", metavar="NAME", help="Name of the machine that the runs were on."
    )
    add_socket_flag(parser)
    parser.set_defaults(main=main)


def main(options: argparse.Namespace) -> int:
    """Read all files, then hand the runs over; 1 where energy or grams of a run are in doubt."""
    found = {path: read(path, options.timezone, options.node) for path in options.files}
    doubtful = _doubtful(found.values())
    agent = Agent(options.socket)
    for path, whole in found.items():
        of_file = _without(doubtful, whole)
        taken = {run["run_id"] for run in of_file.runs}
        for run_id in [run["run_id"] for run in whole.runs if run["run_id"] not in taken]:
            remark = f"run {run_id} is not imported: the row of it that is refused may be later"
            print(human.printable(f"{path}: {remark}"), file=sys.stderr)
        for remark in _remarks(of_file):
            print(human.printable(f"{path}: {remark}"), file=sys.stderr)
        if not options.openmetrics:
            told = _dry(of_file) if options.dry_run else _told(_hand_over(agent, of_file.runs))
            print(human.printable(f"{path}: {told}{_left_out(of_file)}"))
    if options.openmetrics:
        runs = [run for whole in found.values() for run in _without(doubtful, whole).runs]
        print(openmetrics(runs, ORIGIN))
    return 1 if any(of_file.refused or of_file.doubts for of_file in found.values()) else 0


def _doubtful(found: Iterable[Found]) -> dict[str, float]:
    """Runs of which a file has a row that is refused, and the most that such a row says, in kWh.

    A row that says no amount may have any.
    """
    most: dict[str, float] = {}
    for each in (refusal for of_file in found for refusal in of_file.refused if refusal.run_id):
        kwh = math.inf if math.isnan(each.kwh) else each.kwh
        most[each.run_id] = max(kwh, most.get(each.run_id, 0.0))
    return most


def _without(doubtful: Mapping[str, float], found: Found) -> Found:
    """A file without the runs of which another file may have a later row that is refused."""
    runs = [run for run in found.runs if not _kwh(run) < doubtful.get(run["run_id"], 0.0)]
    return found._replace(runs=tuple(runs))


def _kwh(run: Mapping[str, Any]) -> float:
    """The energy of a run as its file has it, with the PUE inside."""
    energy_uj: int = sum(part["energy_uj"] for part in run["parts"])
    return energy_uj * float(run["intensity"][0].get("pue", 1.0)) / units.MICROJOULES_PER_KWH


def _remarks(found: Found) -> Iterator[str]:
    """What is not imported, what is in doubt, what was mended and what was ignored."""
    for each in found.refused:
        known = "" if math.isnan(each.kwh) else f" The row has {human.energy(_microjoules(each))}."
        run = f" Run {each.run_id} is not imported.{known}" if each.run_id else ""
        yield f"line {each.line}: refused: {each.why}{run and '.'}{run}"
    for line, why in found.doubts:
        yield f"line {line}: {why}; the energy of the run is imported, its grams are unknown"
    for line in found.mended:
        yield f"line {line}: shifted cells were moved back"
    yield from found.notes


def _microjoules(refusal: Refusal) -> int:
    return round(refusal.kwh * units.MICROJOULES_PER_KWH)


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
        "without grams": len(found.doubts),
        "earlier rows of the same runs": found.superseded,
        "rows that this exporter wrote": found.own,
    }
    return "".join(f"; {count} {what}" for what, count in counts.items() if count)


def _hand_over(agent: Agent, runs: Sequence[dict[str, Any]]) -> dict[str, int]:
    taken = {"new": 0, "changed": 0, "known": 0}
    with progress_bar(sys.stderr, len(runs), "runs") as show:
        for some in _batches(runs):
            answer = patience.start(partial(agent.take_in, ORIGIN, some))
            taken = {name: count + answer[name] for name, count in taken.items()}
            show(sum(taken.values()))
    return taken


def _batches(runs: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """As many runs at once as fit into one request."""
    some: list[dict[str, Any]] = []
    size = 0
    for run in runs:
        length = len(json.dumps(run)) + len(", ")
        if some and (len(some) >= RUNS_AT_ONCE or size + length > BYTES_AT_ONCE):
            yield some
            some, size = [], 0
        some.append(run)
        size += length
    if some:
        yield some


def _zone(name: str) -> dt.tzinfo:
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise argparse.ArgumentTypeError(
            f"expected a zone as Europe/Berlin, found {name!r}"
        ) from None
