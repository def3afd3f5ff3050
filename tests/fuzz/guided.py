"""Worker guided by coverage: `python -m tests.fuzz.guided TARGET SECONDS DIR`; needs atheris."""

import os
import random
import sys

import atheris

from tests.fuzz.attempt import corpus_of
from tests.fuzz.mutation import MAX_BYTES, mutated
from tests.fuzz.worker import Worker, arguments

with atheris.instrument_imports(include=["exporter"]):
    from tests.fuzz.targets import TARGETS

MUTATED_SHARE = 0.5
"""Share of the mutations that are those of `mutated`, which knows JSON; others are libFuzzer's."""


def main() -> None:
    """Run one target on its corpus and on inputs that libFuzzer derives from it."""
    name, seconds, directory = arguments()
    found = directory / "corpus"
    found.mkdir(parents=True, exist_ok=True)
    worker = Worker(TARGETS[name], seconds, directory)

    def run(data: bytes) -> None:
        worker.run(data)
        if worker.is_over:
            worker.finish()
            sys.stdout.flush()
            os._exit(0)  # libFuzzer ends the process by itself, without Python's exit

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if rng.random() < MUTATED_SHARE:
            return mutated(rng, [data])[:most]
        return bytes(atheris.Mutate(data, most))

    # The limits of time and memory are those of the worker.
    limits = ("-timeout=600", "-rss_limit_mb=0", f"-max_len={MAX_BYTES}")
    options = (*limits, "-verbosity=0", f"-artifact_prefix={directory}/")
    seeds = corpus_of(name)[0].parent
    atheris.Setup([sys.argv[0], *options, str(found), str(seeds)], run, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
