"""The ledger: one SQLite file that keeps totals, usage over time and runs for good."""

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from exporter.account import backfill, batch_writer, decoding
from exporter.account.batch_writer import BatchWriter
from exporter.account.database import (
    LEDGER_FILE,
    connect,
    is_corruption,
    lock,
    quarantine,
    rollback_on_error,
    sqlite_errors,
)
from exporter.account.decoding import read_balances, read_factor_uses, read_owners, read_parties
from exporter.errors import LedgerError
from exporter.model.commands import ImportResult
from exporter.model.intensity import Factor
from exporter.model.ledger import (
    AccountKey,
    Backfill,
    Balance,
    Batch,
    LateCarbon,
    RestoredState,
    StoredRun,
)
from exporter.model.readings import CounterState, Device
from exporter.model.record import RunRecord
from exporter.model.runs import RunKey
from exporter.units import SECONDS_PER_DAY, SECONDS_PER_HOUR, SECONDS_PER_MINUTE

BACKFILL_DAYS = 7
"""Energy that has had no grams for longer gets none any more."""

FOLD_MINUTES = """
INSERT INTO usage_hour
SELECT minute / 60, party_id, device_id, factor_id, method, split,
       sum(energy_uj), sum(held_uj), sum(carbon_ng)
FROM usage WHERE minute < ? GROUP BY 1, 2, 3, 4, 5, 6
ON CONFLICT (hour, party_id, device_id, factor_id, method, split) DO UPDATE SET
    energy_uj = energy_uj + excluded.energy_uj, held_uj = held_uj + excluded.held_uj,
    carbon_ng = carbon_ng + excluded.carbon_ng
"""


class LedgerState(NamedTuple):
    """What the ledger holds at start."""

    ledger_id: str
    """Made with the file; tells its journal from another's."""
    clean: bool
    """The last stop was orderly."""
    restored: RestoredState
    """The runs that have not left the page, with the fixed parties."""
    stored_runs: tuple[StoredRun, ...]
    """Of the runs that were asked for."""
    late_carbon: tuple[LateCarbon, ...] = ()
    """Grams that are in the totals, and that a journal may lack."""


class Ledger:
    """The write side. Everything here may wait for the disk.

    Opened by the main thread, then used by one thread at a time. Every method may raise
    LedgerError, and can be called again after it did.
    """

    def __init__(self, directory: str, wall: float) -> None:
        """Open the ledger in `directory`, or begin one; `wall` dates a damaged file's new name.

        Raises LedgerLocked where another daemon uses it, LedgerError where it cannot be used.
        """
        self.path = os.path.join(directory, LEDGER_FILE)
        self.notes: tuple[str, ...] = ()
        """What a person should know about how it was found."""
        self._wall = wall
        self._lock = lock(directory)
        try:
            with sqlite_errors(self.path):
                self._connection = self._connect()
            self._place = _file_id(self.path)
        except BaseException:
            os.close(self._lock)
            raise

    def restore(self, asked: Iterable[RunKey] = ()) -> LedgerState:
        """What is known of all that is on the page, and of the runs `asked` for."""
        with sqlite_errors(self.path):
            try:
                return self._restore(asked)
            except Exception as error:
                if not is_corruption(error):
                    raise
                self._connection.close()
                self._connection = self._begin_anew(error)
                self._place = _file_id(self.path)
                return self._restore(asked)

    def start(self) -> None:
        """Take the mark of an orderly stop away, so that it is not believed after a crash."""
        with sqlite_errors(self.path), self._transaction():
            self._connection.execute("UPDATE meta SET clean = 0")

    def commit(self, batch: Batch) -> None:
        """Make a batch durable, all of it or nothing."""
        self._check_in_place()
        with sqlite_errors(self.path), self._transaction():
            self._connection.execute(
                "DELETE FROM fill WHERE id <= ?", (batch.journaled_backfill_id,)
            )
            backfill.subtract_backfills(self._connection, batch.backfill_id)
            BatchWriter(self._connection).write(batch)
            backfill.add_backfills(self._connection, batch.backfill_id)

    def unconverted(self, wall: float) -> tuple[int, ...]:
        """The minutes of late with energy that has no grams yet, earliest first."""
        since = int((wall - BACKFILL_DAYS * SECONDS_PER_DAY) // SECONDS_PER_MINUTE)
        with sqlite_errors(self.path):
            return backfill.unpriced_minutes(self._connection, since)

    def backfill(self, factors: Mapping[int, Factor]) -> Backfill | None:
        """Give the energy of some minutes that has no grams those of a factor.

        All of it or nothing. The answer is what the books lack now; None if there was nothing.
        """
        self._check_in_place()
        with sqlite_errors(self.path), self._transaction():
            return backfill.backfill_minutes(self._connection, factors)

    def import_runs(self, records: Iterable[RunRecord]) -> ImportResult:
        """Add runs that another tool measured, all of them or nothing."""
        self._check_in_place()
        with sqlite_errors(self.path), self._transaction():
            return batch_writer.import_runs(self._connection, records)

    def _check_in_place(self) -> None:
        """SQLite goes on writing into a file that nobody can find any more. Raises LedgerError."""
        if _file_id(self.path) != self._place:
            raise LedgerError(
                f"ledger {self.path} was removed or replaced while in use; nothing is lost yet: "
                "restart the exporter, it goes on from its journal"
            )

    def stored_run(self, key: RunKey) -> StoredRun:
        """What is known of a run."""
        with sqlite_errors(self.path):
            return self._past(key)

    def prune(self, wall: float, keep_minutes_days: float, keep_hours_days: float) -> None:
        """Fold old minutes into hours and forget old hours; totals stay."""
        minutes_before = int((wall - keep_minutes_days * SECONDS_PER_DAY) // SECONDS_PER_HOUR) * 60
        hours_before = int((wall - keep_hours_days * SECONDS_PER_DAY) // SECONDS_PER_HOUR)
        with sqlite_errors(self.path), self._transaction():
            self._connection.execute(FOLD_MINUTES, (minutes_before,))
            self._connection.execute("DELETE FROM usage WHERE minute < ?", (minutes_before,))
            self._connection.execute("DELETE FROM usage_hour WHERE hour < ?", (hours_before,))

    def quick_check(self) -> str:
        """The first damage found in the file, or "". Reads all of it."""
        with sqlite_errors(self.path):
            answer = self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        return "" if answer == "ok" else str(answer)

    def close(self) -> None:
        """Close the file and let another daemon have it."""
        self._connection.close()
        os.close(self._lock)

    def _connect(self) -> sqlite3.Connection:
        try:
            return connect(self.path)
        except Exception as error:
            if not is_corruption(error):
                raise
            return self._begin_anew(error)

    def _begin_anew(self, error: Exception) -> sqlite3.Connection:
        aside = quarantine(self.path, self._wall)
        self.notes = (
            f"The ledger was damaged ({error!r}); it was set aside as {aside} and a new one begun.",
        )
        return connect(self.path)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with rollback_on_error(self._connection):
            self._connection.execute("BEGIN IMMEDIATE")
            yield
            self._connection.execute("COMMIT")

    def _restore(self, asked: Iterable[RunKey]) -> LedgerState:
        ledger_id, seq, wall, clean, backfill_id, memory = self._connection.execute(
            "SELECT ledger_id, seq, wall, clean, filled, memory FROM meta, intensity"
        ).fetchone()
        balances: dict[AccountKey, Balance] = {}
        here: dict[RunKey, StoredRun] = {}
        for row in read_parties(self._connection, "departed = 0 ORDER BY id"):
            found = read_balances(self._connection, row)
            balances.update(found)
            if row.run is not None:
                uses = read_factor_uses(self._connection, row)
                here[row.run.key] = StoredRun(row.run.key, row.run, found, uses)
        restored = RestoredState(
            seq=seq,
            counter_states=self._positions(),
            lines=balances,
            runs=tuple(past.info for past in here.values() if past.info is not None),
            factor_uses={key: past.factor_uses for key, past in here.items()},
            floors=self._floors(),
            wall=wall,
            owners=read_owners(self._connection),
            backfill_id=backfill_id,
            intensity=memory,
        )
        stored_runs = tuple(here.get(key) or self._past(key) for key in asked)
        return LedgerState(
            ledger_id, bool(clean), restored, stored_runs, backfill.read_backfills(self._connection)
        )

    def _past(self, key: RunKey) -> StoredRun:
        for row in read_parties(
            self._connection, "uid = ? AND run_id = ? AND job_id = ?", tuple(key)
        ):
            uses = read_factor_uses(self._connection, row)
            return StoredRun(key, row.run, read_balances(self._connection, row), uses)
        return StoredRun(key)

    def _positions(self) -> tuple[CounterState, ...]:
        found = self._connection.execute(
            "SELECT kind, name, provisional_at_ns, awake_ns, uncounted, raw_uj, at_ns, epoch, "
            "power_watts, provisional_uj, debt_uj, suspect_uj, suspect_at_ns "
            "FROM position JOIN device ON device.id = device_id ORDER BY device_id"
        )
        return tuple(
            CounterState(decoding.decode_device((kind, name)), *values)._replace(
                restored=True,
                provisional_at_ns=until_ns,
                awake_ns=awake_ns,
                uncounted=bool(uncounted),
            )
            for kind, name, until_ns, awake_ns, uncounted, *values in found
        )

    def _floors(self) -> dict[Device, float]:
        found = self._connection.execute(
            "SELECT kind, name, floor_watts FROM device WHERE floor_watts IS NOT NULL"
        )
        return {decoding.decode_device((kind, name)): watts for kind, name, watts in found}


def _file_id(path: str) -> tuple[int, int] | None:
    """Device and inode of a file; None if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
