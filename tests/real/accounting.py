"""Accounts energy in a directory, and says on the standard output what is published and committed.

python -m tests.real.accounting DIRECTORY
"""

import json
import os
import random
import sys

from exporter.account.journal import Journal
from exporter.account.recovery import recover
from exporter.model.workload import UnattributedReason
from tests.unit.account.making import (
    MINUTE,
    SECOND,
    WALL,
    batch,
    books,
    checkpoint,
    entry,
    key,
    known_run,
    opened,
    posting,
    run,
)

BOOT = "boot-1"
STARTS, STEPS, COMMIT_STEPS, RUN_STEPS = 2, 16, 3, 5
NAMES = ("bert", "gpt", "clip")


def say(**facts: int) -> None:
    os.write(1, json.dumps(facts).encode())


def main(directory: str) -> None:
    rng = random.Random(1)
    posted = 0
    seq = 0
    for _ in range(STARTS):
        ledger, journal = opened(directory), Journal(f"{directory}/journal")
        recovered = recover(ledger, journal, BOOT, WALL)
        ledger.start()
        made = books(recovered.restored)
        if recovered.batch is not None:
            ledger.commit(recovered.batch)
        for name in NAMES:
            known_run(made, run(name))
        for step in range(STEPS):
            seq += 1
            if step % RUN_STEPS == 0:
                known_run(made, run(f"run-{seq}"))
            targets = (*map(key, NAMES), UnattributedReason.IDLE)
            entries = [
                entry(target, rng.randrange(1, 10**9), minute=MINUTE + step // 5)
                for target in targets
            ]
            posted += sum(each.energy_uj for each in entries)
            made.post([posting(*entries)], SECOND)
            say(posted=posted)
            journal.write(checkpoint(made, seq))
            say(published=posted)
            if step % COMMIT_STEPS == 0:
                handed = batch(made, seq)
                say(handed=posted)
                ledger.commit(handed)
                made.apply_committed(seq)
                say(committed=posted)
        journal.close()
        ledger.close()


if __name__ == "__main__":
    main(sys.argv[1])
