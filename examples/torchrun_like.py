"""Start four ranks like a launcher does; together they are one run.

With `torchrun`, `srun` or `mpirun`, only the `with` line is required, because the ids come from the
launcher's environment.
"""

import os
import subprocess
import sys

from exporter.client import track

RANKS = 4


def rank() -> None:
    """Do the work of one rank."""
    with track("ranks", progress=False) as run:
        sum(number**0.5 for number in range(3_000_000))
        run.count(samples=8)
    joules = f"{run.energy_joules:.1f} J of all ranks so far"
    print(f"rank {os.environ['RANK']}: run {run.run_id}: {joules}")


def launch() -> int:
    """Start all ranks and wait for them, as torchrun does."""
    ranks = [
        subprocess.Popen(
            [sys.executable, __file__],
            env={
                **os.environ,
                "RANK": str(number),
                "LOCAL_RANK": str(number),
                "WORLD_SIZE": str(RANKS),
                "LOCAL_WORLD_SIZE": str(RANKS),
            },
        )
        for number in range(RANKS)
    ]
    return max(process.wait() for process in ranks)


if __name__ == "__main__":
    if "RANK" in os.environ:
        rank()
    else:
        sys.exit(launch())
