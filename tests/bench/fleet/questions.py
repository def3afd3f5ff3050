"""Queries of dashboards and of the rules themselves, and a day of what rules recorded."""

import subprocess
import time
from pathlib import Path

from tests.bench.fleet.nodes import RUNS, USERS
from tests.bench.fleet.watched import Fleet, asked, timed
from tests.dashboards.boards import BOARDS, chosen, filled, query_of, questions, variables
from tests.real.parts import get, until

RAW = "emissions_run_energy_joules_total"
FINE = "instance_run_id_job_id_device_id:emissions_run_energy_joules:increase"
OWNED = "instance_run_id_job_id_user_workload_namespace_account:emissions_run_info:max"
RUN_POWER = "max by (instance, run_id, job_id, device, id) (emissions_run_power_watts)"
RAW_INFO = "max by (instance, run_id, job_id, user) (emissions_run_info)"
BY_USER = (
    "sum by (user) (sum by (instance, run_id, job_id) ({energy}[10m])) "
    "* on (instance, run_id, job_id) group_left (user) {info})"
)
QUERIES = (
    ("power by run, raw", f"sum by (run_id) ({RUN_POWER})"),
    ("power by run, recorded", "run_id:emissions_run_power_watts:sum"),
    ("by user, 10 minutes, raw", BY_USER.format(energy=f"increase({RAW}", info=RAW_INFO)),
    (
        "by user, 10 minutes, recorded by run",
        BY_USER.format(energy=f"sum_over_time({FINE}", info=OWNED),
    ),
    (
        "by user, 10 minutes, recorded by user",
        "sum by (user) (sum_over_time(user:emissions_run_energy_joules:increase[10m]))",
    ),
)
BACKFILLED = (
    (
        "by user, a day, recorded by user",
        "sum by (user) (sum_over_time(bench:emissions_run_energy_joules:increase[1d] offset 2h))",
    ),
    (
        "10 minutes back, as the rules look, one counter of all runs",
        "count(last_over_time(bench:emissions_run_energy_joules_total:max[10m] offset 2h))",
    ),
    (
        "an hour back, as the rules look, one counter of all runs",
        "count(last_over_time(bench:emissions_run_energy_joules_total:max[1h] offset 2h))",
    ),
)
"""Over what was recorded before the measurement began: filled in, one sample a minute."""
WINDOWS = tuple(
    (f"one raw counter of all runs, {seconds} s back", f"count(last_over_time({RAW}[{seconds}s]))")
    for seconds in (15, 180, 600)
)
"""What a longer look back costs."""

SLOWEST = 2
"""Queries of each dashboard that are told."""
GRAFANA = {"__range": "600s", "__interval": "60s", "__rate_interval": "60s"}
SPAN_SECONDS, STEP_SECONDS = 600, 15
"""What a graph is drawn of."""


def of_dashboards(url: str) -> list[tuple[str, float, int]]:
    """The slowest queries of each dashboard over ten minutes, and all that it asks.

    Every value of every variable is chosen at once, more than any board opens with.
    """
    found = []
    for board in BOARDS:
        values = chosen(board, GRAFANA, lambda query: asked(url, query))
        times = [
            (f"variable {each['name']}", *timed(url, filled(query, values)))
            for each in variables(board)
            if (query := query_of(each))
        ]
        for question in questions(board):
            span = 0 if question.instant else SPAN_SECONDS
            query = filled(question.expr, values)
            times.append((question.place, *timed(url, query, span, STEP_SECONDS)))
        slowest = sorted(times, key=lambda row: row[1], reverse=True)[:SLOWEST]
        found += [(f"{board}: {place}", seconds, rows) for place, seconds, rows in slowest]
        total = sum(seconds for _, seconds, _ in times)
        found.append((f"{board}: all {len(times)} queries", total, sum(row[2] for row in times)))
    return found


def backfilled(prometheus: Fleet, directory: Path, nodes: int) -> list[tuple[str, float, int]]:
    """Queries over a day of what the rules record by user, and an hour by run."""
    end = int(time.time()) // 60 * 60 - 7200
    text = directory / "day.om"
    with text.open("w") as file:
        file.write("# TYPE bench:emissions_run_energy_joules:increase gauge\n")
        for user in range(USERS):
            name = f'bench:emissions_run_energy_joules:increase{{user="user-{user:03}"}}'
            file.writelines(
                f"{name} {30_000 + 17 * (minute % 97)}.5 {end - 60 * minute}\n"
                for minute in range(1440, -1, -1)
            )
        file.write("# TYPE bench:emissions_run_energy_joules_total:max gauge\n")
        for number in range(nodes * RUNS * 3):
            node, run = divmod(number, RUNS * 3)
            name = (
                "bench:emissions_run_energy_joules_total:max"
                f'{{instance="node-{node:04}",run_id="run-{run // 3}",device="{run % 3}"}}'
            )
            file.writelines(
                f"{name} {number + 1.2345 * (60 - minute):.4f} {end - 60 * minute}\n"
                for minute in range(60, -1, -1)
            )
        file.write("# EOF\n")
    command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", text, directory / "data"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    text.unlink()
    # Blocks that came while it ran are found at its next start.
    prometheus.stop()
    with (directory / "log").open("ab") as log:
        again = subprocess.Popen(prometheus.process.args, stderr=log, stdout=log)
    try:
        until(lambda: get(f"{prometheus.url}/-/ready"), 180, "prometheus has read its WAL")
        return [(what, *timed(prometheus.url, text)) for what, text in BACKFILLED]
    finally:
        again.terminate()
        again.wait(60)
