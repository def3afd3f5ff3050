"""Makers of values for the tests of account."""

import random

from exporter.account.books import Books
from exporter.account.image import Image
from exporter.account.ledger import Ledger
from exporter.account.opening import NAME
from exporter.model.books import Amount, Batch, Entry, Past, Posting, Restored
from exporter.model.intensity import Factor
from exporter.model.readings import Device, DeviceInfo, Interval, Kind, Method, Position
from exporter.model.runs import Owner, RunInfo, RunKey
from exporter.model.workload import Reason, Split

SECOND = 1_000_000_000
WALL = 1_700_000_000.0
MINUTE = int(WALL // 60)
GPU = Device(Kind.GPU, "GPU-1")
CPU = Device(Kind.CPU, "package-0")
DRAM = Device(Kind.DRAM, "package-0-dram")
INFOS = tuple(DeviceInfo(device, "model", "vendor", "source", 500.0) for device in (GPU, CPU, DRAM))
GERMANY = Factor("DE", "a table", 380.0, 1.1, 0.0, float("inf"), 1_704_067_200.0)
FRANCE = GERMANY._replace(zone="FR", grams_per_kwh=56.0)


def key(name="bert", uid=1000):
    return RunKey(uid, name, "job")


def run(name="bert", **changes):
    made = RunInfo(key(name), name, "ada", "registered", WALL, shown_id=name, owner=Owner("ada"))
    return made._replace(**changes)


def entry(party, energy_uj, *, device=CPU, split=Split.CPU_TIME, factor=GERMANY, minute=MINUTE):
    return Entry(
        minute,
        device,
        party,
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
    return Posting(Interval(device, t0_ns, t1_ns, total, Method.COUNTER), entries)


def position(device=CPU, raw_uj=123_456, **changes):
    return Position(device, raw_uj, 5 * SECOND, "boot", 41.5)._replace(**changes)


def books(restored=None):
    made = Books(restored or Restored(), SECOND // 2)
    made.declare(INFOS)
    return made


def known_run(made, info):
    """Note a run and settle at once that the ledger has no past of it."""
    made.note_run(info)
    made.rejoin(Past(info.key))


def used_by(*names, restored=None):
    """Books that know these runs."""
    made = books(restored)
    for name in names:
        known_run(made, run(name))
    return made


def image(made, seq=1, **changes) -> Image:
    values = {
        "at_ns": seq * SECOND,
        "wall": WALL + seq,
        "positions": (position(),),
        "run_cpu": (),
        "machine_cpu": None,
        "factor": GERMANY,
    }
    return made.image(seq=seq, **(values | changes))


def batch(made, seq=1, **changes) -> Batch:
    values = {
        "at_ns": seq * SECOND,
        "wall": WALL + seq,
        "positions": (position(),),
        "floors": {},
        "infos": INFOS,
    }
    return made.batch(seq=seq, **(values | changes))


def fill(made, names=("bert", "gpt"), rounds=3, seed=0):
    """Post a few rounds of random energy on runs and reasons."""
    rng = random.Random(seed)
    for number in range(rounds):
        for device, split in ((CPU, Split.CPU_TIME), (GPU, Split.EXCLUSIVE)):
            entries = [
                entry(
                    party,
                    rng.randrange(10**9),
                    device=device,
                    split=split,
                    factor=rng.choice([GERMANY, FRANCE, None]),
                    minute=MINUTE + number,
                )
                for party in (*map(key, names), Reason.IDLE, Reason.OTHER)
            ]
            span = {"t0_ns": number * SECOND, "t1_ns": (number + 1) * SECOND}
            made.post([posting(*entries, **span)], (number + 1) * SECOND)


def begin_at_zero(restored):
    """Whether the counters do, and only the cumulative gauges go on."""
    return any("counters begin at zero" in note for note in restored.notes)


def shown(made):
    """The runs on the page."""
    return image(made).layout.runs


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
    return {(r.device, r.party, r.method, r.split): r.balance for r in rows}


def opened(directory) -> Ledger:
    return Ledger(str(directory), WALL)


def path_in(directory) -> str:
    return str(directory / NAME)


def query(ledger, sql, *values):
    return ledger._connection.execute(sql, values).fetchall()
