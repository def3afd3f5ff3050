"""Worker that mutates the corpus at random: `python -m tests.fuzz.unguided TARGET SECONDS DIR`."""

import os
import random
import sys
import time

from tests.fuzz.attempt import corpus_of
from tests.fuzz.mutation import mutated
from tests.fuzz.targets import TARGETS
from tests.fuzz.worker import Worker, arguments


def main() -> None:
    """Run one target on mutations of its corpus."""
    name, seconds, directory = arguments()
    worker = Worker(TARGETS[name], seconds, directory)
    seeds = [path.read_bytes() for path in corpus_of(name)]
    seed = os.environ.get("TEST_SEED") or str(time.time_ns())
    sys.stderr.write(f"{name}: TEST_SEED={seed}\n")
    rng = random.Random(seed)
    while not worker.is_over:
        worker.run(mutated(rng, seeds))
    worker.finish()


if __name__ == "__main__":
    main()
