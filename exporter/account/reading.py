"""Reads ledgers without their daemon, and combines several ledgers of one machine."""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

from exporter.account.accounts import FactorUses
from exporter.account.archive import LedgerArchive
from exporter.account.database import (
    LEDGER_FILE,
    LedgerConnection,
    connect_read_only,
    reading_errors,
    sqlite_errors,
)
from exporter.account.decoding import DEPARTED_ID
from exporter.account.journal import newest_image
from exporter.model.ledger import ZERO_AMOUNT, Amount
from exporter.model.readings import Device, DeviceKind, Method
from exporter.model.record import (
    GroupBy,
    RecordPart,
    RunCursor,
    RunFilter,
    RunRecord,
    RunTotals,
)
from exporter.model.runs import RunKey, with_stored_run
from exporter.model.workload import SplitMethod

ALL = -1
"""LIMIT with which SQLite returns all rows."""


def ledger_in(directory: str) -> str:
    """Return the path of the ledger in a state directory."""
    return os.path.join(directory, LEDGER_FILE)


class LedgerReader(LedgerArchive):
    """Read-only view of the ledger in a state directory, unchanged from opening to `close`.

    A daemon may write to the ledger meanwhile. Every method may raise LedgerError.
    """

    def __init__(self, directory: str, node: str) -> None:
        """Open the ledger; `node` is the name of the machine in records. Raises LedgerError."""
        self.path = ledger_in(directory)
        super().__init__(self.path, node)
        self._journal = os.path.join(directory, "journal")
        with sqlite_errors(self.path):
            self._connection = connect_read_only(self.path)
        try:
            with reading_errors(self.path):
                self._connection.execute("BEGIN")
                self._seq, self._wall, self._is_clean = self._connection.execute(
                    "SELECT seq, wall, clean FROM meta"
                ).fetchone()
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @property
    def committed_until(self) -> float | None:
        """Unix time of the last commit if later energy is missing in the ledger, else None.

        It is missing while a daemon runs, and after a crash until the next daemon has read the
        journal. None after a clean shutdown.
        """
        image = newest_image(self._journal)
        is_newer = (
            image is not None
            and image.origin.ledger_id == self.ledger_id()
            and image.seq > self._seq
        )
        is_unclean = bool(self._seq) and not self._is_clean
        return float(self._wall) if is_newer or is_unclean else None

    @cached_property
    def models(self) -> Mapping[Device, str]:
        """Model names of the devices."""
        with self._reading() as connection:
            found = connection.execute("SELECT kind, name, model FROM device WHERE model <> ''")
            return {Device(DeviceKind(kind), name): model for kind, name, model in found}

    def run_keys(self) -> set[RunKey]:
        """Return the keys of all runs in the ledger."""
        with self._reading() as connection:
            found = connection.execute(
                "SELECT uid, run_id, job_id FROM party WHERE id > ?", (DEPARTED_ID,)
            )
            return {RunKey(*row) for row in found}

    def record(self, key: RunKey) -> RunRecord:
        """Return the record of a run that is in the ledger."""
        found = self._records("uid = ? AND run_id = ? AND job_id = ?", tuple(key))
        with reading_errors(self.path):
            (record,) = found
        return record

    def _records(self, where: str, values: tuple[object, ...]) -> list[RunRecord]:
        return [each._replace(models=self.models) for each in super()._records(where, values)]

    @contextlib.contextmanager
    def _reading(self) -> Iterator[LedgerConnection]:
        with reading_errors(self.path):
            yield self._connection


class Shared(NamedTuple):
    """A run that is in several ledgers."""

    record: RunRecord
    """The combined record."""
    counted: tuple[RunRecord, ...]
    """The records of which `record` is the sum."""
    excluded: tuple[RunRecord, ...]
    """Records that overlap in time: two daemons may have measured the same energy."""


class Ledgers:
    """Several ledgers of one machine, combined. Methods may raise LedgerError.

    A run that was continued under another daemon is in two ledgers and becomes one run with the
    sum of both. If the records of a run overlap in time, the one with the most energy is used.
    """

    def __init__(self, ledgers: Sequence[LedgerReader]) -> None:
        self.ledgers = ledgers

    @cached_property
    def _shared(self) -> Mapping[RunKey, Shared]:
        ledgers_of: dict[RunKey, list[LedgerReader]] = {}
        if len(self.ledgers) > 1:
            for ledger in self.ledgers:
                for key in ledger.run_keys():
                    ledgers_of.setdefault(key, []).append(ledger)
        return {
            key: shared([ledger.record(key) for ledger in ledgers])
            for key, ledgers in ledgers_of.items()
            if len(ledgers) > 1
        }

    def shared(self, wanted: RunFilter, since: float = 0.0) -> list[Shared]:
        """Return the runs in several ledgers that match a filter and began at `since` or later."""
        return [
            each
            for each in self._shared.values()
            if wanted.has(each.record.run) and each.record.run.started >= since
        ]

    def runs(
        self, wanted: RunFilter, since: float = 0.0, limit: int | None = None
    ) -> list[RunRecord]:
        """Return at most `limit` runs that match a filter and began at `since`, newest first."""
        of_each = ALL if limit is None else limit + len(self._shared)
        records = [
            record
            for ledger in self.ledgers
            for record in ledger.runs(of_each, wanted, since=since)
            if record.run.key not in self._shared
        ]
        records += [each.record for each in self.shared(wanted, since)]
        return sorted(records, key=lambda record: RunCursor.of(record.run).order)[:limit]

    def sums(self, by: GroupBy, since: float, wanted: RunFilter) -> list[RunTotals]:
        """Return the sums of each ledger, without the runs that are in several."""
        return [
            each for ledger in self.ledgers for each in ledger.sums(by, since, wanted, self._shared)
        ]

    @property
    def models(self) -> Mapping[Device, str]:
        """Model names of the devices."""
        return {device: m for ledger in self.ledgers for device, m in ledger.models.items()}


def shared(records: Sequence[RunRecord]) -> Shared:
    """Combine the records of one run in several ledgers. Pure."""
    counted: list[RunRecord] = []
    excluded: list[RunRecord] = []
    for record in sorted(records, key=lambda each: each.energy_uj, reverse=True):
        overlaps = any(_overlap(record, other) for other in counted)
        (excluded if overlaps else counted).append(record)
    counted.sort(key=_until)
    return Shared(_joined(counted), tuple(counted), tuple(excluded))


def _until(record: RunRecord) -> float:
    return record.at if record.run.ended is None else record.run.ended


def _overlap(one: RunRecord, other: RunRecord) -> bool:
    begin = max(one.run.started, other.run.started)
    return begin < min(_until(one), _until(other)) or one.run.started == other.run.started


def _joined(records: Sequence[RunRecord]) -> RunRecord:
    """Combine records that follow each other, as those of a run that was reopened."""
    *before, last = records
    run = last.run
    for each in reversed(before):
        run = with_stored_run(run, each.run)
    amounts: dict[tuple[Device, Method, SplitMethod], Amount] = {}
    models: dict[Device, str] = {}
    for each in records:
        models.update(each.models)
        for device, method, split, amount in each.parts:
            place = device, method, split
            amounts[place] = amounts.get(place, ZERO_AMOUNT).plus(amount)
    return last._replace(
        run=run,
        parts=tuple(RecordPart(*place, amount) for place, amount in amounts.items()),
        factors=FactorUses(use for each in records for use in each.factors).totals(),
        models=models,
    )
