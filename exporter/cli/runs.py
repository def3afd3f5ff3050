"""`runs`: the runs that the daemon knows, as a table, JSON or CSV."""

import argparse
import datetime as dt
import json
import sys
from typing import Any

from exporter import human, units
from exporter.client.agent import Agent
from exporter.errors import ConfigError
from exporter.report.combined import combined

COLUMNS = ("run_id", "job_id", "user", "origin", "started", "ended", "duration_seconds",
           "energy_joules", "carbon_grams")  # fmt: skip
BY = {"job": "job_id", "group": "labels", "user": "user"}


def add(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser("runs", help="List runs.", description=__doc__)
    parser.add_argument("--max-grams", type=float, metavar="G", help="At most that much.")
    parser.add_argument("--min-grams", type=float, metavar="G", help="At least that much.")
    parser.add_argument("--since", metavar="DATE", help="Begun then or later, ISO 8601.")
    parser.add_argument("--job-id", metavar="ID", help="Of that job.")
    parser.add_argument("--group", metavar="NAME", help="Of that group, as of a sweep.")
    parser.add_argument("--user", metavar="NAME", help="Of that user.")
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
    runs = [run for run in _by(options.by, found) if _wanted(run, options)]
    match options.format:
        case "json":
            print(json.dumps(runs, indent=2))
        case "csv":
            import csv  # 2 ms that a table need not spend

            writer = csv.DictWriter(sys.stdout, COLUMNS, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(runs)
        case _:
            _print_table(runs)
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


def _wanted(run: dict[str, Any], options: argparse.Namespace) -> bool:
    grams = units.grams(run["carbon_ng"])
    return (
        (options.max_grams is None or grams <= options.max_grams)
        and (options.min_grams is None or grams >= options.min_grams)
        and (options.since is None or run["started"] >= _seconds(options.since))
    )


def _seconds(text: str) -> float:
    try:
        return dt.datetime.fromisoformat(text).astimezone().timestamp()
    except ValueError:
        raise ConfigError(f"--since {text}: expected a date such as 2026-01-31") from None


def _print_table(runs: list[dict[str, Any]]) -> None:
    rows = [("RUN", "JOB", "USER", "STARTED", "TOOK", "ENERGY", "CO2EQ", "STATE")]
    for run in runs:
        started = dt.datetime.fromtimestamp(run["started"]).astimezone()
        rows.append(
            (
                run["run_id"],
                run["job_id"],
                run["user"],
                f"{started:%Y-%m-%d %H:%M:%S}",
                human.duration(run["duration_seconds"]),
                human.energy(run["energy_uj"]),
                human.carbon(run["carbon_ng"]),
                "running" if run["ended"] is None else run["end_reason"],
            )
        )
    widths = [max(len(str(row[i])) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = (str(cell).ljust(width) for cell, width in zip(row, widths, strict=True))
        print(human.printable("  ".join(cells).rstrip()))
