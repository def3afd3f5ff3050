"""What was measured, and its tables in docs/scale.md."""

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from typing import NamedTuple

from tests.bench.fleet.nodes import BUDGETED, COUNTING, GPUS, RUNS
from tests.bench.fleet.watched import SCRAPE_SECONDS


class Measured(NamedTuple):
    """What one size of fleet cost."""

    nodes: int
    per_node: int
    shapes: dict[str, int]
    seconds: float
    numbers: dict[str, float]
    groups: dict[str, tuple[float, float, float]]
    """Of each group of rules: last and longest evaluation in seconds, and samples."""
    rules: list[tuple[float, str]]
    queries: list[tuple[str, float, int]]


def table(measured: Measured) -> str:
    """The part of docs/scale.md that is measured."""
    numbers, nodes = measured.numbers, measured.nodes
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    kernel = ".".join(platform.release().split("-")[0].split(".")[:2])
    recorded, head, samples = numbers["recorded"], numbers["head"], numbers["samples"]
    groups = sorted(measured.groups.items(), key=lambda item: -item[1][1])
    tables = [
        [
            _row("a page", "series"),
            *(_row(shape, f"{count:,}") for shape, count in measured.shapes.items()),
            _row(
                f"{GPUS} GPUs, {RUNS} runs in pods, {BUDGETED} of them with a budget and "
                f"{COUNTING} that count tokens: the model of a node",
                f"{measured.per_node:,}",
            ),
        ],
        [
            _row("one Prometheus", "measured"),
            _row("nodes", f"{nodes:,}, of which {numbers['up']:,.0f} up"),
            _row("series scraped", f"{nodes * measured.per_node:,}"),
            _row("series recorded", f"{recorded:,.0f} ({recorded / nodes:.0f} a node)"),
            _row("series in the head", f"{head:,.0f} ({head / nodes:,.0f} a node)"),
            _row("samples a second", f"{samples:,.0f} ({samples / nodes:.1f} a node)"),
            _row(
                "a scrape, mean and longest",
                f"{numbers['scrape'] * 1000:.0f} and {numbers['scrape_max'] * 1000:.0f} ms",
            ),
            _row("CPU, rules included", f"{numbers['cpu']:.2f} s a second"),
            _row(
                "memory, resident",
                f"{numbers['rss'] / 1e6:,.0f} MB ({numbers['rss'] / head / 1000:.1f} kB a series)",
            ),
            _row("memory, resident, at the end", f"{numbers['rss_end'] / 1e6:,.0f} MB"),
            _row("heap of Go in use", f"{numbers['heap'] / 1e6:,.0f} MB"),
            _row(
                "rule evaluations missed and failed",
                f"{numbers['missed']:.0f} and {numbers['failed']:.0f}",
            ),
            _row("WAL", f"{numbers['wal']:.1f} bytes a sample"),
            _row("block, chunks", f"{numbers['chunks']:.2f} bytes a sample"),
            _row("block, index", f"{numbers['index']:.0f} bytes a series"),
            _row("a further run adds", f"{numbers['churn']:.0f} series, recorded ones included"),
        ],
        [
            _row("group of rules", "evaluation, s", "longest, s", "samples"),
            *(
                _row(group, f"{last:.3f}", f"{longest:.3f}", f"{count:,.0f}")
                for group, (last, longest, count) in groups
            ),
        ],
        [
            _row("slowest rules", "s"),
            *(_row(f"`{name}`", f"{seconds:.3f}") for seconds, name in measured.rules),
        ],
        [
            _row("query", "wall, s", "rows"),
            *(
                _row(what, f"{seconds:.3f}", f"{count:,}")
                for what, seconds, count in measured.queries
            ),
        ],
    ]
    intro = (
        f"Measured on {os.cpu_count()} hardware threads and {memory:.0f} GiB, Linux {kernel}, "
        f"Prometheus {version()},\nscraping every {SCRAPE_SECONDS} s. "
        f"The simulated nodes ran beside it, with {numbers['server_cpu']:.2f} s of CPU a second.\n"
    )
    return "\n".join([intro, *(_table(rows) for rows in tables)])


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _table(rows: Sequence[str]) -> str:
    """The first row is its head."""
    columns = rows[0].count("|") - 1
    return "\n".join([rows[0], "|---" * columns + "|", *rows[1:], ""])


def version() -> str:
    """That of Prometheus."""
    done = subprocess.run(["prometheus", "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"version (\S+?)[+ ]", done.stdout + done.stderr)
    return found[1] if found else "of unknown version"
