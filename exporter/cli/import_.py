"""`import`: history of other tools, as runs that have ended, for reports and the leaderboard."""

import argparse
import datetime as dt
import json
import math
import sys
import zoneinfo
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, TextIO

from exporter import formatting, units
from exporter.cli.arguments import add_socket_flag
from exporter.client import agent_client
from exporter.client.agent_client import AgentClient
from exporter.integrations.codecarbon.csv_import import (
    ORIGIN,
    ParsedHistory,
    RejectedRow,
    read_history,
)
from exporter.report.prometheus_queries import (
    CARBON_METRIC,
    END_METRIC,
    ENERGY_METRIC,
    INFO_METRIC,
    START_METRIC,
)

Run = Mapping[str, Any]
TOTAL = "_total"
UNKNOWN_NODE = "unknown"
SHORTEST_SECONDS = 0.001
"""The resolution of a Prometheus."""


class OpenMetricsSample(NamedTuple):
    """One value of one series."""

    labels: Mapping[str, str]
    value: float
    at: float


def openmetrics(runs: Iterable[Run], origin: str) -> str:
    """The metrics that the runs would have had on the pages of their nodes."""
    found = {run["run_id"]: run for run in runs}.values()
    families = {
        ENERGY_METRIC.raw: [
            each for run in found for each in _usage_samples(run, "energy_uj", units.joules)
        ],
        CARBON_METRIC.raw: [
            each
            for run in found
            if _has_grams(run)
            for each in _usage_samples(run, "carbon_ng", units.grams)
        ],
        INFO_METRIC.raw: [each for run in found for each in _info_samples(run, origin)],
        START_METRIC.raw: [
            each for run in found for each in _start_and_end(_run_labels(run), run["started"], run)
        ],
        END_METRIC: [
            OpenMetricsSample(_run_labels(run), run["ended"], run["ended"]) for run in found
        ],
    }
    lines = [line for name, samples in families.items() for line in _family_lines(name, samples)]
    return "\n".join([*lines, "# EOF"])


def _family_lines(name: str, samples: Iterable[OpenMetricsSample]) -> Iterator[str]:
    yield f"# TYPE {name.removesuffix(TOTAL)} {'counter' if name.endswith(TOTAL) else 'gauge'}"
    for sample in samples:
        pairs = ",".join(f"{label}={_quoted(text)}" for label, text in sample.labels.items())
        yield f"{name}{{{pairs}}} {sample.value!r} {sample.at:.3f}"


def _has_grams(run: Run) -> bool:
    return all(use["zone"] is not None for use in run["intensity"])


def _usage_samples(run: Run, amount: str, converted: Any) -> Iterator[OpenMetricsSample]:
    for part in run["parts"]:
        labels = {**_run_labels(run), "device": str(part["device"]), "id": ""}
        yield OpenMetricsSample(labels, 0.0, _first_time(run))
        yield OpenMetricsSample(labels, converted(part[amount]), run["ended"])


def _info_samples(run: Run, origin: str) -> Iterator[OpenMetricsSample]:
    labels = {**_run_labels(run), "run_name": run["name"], "origin": origin}
    return _start_and_end({name: text for name, text in labels.items() if text}, 1.0, run)


def _start_and_end(
    labels: Mapping[str, str], value: float, run: Run
) -> Iterator[OpenMetricsSample]:
    yield OpenMetricsSample(labels, value, _first_time(run))
    yield OpenMetricsSample(labels, value, run["ended"])


def _first_time(run: Run) -> float:
    """Its start; before its end also where it took no time."""
    return min(float(run["started"]), float(run["ended"]) - SHORTEST_SECONDS)


def _run_labels(run: Run) -> dict[str, str]:
    return {
        "instance": run["labels"].get("node", UNKNOWN_NODE),
        "run_id": run["run_id"],
        "job_id": "",
    }


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


BAR_WIDTH = 30
"""Of the bar alone, in characters."""


@contextmanager
def progress_bar(stream: TextIO, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """A function that shows how many of `total` are done; it prints nothing without a terminal.

    The bar is removed at the end, so that what is printed next stands on a line of its own.
    """
    if not stream.isatty() or total <= 0:
        yield lambda _: None
        return

    shown = ""

    def show(done: int) -> None:
        nonlocal shown
        backfill_id = BAR_WIDTH * done // total
        shown = f"[{'#' * backfill_id}{' ' * (BAR_WIDTH - backfill_id)}] {done} of {total} {unit}"
        stream.write(f"\r{shown}")
        stream.flush()

    show(0)
    try:
        yield show
    finally:
        stream.write(f"\r{' ' * len(shown)}\r")
        stream.flush()


RUNS_PER_REQUEST, BYTES_PER_REQUEST = 100, 60_000
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
        type=_parse_timezone,
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
    found = {path: read_history(path, options.timezone, options.node) for path in options.files}
    doubtful = _max_rejected_kwh(found.values())
    agent = AgentClient(options.socket)
    for path, whole in found.items():
        of_file = _drop_doubtful(doubtful, whole)
        taken = {run["run_id"] for run in of_file.runs}
        for run_id in [run["run_id"] for run in whole.runs if run["run_id"] not in taken]:
            remark = f"run {run_id} is not imported: the row of it that is refused may be later"
            print(formatting.printable(f"{path}: {remark}"), file=sys.stderr)
        for remark in _remarks(of_file):
            print(formatting.printable(f"{path}: {remark}"), file=sys.stderr)
        if not options.openmetrics:
            told = (
                _dry_run_summary(of_file)
                if options.dry_run
                else _import_summary(_send_runs(agent, of_file.runs))
            )
            print(formatting.printable(f"{path}: {told}{_skipped_summary(of_file)}"))
    if options.openmetrics:
        runs = [run for whole in found.values() for run in _drop_doubtful(doubtful, whole).runs]
        print(openmetrics(runs, ORIGIN))
    return (
        1
        if any(
            of_file.rejected_rows or of_file.rows_without_emissions for of_file in found.values()
        )
        else 0
    )


def _max_rejected_kwh(found: Iterable[ParsedHistory]) -> dict[str, float]:
    """Runs of which a file has a row that is refused, and the most that such a row says, in kWh.

    A row that says no amount may have any.
    """
    most: dict[str, float] = {}
    for each in (
        refusal for of_file in found for refusal in of_file.rejected_rows if refusal.run_id
    ):
        kwh = math.inf if math.isnan(each.kwh) else each.kwh
        most[each.run_id] = max(kwh, most.get(each.run_id, 0.0))
    return most


def _drop_doubtful(doubtful: Mapping[str, float], found: ParsedHistory) -> ParsedHistory:
    """A file without the runs of which another file may have a later row that is refused."""
    runs = [run for run in found.runs if not _facility_kwh(run) < doubtful.get(run["run_id"], 0.0)]
    return found._replace(runs=tuple(runs))


def _facility_kwh(run: Mapping[str, Any]) -> float:
    """The energy of a run as its file has it, with the PUE inside."""
    energy_uj: int = sum(part["energy_uj"] for part in run["parts"])
    return energy_uj * float(run["intensity"][0].get("pue", 1.0)) / units.MICROJOULES_PER_KWH


def _remarks(found: ParsedHistory) -> Iterator[str]:
    """What is not imported, what is in doubt, what was mended and what was ignored."""
    for each in found.rejected_rows:
        known = (
            "" if math.isnan(each.kwh) else f" The row has {formatting.energy(_microjoules(each))}."
        )
        run = f" Run {each.run_id} is not imported.{known}" if each.run_id else ""
        yield f"line {each.line}: refused: {each.why}{run and '.'}{run}"
    for line, why in found.rows_without_emissions:
        yield f"line {line}: {why}; the energy of the run is imported, its grams are unknown"
    for line in found.repaired_lines:
        yield f"line {line}: shifted cells were moved back"
    yield from found.notes


def _microjoules(refusal: RejectedRow) -> int:
    return round(refusal.kwh * units.MICROJOULES_PER_KWH)


def _dry_run_summary(found: ParsedHistory) -> str:
    energy_uj = sum(part["energy_uj"] for run in found.runs for part in run["parts"])
    carbon_ng = sum(part["carbon_ng"] for run in found.runs for part in run["parts"])
    used = f"{formatting.energy(energy_uj)}, {formatting.carbon(carbon_ng)} CO2eq"
    return f"{len(found.runs)} runs would be taken in, {used}"


def _import_summary(taken: Mapping[str, int]) -> str:
    new, changed, known = taken["new"], taken["changed"], taken["known"]
    return f"{new} runs taken in, {changed} brought up to date, {known} known already"


def _skipped_summary(found: ParsedHistory) -> str:
    counts = {
        "refused": len(found.rejected_rows),
        "without grams": len(found.rows_without_emissions),
        "earlier rows of the same runs": found.superseded,
        "rows that this exporter wrote": found.exporter_rows,
    }
    return "".join(f"; {count} {what}" for what, count in counts.items() if count)


def _send_runs(agent: AgentClient, runs: Sequence[dict[str, Any]]) -> dict[str, int]:
    taken = {"new": 0, "changed": 0, "known": 0}
    with progress_bar(sys.stderr, len(runs), "runs") as show:
        for some in _batches(runs):
            answer = agent_client.register_with_retry(partial(agent.import_runs, ORIGIN, some))
            taken = {name: count + answer[name] for name, count in taken.items()}
            show(sum(taken.values()))
    return taken


def _batches(runs: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """As many runs at once as fit into one request."""
    some: list[dict[str, Any]] = []
    size = 0
    for run in runs:
        length = len(json.dumps(run)) + len(", ")
        if some and (len(some) >= RUNS_PER_REQUEST or size + length > BYTES_PER_REQUEST):
            yield some
            some, size = [], 0
        some.append(run)
        size += length
    if some:
        yield some


def _parse_timezone(name: str) -> dt.tzinfo:
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise argparse.ArgumentTypeError(
            f"expected a zone as Europe/Berlin, found {name!r}"
        ) from None
