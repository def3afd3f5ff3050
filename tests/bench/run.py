"""Measures what the exporter costs, beside floors and other programs; see docs/performance.md.

python -m tests.bench.run [--write] [--no-gate] [--quick]
"""

import argparse
import compileall
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.bench import cost, gpus, grid, jobs, page, pages, peers, pods, tracker
from tests.bench.machine import Usage, watched
from tests.bench.results import Results
from tests.bench.scene import JOBS, MANY_RUNS, PODS, Scene, is_free
from tests.real.parts import REPOSITORY

REFERENCE = 500
MANY = (540, 1_440)
"""Processes of `MANY_RUNS` runs."""
NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
"""Hides the processes of others, whose number and coming and going would change every figure."""
REAPER = ("sh", "-c", '"$@"; exit $?', "sh")
PAGE = REPOSITORY / "docs" / "performance.md"


class Effort(NamedTuple):
    """How much is measured."""

    curve: tuple[int, ...]
    ticks: int
    reference_ticks: int
    scrapes: int
    peer_scrapes: int
    peer_turns: int
    idle_seconds: float
    starts: int
    renders: int


FULL = Effort((100, REFERENCE, 1500, 5000), 12, 60, 300, 4, 3, 5.0, 7, 10)
QUICK = Effort((100, REFERENCE), 4, 6, 50, 3, 1, 2.0, 2, 3)


def main() -> int:
    """Measure; 1 if a gate is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write docs/performance.md")
    parser.add_argument("--no-gate", action="store_true", help="only report")
    parser.add_argument("--quick", action="store_true", help="a rough look, four minutes")
    parser.add_argument("--isolated", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if not given.isolated and run_quiet([*NAMESPACE, "true"]):
        os.execvp(NAMESPACE[0], [*NAMESPACE, *REAPER, *sys.orig_argv, "--isolated"])
    if shutil.which("cc") is None:
        say("no C compiler; on Debian and Ubuntu: apt-get install gcc libc6-dev")
        return 2
    # As an installer leaves it: compiled once, not at every start.
    compileall.compile_dir(REPOSITORY / "exporter", quiet=1)
    build = REPOSITORY / "build"
    build.mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir=build))
    try:
        effort = QUICK if given.quick else FULL
        results = measure(directory, effort)
    finally:
        shutil.rmtree(directory)
    if not results.pods or not results.jobs:
        say("cgroups cannot be made or are in use: pods or jobs are left out")
    print(page.table(results))  # noqa: T201  a program prints
    if given.write:
        PAGE.write_text(page.page(results, effort.scrapes), encoding="utf-8")
    doubtful = [gate.what for gate in results.gates if gate.is_doubtful]
    if doubtful:
        say(f"other programs used the machine; not judged: {', '.join(doubtful)}")
    missed = [gate.what for gate in results.gates if gate.is_missed and not gate.is_doubtful]
    if missed:
        say(f"gates missed: {', '.join(missed)}")
    return int(bool(missed)) if not given.no_gate else 0


def measure(directory: Path, effort: Effort) -> Results:
    """All of it, one after the other, so that nothing disturbs the rest."""
    usages: dict[str, Usage] = {}

    @contextmanager
    def part(name: str) -> Iterator[None]:
        say(name)
        with watched(usages, name):
            yield

    with part("render"):
        rendered = pages.render(effort.renders)
    with part("scrape"):
        scraped, ready_page = pages.scrape_exporter(
            directory / "pages", effort.scrapes, effort.idle_seconds
        )
    with part("gpus"):
        with_gpus = list(gpus.steps(directory / "gpus", effort.ticks // 2))
    with part("pods"):
        with_pods = list(pods.steps(directory / "pods", effort.ticks)) if is_free(PODS) else []
    with_jobs: dict[int, list[cost.Step]] = {}
    turns: dict[str, list[peers.Turn]] = {name: [] for name in peers.PROGRAMS}
    (directory / "jobs").mkdir()
    with part("jobs"):
        for count, each in jobs.SIZES if is_free(JOBS) else ():
            home = directory / "jobs" / f"{count}-{each}"
            with jobs.running_jobs(home, count, each) as scene:
                step = scene.step(effort.ticks, *jobs.clocks())
                with_jobs.setdefault(count, []).append(step)
                if step.size == REFERENCE:
                    with part("others"), scene.paused():
                        turns |= peers.measure(scene, effort.peer_turns, effort.peer_scrapes)
    with part("grid"):
        hanging = grid.measure(directory / "grid", effort.ticks)
    with part("track"):
        tracked = tracker.measure(directory / "track")
    with part("many"), Scene(directory / "many", MANY_RUNS) as scene:
        many = []
        for processes in MANY:
            scene.grow(processes)
            many.append(scene.step(effort.ticks))
    curve = []
    with part("curve"), Scene(directory / "curve") as scene:
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
                curve.append(scene.step(effort.ticks))
                continue
            with part("reference"):
                began, written = time.monotonic(), cost.written_bytes(scene.pid)
                reference = scene.step(effort.reference_ticks)
                seconds = time.monotonic() - began
                written = cost.written_bytes(scene.pid) - written
            curve.append(reference)
            changed = scene.changed_ratio()
            with part("starts"), scene.paused():
                starts = pages.starts(directory / "starts", scene.flags, effort.starts)
    return Results(
        usages=usages,
        curve=curve,
        reference=reference,
        many=many,
        changed=changed,
        written=written,
        written_seconds=seconds,
        starts=starts,
        scraped=scraped,
        ready_page=ready_page,
        rendered=rendered,
        gpus=with_gpus,
        pods=with_pods,
        jobs=with_jobs,
        hanging=hanging,
        tracked=tracked,
        turns=turns,
    )


def run_quiet(command: Sequence[str]) -> bool:
    """Whether a command can be run and succeeds."""
    try:
        return not subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode
    except OSError:
        return False


def say(what: str) -> None:
    """Report what is measured now."""
    print(f"bench: {what}", file=sys.stderr, flush=True)  # noqa: T201  a program prints


if __name__ == "__main__":
    sys.exit(main())
