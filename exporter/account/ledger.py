"""The ledger: one SQLite file that keeps totals, usage over time and runs for good."""

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from exporter.account import fills, plain, taken
from exporter.account.opening import (
    NAME,
    connect,
    explained,
    is_damage,
    lock,
    rolled_back,
    set_aside,
)
from exporter.account.postings import Postings
from exporter.account.rows import factor_uses, lines, owners, parties
from exporter.errors import LedgerError
from exporter.model.books import Balance, Batch, Fill, Late, Line, Past, Restored
from exporter.model.commands import Taken
from exporter.model.intensity import Factor
from exporter.model.readings import Device, Position
from exporter.model.record import RunRecord
from exporter.model.runs import RunKey
from exporter.units import SECONDS_PER_DAY, SECONDS_PER_HOUR, SECONDS_PER_MINUTE

FILL_DAYS = 7
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


class Known(NamedTuple):
    """What the ledger holds at start."""

    ledger_id: str
    """Made with the file; tells its journal from another's."""
    clean: bool
    """The last stop was orderly."""
    restored: Restored
    """The runs that have not left the page, with the fixed parties."""
    pasts: tuple[Past, ...]
    """Of the runs that were asked for."""
    lates: tuple[Late, ...] = ()
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
        self.path = os.path.join(directory, NAME)
        self.notes: tuple[str, ...] = ()
        """What a person should know about how it was found."""
        self._wall = wall
        self._lock = lock(directory)
        try:
            with explained(self.path):
                self._connection = self._connect()
            self._place = _place(self.path)
        except BaseException:
            os.close(self._lock)
            raise

    def restore(self, asked: Iterable[RunKey] = ()) -> Known:
        """What is known of all that is on the page, and of the runs `asked` for."""
        with explained(self.path):
            try:
                return self._restore(asked)
            except Exception as error:
                if not is_damage(error):
                    raise
                self._connection.close()
                self._connection = self._begin_anew(error)
                self._place = _place(self.path)
                return self._restore(asked)

    def start(self) -> None:
        """Take the mark of an orderly stop away, so that it is not believed after a crash."""
        with explained(self.path), self._transaction():
            self._connection.execute("UPDATE meta SET clean = 0")

    def commit(self, batch: Batch) -> None:
        """Make a batch durable, all of it or nothing."""
        self._check_in_place()
        with explained(self.path), self._transaction():
            self._connection.execute("DELETE FROM fill WHERE id <= ?", (batch.journaled,))
            fills.take_out(self._connection, batch.filled)
            Postings(self._connection).write(batch)
            fills.put_in(self._connection, batch.filled)

    def unpriced(self, wall: float) -> tuple[int, ...]:
        """The minutes of late with energy that has no grams yet, earliest first."""
        since = int((wall - FILL_DAYS * SECONDS_PER_DAY) // SECONDS_PER_MINUTE)
        with explained(self.path):
            return fills.unpriced(self._connection, since)

    def fill(self, factors: Mapping[int, Factor]) -> Fill | None:
        """Give the energy of some minutes that has no grams those of a factor.

        All of it or nothing. The answer is what the books lack now; None if there was nothing.
        """
        self._check_in_place()
        with explained(self.path), self._transaction():
            return fills.fill(self._connection, factors)

    def take_in(self, records: Iterable[RunRecord]) -> Taken:
        """Add runs that another tool measured, all of them or nothing."""
        self._check_in_place()
        with explained(self.path), self._transaction():
            return taken.take_in(self._connection, records)

    def _check_in_place(self) -> None:
        """SQLite goes on writing into a file that nobody can find any more. Raises LedgerError."""
        if _place(self.path) != self._place:
            raise LedgerError(
                f"ledger {self.path} was removed or replaced while in use; nothing is lost yet: "
                "restart the exporter, it goes on from its journal"
            )

    def past(self, key: RunKey) -> Past:
        """What is known of a run."""
        with explained(self.path):
            return self._past(key)

    def prune(self, wall: float, keep_minutes_days: float, keep_hours_days: float) -> None:
        """Fold old minutes into hours and forget old hours; totals stay."""
        minutes_before = int((wall - keep_minutes_days * SECONDS_PER_DAY) // SECONDS_PER_HOUR) * 60
        hours_before = int((wall - keep_hours_days * SECONDS_PER_DAY) // SECONDS_PER_HOUR)
        with explained(self.path), self._transaction():
            self._connection.execute(FOLD_MINUTES, (minutes_before,))
            self._connection.execute("DELETE FROM usage WHERE minute < ?", (minutes_before,))
            self._connection.execute("DELETE FROM usage_hour WHERE hour < ?", (hours_before,))

    def quick_check(self) -> str:
        """The first damage found in the file, or "". Reads all of it."""
        with explained(self.path):
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
            if not is_damage(error):
                raise
            return self._begin_anew(error)

    def _begin_anew(self, error: Exception) -> sqlite3.Connection:
        aside = set_aside(self.path, self._wall)
        self.notes = (
            f"The ledger was damaged ({error!r}); it was set aside as {aside} and a new one begun.",
        )
        return connect(self.path)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with rolled_back(self._connection):
            self._connection.execute("BEGIN IMMEDIATE")
            yield
            self._connection.execute("COMMIT")

    def _restore(self, asked: Iterable[RunKey]) -> Known:
        ledger_id, seq, wall, clean, filled, memory = self._connection.execute(
            "SELECT ledger_id, seq, wall, clean, filled, memory FROM meta, intensity"
        ).fetchone()
        balances: dict[Line, Balance] = {}
        here: dict[RunKey, Past] = {}
        for row in parties(self._connection, "departed = 0 ORDER BY id"):
            found = lines(self._connection, row)
            balances.update(found)
            if row.run is not None:
                uses = factor_uses(self._connection, row)
                here[row.run.key] = Past(row.run.key, row.run, found, uses)
        restored = Restored(
            seq=seq,
            positions=self._positions(),
            lines=balances,
            runs=tuple(past.info for past in here.values() if past.info is not None),
            factor_uses={key: past.factor_uses for key, past in here.items()},
            floors=self._floors(),
            wall=wall,
            owners=owners(self._connection),
            filled=filled,
            intensity=memory,
        )
        pasts = tuple(here.get(key) or self._past(key) for key in asked)
        return Known(ledger_id, bool(clean), restored, pasts, fills.lates(self._connection))

    def _past(self, key: RunKey) -> Past:
        for row in parties(self._connection, "uid = ? AND run_id = ? AND job_id = ?", tuple(key)):
            uses = factor_uses(self._connection, row)
            return Past(key, row.run, lines(self._connection, row), uses)
        return Past(key)

    def _positions(self) -> tuple[Position, ...]:
        found = self._connection.execute(
            "SELECT kind, name, provisional_at_ns, awake_ns, uncounted, raw_uj, at_ns, epoch, "
            "power_watts, provisional_uj, debt_uj, suspect_uj, suspect_at_ns "
            "FROM position JOIN device ON device.id = device_id ORDER BY device_id"
        )
        return tuple(
            Position(plain.device((kind, name)), *values)._replace(
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
        return {plain.device((kind, name)): watts for kind, name, watts in found}


def _place(path: str) -> tuple[int, int] | None:
    """Device and inode of a file; None if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
