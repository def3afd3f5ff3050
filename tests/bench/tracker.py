"""What `track` costs the program that uses it."""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.bench.scene import running
from tests.real.parts import REPOSITORY, Daemon, get, until

PAIRS = 41
PROGRAM = """
import sys, time
from exporter.client import track

# A step allocates nothing: it would cost more or less by what else is in Python's pools.
NUMBERS = list(range(20_000))

def block(run):
    began = time.perf_counter()
    for step in range(200):
        for _ in range(5):
            max(NUMBERS)
        if run is not None:
            run.count(samples=32)
            run.progress(step, 200)
    return (time.perf_counter() - began) * 1000

block(None)
for _ in range(int(sys.argv[1])):
    alone = block(None)
    with track("bench", socket=sys.argv[2], receipts=None) as run:
        print(alone, block(run))
"""


class Tracked(NamedTuple):
    """What a program pays; wall time in ms."""

    plain: Sequence[float]
    """The start and end of Python."""
    imports: Sequence[float]
    """The same with an import of the client, each just after a plain one."""
    alone: Sequence[float]
    """A training loop without a tracker."""
    tracked: Sequence[float]
    """The same with a tracker, each just after one without."""


def measure(directory: Path) -> Tracked:
    """Loops with and without a tracker by turns, in one program."""
    empty = directory / "sys"
    empty.mkdir(parents=True)
    daemon = Daemon(directory / "daemon", f"--path.sysfs={empty}", "--log.level=error")
    with running(daemon):
        until(lambda: get(daemon.url + "/-/ready"), what="the daemon is ready")
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(PAIRS), daemon.socket],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    pairs = [map(float, line.split()) for line in done.stdout.splitlines()]
    loops = zip(*pairs, strict=True)
    starts = [
        (start_python_ms(), start_python_ms("from exporter.client import track"))
        for _ in range(PAIRS)
    ]
    return Tracked(*zip(*starts, strict=True), *loops)


def start_python_ms(code: str = "pass") -> float:
    """Wall time of a program in Python, from exec to its end."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)
    return (time.perf_counter() - began) * 1000
