"""`runs`: list the runs of this machine as a table, JSON or CSV.

Reads runs from the daemon or, if none answers, from its ledger.
"""

import argparse
import datetime as dt
import json
import sys
from collections.abc import Mapping
from typing import Any

from exporter import formatting
from exporter.cli import arguments, run_sources
from exporter.clock import SystemClock
from exporter.model.record import GROUP_LABEL
from exporter.report import quantities
from exporter.report.records import combine_records

COLUMNS = ("run_id", "job_id", "user", "origin", "started", "ended", "duration_seconds",
           "energy_joules", "carbon_grams", "name", "namespace")  # fmt: skip
COLUMNS_OF_RUNS = (*COLUMNS, "group", "grams_incomplete")
COLUMNS_OF_SUMS = (*COLUMNS, "by", "by_name", "runs", "run_seconds", "grams_incomplete",
                   "unseen_runs")  # fmt: skip
"""Columns of sums; their `run_id` is the job, group, user, namespace or account. `unseen_runs` are
Slurm jobs without a visible process, whose energy is not part of the sum."""
GROUP_KEYS = {
    "job": "job_id", "group": "labels", "user": "user", "namespace": "namespace",
    "account": "account",
}  # fmt: skip


def add(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser("runs", help="List runs.", description=__doc__)
    arguments.add_run_filters(parser)
    parser.add_argument(
        "--by",
        choices=("run", *GROUP_KEYS),
        default="run",
        help="Print the sum of the runs of each job, group, user, namespace or account. TOOK is "
        "the sum of their durations, without runs inside other runs of the sum.",
    )
    parser.add_argument(
        "--limit",
        type=arguments.count,
        metavar="N",
        help="Print only the newest N matching runs.",
    )
    parser.add_argument(
        "--format", choices=("table", "json", "csv"), default="table", help="Format of the output."
    )
    run_sources.add_flags(parser)
    parser.set_defaults(main=main)


def main(options: argparse.Namespace) -> int:
    """Print the runs."""
    filters = arguments.names(options)
    texts = _filter_texts(options)
    now = SystemClock().wall()
    with run_sources.opened(options) as source:
        since = max(arguments.started_after(options, now) or 0.0, 0.0)
        if options.by == "run":
            selects_grams = options.min_grams is not None or options.max_grams is not None
            limit = None if selects_grams else options.limit
            found = source.runs(since, limit, **filters)
        else:
            # --since selects the runs that are summed, not the sums.
            found = _aggregate(options.by, source.aggregate_runs(options.by, since, **filters))
            options.since = None
    runs = [
        run
        for run in found
        if arguments.is_selected(
            options, now, started=run["started"], grams=quantities.carbon_grams(run)
        )
    ]
    runs = runs[: options.limit]
    if not runs and texts:
        print(f"emissions-exporter: no run matches {', '.join(texts)}", file=sys.stderr)
    match options.format:
        case "json":
            print(json.dumps(runs, indent=2))
        case "csv":
            import csv  # imported here because it takes 2 ms

            columns = COLUMNS_OF_RUNS if options.by == "run" else COLUMNS_OF_SUMS
            writer = csv.DictWriter(sys.stdout, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(
                {k: formatting.csv_cell(v) for k, v in _csv_values(run).items()} for run in runs
            )
        case _:
            _print_table(runs, options.by)
    return 0


def _filter_texts(options: argparse.Namespace) -> list[str]:
    """Return the given filters as options."""
    since = options.since
    if isinstance(since, float):
        since = f"{formatting.duration(since)} ago"
    given = {"since": since, **arguments.names(options)}
    texts = [
        f"--{name.replace('_', '-')} {value}" for name, value in given.items() if value is not None
    ]
    for flag, grams in (("--min-grams", options.min_grams), ("--max-grams", options.max_grams)):
        texts += [] if grams is None else [f"{flag} {grams:g}"]
    return texts


def _csv_values(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a run; unknown energy and grams are empty."""
    is_unknown = quantities.is_unseen(run)
    are_grams_unknown = is_unknown or quantities.are_grams_unknown(run)
    return {
        **run,
        "energy_joules": None if is_unknown else run["energy_joules"],
        "carbon_grams": None if are_grams_unknown else run["carbon_grams"],
        "group": (run.get("labels") or {}).get(GROUP_LABEL, ""),
        "unseen_runs": quantities.unseen_runs(run),
        "grams_incomplete": quantities.unseen_runs(run) > 0 or quantities.unconverted_uj(run) > 0,
    }


def _aggregate(by: str, answer: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a sum per job, group, user or namespace, of the ledger's sums and of single runs."""
    gathered: dict[str, list[dict[str, Any]]] = {}
    for part in answer["sums"]:
        gathered.setdefault(part["name"], []).append({**part, "node": ", ".join(part["nodes"])})
    for run in answer["runs"]:
        name = run.get("labels", {}).get("group") if by == "group" else run.get(GROUP_KEYS[by])
        gathered.setdefault(name or "", []).append({**run, "runs": 1, "users": [run["user"]]})
    sums = [
        {**_aggregate_record(name, parts), "by": by, "by_name": name}
        for name, parts in gathered.items()
    ]
    return sorted(sums, key=lambda each: float(each["started"]), reverse=True)


def _aggregate_record(name: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
    count = sum(part["runs"] for part in parts)
    users = {user for part in parts for user in part["users"]}
    return {
        **combine_records(parts, name or formatting.UNKNOWN),
        "job_id": formatting.UNKNOWN,
        "user": users.pop() if len(users) == 1 else "several",
        "origin": f"{count} runs",
        "end_reason": "ended",
        "runs": count,
    }


def _state(run: dict[str, Any]) -> str:
    """Return the state of a run; the end reason `exited` is also shown as "ended"."""
    if run["ended"] is None:
        return "running"
    return "ended" if run["end_reason"] == "exited" else str(run["end_reason"])


def _identity_columns(by: str, runs: list[dict[str, Any]]) -> dict[str, str]:
    """Return the columns that identify a run or a sum in addition to its id: head to JSON key."""
    if by == "run" and any(run.get("namespace") for run in runs):
        return {"NAME": "name", "NAMESPACE": "namespace", "JOB": "job_id", "USER": "user"}
    if by == "run":
        return {"NAME": "name", "JOB": "job_id", "USER": "user"}
    return {} if by == "user" else {"USER": "user"}


def _print_table(runs: list[dict[str, Any]], by: str) -> None:
    identity = _identity_columns(by, runs)
    heads = (by.upper(), *identity, "STARTED", "TOOK", "ENERGY", "CO2EQ", "STATE")
    rows: list[tuple[str, ...]] = [heads]
    energy = formatting.energy_scale(run["energy_uj"] for run in runs)
    carbon = formatting.carbon_scale(run["carbon_ng"] for run in runs)
    for run in runs:
        started = dt.datetime.fromtimestamp(run["started"]).astimezone()
        rows.append(
            (
                run["run_id"],
                *(str(run.get(key) or "") for key in identity.values()),
                f"{started:%Y-%m-%d %H:%M:%S}",
                formatting.duration(run["duration_seconds" if by == "run" else "run_seconds"]),
                formatting.UNKNOWN
                if quantities.is_unseen(run)
                else quantities.energy_bound(run) + energy.text(run["energy_uj"]),
                quantities.carbon_text(run, scale=carbon),
                _state(run),
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(formatting.printable("  ".join(cells).rstrip()))
