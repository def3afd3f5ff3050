"""docs/performance.md, and its tables for a terminal."""

import os
import platform
import statistics
from collections.abc import Iterator, Sequence

from tests.bench.cost import Step
from tests.bench.machine import MAX_OTHERS, MAX_STEAL
from tests.bench.peers import OWN_NAME, Turn
from tests.bench.results import Gate, Results, growth
from tests.bench.scene import RUNS

INTRO = """# Performance

This page reports the resource usage of the exporter. `make bench` measures it and writes the page.

Times are CPU time unless they are marked as wall time. The CPU time of a daemon's main thread is
read from `/proc/PID/schedstat`, that of a process from its CPU clock, both in nanoseconds. Ticks
run at 1 Hz, as in production, because a tight loop would find all data in the CPU cache.

The simulated host has two sockets with memory, no pods, and no GPUs unless stated otherwise, with
{runs} registered runs that own {processes} processes. Each process wakes 1 to 20 times a second for
10 us. In one second, {changed:.0%} of their lines in `/proc` changed. The exporter reads unchanged
lines but does not parse them again, so busier processes cost more.

Where permitted, the benchmark runs in a PID namespace, so that the number and the churn of other
processes on the machine do not change the figures.

Measured on {cores} hardware threads, Linux {kernel}, Python {python}.{doubts}
"""

DOUBTS = """

**Other programs used this machine during the measurement.** Rows marked *doubtful* are not judged.
"""

BUDGET = """
## Budget

| what | min / median / max | floor | ratio | gate | aim | steal, others, load | |
|---|---|---|---|---|---|---|---|
{rows}

The *floor* is a program that does only what cannot be avoided. It is measured alternately with the
exporter, so that a slow or busy machine slows both. The *ratio* is the median of the ratios of
successive measurements. The *gate* is the limit of the ratio, or of the value where there is no
floor. The *aim* is the value to reach on the machine on which the gates were chosen.

*Steal* is the part of the machine's CPU time that the hypervisor gave to other guests, *others* the
part that programs outside of the benchmark used, both during the measurement; *load* is the load
average over one minute at its end, benchmark included. With more than {max_steal:.0%} steal or
{max_others:.0%} others, a row is doubtful, and its gate cannot fail.

- *Tick*: CPU time of the daemon's main thread in one second with one tick: sampling, attribution,
  conversion, journal, and rendering of the page. The floor is a C program that reads the same
  files, kept open, and lists `/proc`, half a second after each tick. It does not parse or store the
  data.
- *All threads*: CPU time of the daemon per second. The floor of jobs reads the clocks of their
  cgroups and of their processes, the floor of pods the clocks of their cgroups.
- *Scrape*: CPU time of the daemon from the request until 10 ms after its answer, for a page of
  {scrape_samples:,} samples; {scrapes} scrapes. The floor is a Python program that sends the same
  page on a socket.
- *Render*: a page of {render_samples:,} samples on which all values change. The floor is Python's
  `repr` of each value.
- *Exec to first page*: with a ledger to read and {processes} processes to find. The floor is a
  Python program that does nothing.
- *Loop with `track`*: 200 steps of 1 ms that count and report progress. The floor is the same loop
  without a tracker.
- *Sources hang*: every intensity source waits for a server that does not answer. The floor is a
  daemon without sources.
- *Disk writes*: over {seconds} s with two commits. The journal of the file system is not included.
"""

GROWTH = """
## Growth

| processes | tick, ms (min / median / max) | floor, ms | ratio | us per further process |
|---|---|---|---|---|
{rows}

Over the whole range, each process adds {slope:.1f} us to a tick, and {floor_slope:.1f} us to the
floor.
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
in another process; the exporter reads the kubelet by gRPC, with `h2`, and the API server by HTTPS.
The last columns are requests per minute.
"""

JOBS = """
## Jobs with cgroups

| jobs | processes | tick, ms (min / median / max) | all threads, ms/s |
|---|---|---|---|
{rows}

Slurm's cgroups of version 2, without a prolog. The exporter reads the clock of each job's cgroup,
and not its processes. Beyond 200 runs, the further jobs are one run `other`, whose processes are
read.
"""

PEERS = """
## Beside others

| | samples | scrape CPU, ms | scrape wall, ms | without scrapes, ms/s | RSS, MB | start, wall, ms |
|---|---|---|---|---|---|---|
{rows}

Each program runs alone, by turns, {turns} times, on the host with 20 Slurm jobs that have 500
processes; medians. *Start* is the time from exec to the first page with the energy of the simulated
sockets. These programs do different work, so the table compares only their resource usage.
CEEMS, Kepler (every 5 s) and node_exporter have their default settings, CEEMS with the collector of
Slurm jobs. CEEMS and node_exporter measure when they are scraped. Alumet (1 s) runs the plugins
`rapl`, `slurm`, `energy-attribution` and `prometheus-exporter`, CodeCarbon its offline tracker at
1 s.{missing}
"""

MISSING = """ Not installed for this run: {}.
"""

REPRODUCE = """
## Reproduce

    make bench

This command measures for about eleven minutes and fails if a gate is missed. It requires a C
compiler, and root to make cgroups for pods and jobs, which are left out otherwise. node_exporter
(Debian's package) and CodeCarbon (from PyPI) are downloaded to `build`. `alumet-agent`,
`ceems_exporter` and `kepler` are measured if they are in `build/rivals` or on the `PATH`.
`.venv/bin/python -m tests.bench.run --help` shows further options.
"""


def page(results: Results, scrapes: int) -> str:
    """The whole page."""
    slope, floor_slope = growth(results.curve)
    missing = sorted(name for name, turns in results.turns.items() if not turns)
    facts = {
        "runs": RUNS,
        "processes": results.reference.size,
        "changed": results.changed,
        "cores": os.cpu_count(),
        "kernel": ".".join(platform.release().split("-")[0].split(".")[:2]),
        "python": platform.python_version(),
        "doubts": DOUBTS.rstrip() if any(gate.is_doubtful for gate in results.gates) else "",
        "max_steal": MAX_STEAL,
        "max_others": MAX_OTHERS,
        "scrapes": scrapes,
        "scrape_samples": results.scraped.samples,
        "render_samples": results.rendered.samples,
        "seconds": round(results.written_seconds),
        "slope": slope[0],
        "floor_slope": floor_slope[0],
        "turns": len(results.turns[OWN_NAME]),
        "missing": MISSING.format(", ".join(missing)).rstrip() if missing else "",
    }
    parts = zip(
        (INTRO, BUDGET, GROWTH, GPUS, PODS, JOBS, PEERS, REPRODUCE),
        ([], *_tables(results), []),
        strict=True,
    )
    return "".join(
        text.format(**facts, rows="\n".join(rows) or "| not measured |") for text, rows in parts
    )


def table(results: Results) -> str:
    """The rows of all tables, for a terminal."""
    return "\n\n".join("\n".join(rows) for rows in _tables(results))


def _tables(results: Results) -> list[list[str]]:
    gpus = [
        _cells(
            gpus.step.size, *_load(gpus.step), f"{gpus.driver_ms:.2f}", f"{gpus.step.rss_mb:.1f}"
        )
        for gpus in results.gpus
    ]
    pods = [
        _cells(
            *(pods.step.size, *_load(pods.step), f"{pods.step.rss_mb:.1f}"),
            *(f"{pods.to_kubelet:.0f}", f"{pods.to_server:.0f}"),
        )
        for pods in results.pods
    ]
    jobs = [
        _cells(count, step.size, *_load(step))
        for count, steps in results.jobs.items()
        for step in steps
    ]
    peers = [_peer_row(name, turns) for name, turns in results.turns.items() if turns]
    budget = [_budget_row(gate) for gate in results.gates]
    return [budget, list(_growth_rows(results.curve)), gpus, pods, jobs, peers]


def _budget_row(gate: Gate) -> str:
    spread = _spread(gate.measured) if len(gate.measured) > 1 else f"{gate.measured[0]:.2f}"
    return _cells(
        *(gate.what, f"{spread} {gate.unit}"),
        *(
            (f"{statistics.median(gate.floor):.2f} {gate.unit}", f"{gate.ratio:.2f}")
            if gate.floor
            else ("", "")
        ),
        f"{gate.limit:g}{'' if gate.floor else f' {gate.unit}'}",
        "" if gate.aim is None else f"{gate.aim:g} {gate.unit}",
        *(gate.usage or "", gate.verdict),
    )


def _growth_rows(steps: Sequence[Step]) -> Iterator[str]:
    for before, step in zip((None, *steps), steps, strict=False):
        slope = "" if before is None else f"{growth((before, step))[0][0]:.1f}"
        ratio = step.median / step.floor_median
        spread = _spread(step.ticks)
        yield _cells(f"{step.size:,}", spread, f"{step.floor_median:.2f}", f"{ratio:.1f}", slope)


def _peer_row(name: str, turns: Sequence[Turn]) -> str:
    median = statistics.median
    pages = [turn.scraped for turn in turns if turn.scraped.samples]
    shown = ["", "", ""]
    if pages:
        cpu_ms = median(ms for each in pages for ms in each.cpu)
        wall_ms = median(ms for each in pages for ms in each.walls)
        shown = [f"{pages[-1].samples:,}", f"{cpu_ms:.2f}", f"{wall_ms:.2f}"]
    return _cells(
        *(f"{name} {turns[-1].version}".strip(), *shown),
        f"{median(turn.scraped.idle_ms for turn in turns):.1f}",
        f"{median(turn.rss_mb for turn in turns):.1f}",
        f"{median(turn.start_ms for turn in turns):.0f}",
    )


def _load(step: Step) -> tuple[str, str]:
    return _spread(step.ticks), f"{step.whole_ms:.1f}"


def _cells(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _spread(values: Sequence[float]) -> str:
    shown = (min(values), statistics.median(values), max(values))
    digits = 0 if shown[1] >= 100 else 2
    return " / ".join(f"{value:.{digits}f}" for value in shown)
