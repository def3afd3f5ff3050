"""Runs that another tool measured: rows of runs alone, in no sum of a device of this machine."""

import sqlite3
from collections.abc import Iterable

from exporter.account.postings import ADD_FACTOR_USE, Postings
from exporter.model.books import Balance, Line
from exporter.model.commands import Taken
from exporter.model.record import RunRecord
from exporter.model.runs import RunKey

FIND = "SELECT id, user, ended FROM party WHERE uid = ? AND run_id = ? AND job_id = ?"


def take_in(connection: sqlite3.Connection, records: Iterable[RunRecord]) -> Taken:
    """Add runs that have ended; inside the caller's transaction.

    One that is known is left as it is, unless the same user brings a longer one.
    """
    postings = Postings(connection)
    new = changed = known = 0
    for record in records:
        row = connection.execute(FIND, record.run.key).fetchone()
        if row is None:
            new += 1
        elif row[1] == record.run.user and (row[2] or 0.0) < (record.run.ended or 0.0):
            changed += 1
            connection.execute("DELETE FROM total WHERE party_id = ?", row[:1])
            connection.execute("DELETE FROM factor_use WHERE party_id = ?", row[:1])
        else:
            known += 1
            continue
        _put(connection, postings, record)
    return Taken(new, changed, known)


def _put(connection: sqlite3.Connection, postings: Postings, record: RunRecord) -> None:
    key: RunKey = record.run.key
    party_id = postings.put_run(record.run)
    postings.put_totals(
        {
            # Counters show nothing of it: it was not used while they counted.
            Line(part.device, key, part.method, part.split): Balance(part.amount, part.amount)
            for part in record.parts
        },
        record.run.started,
    )
    connection.executemany(
        ADD_FACTOR_USE,
        [
            (party_id, postings.factor_id(use.factor), use.energy_uj, use.carbon_ng)
            for use in record.factors
        ],
    )
    connection.execute("UPDATE party SET departed = 1 WHERE id = ?", (party_id,))
