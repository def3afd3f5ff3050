"""Measures what the exporter costs, beside a floor in C and beside others; see docs/performance.md.

python -m tests.bench.run [--write] [--no-gate] [--quick]
"""

import argparse
import compileall
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from tests.bench import cost, gpus, grid, jobs, pages, peers, pods, results, tracker
from tests.bench.scene import RUNS, Scene
from tests.real.parts import REPOSITORY, get

REFERENCE = 500
MANY_RUNS, MANY = 180, (600, 1_600)
"""As many runs of one user as a daemon shows by default, and their processes."""
PAGE = REPOSITORY / "docs" / "performance.md"


class Effort(NamedTuple):
    """How much is measured."""

    curve: tuple[int, ...]
    ticks: int
    reference_ticks: int
    scrapes: int
    peer_scrapes: int
    idle_seconds: float
    starts: int
    loop_seconds: float
    renders: int


FULL = Effort((100, REFERENCE, 1500, 5000), 15, 60, 500, 150, 5.0, 7, 12.0, 10)
QUICK = Effort((100, REFERENCE), 4, 6, 50, 20, 2.0, 2, 4.0, 3)


def main() -> int:
    """Measure; 1 if a gate is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write docs/performance.md")
    parser.add_argument("--no-gate", action="store_true", help="only report")
    parser.add_argument("--quick", action="store_true", help="a rough look, under a minute")
    parser.add_argument("--noise", default="", help="what else used the machine, for the page")
    given = parser.parse_args()
    if shutil.which("cc") is None:
        say("no C compiler; on Debian and Ubuntu: apt-get install gcc libc6-dev")
        return 2
    # As an installer leaves it: compiled once, not at every start.
    compileall.compile_dir(REPOSITORY / "exporter", quiet=1)
    build = REPOSITORY / "build"
    build.mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir=build))
    try:
        measured = measure(directory, QUICK if given.quick else FULL)
    finally:
        shutil.rmtree(directory)
    print(results.table(measured))  # noqa: T201  a program prints
    if given.write:
        noise = f"; {given.noise}" if given.noise else ""
        PAGE.write_text(results.page(measured, noise), encoding="utf-8")
    missed = [gate.what for gate in measured.gates() if gate.verdict == "MISSED"]
    if missed:
        print(f"bench: gates missed: {', '.join(missed)}", file=sys.stderr)  # noqa: T201  a program prints
    return 0 if given.no_gate else int(bool(missed))


def measure(directory: Path, effort: Effort) -> results.Results:
    """All of it, one after the other, so that nothing disturbs the rest."""
    say("others")
    node_exporter = peers.node_exporter(effort.peer_scrapes, effort.idle_seconds)
    codecarbon = peers.codecarbon(directory, effort.loop_seconds)
    say("pages")
    rendered = pages.render(effort.renders)
    scraped = pages.scrape_exporter(directory / "pages", effort.scrapes, effort.idle_seconds)
    say("GPUs")
    with_gpus = list(gpus.steps(directory / "gpus", effort.ticks))
    say("pods")
    with_pods = list(pods.steps(directory / "pods", effort.ticks))
    pods.clean_up()
    say("jobs")
    with_jobs = list(jobs.steps(directory / "jobs", effort.ticks))
    say("grid")
    hanging = grid.measure(directory / "grid", effort.ticks)
    say("track")
    tracked = tracker.measure(directory / "track")
    say(f"{MANY_RUNS} runs")
    with Scene(directory / "many", MANY_RUNS) as scene:
        many = []
        for processes in MANY:
            scene.grow(processes)
            many.append(step(scene, processes, effort.ticks, 0))
    steps = []
    with Scene(directory) as scene:
        for processes in effort.curve:
            say(f"{processes} processes")
            try:
                scene.grow(processes)
            except AssertionError:
                if processes <= REFERENCE:
                    raise
                say("they do not start within a minute here; left out")
                break
            if processes != REFERENCE:
                steps.append(step(scene, processes, effort.ticks, effort.ticks))
                continue
            began, written = time.monotonic(), cost.written_bytes(scene.pid)
            whole_ms = cost.process_ms(scene.pid)
            reference = step(scene, processes, effort.reference_ticks, 0)
            seconds = time.monotonic() - began
            written = cost.written_bytes(scene.pid) - written
            whole_ms = (cost.process_ms(scene.pid) - whole_ms) / seconds
            rss_mb = cost.resident_mb(scene.pid)
            changed = scene.changed_ratio()
            page_samples = pages.samples_of(get(f"{scene.daemon.url}/metrics"))
            steps.append(reference._replace(floor=scene.floor(effort.ticks)))
            with scene.paused():
                starts = pages.starts(directory / "starts", scene.flags, effort.starts)
    return results.Results(
        steps=steps,
        reference=next(step for step in steps if step.processes == REFERENCE),
        runs=RUNS,
        changed=changed,
        whole_ms=whole_ms,
        page_samples=page_samples,
        rss_mb=rss_mb,
        written=written,
        written_seconds=seconds,
        starts=starts,
        scraped=scraped,
        scrapes=effort.scrapes,
        rendered=rendered,
        gpus=with_gpus,
        pods=with_pods,
        jobs=with_jobs,
        hanging=hanging,
        tracked=tracked,
        many_runs=MANY_RUNS,
        many=many,
        node_exporter=node_exporter,
        codecarbon=codecarbon,
    )


def step(scene: Scene, processes: int, ticks: int, floor_ticks: int) -> results.Step:
    """One point of the curve."""
    measured = scene.ticks(ticks)
    return results.Step(processes, measured, scene.floor(floor_ticks) if floor_ticks else [])


def say(what: str) -> None:
    """Tell what is being measured."""
    print(f"bench: {what}", file=sys.stderr, flush=True)  # noqa: T201  a program prints


if __name__ == "__main__":
    sys.exit(main())
