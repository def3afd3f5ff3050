"""Writes batches and imported runs as rows of the ledger, inside the caller's transaction."""

import json
import sqlite3
from collections.abc import Iterable, Mapping

from exporter.account.decoding import FIXED_PARTY_IDS, METHOD_IDS, NO_FACTOR_ID, SPLIT_IDS
from exporter.account.run_merges import merge_rows
from exporter.account.run_rows import FIND_RUN, write_run
from exporter.model.commands import ImportResult
from exporter.model.intensity import Factor
from exporter.model.ledger import AccountKey, Amount, Balance, Batch, UsageKey
from exporter.model.readings import CounterState, Device, DeviceInfo
from exporter.model.record import RunRecord
from exporter.model.runs import DEPARTED_RUNS, Owner, RunInfo, RunKey
from exporter.model.workload import AttributionTarget

UPSERT_DEVICE = """
INSERT INTO device (kind, name, model, vendor, source) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (kind, name) DO UPDATE SET
    model = excluded.model, vendor = excluded.vendor, source = excluded.source
"""
ADD_USAGE = """
INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (minute, party_id, device_id, factor_id, method, split) DO UPDATE SET
    energy_uj = energy_uj + excluded.energy_uj, held_uj = held_uj + excluded.held_uj,
    carbon_ng = carbon_ng + excluded.carbon_ng
"""
ADD_FACTOR_USE = """
INSERT INTO factor_use VALUES (?, ?, ?, ?)
ON CONFLICT (party_id, factor_id) DO UPDATE SET
    energy_uj = energy_uj + excluded.energy_uj, carbon_ng = carbon_ng + excluded.carbon_ng
"""
FIND_FACTOR = """
SELECT id FROM factor WHERE (zone, source, grams_per_kwh, pue, valid_from, valid_until, as_of,
    signal, basis, accounting, estimated, step) = (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
ADD_FACTOR = """
INSERT INTO factor (zone, source, grams_per_kwh, pue, valid_from, valid_until, as_of,
    signal, basis, accounting, estimated, step) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


class BatchWriter:
    """Writes one batch.

    Row ids are cached for one batch only: ids from a transaction that was rolled back must not be
    used by the next one.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._devices: dict[Device, int] = {}
        self._parties: dict[AttributionTarget, int] = dict(FIXED_PARTY_IDS)
        self._factors: dict[Factor | None, int] = {None: NO_FACTOR_ID}

    def write(self, batch: Batch) -> None:
        """Write the whole batch. Raises sqlite3.Error, OverflowError or UnicodeError."""
        for old, new in batch.merged:
            merge_rows(self._connection, old, new)
        self._put_devices(batch.infos, batch.floors)
        self._put_positions(batch.counter_states)
        for run in batch.runs:
            self.put_run(run)
        self.put_totals(batch.lines, batch.wall)
        self._add_usage(batch.usage, batch.wall)
        self._put_owners(batch.owners)
        self._connection.executemany(
            "UPDATE party SET departed = 1 WHERE uid = ? AND run_id = ? AND job_id = ?",
            batch.departed,
        )
        self._connection.execute(
            "UPDATE meta SET seq = ?, wall = ?, clean = ?", (batch.seq, batch.wall, batch.clean)
        )
        if batch.intensity:
            self._connection.execute("UPDATE intensity SET memory = ?", (batch.intensity,))

    def factor_id(self, factor: Factor | None) -> int:
        """Return the row id of a factor; insert the row if there is none."""
        row_id = self._factors.get(factor)
        if row_id is None:
            assert factor is not None
            row_id = self._factors[factor] = self._id(FIND_FACTOR, ADD_FACTOR, factor)
        return row_id

    def _put_devices(self, infos: Iterable[DeviceInfo], floors: Mapping[Device, float]) -> None:
        self._connection.executemany(
            UPSERT_DEVICE, [(*info.device, info.model, info.vendor, info.source) for info in infos]
        )
        self._connection.executemany(
            "UPDATE device SET floor_watts = ? WHERE id = ?",
            [(watts, self._device(device)) for device, watts in floors.items()],
        )

    def _put_positions(self, counter_states: Iterable[CounterState]) -> None:
        self._connection.executemany(
            "INSERT OR REPLACE INTO position VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    self._device(position.device),
                    position.raw_uj,
                    position.at_ns,
                    position.epoch,
                    position.power_watts,
                    position.provisional_uj,
                    position.provisional_at_ns,
                    position.debt_uj,
                    position.suspect_uj,
                    position.suspect_at_ns,
                    position.awake_ns,
                    position.uncounted,
                )
                for position in counter_states
            ],
        )

    def put_run(self, run: RunInfo) -> int:
        """Insert or update a run; return its row id."""
        self._parties[run.key] = party_id = write_run(self._connection, run)
        return party_id

    def _put_owners(self, owners: Mapping[Owner, tuple[int, int]]) -> None:
        self._connection.executemany(
            "INSERT OR REPLACE INTO owner VALUES (?, ?, ?, ?, ?)",
            [
                (owner.user, owner.namespace, json.dumps(owner.labels), *sums)
                for owner, sums in owners.items()
            ],
        )

    def put_totals(self, lines: Mapping[AccountKey, Balance], wall: float) -> None:
        """Write totals; a run without a row gets one that began at `wall` (Unix seconds)."""
        self._connection.executemany(
            "INSERT OR REPLACE INTO total VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    self._party(line.target, wall),
                    self._device(line.device),
                    METHOD_IDS[line.method],
                    SPLIT_IDS[line.split],
                    *balance.total,
                    *balance.base,
                )
                for line, balance in lines.items()
            ],
        )

    def _add_usage(self, usage: Mapping[UsageKey, Amount], wall: float) -> None:
        rows = [
            (
                key.minute,
                self._party(key.target, wall),
                self._device(key.device),
                self.factor_id(key.factor),
                METHOD_IDS[key.method],
                SPLIT_IDS[key.split],
                *amount,
            )
            for key, amount in usage.items()
        ]
        self._connection.executemany(ADD_USAGE, rows)
        self._connection.executemany(
            ADD_FACTOR_USE,
            [
                (self._party(key.target, wall), self.factor_id(key.factor), energy_uj, carbon_ng)
                for key, (energy_uj, _, carbon_ng) in usage.items()
                if isinstance(key.target, RunKey) and key.target != DEPARTED_RUNS
            ],
        )

    def _device(self, device: Device) -> int:
        if device not in self._devices:
            self._devices[device] = self._id(
                "SELECT id FROM device WHERE kind = ? AND name = ?",
                "INSERT INTO device (kind, name) VALUES (?, ?)",
                device,
            )
        return self._devices[device]

    def _party(self, target: AttributionTarget, wall: float) -> int:
        """Return the row id; a run without a row gets one that began at `wall`."""
        row_id = self._parties.get(target)
        if row_id is None:
            row_id = self._parties[target] = self._id(
                FIND_RUN,
                "INSERT INTO party (uid, run_id, job_id, started) VALUES (?, ?, ?, ?)",
                tuple(target),
                (wall,),
            )
        return row_id

    def _id(
        self,
        find: str,
        add: str,
        identity: tuple[object, ...],
        more: tuple[object, ...] = (),
    ) -> int:
        row = self._connection.execute(find, identity).fetchone()
        if row is not None:
            return int(row[0])
        return self._connection.execute(add, (*identity, *more)).lastrowid or 0


FIND_IMPORTED = "SELECT id, user, ended FROM party WHERE uid = ? AND run_id = ? AND job_id = ?"


def import_runs(connection: sqlite3.Connection, records: Iterable[RunRecord]) -> ImportResult:
    """Import ended runs, inside the caller's transaction.

    A run that the ledger has is kept unless the same user imports one that ended later.
    """
    writer = BatchWriter(connection)
    new = changed = known = 0
    for record in records:
        row = connection.execute(FIND_IMPORTED, record.run.key).fetchone()
        if row is None:
            new += 1
        elif row[1] == record.run.user and (row[2] or 0.0) < (record.run.ended or 0.0):
            changed += 1
            connection.execute("DELETE FROM total WHERE party_id = ?", row[:1])
            connection.execute("DELETE FROM factor_use WHERE party_id = ?", row[:1])
        else:
            known += 1
            continue
        _import_run(connection, writer, record)
    return ImportResult(new, changed, known)


def _import_run(connection: sqlite3.Connection, writer: BatchWriter, record: RunRecord) -> None:
    key: RunKey = record.run.key
    party_id = writer.put_run(record.run)
    writer.put_totals(
        {
            # Base equals total, so that counters do not show energy used before they began.
            AccountKey(part.device, key, part.method, part.split): Balance(part.amount, part.amount)
            for part in record.parts
        },
        record.run.started,
    )
    connection.executemany(
        ADD_FACTOR_USE,
        [
            (party_id, writer.factor_id(use.factor), use.energy_uj, use.carbon_ng)
            for use in record.factors
        ],
    )
    connection.execute("UPDATE party SET departed = 1 WHERE id = ?", (party_id,))
