"""Backfill: carbon added to energy whose intensity arrived later, in the ledger and in the books.

Functions that take a connection run inside the caller's transaction. The tables `total` and
`owner` always include all backfills. A batch overwrites them with the values of the books, so the
backfills that the books do not have yet are subtracted before the batch is written and added again
after it.
"""

import json
import math
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import groupby, islice

from exporter.account import decoding
from exporter.account.accounts import ZERO_BALANCE, Accounts, FactorUses
from exporter.account.batch_writer import ADD_FACTOR_USE, ADD_USAGE, BatchWriter
from exporter.account.decoding import DEPARTED_ID, FIXED_PARTIES, METHODS, SPLITS, read_run_key
from exporter.account.departed_runs import OwnerTotals
from exporter.account.journal_format import Checkpoint
from exporter.model.intensity import Factor, IntensityInterval
from exporter.model.ledger import AccountKey, Amount, Backfill, Balance, LateCarbon
from exporter.model.runs import DEPARTED_RUNS, OTHER_OWNER, RunKey
from exporter.units import SECONDS_PER_MINUTE, carbon_ng

FIND_UNPRICED_MINUTES = """
WITH RECURSIVE found (minute) AS (
    SELECT min(minute) FROM usage WHERE factor_id = 0 AND minute >= ?
    UNION ALL
    SELECT (SELECT min(minute) FROM usage WHERE factor_id = 0 AND minute > found.minute)
    FROM found WHERE minute IS NOT NULL
)
SELECT minute FROM found WHERE minute IS NOT NULL
"""
"""Steps from minute to minute by the index, independent of the number of rows per minute."""
ADD_BACKFILL = """
INSERT INTO fill VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (id, party_id, device_id, method, split) DO UPDATE SET
    carbon_ng = carbon_ng + excluded.carbon_ng
"""
FORGET_EMPTY_USE = """
DELETE FROM factor_use WHERE party_id = ? AND factor_id = 0 AND energy_uj = 0 AND carbon_ng = 0
"""
CARBON_BY_ACCOUNT = """
SELECT sum(carbon_ng), party_id, device_id, method, split FROM fill WHERE id > ? GROUP BY 2, 3, 4, 5
"""
CARBON_BY_ACCOUNT_OF_DEPARTED = f"""
SELECT sum(carbon_ng), {DEPARTED_ID}, device_id, method, split
FROM fill JOIN party ON party.id = party_id WHERE fill.id > ? AND departed = 1 GROUP BY 3, 4, 5
"""  # noqa: S608  our own number
ADD_TO_TOTAL = """
UPDATE total SET carbon_ng = carbon_ng + ?
WHERE party_id = ? AND device_id = ? AND method = ? AND split = ?
"""
FIND_UNPRICED_USAGE = """
SELECT party_id, device_id, method, split, energy_uj, held_uj, carbon_ng
FROM usage WHERE minute = ? AND factor_id = 0
"""
CARBON_BY_OWNER = """
SELECT owner, sum(carbon_ng) FROM fill JOIN party ON party.id = party_id
WHERE fill.id > ? AND departed = 1 AND owner != '' GROUP BY 1
"""
ADD_TO_OWNER = """
UPDATE owner SET carbon_ng = carbon_ng + ? WHERE user = ? AND namespace = ? AND labels = ?
"""
FIND_BACKFILLS = """
SELECT fill.id, party_id, uid, run_id, job_id, owner, kind, device.name, method, split, carbon_ng
FROM fill JOIN party ON party.id = party_id JOIN device ON device.id = device_id
WHERE fill.id > ? ORDER BY 1, 2, 7, 8, 9, 10
"""


def unpriced_minutes(connection: sqlite3.Connection, since_minute: int) -> tuple[int, ...]:
    """Return the minutes, earliest first, that have energy without a factor."""
    return tuple(minute for (minute,) in connection.execute(FIND_UNPRICED_MINUTES, (since_minute,)))


def read_backfills(connection: sqlite3.Connection, after: int = 0) -> tuple[LateCarbon, ...]:
    """Return the carbon of all backfills with an id above `after`, in the order of ids."""
    return tuple(
        LateCarbon(
            backfill_id,
            AccountKey(
                decoding.decode_device((kind, name)),
                FIXED_PARTIES.get(party_id) or RunKey(*key),
                METHODS[method],
                SPLITS[split],
            ),
            late_ng,
            decoding.decode_owner(json.loads(owner)) if owner else None,
        )
        for (
            backfill_id,
            party_id,
            *key,
            owner,
            kind,
            name,
            method,
            split,
            late_ng,
        ) in connection.execute(FIND_BACKFILLS, (after,)).fetchall()
    )


def subtract_backfills(connection: sqlite3.Connection, after: int) -> None:
    """Subtract the backfills with an id above `after` from totals and owners."""
    _add_signed(connection, -1, after)


def add_backfills(connection: sqlite3.Connection, after: int) -> None:
    """Add the backfills with an id above `after` to totals and to the current owners."""
    _add_signed(connection, 1, after)


def backfill_minutes(
    connection: sqlite3.Connection, factors: Mapping[int, Factor]
) -> Backfill | None:
    """Convert the energy without a factor in these minutes; None if there is none.

    `factors` has the factor of each minute. The result is what the books have to add.
    """
    (last,) = connection.execute("SELECT filled FROM meta").fetchone()
    writer = BatchWriter(connection)
    uses: dict[int, FactorUses] = {}
    for minute, factor in factors.items():
        _backfill_minute(connection, last + 1, minute, factor, writer.factor_id(factor), uses)
    found = read_backfills(connection, last)
    if not found:
        return None
    for party_id, changes in uses.items():
        rows = [(party_id, writer.factor_id(use.factor), *use[1:]) for use in changes.totals()]
        connection.executemany(ADD_FACTOR_USE, rows)
        connection.execute(FORGET_EMPTY_USE, (party_id,))
    add_backfills(connection, last)
    connection.execute("UPDATE meta SET filled = ?", (last + 1,))
    keys = {party_id: read_run_key(connection, party_id) for party_id in uses}
    return Backfill(last + 1, found, {keys[party_id]: uses[party_id].totals() for party_id in uses})


def _backfill_minute(
    connection: sqlite3.Connection,
    number: int,
    minute: int,
    factor: Factor,
    factor_id: int,
    uses: dict[int, FactorUses],
) -> None:
    """Move the minute's usage to the factor and record the carbon; changes are added to `uses`.

    A row without a factor may already have carbon: its factor was lost in a crash. That carbon is
    part of the new amount, which is never lower.
    """
    added, usage = [], []
    for party_id, *where, energy_uj, held_uj, known_ng in connection.execute(
        FIND_UNPRICED_USAGE, (minute,)
    ):
        priced_ng = max(known_ng, carbon_ng(energy_uj, factor.grams_per_kwh, factor.pue))
        device_id, *how = where
        added.append((number, party_id, *where, priced_ng - known_ng))
        usage.append((minute, party_id, device_id, factor_id, *how, energy_uj, held_uj, priced_ng))
        if party_id not in FIXED_PARTIES:
            changes = uses.setdefault(party_id, FactorUses())
            changes.add(None, -energy_uj, -known_ng)
            changes.add(factor, energy_uj, priced_ng)
    connection.execute("DELETE FROM usage WHERE minute = ? AND factor_id = 0", (minute,))
    connection.executemany(ADD_BACKFILL, added)
    connection.executemany(ADD_USAGE, usage)


def _add_signed(connection: sqlite3.Connection, sign: int, after: int) -> None:
    for lines in (CARBON_BY_ACCOUNT, CARBON_BY_ACCOUNT_OF_DEPARTED):
        found = connection.execute(lines, (after,)).fetchall()
        connection.executemany(ADD_TO_TOTAL, [(sign * late_ng, *line) for late_ng, *line in found])
    for owner, late_ng in connection.execute(CARBON_BY_OWNER, (after,)).fetchall():
        user, namespace, labels = json.loads(owner)
        change = sign * late_ng
        mine = (change, user, namespace, json.dumps(labels))
        if not connection.execute(ADD_TO_OWNER, mine).rowcount:
            connection.execute(
                ADD_TO_OWNER, (change, *OTHER_OWNER[:2], json.dumps(OTHER_OWNER.labels))
            )


class BackfillApplier:
    """Applies backfills to the books, in the order in which the ledger made them."""

    def __init__(self, lines: Accounts, owners: OwnerTotals, last: int) -> None:
        self._lines = lines
        self._owners = owners
        self.last = last
        """Id of the last backfill in the books."""

    def apply(self, fill: Backfill, here: AbstractSet[RunKey]) -> None:
        """Add the carbon to totals and counters; the ledger's usage already includes it.

        `here` are the runs whose accounts include their stored totals; the carbon of other runs
        is added to DEPARTED_RUNS.
        """
        for late in fill.late_carbon:
            line = account_key_of(late, here)
            self._lines.move(self._lines.at(line), _carbon_balance(late))
            if late.owner is not None:
                # Also with 0: the ledger may not know yet that the run has returned.
                self._owners.backfill(
                    late.owner, late.carbon_ng if line.target == DEPARTED_RUNS else 0
                )
        for key, uses in fill.uses.items():
            for use in uses if key in here else ():
                self._lines.factor_uses_of(key).add(*use)
        self.last = fill.id


def account_key_of(late: LateCarbon, here: Collection[RunKey]) -> AccountKey:
    """Return the account for late carbon: that of the run, or DEPARTED_RUNS if it has left."""
    line = late.line
    has_left = isinstance(line.target, RunKey) and line.target not in here
    return line._replace(target=DEPARTED_RUNS) if has_left else line


def apply_missing_backfills(image: Checkpoint, late_carbon: Iterable[LateCarbon]) -> Checkpoint:
    """Return the checkpoint with the backfills that it lacks. Pure."""
    missing = [late for late in late_carbon if late.backfill_id > image.layout.backfill_id]
    if not missing:
        return image
    layout = image.layout
    here = {run.key for run in layout.runs}.difference(layout.awaiting_history)
    lines = image.balances()
    owners = {owner: (energy_uj, carbon_ng) for owner, energy_uj, carbon_ng in layout.owners}
    for late in missing:
        line = account_key_of(late, here)
        lines[line] = lines.get(line, ZERO_BALANCE).plus(_carbon_balance(late))
        owner = late.owner if late.owner in owners else OTHER_OWNER
        if late.owner is not None and owner in owners and line.target == DEPARTED_RUNS:
            energy_uj, carbon_ng = owners[owner]
            owners[owner] = energy_uj, carbon_ng + late.carbon_ng
    return image._replace(
        layout=layout._replace(
            lines=tuple(lines),
            bases=tuple(balance.base for balance in lines.values()),
            owners=tuple((owner, *sums) for owner, sums in owners.items()),
            backfill_id=missing[-1].backfill_id,
        ),
        totals=tuple(balance.total for balance in lines.values()),
    )


def _carbon_balance(late: LateCarbon) -> Balance:
    return Balance(Amount(0, 0, late.carbon_ng))


MINUTE_MIDPOINT_SECONDS = 30
MAX_MINUTES_PER_BACKFILL = 240
"""Most minutes converted in one transaction, so that no commit waits long."""


def factors_for_minutes(
    minutes: Sequence[int],
    intervals: Callable[[float, float], Sequence[IntensityInterval]],
    wall: float,
) -> dict[int, Factor]:
    """Return the factor at the middle of each minute that is over and has one.

    `minutes` are ascending. `intervals` returns the intensity intervals between two times in Unix
    seconds.
    """
    over = [minute for minute in minutes if minute + 1 < wall // SECONDS_PER_MINUTE]
    factors: dict[int, Factor] = {}
    for first, last in _contiguous_ranges(over):
        start, end = first * SECONDS_PER_MINUTE, (last + 1) * SECONDS_PER_MINUTE
        for t0, t1, factor in intervals(start, end):
            if factor is not None:
                factors.update(dict.fromkeys(range(_first_after(t0), _first_after(t1)), factor))
    return dict(islice(factors.items(), MAX_MINUTES_PER_BACKFILL))


def _contiguous_ranges(minutes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and last minute of each contiguous range."""
    for _, group in groupby(enumerate(minutes), lambda pair: pair[1] - pair[0]):
        row = [minute for _, minute in group]
        yield row[0], row[-1]


def _first_after(at: float) -> int:
    """Return the first minute with its middle at or after `at`."""
    return math.ceil((at - MINUTE_MIDPOINT_SECONDS) / SECONDS_PER_MINUTE)
