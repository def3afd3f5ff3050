"""Measures one real Prometheus that scrapes many simulated nodes; see docs/scale.md.

python -m tests.bench.fleet [--series 200000] [--minutes 12] [--write]
"""

import argparse
import multiprocessing
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.fleet.nodes import GPUS, RUNS, model, real_pages, serve
from tests.bench.fleet.questions import QUERIES, WINDOWS, backfilled, of_dashboards
from tests.bench.fleet.table import Measured, table
from tests.bench.fleet.watched import (
    OF_A_TARGET,
    evaluations,
    rule_times,
    self_metrics,
    size,
    snapshot,
    start_prometheus,
    timed,
)
from tests.bench.pages import samples_of
from tests.real.parts import REPOSITORY, free_port, get, until

SHAPES = ((0, 1), (1, 1), (8, 1), (8, RUNS), (8, 100))
"""GPUs and runs of the pages whose series are counted."""
PAGE = REPOSITORY / "docs" / "scale.md"
BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"


def main() -> int:
    """Measure; 1 if an evaluation was missed or a node not seen."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--series", type=int, default=200_000, help="of all nodes together")
    parser.add_argument("--minutes", type=float, default=12.0, help="warm-up included, 8 at least")
    parser.add_argument("--write", action="store_true", help="write the tables of docs/scale.md")
    given = parser.parse_args()
    if shutil.which("prometheus") is None or shutil.which("promtool") is None:
        say("no prometheus and promtool; make tools")
        return 2
    build = REPOSITORY / "build"
    build.mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="fleet-", dir=build))
    try:
        measured = measure(directory, given.series, given.minutes * 60)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    text = table(measured)
    print(text)  # noqa: T201  a program prints
    if given.write:
        before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
        after = rest.split(END)[1]
        PAGE.write_text(f"{before}{BEGIN}{text}{END}{after}", encoding="utf-8")
    numbers = measured.numbers
    return int(numbers["missed"] > 0 or numbers["up"] < measured.nodes)


def measure(directory: Path, series: int, seconds: float) -> Measured:
    """All of it."""
    say("pages")
    shapes, lines = {}, []
    for gpus, runs in SHAPES:
        before, after = real_pages(directory / f"{gpus}-{runs}", gpus, runs)
        shapes[f"GPUs: {gpus}, runs: {runs}"] = samples_of(after)
        if (gpus, runs) == (GPUS, RUNS):
            lines = list(model(before.decode(), after.decode()))
    per_node = sum(not line.text.startswith("#") for line in lines)
    nodes = round(series / per_node)
    port = free_port()
    began = time.time()
    server = multiprocessing.Process(
        target=serve, args=(port, lines, nodes, began, began + 0.66 * seconds), daemon=True
    )
    server.start()
    until(lambda: get(f"http://127.0.0.1:{port}/node-0000"), what="the nodes answer")
    prometheus = start_prometheus(directory, port, nodes)
    url = prometheus.url
    try:
        say(f"{nodes} nodes of {per_node} series; warm-up")
        time.sleep(max(0.0, began + 0.5 * seconds - time.time()))
        say("measuring")
        first, first_at = self_metrics(url), time.monotonic()
        disk = size(directory / "data" / "wal")
        time.sleep(max(0.0, began + 0.65 * seconds - time.time()))
        steady = self_metrics(url)
        last_at = time.monotonic()
        wal = size(directory / "data" / "wal") - disk
        groups = evaluations(url)
        longest: dict[str, float] = {}
        # From here on every node has one run more.
        while time.time() < began + seconds:
            for group, values in evaluations(url).items():
                longest[group] = max(longest.get(group, 0.0), values[0])
            time.sleep(5)
        churned = self_metrics(url)
        by_group = {
            group: (duration, max(longest.get(group, 0.0), duration), count)
            for group, (duration, count) in groups.items()
        }
        rules = rule_times(url)
        queries = [(what, *timed(url, text)) for what, text in (*WINDOWS, *QUERIES)]
        queries += of_dashboards(url)
        say("a snapshot, and a day of recorded series")
        block = snapshot(url, directory)
        queries += backfilled(prometheus, directory, nodes)
        cpu = int(get(f"http://127.0.0.1:{port}/cpu-ms")) / 1000 / (time.time() - began)
    finally:
        prometheus.stop()
        server.terminate()
        server.join()
    span = last_at - first_at
    appended = "prometheus_tsdb_head_samples_appended_total"
    samples = steady[appended] - first[appended]
    numbers = {
        "up": block["up"],
        "head": steady["prometheus_tsdb_head_series"],
        "samples": samples / span,
        "scrape": block["scrape"],
        "scrape_max": block["scrape_max"],
        "rss": steady["process_resident_memory_bytes"],
        "rss_end": churned["process_resident_memory_bytes"],
        "heap": steady["go_memstats_heap_inuse_bytes"],
        "cpu": (steady["process_cpu_seconds_total"] - first["process_cpu_seconds_total"]) / span,
        "server_cpu": cpu,
        "missed": sum(
            value
            for name, value in churned.items()
            if name.startswith("prometheus_rule_group_iterations_missed_total")
        ),
        "failed": sum(
            value
            for name, value in churned.items()
            if name.startswith("prometheus_rule_evaluation_failures_total")
        ),
        "wal": wal / samples,
        "recorded": steady["prometheus_tsdb_head_series"] - nodes * (per_node + OF_A_TARGET),
        "churn": (churned["prometheus_tsdb_head_series"] - steady["prometheus_tsdb_head_series"])
        / nodes,
        "chunks": block["chunks"] / block["samples"],
        "index": block["index"] / block["series"],
    }
    return Measured(nodes, per_node, shapes, span, numbers, by_group, rules, queries)


def say(what: str) -> None:
    """Tell what is being measured."""
    print(f"fleet: {what}", file=sys.stderr, flush=True)  # noqa: T201  a program prints


if __name__ == "__main__":
    sys.exit(main())
