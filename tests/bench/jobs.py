"""The state with jobs: real cgroups as slurmstepd makes them, and processes that work."""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.bench.machine import family
from tests.bench.scene import JOBS, Scene
from tests.real.parts import until

SIZES = ((20, 5), (20, 25), (620, 1))
"""Jobs, and the processes of each."""
MAX_SHOWN = 200
SETTLE_SECONDS = 10.0
"""Until processes that are new no longer count."""


@contextmanager
def running_jobs(directory: Path, jobs: int, each: int) -> Iterator[Scene]:
    """A host with so many jobs of `each` processes, and a daemon that shows them."""
    with ExitStack() as ends:
        # The processes of a job end shortly after it.
        ends.callback(until, _is_removed, what="the cgroups are removed")
        with Scene(directory, 0) as scene:
            leaders = [_start_job(ends, scene, number, each) for number in range(jobs)]
            shown = min(jobs, MAX_SHOWN)
            until(lambda: len(scene.daemon.json("/api/v1/snapshot")["runs"]) >= shown, 60, "jobs")
            scene.pids = list(family(leaders))
            time.sleep(SETTLE_SECONDS)
            yield scene


def clocks() -> list[str]:
    """The files with the CPU time of the jobs."""
    return [str(path) for path in JOBS.glob("job_*/cpu.stat")]


def _start_job(ends: ExitStack, scene: Scene, number: int, processes: int) -> int:
    task = JOBS / f"job_{number + 1}" / "step_0" / "user" / "task_0"
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
    return job.pid


def _is_removed() -> bool:
    for directory, _, _ in os.walk(JOBS, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(directory)
    with contextlib.suppress(OSError):  # where systemd has its services, it stays
        JOBS.parent.rmdir()
    return not JOBS.exists()
