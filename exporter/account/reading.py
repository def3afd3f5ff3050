"""Ledgers without their daemon: read-only, and several of them as one history of runs."""

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
"""As a limit: SQLite then returns every row."""


def ledger_in(directory: str) -> str:
    """The path of the ledger of a state directory."""
    return os.path.join(directory, LEDGER_FILE)


class LedgerReader(LedgerArchive):
    """The ledger of a state directory, read-only and in one state from the first read to `close`.

    A daemon may write to it meanwhile. Every method may raise LedgerError.
    """

    def __init__(self, directory: str, node: str) -> None:
        """`node` is the name of the machine in the records."""
        self.path = ledger_in(directory)
        super().__init__(self.path, node)
        self._journal = os.path.join(directory, "journal")
        with sqlite_errors(self.path):
            self._connection = connect_read_only(self.path)
        try:
            with sqlite_errors(self.path):
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
        """Wall clock of the last commit, where energy was used after it that the ledger lacks.

        So it is while a daemon runs, and after one that was killed until the next one has read its
        journal. None after an orderly stop.
        """
        image = newest_image(self._journal)
        is_newer = (
            image is not None
            and image.origin.ledger_id == self.ledger_id()
            and image.seq > self._seq
        )
        is_killed = bool(self._seq) and not self._is_clean
        return float(self._wall) if is_newer or is_killed else None

    @cached_property
    def models(self) -> Mapping[Device, str]:
        """What the devices are."""
        with self._reading() as connection:
            found = connection.execute("SELECT kind, name, model FROM device WHERE model <> ''")
            return {Device(DeviceKind(kind), name): model for kind, name, model in found}

    def run_keys(self) -> set[RunKey]:
        """Every run that it has."""
        with self._reading() as connection:
            found = connection.execute(
                "SELECT uid, run_id, job_id FROM party WHERE id > ?", (DEPARTED_ID,)
            )
            return {RunKey(*row) for row in found}

    def record(self, key: RunKey) -> RunRecord:
        """The record of a run that it has."""
        (found,) = self._records("uid = ? AND run_id = ? AND job_id = ?", tuple(key))
        return found

    def _records(self, where: str, values: tuple[object, ...]) -> list[RunRecord]:
        return [each._replace(models=self.models) for each in super()._records(where, values)]

    @contextlib.contextmanager
    def _reading(self) -> Iterator[LedgerConnection]:
        with sqlite_errors(self.path):
            yield self._connection


class Shared(NamedTuple):
    """One run that several ledgers have."""

    record: RunRecord
    """All of it that counts."""
    counted: tuple[RunRecord, ...]
    """The records that `record` is the sum of."""
    excluded: tuple[RunRecord, ...]
    """Records of the same time: two daemons may have measured the same energy."""


class Ledgers:
    """Several ledgers of one machine as one history. Methods may raise LedgerError.

    A run that was continued under another daemon is in two ledgers, and is one run with the sum of
    both. Where the records of a run overlap in time, the one with the most energy counts.
    """

    def __init__(self, ledgers: Sequence[LedgerReader]) -> None:
        self.ledgers = ledgers

    @cached_property
    def _shared(self) -> Mapping[RunKey, Shared]:
        places: dict[RunKey, list[LedgerReader]] = {}
        if len(self.ledgers) > 1:
            for ledger in self.ledgers:
                for key in ledger.run_keys():
                    places.setdefault(key, []).append(ledger)
        return {
            key: shared([ledger.record(key) for ledger in having])
            for key, having in places.items()
            if len(having) > 1
        }

    def shared(self, wanted: RunFilter, since: float = 0.0) -> list[Shared]:
        """The runs that several ledgers have, of those that are wanted and began at `since`."""
        return [
            each
            for each in self._shared.values()
            if wanted.has(each.record.run) and each.record.run.started >= since
        ]

    def runs(self, wanted: RunFilter) -> list[RunRecord]:
        """The runs that are wanted, newest first."""
        found = [
            record
            for ledger in self.ledgers
            for record in ledger.runs(ALL, wanted)
            if record.run.key not in self._shared
        ]
        found += [each.record for each in self.shared(wanted)]
        return sorted(found, key=lambda record: RunCursor.of(record.run).order)

    def sums(self, by: GroupBy, since: float, wanted: RunFilter) -> list[RunTotals]:
        """The sums of each ledger, without the runs that several have."""
        return [
            each for ledger in self.ledgers for each in ledger.sums(by, since, wanted, self._shared)
        ]

    @property
    def models(self) -> Mapping[Device, str]:
        """What the devices are."""
        return {device: m for ledger in self.ledgers for device, m in ledger.models.items()}


def shared(records: Sequence[RunRecord]) -> Shared:
    """The records of one run in several ledgers as one. Pure."""
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
    """One record of several that follow each other, as of a run that came back."""
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
