"""The measured numbers beside what was promised: judged, as a table and as a page."""

import os
import platform
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from tests.bench.gpus import GpuStep
from tests.bench.grid import Hanging
from tests.bench.jobs import JobStep
from tests.bench.pages import Rendered, Scraped
from tests.bench.peers import Loop
from tests.bench.pods import PodStep
from tests.bench.tracker import Tracked

SECONDS_PER_DAY = 86_400

INTRO = """# Performance

This page reports the resource usage of the exporter. `make bench` measures it and writes the page.

Times are CPU time unless they are marked as wall time. The CPU time of a daemon's main thread is
read from `/proc/PID/schedstat`, that of a process from its CPU clock, both in nanoseconds. Ticks
run at 1 Hz, as in production, because a tight loop would find all data in the CPU cache.

The simulated host has two sockets with memory, no pods, and no GPUs unless stated otherwise, with
{runs} runs that own {reference:,} processes. Each process wakes 1 to 20 times a second for 10 us.
In one second, {changed:.0%} of their lines in `/proc` changed. The exporter reads unchanged lines
but does not parse them again, so busier processes cost more.

Measured on {cores} hardware threads, Linux {kernel}, Python {python}{noise}.
"""

BUDGET = """
## Budget

| what | measured | gate | aim | |
|---|---|---|---|---|
{rows}

*Tick* is the CPU time of the daemon's main thread in one second with one tick: sampling,
attribution, conversion, journal, and rendering of the page. The *floor* is a C program that reads
the same files, kept open, and lists `/proc`, in the same measurement with the daemon stopped. It
does not parse or store the data. It took {floor} ms, and the tick {ratio:.1f} times that (aim 2.2).

*Scrape* is measured on a second daemon with a page of {scrape_samples:,} samples, which it renders
every second: {scrapes} scrapes over one connection, less the CPU time of the daemon without
scrapes. *Render* is measured on a synthetic page on which all values change. The time of Python's
own `repr` of a float, measured at the same time, shows the speed of the machine.

*Exec to first page* is wall time, with a ledger to read and {reference:,} processes to find; the
fastest of {starts} took {start_min:.0f} ms. *Disk writes* are measured over {seconds} s with two
commits. The journal of the file system is not included.

*Loop with track* is 200 steps of 1 ms that count and report progress, alternately
with and without a tracker in one program.
"""

GROWTH = """
## Growth

| processes | tick, ms (min / median / max) | floor, ms | ratio | us per further process |
|---|---|---|---|---|
{rows}

Over the whole range, each process adds {slope:.1f} us to a tick.
"""

GPUS = """
## GPUs

| GPUs | tick, ms (min / median / max) | all threads, ms/s | in the driver, ms/s | RSS, MB |
|---|---|---|---|---|
{rows}

The driver is simulated, so its time does not represent a real driver; on real hardware, see
`emissions_driver_call_seconds_total`. Driver time is not part of the tick, because each GPU has
threads of its own. Each GPU has one process.
"""

PODS = """
## Pods

| pods | tick, ms (min / median / max) | all threads, ms/s | RSS, MB | to kubelet | to API |
|---|---|---|---|---|---|
{rows}

The host has eight GPUs, of which the first 32 pods have a quarter each, and no other processes.
Each pod has a real cgroup, and is a run with series of its own. The kubelet and the API server run
in another process and use gRPC and HTTPS; the last columns are requests per minute.
"""

JOBS = """
## Jobs with cgroups

| jobs | processes | tick, ms (min / median / max) | all threads, ms/s |
|---|---|---|---|
{rows}

Slurm's cgroups of version 2, without a prolog. The clock of a cgroup is read, not those of its
processes. Beyond 200 runs, the further jobs are one run `other`, whose processes are read.
"""

PEERS = """
## Beside others

These programs do different work; the table compares only their resource usage.

| | samples | scrape CPU, ms | scrape wall, ms | CPU per second without scrapes, ms | RSS, MB |
|---|---|---|---|---|---|
{rows}

node_exporter collects when it is scraped, with Debian's defaults. codecarbon runs its offline
tracker at 1 s, without a GPU and without the simulated sockets.
"""

REPRODUCE = """
## Reproduce

    make bench

This command measures for about nine minutes and fails if a gate is missed. It requires a C compiler
and an otherwise idle machine. node_exporter (Debian's package) and codecarbon (from PyPI) are
downloaded to `build`, and skipped if that is not possible. `.venv/bin/python -m tests.bench.run
--help` shows how to run a part of it.
"""


class Step(NamedTuple):
    """One point of the growth curve; times in ms of CPU."""

    processes: int
    ticks: Sequence[float]
    floor: Sequence[float]

    @property
    def median(self) -> float:
        return statistics.median(self.ticks)

    @property
    def ratio(self) -> float:
        return self.median / statistics.median(self.floor)


class Gate(NamedTuple):
    """One promise and what came of it."""

    what: str
    unit: str
    measured: float
    gate: float
    aim: float
    detail: str = ""

    @property
    def verdict(self) -> str:
        if self.measured > self.gate:
            return "MISSED"
        return "aim met" if self.measured <= self.aim else "met"


class Results(NamedTuple):
    """All that was measured."""

    steps: Sequence[Step]
    reference: Step
    runs: int
    changed: float
    whole_ms: float
    """CPU time per second of the whole daemon, all threads."""
    page_samples: int
    rss_mb: float
    written: int
    written_seconds: float
    starts: Sequence[float]
    scraped: Scraped
    scrapes: int
    rendered: Rendered
    gpus: Sequence[GpuStep]
    pods: Sequence[PodStep]
    jobs: Sequence[JobStep]
    hanging: Hanging
    tracked: Tracked
    many_runs: int
    many: Sequence[Step]
    """The daemon with that many runs; no floor was measured."""
    node_exporter: Scraped | None
    codecarbon: Loop | None

    @property
    def slope_us(self) -> float:
        return _slope(self.steps[0], self.steps[-1])

    def gates(self) -> list[Gate]:
        """What design and documentation promise."""
        gb_per_day = self.written / self.written_seconds * SECONDS_PER_DAY / 1e9
        start = statistics.median(self.starts)
        rendered = (
            f"{self.rendered.samples:,} samples; repr of a float {self.rendered.per_repr:.2f}"
        )
        return [
            Gate("tick", "ms", self.reference.median, 8, 5, _spread(self.reference.ticks)),
            Gate("scrape", "ms", self.scraped.cpu_ms, 1, 0.3, f"{self.scraped.samples:,} samples"),
            Gate("render per sample", "us", self.rendered.per_sample, 1, 0.5, rendered),
            Gate("RSS", "MB", self.rss_mb, 40, 32),
            Gate("exec to first page, wall", "ms", start, 300, 150, _spread(self.starts, 0)),
            Gate("growth per process", "us", self.slope_us, 14, 10),
            Gate("disk writes", "GB/day", gb_per_day, 0.3, 0.15),
            *[
                Gate("RSS, 110 pods", "MB", step.rss_mb, 52, 45)
                for step in self.pods
                if step.pods == 110
            ],
            *_job_gates(self.jobs),
            Gate(
                f"growth per process, {self.many_runs} runs",
                "us",
                _slope(self.many[0], self.many[-1]),
                14,
                10,
                f"tick {_spread(self.many[0].ticks)} ms with {self.many[0].processes} processes",
            ),
            Gate(
                "tick with sources that hang over without",
                "",
                self.hanging.tick_ratio,
                1.05,
                1.02,
                f"{_spread(self.hanging.ticks)} ms; {_spread(self.hanging.ticks_without)} without",
            ),
            Gate(
                "scrape with sources that hang over without, wall",
                "",
                self.hanging.scrape_ratio,
                1.1,
                1.05,
                f"{self.hanging.scrape_ms:.2f} and {self.hanging.scrape_ms_without:.2f} ms",
            ),
            Gate(
                "RSS that live sources add",
                "MB",
                self.hanging.rss_mb - self.hanging.rss_mb_without,
                1,
                0.5,
                f"{self.hanging.rss_mb:.1f} and {self.hanging.rss_mb_without:.1f}",
            ),
            Gate("import of the client, wall", "ms", self.tracked.import_ms, 30, 20),
            Gate(
                "loop with track over without",
                "",
                self.tracked.ratio,
                1.02,
                1.01,
                _spread(self.tracked.ratios),
            ),
        ]


def page(results: Results, noise: str) -> str:
    """docs/performance.md."""
    reference = results.reference
    facts = {
        "runs": results.runs,
        "reference": reference.processes,
        "changed": results.changed,
        "cores": os.cpu_count(),
        "kernel": ".".join(platform.release().split("-")[0].split(".")[:2]),
        "python": platform.python_version(),
        "noise": noise,
        "floor": _spread(reference.floor),
        "ratio": reference.ratio,
        "scrape_samples": results.scraped.samples,
        "scrapes": results.scrapes,
        "starts": len(results.starts),
        "start_min": min(results.starts),
        "seconds": round(results.written_seconds),
        "slope": results.slope_us,
    }
    parts = [
        (INTRO, ()),
        (BUDGET, _budget_rows(results)),
        (GROWTH, _growth_rows(results.steps)),
        (GPUS, _gpu_rows(results.gpus)),
        (PODS, _pod_rows(results.pods)),
        (JOBS, _job_rows(results.jobs)),
        (PEERS, _peer_rows(results)),
        (REPRODUCE, ()),
    ]
    return "".join(text.format(**facts, rows="\n".join(rows)) for text, rows in parts)


def table(results: Results) -> str:
    """The same for a terminal."""
    parts = (
        _budget_rows(results),
        _growth_rows(results.steps),
        _gpu_rows(results.gpus),
        _pod_rows(results.pods),
        _job_rows(results.jobs),
        _peer_rows(results),
    )
    return "\n\n".join("\n".join(rows) for rows in parts)


def _budget_rows(results: Results) -> list[str]:
    return [
        f"| {gate.what} | {gate.measured:.2f} {gate.unit}{gate.detail and f' ({gate.detail})'} "
        f"| {gate.gate:g} | {gate.aim:g} | {gate.verdict} |"
        for gate in results.gates()
    ]


def _growth_rows(steps: Sequence[Step]) -> list[str]:
    rows = []
    for before, step in zip([None, *steps], steps, strict=False):
        slope = "" if before is None else f"{_slope(before, step):.1f}"
        rows.append(
            f"| {step.processes:,} | {_spread(step.ticks)} "
            f"| {statistics.median(step.floor):.2f} | {step.ratio:.1f} | {slope} |"
        )
    return rows


def _gpu_rows(steps: Sequence[GpuStep]) -> list[str]:
    return [
        _cells(
            str(step.gpus),
            _spread(step.ticks),
            f"{step.whole_ms:.1f}",
            f"{step.driver_ms:.2f}",
            f"{step.rss_mb:.1f}",
        )
        for step in steps
    ]


def _pod_rows(steps: Sequence[PodStep]) -> list[str]:
    return [
        _cells(
            str(step.pods),
            _spread(step.ticks),
            f"{step.whole_ms:.1f}",
            f"{step.rss_mb:.1f}",
            f"{step.to_kubelet:.0f}",
            f"{step.to_server:.0f}",
        )
        for step in steps
    ]


def _job_gates(steps: Sequence[JobStep]) -> list[Gate]:
    """Of jobs, where cgroups can be made."""
    if not steps:
        return []
    few, many, most = steps
    added_ms = statistics.median(many.ticks) - statistics.median(few.ticks)
    growth_us = added_ms * 1000 / (many.processes - few.processes)
    return [
        Gate(f"{many.jobs} jobs, all threads", "ms/s", many.whole_ms, 7, 5),
        Gate("growth per process of a job", "us", growth_us, 4, 3),
        Gate(f"{most.jobs} jobs, all threads", "ms/s", most.whole_ms, 60, 30),
    ]


def _job_rows(steps: Sequence[JobStep]) -> list[str]:
    return [
        _cells(str(step.jobs), str(step.processes), _spread(step.ticks), f"{step.whole_ms:.1f}")
        for step in steps
    ]


def _peer_rows(results: Results) -> list[str]:
    own, node, carbon = results.scraped, results.node_exporter, results.codecarbon
    state = f"{results.runs} runs, {results.reference.processes} processes"
    rows = [
        _cells(
            f"emissions-exporter, {state}",
            f"{results.page_samples:,}",
            "",
            "",
            f"{results.whole_ms:.1f}",
            f"{results.rss_mb:.1f}",
        ),
        _cells("emissions-exporter, long page", *_scraped(own)),
    ]
    if node is None:
        rows.append(_cells("node_exporter: could not be fetched", *[""] * 5))
    else:
        rows.append(_cells("node_exporter", *_scraped(node)))
    if carbon is None:
        rows.append(_cells("codecarbon: could not be installed", *[""] * 5))
    else:
        rows.append(
            _cells("codecarbon", "", "", "", f"{carbon.cpu_ms:.1f}", f"{carbon.rss_mb:.1f}")
        )
    return rows


def _scraped(scraped: Scraped) -> tuple[str, ...]:
    return (
        f"{scraped.samples:,}",
        f"{scraped.cpu_ms:.2f}",
        f"{scraped.wall_ms:.2f}",
        f"{scraped.idle_ms:.1f}",
        f"{scraped.rss_mb:.1f}",
    )


def _cells(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _slope(first: Step, last: Step) -> float:
    """Microseconds per process between two steps."""
    return (last.median - first.median) * 1000 / (last.processes - first.processes)


def _spread(values: Sequence[float], digits: int = 2) -> str:
    shown = (min(values), statistics.median(values), max(values))
    return " / ".join(f"{value:.{digits}f}" for value in shown)
