"""Ledger: the SQLite file with totals, usage over time and runs."""

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
from exporter.account.decoding import read_balances, read_factor_uses, read_owners
from exporter.account.run_rows import read_parties
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
"""Energy without carbon that is older than this is not converted any more."""

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
    """Contents of the ledger at start."""

    ledger_id: str
    """Created with the file; identifies the journal that belongs to it."""
    clean: bool
    """The last shutdown was clean."""
    restored: RestoredState
    """The runs that have not departed, and the fixed parties."""
    stored_runs: tuple[StoredRun, ...]
    """The requested runs."""
    late_carbon: tuple[LateCarbon, ...] = ()
    """Backfilled carbon that is in the totals and that a journal may lack."""


class Ledger:
    """Write access to the ledger. Every method may block on the disk.

    Opened by the main thread, then used by one thread at a time. Every method may raise
    LedgerError and can be called again afterwards.
    """

    def __init__(self, directory: str, wall: float) -> None:
        """Open or create the ledger in `directory`; `wall` dates the new name of a damaged file.

        Raises LedgerLocked if another daemon uses it, LedgerError if it cannot be used.
        """
        self.path = os.path.join(directory, LEDGER_FILE)
        self.notes: tuple[str, ...] = ()
        """Notes for the log about the state of the file when it was opened."""
        self._wall = wall
        self._lock = lock(directory)
        try:
            with sqlite_errors(self.path):
                self._connection = self._connect()
            self._place = _file_id(self.path)
        except BaseException:
            os.close(self._lock)
            raise

    def restore(self, requested: Iterable[RunKey] = ()) -> LedgerState:
        """Read the state of everything that has not departed, and of the `requested` runs."""
        with sqlite_errors(self.path):
            try:
                return self._restore(requested)
            except Exception as error:
                if not is_corruption(error):
                    raise
                self._connection.close()
                self._connection = self._replace_damaged(error)
                self._place = _file_id(self.path)
                return self._restore(requested)

    def start(self) -> None:
        """Clear the flag of a clean shutdown, so that it is not set after a crash."""
        with sqlite_errors(self.path), self._transaction():
            self._connection.execute("UPDATE meta SET clean = 0")

    def commit(self, batch: Batch) -> None:
        """Write a batch in one transaction."""
        self._check_in_place()
        with sqlite_errors(self.path), self._transaction():
            self._connection.execute(
                "DELETE FROM fill WHERE id <= ?", (batch.journaled_backfill_id,)
            )
            backfill.subtract_backfills(self._connection, batch.backfill_id)
            BatchWriter(self._connection).write(batch)
            backfill.add_backfills(self._connection, batch.backfill_id)

    def unconverted(self, wall: float) -> tuple[int, ...]:
        """Return the recent minutes, earliest first, that have energy without a factor."""
        since = int((wall - BACKFILL_DAYS * SECONDS_PER_DAY) // SECONDS_PER_MINUTE)
        with sqlite_errors(self.path):
            return backfill.unpriced_minutes(self._connection, since)

    def backfill(self, factors: Mapping[int, Factor]) -> Backfill | None:
        """Convert energy without a factor with the `factors` by minute, in one transaction.

        Returns what the books have to add; None if there was nothing to convert.
        """
        self._check_in_place()
        with sqlite_errors(self.path), self._transaction():
            return backfill.backfill_minutes(self._connection, factors)

    def import_runs(self, records: Iterable[RunRecord]) -> ImportResult:
        """Add runs that another tool measured, in one transaction."""
        self._check_in_place()
        with sqlite_errors(self.path), self._transaction():
            return batch_writer.import_runs(self._connection, records)

    def _check_in_place(self) -> None:
        """Raise LedgerError if the path is not the open file: SQLite would still write to that."""
        if _file_id(self.path) != self._place:
            raise LedgerError(
                f"ledger {self.path} was removed or replaced while in use; no data is lost yet: "
                "restart the exporter, which continues from its journal"
            )

    def stored_run(self, key: RunKey) -> StoredRun:
        """Return the stored totals of a run."""
        with sqlite_errors(self.path):
            return self._stored_run(key)

    def prune(self, wall: float, keep_minutes_days: float, keep_hours_days: float) -> None:
        """Aggregate old minutes to hours and delete old hours; totals are kept."""
        minutes_before = int((wall - keep_minutes_days * SECONDS_PER_DAY) // SECONDS_PER_HOUR) * 60
        hours_before = int((wall - keep_hours_days * SECONDS_PER_DAY) // SECONDS_PER_HOUR)
        with sqlite_errors(self.path), self._transaction():
            self._connection.execute(FOLD_MINUTES, (minutes_before,))
            self._connection.execute("DELETE FROM usage WHERE minute < ?", (minutes_before,))
            self._connection.execute("DELETE FROM usage_hour WHERE hour < ?", (hours_before,))

    def quick_check(self) -> str:
        """Return the first damage found in the file, or "". Reads the whole file."""
        with sqlite_errors(self.path):
            answer = self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        return "" if answer == "ok" else str(answer)

    def close(self) -> None:
        """Close the file and release the lock."""
        self._connection.close()
        os.close(self._lock)

    def _connect(self) -> sqlite3.Connection:
        try:
            return connect(self.path)
        except Exception as error:
            if not is_corruption(error):
                raise
            return self._replace_damaged(error)

    def _replace_damaged(self, error: Exception) -> sqlite3.Connection:
        renamed = quarantine(self.path, self._wall)
        self.notes = (
            f"The ledger was damaged ({error!r}); it was renamed to {renamed}, a new one created.",
        )
        return connect(self.path)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with rollback_on_error(self._connection):
            self._connection.execute("BEGIN IMMEDIATE")
            yield
            self._connection.execute("COMMIT")

    def _restore(self, requested: Iterable[RunKey]) -> LedgerState:
        ledger_id, seq, wall, clean, backfill_id, memory = self._connection.execute(
            "SELECT ledger_id, seq, wall, clean, filled, memory FROM meta, intensity"
        ).fetchone()
        balances: dict[AccountKey, Balance] = {}
        present: dict[RunKey, StoredRun] = {}
        parties = list(read_parties(self._connection, "departed = 0 ORDER BY id"))
        of_parties = read_balances(self._connection, {row.id: row.target for row in parties})
        uses = read_factor_uses(self._connection, of_parties)
        for row in parties:
            balances.update(of_parties[row.id])
            if row.run is not None:
                present[row.run.key] = StoredRun(
                    row.run.key, row.run, of_parties[row.id], uses[row.id]
                )
        restored = RestoredState(
            seq=seq,
            counter_states=self._counter_states(),
            lines=balances,
            runs=tuple(stored.info for stored in present.values() if stored.info is not None),
            factor_uses={key: stored.factor_uses for key, stored in present.items()},
            floors=self._floors(),
            wall=wall,
            owners=read_owners(self._connection),
            backfill_id=backfill_id,
            intensity=memory,
        )
        stored_runs = tuple(present.get(key) or self._stored_run(key) for key in requested)
        return LedgerState(
            ledger_id, bool(clean), restored, stored_runs, backfill.read_backfills(self._connection)
        )

    def _stored_run(self, key: RunKey) -> StoredRun:
        for row in read_parties(
            self._connection, "uid = ? AND run_id = ? AND job_id = ?", tuple(key)
        ):
            balances = read_balances(self._connection, {row.id: row.target})
            uses = read_factor_uses(self._connection, balances)
            return StoredRun(key, row.run, balances[row.id], uses[row.id])
        return StoredRun(key)

    def _counter_states(self) -> tuple[CounterState, ...]:
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
    """Return device and inode of a file; None if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
