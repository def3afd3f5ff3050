"""What `track` costs the program that uses it."""

import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from tests.bench.scene import start
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
    return time.perf_counter() - began

block(None)
for _ in range(int(sys.argv[1])):
    alone = block(None)
    with track("bench", socket=sys.argv[2], receipts=None) as run:
        print(alone, block(run))
"""


class Tracked(NamedTuple):
    """What a program pays."""

    import_ms: float
    """Wall time that importing the client adds to the start of Python."""
    ratios: list[float]
    """Time of a training loop with a tracker over the time without, for each pair of loops."""

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)


def measure(directory: Path) -> Tracked:
    """Loops with and without a tracker by turns, in one program."""
    empty = directory / "sys"
    empty.mkdir(parents=True)
    daemon = Daemon(directory / "daemon", f"--path.sysfs={empty}", "--log.level=error")
    process = start(daemon)
    try:
        until(lambda: get(daemon.url + "/-/ready"), what="the daemon is ready")
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(PAIRS), daemon.socket],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    finally:
        process.terminate()
        process.wait(20)
    pairs = [tuple(map(float, line.split())) for line in done.stdout.splitlines()]
    return Tracked(_import_ms(), [tracked / alone for alone, tracked in pairs])


def _import_ms() -> float:
    plain, imported = (
        min(_seconds(code) for _ in range(PAIRS))
        for code in ("pass", "from exporter.client import track")
    )
    return (imported - plain) * 1000


def _seconds(code: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)
    return time.perf_counter() - began
