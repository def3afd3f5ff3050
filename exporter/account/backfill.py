"""Grams that came after their energy, as rows of the ledger; all inside the caller's transaction.

`total` and `owner` always have all fills. A batch overwrites them with what the books know, so the
fills that the books lack are taken out before it is written, and put in again after it.
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
"""Goes from minute to minute by the index, however many rows each of them has."""
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
    """The minutes with energy that has no grams yet, earliest first."""
    return tuple(minute for (minute,) in connection.execute(FIND_UNPRICED_MINUTES, (since_minute,)))


def read_backfills(connection: sqlite3.Connection, after: int = 0) -> tuple[LateCarbon, ...]:
    """The rows of the fills after one of them, in the order of fills."""
    return tuple(
        LateCarbon(
            fill,
            AccountKey(
                decoding.decode_device((kind, name)),
                FIXED_PARTIES.get(party_id) or RunKey(*key),
                METHODS[method],
                SPLITS[split],
            ),
            grown_ng,
            decoding.decode_owner(json.loads(owner)) if owner else None,
        )
        for fill, party_id, *key, owner, kind, name, method, split, grown_ng in connection.execute(
            FIND_BACKFILLS, (after,)
        ).fetchall()
    )


def subtract_backfills(connection: sqlite3.Connection, after: int) -> None:
    """Have totals and owners without the fills after one of them."""
    _add_signed(connection, -1, after)


def add_backfills(connection: sqlite3.Connection, after: int) -> None:
    """Have the fills after one of them in totals and owners, where their runs are now."""
    _add_signed(connection, 1, after)


def backfill_minutes(
    connection: sqlite3.Connection, factors: Mapping[int, Factor]
) -> Backfill | None:
    """Convert what has no grams in these minutes; None if there is nothing."""
    (last,) = connection.execute("SELECT filled FROM meta").fetchone()
    postings = BatchWriter(connection)
    uses: dict[int, FactorUses] = {}
    for minute, factor in factors.items():
        _backfill_minute(connection, last + 1, minute, factor, postings.factor_id(factor), uses)
    found = read_backfills(connection, last)
    if not found:
        return None
    for party_id, changes in uses.items():
        rows = [(party_id, postings.factor_id(use.factor), *use[1:]) for use in changes.totals()]
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
    """Move the minute's usage to the factor, and note the grams; `uses` gather what changes.

    Grams that such a row has already are of a factor that a crash made forget; they count towards
    those that it gets.
    """
    grown, usage = [], []
    for party_id, *where, energy_uj, held_uj, known_ng in connection.execute(
        FIND_UNPRICED_USAGE, (minute,)
    ):
        priced_ng = max(known_ng, carbon_ng(energy_uj, factor.grams_per_kwh, factor.pue))
        device_id, *how = where
        grown.append((number, party_id, *where, priced_ng - known_ng))
        usage.append((minute, party_id, device_id, factor_id, *how, energy_uj, held_uj, priced_ng))
        if party_id not in FIXED_PARTIES:
            changes = uses.setdefault(party_id, FactorUses())
            changes.add(None, -energy_uj, -known_ng)
            changes.add(factor, energy_uj, priced_ng)
    connection.execute("DELETE FROM usage WHERE minute = ? AND factor_id = 0", (minute,))
    connection.executemany(ADD_BACKFILL, grown)
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
    """Takes in what the ledger filled in, in the ledger's order."""

    def __init__(self, lines: Accounts, owners: OwnerTotals, last: int) -> None:
        self._lines = lines
        self._owners = owners
        self.last = last
        """The last fill that the books have."""

    def apply(self, fill: Backfill, here: AbstractSet[RunKey]) -> None:
        """Let totals and counters rise; the ledger's usage has it already.

        `here` are the runs whose own lines have all that the ledger knows of them.
        """
        for late in fill.late_carbon:
            line = account_key_of(late, here)
            self._lines.move(self._lines.at(line), _carbon_balance(late))
            if late.owner is not None:
                # Also where nothing is added: the ledger may not know yet that the run is back.
                self._owners.backfill(
                    late.owner, late.carbon_ng if line.target == DEPARTED_RUNS else 0
                )
        for key, uses in fill.uses.items():
            for use in uses if key in here else ():
                self._lines.factor_uses_of(key).add(*use)
        self.last = fill.id


def account_key_of(late: LateCarbon, here: Collection[RunKey]) -> AccountKey:
    """Where late grams belong: on their own line, or with those of all runs that left."""
    line = late.line
    has_left = isinstance(line.target, RunKey) and line.target not in here
    return line._replace(target=DEPARTED_RUNS) if has_left else line


def apply_missing_backfills(image: Checkpoint, late_carbon: Iterable[LateCarbon]) -> Checkpoint:
    """The image with those that it lacks. Pure."""
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
"""Minutes that are filled in at one time at most, so that no commit waits long for it."""


def factors_for_minutes(
    minutes: Sequence[int],
    spells: Callable[[float, float], Sequence[IntensityInterval]],
    wall: float,
) -> dict[int, Factor]:
    """The factor that holds at the middle of each minute, for those that are over and have one.

    `minutes` rise. `spells` tells what holds when.
    """
    over = [minute for minute in minutes if minute + 1 < wall // SECONDS_PER_MINUTE]
    found: dict[int, Factor] = {}
    for first, last in _contiguous_ranges(over):
        for t0, t1, factor in spells(first * SECONDS_PER_MINUTE, (last + 1) * SECONDS_PER_MINUTE):
            if factor is not None:
                found.update(dict.fromkeys(range(_first_after(t0), _first_after(t1)), factor))
    return dict(islice(found.items(), MAX_MINUTES_PER_BACKFILL))


def _contiguous_ranges(minutes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and last of each row of minutes without a gap."""
    for _, group in groupby(enumerate(minutes), lambda pair: pair[1] - pair[0]):
        row = [minute for _, minute in group]
        yield row[0], row[-1]


def _first_after(at: float) -> int:
    """The first minute whose middle is not before `at`."""
    return math.ceil((at - MINUTE_MIDPOINT_SECONDS) / SECONDS_PER_MINUTE)
