"""`import`: import run history from another tool, for reports and the leaderboard."""

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
from exporter.errors import ConfigError
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
"""Time resolution of Prometheus."""


class OpenMetricsSample(NamedTuple):
    """Value of a series at a time."""

    labels: Mapping[str, str]
    value: float
    at: float


def openmetrics(runs: Iterable[Run], origin: str) -> str:
    """Render the runs in OpenMetrics format, as their nodes would have exposed them."""
    unique = {run["run_id"]: run for run in runs}.values()
    families = {
        ENERGY_METRIC.raw: [
            each for run in unique for each in _usage_samples(run, "energy_uj", units.joules)
        ],
        CARBON_METRIC.raw: [
            each
            for run in unique
            if _has_grams(run)
            for each in _usage_samples(run, "carbon_ng", units.grams)
        ],
        INFO_METRIC.raw: [each for run in unique for each in _info_samples(run, origin)],
        START_METRIC.raw: [
            each for run in unique for each in _start_and_end(_run_labels(run), run["started"], run)
        ],
        END_METRIC: [
            OpenMetricsSample(_run_labels(run), run["ended"], run["ended"]) for run in unique
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
    """Return the start of the run, at least one millisecond before its end."""
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
"""Width of the bar itself, in characters."""


@contextmanager
def progress_bar(stream: TextIO, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Yield a function that updates a progress bar; without a terminal it does nothing.

    The bar is removed at the end, so that later output begins on a new line.
    """
    if not stream.isatty() or total <= 0:
        yield lambda _: None
        return

    shown = ""

    def show(done: int) -> None:
        nonlocal shown
        filled = BAR_WIDTH * done // total
        shown = f"[{'#' * filled}{' ' * (BAR_WIDTH - filled)}] {done} of {total} {unit}"
        stream.write(f"\r{shown}")
        stream.flush()

    show(0)
    try:
        yield show
    finally:
        stream.write(f"\r{' ' * len(shown)}\r")
        stream.flush()


RUNS_PER_REQUEST, BYTES_PER_REQUEST = 100, 60_000
"""Limits of one request to the daemon; the bytes exclude its head and the enclosing JSON."""


def add(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "import", help="Import run history from another tool.", description=__doc__
    )
    parser.add_argument("tool", choices=(ORIGIN,), help="Tool that wrote the files.")
    parser.add_argument("files", nargs="+", metavar="FILE", help="File to import: emissions.csv.")
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--dry-run", action="store_true", help="Print what would be imported, without importing."
    )
    how.add_argument(
        "--openmetrics",
        action="store_true",
        help="Print the history in OpenMetrics format for `promtool tsdb`, without importing.",
    )
    parser.add_argument(
        "--timezone",
        type=_parse_timezone,
        metavar="NAME",
        help="Time zone of the times in the files (default: the time zone of this machine).",
    )
    parser.add_argument(
        "--node", default="", metavar="NAME", help="Name of the machine on which the runs ran."
    )
    add_socket_flag(parser)
    parser.set_defaults(main=main)


def main(options: argparse.Namespace) -> int:
    """Read all files, then import the runs of those that can be read.

    Returns 1 if a file cannot be read, or a row was rejected or has no emissions, else 0.
    """
    files: dict[str, ParsedHistory] = {}
    for path in options.files:
        try:
            files[path] = read_history(path, options.timezone, options.node)
        except ConfigError as error:
            print(formatting.printable(f"emissions-exporter: {error}"), file=sys.stderr)
    rejected_kwh = _max_rejected_kwh(files.values())
    agent = AgentClient(options.socket)
    for path, parsed in files.items():
        accepted = _drop_doubtful(rejected_kwh, parsed)
        run_ids = {run["run_id"] for run in accepted.runs}
        for run_id in [run["run_id"] for run in parsed.runs if run["run_id"] not in run_ids]:
            message = f"run {run_id} is not imported: a rejected row of the run may be a later one"
            print(formatting.printable(f"{path}: {message}"), file=sys.stderr)
        for message in _messages(accepted):
            print(formatting.printable(f"{path}: {message}"), file=sys.stderr)
        if not options.openmetrics:
            summary = (
                _dry_run_summary(accepted)
                if options.dry_run
                else _import_summary(_send_runs(agent, accepted.runs))
            )
            print(formatting.printable(f"{path}: {summary}{_skipped_summary(accepted)}"))
    if options.openmetrics:
        runs = [
            run for parsed in files.values() for run in _drop_doubtful(rejected_kwh, parsed).runs
        ]
        print(openmetrics(runs, ORIGIN))
    has_doubts = any(each.rejected_rows or each.rows_without_emissions for each in files.values())
    return 1 if has_doubts or len(files) < len(set(options.files)) else 0


def _max_rejected_kwh(files: Iterable[ParsedHistory]) -> dict[str, float]:
    """Return the largest energy in a rejected row of each run that has one, in kWh.

    A row without an amount counts as infinite.
    """
    most: dict[str, float] = {}
    for each in (refusal for parsed in files for refusal in parsed.rejected_rows if refusal.run_id):
        kwh = math.inf if math.isnan(each.kwh) else each.kwh
        most[each.run_id] = max(kwh, most.get(each.run_id, 0.0))
    return most


def _drop_doubtful(rejected_kwh: Mapping[str, float], parsed: ParsedHistory) -> ParsedHistory:
    """Drop the runs of which some file may have a later row that was rejected."""
    runs = [
        run for run in parsed.runs if not _facility_kwh(run) < rejected_kwh.get(run["run_id"], 0.0)
    ]
    return parsed._replace(runs=tuple(runs))


def _facility_kwh(run: Mapping[str, Any]) -> float:
    """Return the energy of a run in kWh as in its file, which includes the PUE."""
    energy_uj: int = sum(part["energy_uj"] for part in run["parts"])
    return energy_uj * float(run["intensity"][0].get("pue", 1.0)) / units.MICROJOULES_PER_KWH


def _messages(parsed: ParsedHistory) -> Iterator[str]:
    """Yield messages about rejected, incomplete, repaired and ignored rows."""
    without_run: dict[str, list[RejectedRow]] = {}
    for each in parsed.rejected_rows:
        if not each.run_id:
            without_run.setdefault(each.why, []).append(each)
            continue
        energy = "" if math.isnan(each.kwh) else f" The row has {_energy_text([each])}."
        yield f"line {each.line}: rejected: {each.why}. Run {each.run_id} is not imported.{energy}"
    for why, rows in without_run.items():
        known = [row for row in rows if not math.isnan(row.kwh)]
        energy = f". They have {_energy_text(known)}, counted once per row" if known else ""
        if len(rows) == 1:
            energy = f". The row has {_energy_text(known)}" if known else ""
        more = f" and {len(rows) - 1} more" if rows[1:] else ""
        yield f"line {rows[0].line}{more}: rejected: {why}{energy}"
    for line, reason in parsed.rows_without_emissions:
        yield f"line {line}: {reason}; the energy of the run is imported, its emissions are unknown"
    for line in parsed.repaired_lines:
        yield f"line {line}: shifted cells were moved back"
    yield from parsed.notes


def _energy_text(rows: Iterable[RejectedRow]) -> str:
    kwh = math.fsum(row.kwh for row in rows)
    return formatting.energy(round(kwh * units.MICROJOULES_PER_KWH))


def _dry_run_summary(parsed: ParsedHistory) -> str:
    energy_uj = sum(part["energy_uj"] for run in parsed.runs for part in run["parts"])
    carbon_ng = sum(part["carbon_ng"] for run in parsed.runs for part in run["parts"])
    unknown = sum(not _has_grams(run) for run in parsed.runs)
    bound = "> " if unknown else ""
    is_unknown = unknown > 0 and unknown == len(parsed.runs)
    carbon = formatting.UNKNOWN if is_unknown else f"{bound}{formatting.carbon(carbon_ng)}"
    used = f"{formatting.energy(energy_uj)}, {carbon} CO2eq"
    return f"{_count_text(len(parsed.runs))} would be imported, {used}"


def _import_summary(counts: Mapping[str, int]) -> str:
    new, changed, known = counts["new"], counts["changed"], counts["known"]
    return f"{_count_text(new)} imported, {changed} updated, {known} unchanged"


def _count_text(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def _plural(count: int) -> str:
    return "" if count == 1 else "s"


def _skipped_summary(parsed: ParsedHistory) -> str:
    counts = {
        "rejected": len(parsed.rejected_rows),
        "without emissions": len(parsed.rows_without_emissions),
        f"earlier row{_plural(parsed.superseded)} of the same runs": parsed.superseded,
        f"row{_plural(parsed.exporter_rows)} written by this exporter": parsed.exporter_rows,
    }
    return "".join(f"; {count} {what}" for what, count in counts.items() if count)


def _send_runs(agent: AgentClient, runs: Sequence[dict[str, Any]]) -> dict[str, int]:
    counts = {"new": 0, "changed": 0, "known": 0}
    with progress_bar(sys.stderr, len(runs), "runs") as show:
        for batch in _batches(runs):
            answer = agent_client.register_with_retry(partial(agent.import_runs, ORIGIN, batch))
            counts = {name: count + answer[name] for name, count in counts.items()}
            show(sum(counts.values()))
    return counts


def _batches(runs: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Split runs into batches that fit into one request."""
    batch: list[dict[str, Any]] = []
    size = 0
    for run in runs:
        length = len(json.dumps(run)) + len(", ")
        if batch and (len(batch) >= RUNS_PER_REQUEST or size + length > BYTES_PER_REQUEST):
            yield batch
            batch, size = [], 0
        batch.append(run)
        size += length
    if batch:
        yield batch


def _parse_timezone(name: str) -> dt.tzinfo:
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise argparse.ArgumentTypeError(
            f"expected a time zone such as Europe/Berlin, found {name!r}"
        ) from None
