"""What jobs with cgroups add: real cgroups as slurmstepd makes them, and processes that work."""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from tests.bench import cost
from tests.bench.pods import CGROUPS
from tests.bench.scene import SETTLE_SECONDS, Scene
from tests.real.parts import until

SCOPE = CGROUPS / "system.slice" / "slurmstepd.scope"
SIZES = ((20, 5), (20, 25), (620, 1))
"""Jobs, and the processes of each."""
MAX_SHOWN = 200
MEASURED_SECONDS = 5.0


class JobStep(NamedTuple):
    """The cost of so many jobs."""

    jobs: int
    processes: int
    ticks: Sequence[float]
    """CPU time of the main thread in ms."""
    whole_ms: float
    """CPU time per second of all threads."""


def steps(directory: Path, ticks: int) -> Iterator[JobStep]:
    """The curve; nothing where cgroups of version 2 cannot be made."""
    if not os.access(CGROUPS, os.W_OK):
        return
    directory.mkdir()
    for jobs, each in SIZES:
        yield _step(directory / f"{jobs}-{each}", jobs, each, ticks)


def _step(directory: Path, jobs: int, each: int, ticks: int) -> JobStep:
    with ExitStack() as ends:
        # The processes of a job end shortly after it.
        ends.callback(until, _is_removed, what="the cgroups are removed")
        with Scene(directory, 0) as scene:
            for number in range(jobs):
                _start_job(ends, scene, number, each)
            shown = min(jobs, MAX_SHOWN)
            until(lambda: len(scene.daemon.json("/api/v1/snapshot")["runs"]) >= shown, 60, "jobs")
            time.sleep(SETTLE_SECONDS)
            began, before = time.monotonic(), cost.process_ms(scene.pid)
            time.sleep(MEASURED_SECONDS)
            whole_ms = (cost.process_ms(scene.pid) - before) / (time.monotonic() - began)
            return JobStep(jobs, jobs * each, scene.ticks(ticks), whole_ms)


def _start_job(ends: ExitStack, scene: Scene, number: int, processes: int) -> None:
    task = SCOPE / f"job_{number + 1}" / "step_0" / "user" / "task_0"
    task.mkdir(parents=True)
    job = subprocess.Popen(
        [scene.sleepers],
        stdin=subprocess.PIPE,
        env={"SLURM_JOB_ID": str(number + 1), "SLURM_JOB_NAME": "bench"},
    )
    ends.callback(job.wait)
    assert job.stdin is not None
    ends.callback(job.stdin.close)
    (task / "cgroup.procs").write_text(str(job.pid))
    job.stdin.write(b"%d\n" % (processes - 1))  # besides this one
    job.stdin.flush()


def _is_removed() -> bool:
    for directory, _, _ in os.walk(SCOPE.parent, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(directory)
    return not SCOPE.exists()
