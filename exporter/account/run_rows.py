"""Runs as rows of the table `party` (attribution targets); its columns are the fields of RunInfo.

A new field of RunInfo with a plain value (text, number or None) needs a column of the same name,
which a migration adds.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from exporter.account.decoding import FIXED_PARTIES, decode_owner, rows_of
from exporter.model.runs import RunInfo, RunKey, UnitCount
from exporter.model.workload import AttributionTarget


class FieldColumns(NamedTuple):
    """Columns of one field, with the functions that convert its value to theirs and back."""

    names: tuple[str, ...]
    encode: Callable[[Any], tuple[Any, ...]]
    decode: Callable[..., Any]


class FieldTable(NamedTuple):
    """Table of a field with one row for each item; its first column is the id of the party."""

    table: str
    columns: tuple[str, ...]
    """Columns besides the id."""
    decode: Callable[..., Any]


NOT_STORED = ("progress", "is_provisional")
"""`progress` is in the journal only; `is_provisional` follows from other fields."""
FIELD_TABLES = {
    "labels": FieldTable("label", ("key", "value"), lambda *row: row),
    "units": FieldTable("unit", ("name", "amount", "base"), UnitCount),
    "logged": FieldTable("result", ("key", "value"), lambda *row: row),
}
SPECIAL = {
    "key": FieldColumns(RunKey._fields, tuple, RunKey),
    "enclosing": FieldColumns(
        tuple(f"enclosing_{name}" for name in RunKey._fields),
        lambda key: key or (None,) * len(RunKey._fields),
        lambda uid, *ids: None if uid is None else RunKey(uid, *ids),
    ),
    "owner": FieldColumns(
        ("owner",),
        lambda owner: ("" if owner is None else json.dumps(owner),),
        lambda text: decode_owner(json.loads(text)) if text else None,
    ),
}
COLUMNS = {
    field: SPECIAL.get(field) or FieldColumns((field,), lambda value: (value,), lambda value: value)
    for field in RunInfo._fields
    if field not in NOT_STORED and field not in FIELD_TABLES
}
COLUMN_NAMES = tuple(name for columns in COLUMNS.values() for name in columns.names)
COMBINED_AT_UPDATE = {"started": "min(started, excluded.started)"}
UPSERT_RUN = (
    f"INSERT INTO party ({', '.join(COLUMN_NAMES)}) VALUES ({', '.join('?' * len(COLUMN_NAMES))}) "  # noqa: S608  our own text
    f"ON CONFLICT ({', '.join(RunKey._fields)}) DO UPDATE SET departed = 0, "
    + ", ".join(
        f"{name} = {COMBINED_AT_UPDATE.get(name, f'excluded.{name}')}"
        for name in COLUMN_NAMES
        if name not in RunKey._fields
    )
)
FIND_RUN = "SELECT id FROM party WHERE uid = ? AND run_id = ? AND job_id = ?"


class PartyRow(NamedTuple):
    """A row of the table `party`: its id, its attribution target, and the run if it is one."""

    id: int
    target: AttributionTarget
    run: RunInfo | None


def read_parties(
    connection: sqlite3.Connection, where: str, values: tuple[object, ...] = ()
) -> Iterator[PartyRow]:
    """Yield the parties that satisfy the SQL condition `where`, in its order."""
    sql = f"SELECT id, {', '.join(COLUMN_NAMES)} FROM party WHERE {where}"  # noqa: S608  our own text
    parties = connection.execute(sql, values).fetchall()
    ids = [party_id for party_id, *_ in parties]
    of_fields = {field: _read_rows(connection, rows, ids) for field, rows in FIELD_TABLES.items()}
    for party_id, *row in parties:
        if party_id in FIXED_PARTIES:
            yield PartyRow(party_id, FIXED_PARTIES[party_id], None)
            continue
        cells = iter(row)
        fields = {
            field: columns.decode(*(next(cells) for _ in columns.names))
            for field, columns in COLUMNS.items()
        }
        for field, of_parties in of_fields.items():
            fields[field] = tuple(of_parties.get(party_id, ()))
        run = RunInfo(**fields)
        # the owner of a run is also unsettled until its user is known
        is_provisional = run.owner is None and run.ended is None and run.is_user_known
        run = run._replace(is_provisional=is_provisional)
        yield PartyRow(party_id, run.key, run)


def write_run(connection: sqlite3.Connection, run: RunInfo) -> int:
    """Insert or update a run with the rows of its labels, units and results; return its id.

    A departed run is present again.
    """
    values: list[object] = []
    for field, columns in COLUMNS.items():
        values += columns.encode(getattr(run, field))
    connection.execute(UPSERT_RUN, values)
    (party_id,) = connection.execute(FIND_RUN, run.key).fetchone()
    for field, (table, names, _) in FIELD_TABLES.items():
        # Rewrite all rows even if only one changed: a run has few.
        connection.execute(f"DELETE FROM {table} WHERE party_id = ?", (party_id,))  # noqa: S608  our own text
        connection.executemany(
            f"INSERT INTO {table} VALUES (?{', ?' * len(names)})",  # noqa: S608  our own text
            [(party_id, *row) for row in getattr(run, field)],
        )
    return int(party_id)


def _read_rows(
    connection: sqlite3.Connection, rows: FieldTable, ids: Sequence[int]
) -> dict[int, list[Any]]:
    """Return the items of parties that have some, by the id of the party."""
    sql = (
        f"SELECT party_id, {', '.join(rows.columns)} FROM {rows.table} "  # noqa: S608  our own text
        f"WHERE party_id IN ({{ids}}) ORDER BY party_id, {rows.columns[0]}"
    )
    found: dict[int, list[Any]] = {}
    for party_id, *row in rows_of(connection, sql, ids):
        found.setdefault(party_id, []).append(rows.decode(*row))
    return found
