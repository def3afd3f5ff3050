"""Grams that came after their energy, as rows of the ledger; all inside the caller's transaction.

`total` and `owner` always have all fills. A batch overwrites them with what the books know, so the
fills that the books lack are taken out before it is written, and put in again after it.
"""

import json
import sqlite3
from collections.abc import Mapping

from exporter.account import plain
from exporter.account.accounts import FactorUses
from exporter.account.postings import ADD_FACTOR_USE, ADD_USAGE, Postings
from exporter.account.rows import DEPARTED_ID, FIXED, METHODS, SPLITS, key_of
from exporter.model.books import Fill, Late, Line
from exporter.model.intensity import Factor
from exporter.model.runs import OTHER_OWNER, RunKey
from exporter.units import carbon_ng

UNPRICED = """
WITH RECURSIVE found (minute) AS (
    SELECT min(minute) FROM usage WHERE factor_id = 0 AND minute >= ?
    UNION ALL
    SELECT (SELECT min(minute) FROM usage WHERE factor_id = 0 AND minute > found.minute)
    FROM found WHERE minute IS NOT NULL
)
SELECT minute FROM found WHERE minute IS NOT NULL
"""
"""Goes from minute to minute by the index, however many rows each of them has."""
ADD_LATE = """
INSERT INTO fill VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (id, party_id, device_id, method, split) DO UPDATE SET
    carbon_ng = carbon_ng + excluded.carbon_ng
"""
FORGET_EMPTY_USE = """
DELETE FROM factor_use WHERE party_id = ? AND factor_id = 0 AND energy_uj = 0 AND carbon_ng = 0
"""
BY_LINE = """
SELECT sum(carbon_ng), party_id, device_id, method, split FROM fill WHERE id > ? GROUP BY 2, 3, 4, 5
"""
BY_LINE_OF_DEPARTED = f"""
SELECT sum(carbon_ng), {DEPARTED_ID}, device_id, method, split
FROM fill JOIN party ON party.id = party_id WHERE fill.id > ? AND departed = 1 GROUP BY 3, 4, 5
"""  # noqa: S608  our own number
ADD_TO_TOTAL = """
UPDATE total SET carbon_ng = carbon_ng + ?
WHERE party_id = ? AND device_id = ? AND method = ? AND split = ?
"""
UNPRICED_ROWS = """
SELECT party_id, device_id, method, split, energy_uj, held_uj, carbon_ng
FROM usage WHERE minute = ? AND factor_id = 0
"""
BY_OWNER = """
SELECT owner, sum(carbon_ng) FROM fill JOIN party ON party.id = party_id
WHERE fill.id > ? AND departed = 1 AND owner != '' GROUP BY 1
"""
ADD_TO_OWNER = """
UPDATE owner SET carbon_ng = carbon_ng + ? WHERE user = ? AND namespace = ? AND labels = ?
"""
LATES = """
SELECT fill.id, party_id, uid, run_id, job_id, owner, kind, device.name, method, split, carbon_ng
FROM fill JOIN party ON party.id = party_id JOIN device ON device.id = device_id
WHERE fill.id > ? ORDER BY 1, 2, 7, 8, 9, 10
"""


def unpriced(connection: sqlite3.Connection, since_minute: int) -> tuple[int, ...]:
    """The minutes with energy that has no grams yet, earliest first."""
    return tuple(minute for (minute,) in connection.execute(UNPRICED, (since_minute,)))


def lates(connection: sqlite3.Connection, after: int = 0) -> tuple[Late, ...]:
    """The rows of the fills after one of them, in the order of fills."""
    return tuple(
        Late(
            fill,
            Line(
                plain.device((kind, name)),
                FIXED.get(party_id) or RunKey(*key),
                METHODS[method],
                SPLITS[split],
            ),
            grown_ng,
            plain.owner(json.loads(owner)) if owner else None,
        )
        for fill, party_id, *key, owner, kind, name, method, split, grown_ng in connection.execute(
            LATES, (after,)
        ).fetchall()
    )


def take_out(connection: sqlite3.Connection, after: int) -> None:
    """Have totals and owners without the fills after one of them."""
    _add(connection, -1, after)


def put_in(connection: sqlite3.Connection, after: int) -> None:
    """Have the fills after one of them in totals and owners, where their runs are now."""
    _add(connection, 1, after)


def fill(connection: sqlite3.Connection, factors: Mapping[int, Factor]) -> Fill | None:
    """Convert what has no grams in these minutes; None if there is nothing."""
    (last,) = connection.execute("SELECT filled FROM meta").fetchone()
    postings = Postings(connection)
    uses: dict[int, FactorUses] = {}
    for minute, factor in factors.items():
        _fill_minute(connection, last + 1, minute, factor, postings.factor_id(factor), uses)
    found = lates(connection, last)
    if not found:
        return None
    for party_id, changes in uses.items():
        rows = [(party_id, postings.factor_id(use.factor), *use[1:]) for use in changes.shown()]
        connection.executemany(ADD_FACTOR_USE, rows)
        connection.execute(FORGET_EMPTY_USE, (party_id,))
    put_in(connection, last)
    connection.execute("UPDATE meta SET filled = ?", (last + 1,))
    keys = {party_id: key_of(connection, party_id) for party_id in uses}
    return Fill(last + 1, found, {keys[party_id]: uses[party_id].shown() for party_id in uses})


def _fill_minute(
    connection: sqlite3.Connection,
    number: int,
    minute: int,
    factor: Factor,
    factor_id: int,
    uses: dict[int, FactorUses],
) -> None:
    """Move the minute's usage to the factor, and note the grams; `uses` gather what changes.

    Grams that such a row has already are of a factor that a crash made forget; they count towards
    those that it gets.
    """
    grown, usage = [], []
    for party_id, *where, energy_uj, held_uj, known_ng in connection.execute(
        UNPRICED_ROWS, (minute,)
    ):
        priced_ng = max(known_ng, carbon_ng(energy_uj, factor.grams_per_kwh, factor.pue))
        device_id, *how = where
        grown.append((number, party_id, *where, priced_ng - known_ng))
        usage.append((minute, party_id, device_id, factor_id, *how, energy_uj, held_uj, priced_ng))
        if party_id not in FIXED:
            changes = uses.setdefault(party_id, FactorUses())
            changes.add(None, -energy_uj, -known_ng)
            changes.add(factor, energy_uj, priced_ng)
    connection.execute("DELETE FROM usage WHERE minute = ? AND factor_id = 0", (minute,))
    connection.executemany(ADD_LATE, grown)
    connection.executemany(ADD_USAGE, usage)


def _add(connection: sqlite3.Connection, sign: int, after: int) -> None:
    for lines in (BY_LINE, BY_LINE_OF_DEPARTED):
        found = connection.execute(lines, (after,)).fetchall()
        connection.executemany(ADD_TO_TOTAL, [(sign * late_ng, *line) for late_ng, *line in found])
    for owner, late_ng in connection.execute(BY_OWNER, (after,)).fetchall():
        user, namespace, labels = json.loads(owner)
        change = sign * late_ng
        mine = (change, user, namespace, json.dumps(labels))
        if not connection.execute(ADD_TO_OWNER, mine).rowcount:
            connection.execute(
                ADD_TO_OWNER, (change, *OTHER_OWNER[:2], json.dumps(OTHER_OWNER.labels))
            )
