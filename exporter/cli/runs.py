"""`runs`: the runs that the daemon knows, as a table, JSON or CSV."""

import argparse
import datetime as dt
import json
import sys
from typing import Any

from exporter import human, units
from exporter.cli import selection
from exporter.client.agent import Agent
from exporter.clock import SystemClock
from exporter.report.combined import combined

COLUMNS = ("run_id", "job_id", "user", "origin", "started", "ended", "duration_seconds",
           "energy_joules", "carbon_grams")  # fmt: skip
BY = {"job": "job_id", "group": "labels", "user": "user"}


def add(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser("runs", help="List runs.", description=__doc__)
    selection.add(parser)
    parser.add_argument(
        "--by", choices=("run", *BY), default="run", help="Add up the runs of each of these."
    )
    parser.add_argument("--format", choices=("table", "json", "csv"), default="table")
    parser.add_argument("--socket.path", dest="socket", default="", metavar="PATH")
    parser.set_defaults(main=main)


def main(options: argparse.Namespace) -> int:
    """Print the runs."""
    named = {"job_id": options.job_id, "group": options.group, "user": options.user}
    found = Agent(options.socket).runs(**named)
    now = SystemClock().wall()
    runs = [
        run
        for run in _by(options.by, found)
        if selection.wants(
            options, now, started=run["started"], grams=units.grams(run["carbon_ng"])
        )
    ]
    match options.format:
        case "json":
            print(json.dumps(runs, indent=2))
        case "csv":
            import csv  # 2 ms that a table need not spend

            writer = csv.DictWriter(sys.stdout, COLUMNS, extrasaction="ignore")
            writer.writeheader()
            writer.writerows({k: human.cell(v) for k, v in run.items()} for run in runs)
        case _:
            _print_table(runs, options.by)
    return 0


def _by(what: str, runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The runs as they are, or one sum for each job, group or user that they have."""
    if what == "run":
        return runs
    gathered: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        name = run.get("labels", {}).get("group") if what == "group" else run[BY[what]]
        gathered.setdefault(name or human.UNKNOWN, []).append(run)
    return [
        {
            **combined(of_one, name),
            "job_id": human.UNKNOWN,
            "user": of_one[0]["user"] if len({run["user"] for run in of_one}) == 1 else "several",
            "origin": f"{len(of_one)} runs",
            "end_reason": "ended",
        }
        for name, of_one in gathered.items()
    ]


def _identity(by: str) -> dict[str, str]:
    """What stands beside the id of a run, or of a sum of them, and whence it comes."""
    if by == "run":
        return {"NAME": "name", "JOB": "job_id", "USER": "user"}
    return {} if by == "user" else {"USER": "user"}


def _print_table(runs: list[dict[str, Any]], by: str) -> None:
    heads = (by.upper(), *_identity(by), "STARTED", "TOOK", "ENERGY", "CO2EQ", "STATE")
    rows: list[tuple[str, ...]] = [heads]
    for run in runs:
        started = dt.datetime.fromtimestamp(run["started"]).astimezone()
        rows.append(
            (
                run["run_id"],
                *(str(run.get(key) or "") for key in _identity(by).values()),
                f"{started:%Y-%m-%d %H:%M:%S}",
                human.duration(run["duration_seconds"]),
                human.energy(run["energy_uj"]),
                human.carbon(run["carbon_ng"]),
                "running" if run["ended"] is None else run["end_reason"],
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(human.printable("  ".join(cells).rstrip()))
