"""Factories of values for the tests of the accounting stage."""

import random

from exporter.account.books import Books
from exporter.account.database import LEDGER_FILE
from exporter.account.journal_format import Checkpoint
from exporter.account.ledger import Ledger
from exporter.model.intensity import Factor
from exporter.model.ledger import Amount, Batch, IntervalPostings, Posting, RestoredState, StoredRun
from exporter.model.readings import CounterState, Device, DeviceInfo, DeviceKind, Interval, Method
from exporter.model.runs import Owner, RunInfo, RunKey
from exporter.model.workload import SplitMethod, UnattributedReason

SECOND = 1_000_000_000
WALL = 1_700_000_000.0
MINUTE = int(WALL // 60)
GPU = Device(DeviceKind.GPU, "GPU-1")
CPU = Device(DeviceKind.CPU, "package-0")
DRAM = Device(DeviceKind.DRAM, "package-0-dram")
INFOS = tuple(DeviceInfo(device, "model", "vendor", "source", 500.0) for device in (GPU, CPU, DRAM))
GERMANY = Factor("DE", "a table", 380.0, 1.1, 0.0, float("inf"), 1_704_067_200.0)
FRANCE = GERMANY._replace(zone="FR", grams_per_kwh=56.0)


def key(name="bert", uid=1000):
    return RunKey(uid, name, "job")


def run(name="bert", **changes):
    made = RunInfo(key(name), name, "ada", "registered", WALL, shown_id=name, owner=Owner("ada"))
    return made._replace(**changes)


def entry(
    target, energy_uj, *, device=CPU, split=SplitMethod.CPU_TIME, factor=GERMANY, minute=MINUTE
):
    return Posting(
        minute,
        device,
        target,
        Method.COUNTER,
        split,
        factor,
        energy_uj,
        energy_uj // 4,
        energy_uj * 3 if factor else 0,
    )


def posting(*entries, t0_ns=0, t1_ns=SECOND, energy_uj=None):
    total = sum(e.energy_uj for e in entries) if energy_uj is None else energy_uj
    device = entries[0].device if entries else CPU
    return IntervalPostings(Interval(device, t0_ns, t1_ns, total, Method.COUNTER), entries)


def position(device=CPU, raw_uj=123_456, **changes):
    return CounterState(device, raw_uj, 5 * SECOND, "boot", 41.5)._replace(**changes)


def books(restored=None):
    made = Books(restored or RestoredState(), SECOND // 2)
    made.register_devices(INFOS)
    return made


def known_run(made, info):
    """Note a run and settle at once that the ledger has no past of it."""
    made.update_run(info)
    made.restore_run(StoredRun(info.key))


def used_by(*names, restored=None):
    """Books that know these runs."""
    made = books(restored)
    for name in names:
        known_run(made, run(name))
    return made


def checkpoint(made, seq=1, **changes) -> Checkpoint:
    values = {
        "at_ns": seq * SECOND,
        "wall": WALL + seq,
        "counter_states": (position(),),
        "run_cpu": (),
        "machine_cpu": None,
        "factor": GERMANY,
    }
    return made.checkpoint(seq=seq, **(values | changes))


def batch(made, seq=1, **changes) -> Batch:
    values = {
        "at_ns": seq * SECOND,
        "wall": WALL + seq,
        "counter_states": (position(),),
        "floors": {},
        "infos": INFOS,
    }
    return made.batch(seq=seq, **(values | changes))


def backfill(made, names=("bert", "gpt"), rounds=3, seed=0):
    """Post a few rounds of random energy on runs and reasons."""
    rng = random.Random(seed)
    for number in range(rounds):
        for device, split in ((CPU, SplitMethod.CPU_TIME), (GPU, SplitMethod.EXCLUSIVE)):
            entries = [
                entry(
                    target,
                    rng.randrange(10**9),
                    device=device,
                    split=split,
                    factor=rng.choice([GERMANY, FRANCE, None]),
                    minute=MINUTE + number,
                )
                for target in (*map(key, names), UnattributedReason.IDLE, UnattributedReason.OTHER)
            ]
            span = {"t0_ns": number * SECOND, "t1_ns": (number + 1) * SECOND}
            made.post([posting(*entries, **span)], (number + 1) * SECOND)


def begin_at_zero(restored):
    """Whether the counters do, and only the cumulative gauges go on."""
    return any("counters begin at zero" in note for note in restored.notes)


def shown(made):
    """The runs on the page."""
    return checkpoint(made).layout.runs


def device_sums(rows):
    """Totals and counted amounts per device and method."""
    sums: dict[object, list[Amount]] = {}
    for row in rows:
        total, counted = sums.get((row.device, row.method), [Amount(0, 0, 0)] * 2)
        sums[row.device, row.method] = [
            total.plus(row.balance.total),
            counted.plus(row.balance.counted),
        ]
    return sums


def balances(rows):
    return {(r.device, r.target, r.method, r.split): r.balance for r in rows}


def opened(directory) -> Ledger:
    return Ledger(str(directory), WALL)


def path_in(directory) -> str:
    return str(directory / LEDGER_FILE)


def query(ledger, sql, *values):
    return ledger._connection.execute(sql, values).fetchall()
