"""A daemon that lives long amid fork storms, short runs, churn and reloads does not grow.

The daemon ticks ten times as often as it would, so that 20 minutes hold what three hours would.
What it holds for runs and processes of other programs on this machine is not counted.
"""

import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import NamedTuple

import pytest

from tests.chaos.test_chaos import Chaos, resources
from tests.chaos.test_chaos import pytestmark as chaos_marks
from tests.real.parts import LONG_SECONDS, get, until
from tests.real.test_kubernetes import ROOT

pytestmark = [pytest.mark.soak, *chaos_marks[1:]]
SECONDS = float(os.environ.get("SOAK_SECONDS", "1200"))
PARTS = 6
"""Of the whole time; the second is compared with the last."""
RELOAD_SECONDS = 15.0
MIN_RUNS_PER_SECOND = 0.5
"""Five on a machine that does nothing else."""
OWN_RUN = re.compile(r'run_id="(storm-|run-|other"|[0-9a-f]{8}-[0-9a-f]{4}-)')
"""Runs of this test: those of the storm, and pods."""
STORM = """
import os, sys, time
from exporter.client import track

number = 0
while True:
    with track("storm", run_id=f"storm-{number}", socket=sys.argv[1]):
        for _ in range(20):
            if not (child := os.fork()):
                os._exit(0)
            os.waitpid(child, 0)
        time.sleep(0.1)
    number += 1
    print(number, flush=True)
"""
"""A run about five times a second, each with twenty processes that end at once."""


class Held(NamedTuple):
    """What the daemon holds."""

    rss_kb: int
    handles: int
    threads: int
    series: int


def held(chaos: Chaos) -> Held:
    assert chaos.daemon.process is not None
    assert chaos.daemon.process.poll() is None, chaos.daemon.log()[-2000:]
    found = resources(chaos.daemon)
    page = get(f"{chaos.daemon.url}/metrics").decode()
    lines = [line for line in page.splitlines() if not line.startswith("#")]
    series = sum("run_id=" not in line or bool(OWN_RUN.search(line)) for line in lines)
    handles = sum(map(is_own, open_files(chaos.daemon.process.pid)))
    return Held(found["VmRSS"], handles, found["Threads"], series)


def open_files(pid: int) -> Iterator[str]:
    """The targets of a process's open files."""
    for name in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):
            yield os.readlink(f"/proc/{pid}/fd/{name}")


def is_own(file: str) -> bool:
    """Whether a file is none of a process or job that is running, of this test or any other.

    A file of a process that has ended, or of a cgroup that was removed, is counted.
    """
    if file.startswith("/proc/"):
        return not os.path.exists(file)
    return (
        not file.startswith("/sys/fs/cgroup/") or str(ROOT) in file or file.endswith(" (deleted)")
    )


def median(part: list[Held]) -> Held:
    """The median of each."""
    return Held(*(round(statistics.median(each)) for each in zip(*part, strict=True)))


class Soaked(NamedTuple):
    """What was seen in each part of the time."""

    parts: list[list[Held]]
    runs: int
    chaos: Chaos


@pytest.fixture(scope="module")
def soaked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Soaked]:
    root = tmp_path_factory.mktemp("soak")
    with ExitStack() as ends:
        chaos = Chaos(root, ends, ends.enter_context(pytest.MonkeyPatch.context()))
        output = root / "storm"
        with output.open("wb") as file:
            storm = subprocess.Popen(
                [sys.executable, "-c", STORM, chaos.daemon.socket], stdout=file
            )
        ends.callback(storm.wait, LONG_SECONDS)
        ends.callback(storm.terminate)
        parts = [list(watched(chaos, SECONDS / PARTS)) for _ in range(PARTS)]
        assert storm.poll() is None
        runs = int(output.read_text().split()[-1])
        assert chaos.daemon.process is not None
        assert chaos.daemon.process.poll() is None, chaos.daemon.log()[-2000:]
        for part in parts:
            sys.stderr.write(f"{median(part)}\n")
        sys.stderr.write(f"runs: {runs}\n")
        yield Soaked(parts, runs, chaos)


def watched(chaos: Chaos, seconds: float) -> Iterator[Held]:
    """Play without restarts, and look after each round of events."""
    end = time.monotonic() + seconds
    reload_at = time.monotonic() + RELOAD_SECONDS
    while time.monotonic() < end:
        for event in (
            chaos.begin_pod,
            chaos.work_somewhere,
            chaos.give_devices,
            chaos.break_the_driver,
            chaos.change_the_layout,
            chaos.cut_the_watch,
            chaos.refuse_or_serve,
            chaos.stop_or_start_the_kubelet,
            chaos.end_pod,
            chaos.heal_the_driver,
        ):
            event()
            time.sleep(0.05)
        if time.monotonic() > reload_at:
            chaos.reload_the_daemon()
            reload_at = time.monotonic() + RELOAD_SECONDS
        chaos.work = [each for each in chaos.work if each.poll() is None]
        yield until(lambda: held(chaos), what="the daemon answers, also after a reload")


def test_runs_came_and_went(soaked: Soaked) -> None:
    assert soaked.runs > SECONDS * MIN_RUNS_PER_SECOND


@pytest.mark.parametrize(
    ("name", "factor", "more"),
    [("rss_kb", 1.05, 1024), ("handles", 1.0, 12), ("threads", 1.0, 2), ("series", 1.05, 50)],
)
def test_it_holds_no_more_at_the_end_than_near_the_beginning(
    soaked: Soaked, name: str, factor: float, more: int
) -> None:
    first, last = (getattr(median(soaked.parts[place]), name) for place in (1, PARTS - 1))
    assert last <= first * factor + more


def test_the_sums_are_exact_at_the_end(soaked: Soaked) -> None:
    snapshot = soaked.chaos.daemon.json("/api/v1/snapshot")
    assert snapshot["health"]["imbalance_uj"] == 0
    for device in snapshot["devices"]:
        counted = device["counted"]
        parts = counted["attributed_uj"] + sum(counted["unattributed_uj"].values())
        assert counted["energy_uj"] == parts, device["id"]
