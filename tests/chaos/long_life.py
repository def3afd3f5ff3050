"""A simulated node: every minute of many days is posted to books and committed to a ledger."""

import math
import random
from collections import deque
from pathlib import Path
from typing import Any

from exporter.account.books import Books
from exporter.account.database import LEDGER_FILE
from exporter.account.ledger import Ledger
from exporter.account.ledger_writer import LedgerWriter
from exporter.model.intensity import Factor
from exporter.model.ledger import IntervalPostings, Posting, RestoredState, StoredRun
from exporter.model.readings import CounterState, Device, DeviceInfo, DeviceKind, Interval, Method
from exporter.model.runs import Owner, RunInfo, RunKey, UnitCount
from exporter.model.workload import SplitMethod, UnattributedReason
from exporter.units import NANOSECONDS_PER_SECOND, SECONDS_PER_DAY, SECONDS_PER_MINUTE

START = 1_700_006_400.0
"""Unix time at the beginning of a day."""
MINUTES_PER_DAY = SECONDS_PER_DAY // SECONDS_PER_MINUTE
MINUTE_NS = SECONDS_PER_MINUTE * NANOSECONDS_PER_SECOND
COMMIT_MINUTES = 30
RETAIN_MINUTES = 15
USERS, GROUPS, ACCOUNTS = 20, 50, 5
CPU = Device(DeviceKind.CPU, "package-0")
GPU = Device(DeviceKind.GPU, "GPU-1")
SPLITS = {CPU: SplitMethod.CPU_TIME, GPU: SplitMethod.EXCLUSIVE}
INFOS = tuple(DeviceInfo(device, "model", "vendor", "source", 500.0) for device in SPLITS)
REASONS = {
    CPU: (UnattributedReason.IDLE, UnattributedReason.OTHER),
    GPU: (UnattributedReason.IDLE, UnattributedReason.UNALLOCATED),
}


class ByHand:
    """The worker of a ledger writer, which does its work at once when it is woken."""

    stalled_seconds = 0.0

    def __init__(self, _name: str, work: Any, _period_seconds: float) -> None:
        self.wake = work

    def stop(self, _timeout_seconds: float) -> bool:
        self.wake()
        return True


class Node:
    """Books and ledger of a node on which `runs_per_day` runs of 10 to 40 minutes begin each day.

    The carbon intensity changes every hour, as that of a live source.
    """

    def __init__(
        self, directory: Path, runs_per_day: int, keep_minutes_days: int, keep_hours_days: int
    ) -> None:
        self.minute = 0
        """Since the start."""
        self.names: list[str] = []
        """Ids of all runs so far."""
        self._directory = directory
        self._random = random.Random(runs_per_day)
        self._share = runs_per_day / MINUTES_PER_DAY
        self._ledger = Ledger(str(directory), START)
        worker: Any = ByHand
        self._writer = LedgerWriter(
            self._ledger,
            self,
            keep_minutes_days=keep_minutes_days,
            keep_hours_days=keep_hours_days,
            check=False,
            worker=worker,
        )
        self._books = Books(RestoredState(), MINUTE_NS)
        self._books.register_devices(INFOS)
        self._running: dict[RunKey, tuple[int, RunInfo]] = {}
        self._ended: deque[tuple[int, RunKey]] = deque()
        self._seq = 0
        self._factor: Factor | None = None

    def boottime_ns(self) -> int:
        return self.minute * MINUTE_NS

    monotonic_ns = boottime_ns

    def wall(self) -> float:
        return START + self.minute * SECONDS_PER_MINUTE

    def pass_days(self, days: int) -> None:
        """Simulate every minute of some days."""
        for _ in range(days * MINUTES_PER_DAY):
            self.minute += 1
            self._start_and_end_runs()
            self._post()
            self._books.apply_committed(self._writer.committed_seq)
            if self.minute % COMMIT_MINUTES == 0:
                self._commit()

    def close(self) -> None:
        """Commit as a daemon that stops."""
        self._commit(clean=True)
        self._writer.stop(0)
        self._ledger.close()

    def rows(self, table: str) -> int:
        """Return the number of rows of a table."""
        (found,) = self._ledger._connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        return int(found)

    @property
    def ledger_bytes(self) -> int:
        """Size of the ledger's file, without the write-ahead log."""
        return (self._directory / LEDGER_FILE).stat().st_size

    @property
    def accounts(self) -> int:
        """Number of accounts in memory."""
        return len(self._books.rows())

    def _start_and_end_runs(self) -> None:
        while self._share * self.minute - len(self.names) >= 1:
            self._start_run()
        for until, run in list(self._running.values()):
            if self.minute >= until:
                del self._running[run.key]
                self._books.update_run(run._replace(ended=self.wall(), end_reason="ended"))
                self._ended.append((self.minute + RETAIN_MINUTES, run.key))
        while self._ended and self._ended[0][0] <= self.minute:
            self._books.remove_run(self._ended.popleft()[1])

    def _start_run(self) -> None:
        number = len(self.names)
        user, name = f"user-{number % USERS}", f"run-{number}"
        run = RunInfo(
            RunKey(1000 + number % USERS, name, str(number // 4) if number % 2 else ""),
            f"training-{number % GROUPS}",
            user,
            "registered",
            self.wall(),
            shown_id=name,
            owner=Owner(user),
            account=f"account-{number % ACCOUNTS}",
            labels=(("group", f"group-{number % GROUPS}"),),
            units=(UnitCount("tokens", 1e6),),
            logged=(("loss", 0.5),),
        )
        self.names.append(name)
        self._books.update_run(run)
        self._books.restore_run(StoredRun(run.key))
        self._running[run.key] = self.minute + self._random.randrange(10, 41), run

    def _post(self) -> None:
        hour, minute = divmod(self.minute, 60)
        if minute == 0 or self._factor is None:
            grams = 300.0 + 100.0 * math.sin(hour)
            begin = START + hour * 3600.0
            self._factor = Factor("DE", "live", grams, 1.2, begin, begin + 3600.0, begin)
        at = int(self.wall() // SECONDS_PER_MINUTE)
        t1_ns = self.boottime_ns()
        postings = []
        for device, split in SPLITS.items():
            targets = [(reason, SplitMethod.REST) for reason in REASONS[device]]
            targets += [(key, split) for key in self._running]  # type: ignore[misc]
            entries = [
                Posting(at, device, *(target, Method.COUNTER, how), self._factor, 10**9, 0, 10**6)
                for target, how in targets
            ]
            total_uj = 10**9 * len(entries)
            interval = Interval(device, t1_ns - MINUTE_NS, t1_ns, total_uj, Method.COUNTER)
            postings.append(IntervalPostings(interval, entries))
        self._books.post(postings, t1_ns)

    def _commit(self, *, clean: bool = False) -> None:
        self._seq += 1
        at_ns = self.boottime_ns()
        batch = self._books.batch(
            seq=self._seq,
            at_ns=at_ns,
            wall=self.wall(),
            counter_states=tuple(CounterState(each, 1, at_ns, "boot", 40.0) for each in SPLITS),
            floors={},
            infos=INFOS,
            clean=clean,
        )
        self._writer.submit(batch)
