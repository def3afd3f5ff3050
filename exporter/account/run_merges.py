"""Merges provisional runs into the runs that they belong to: in books, recovered state and ledger.

A pod is a provisional run until the API server describes it. Then its accounts are moved to the
run that it belongs to, and its own key is removed. Books and journal merge first, the ledger with
the next batch. Until that is committed the journal lists the merge, so that recovery after a crash
repeats it on the ledger's data. No sum over a device changes, in totals or in counters.
"""

import sqlite3
from collections.abc import Iterable

from exporter.account.accounts import ZERO_BALANCE, Accounts, FactorUses
from exporter.account.journal_format import NO_BATCH, MergedRun
from exporter.account.run_rows import FIND_RUN
from exporter.model.ledger import (
    ZERO_AMOUNT,
    AccountKey,
    Amount,
    Backfill,
    Balance,
    FactorUse,
    LateCarbon,
    StoredRun,
)
from exporter.model.runs import DEPARTED_RUNS, RunKey

SUM_COLUMNS = ("energy_uj", "held_uj", "carbon_ng")
SUMMED_TABLES = (
    ("usage", "minute, {target}, device_id, factor_id, method, split", SUM_COLUMNS),
    ("usage_hour", "hour, {target}, device_id, factor_id, method, split", SUM_COLUMNS),
    ("factor_use", "{target}, factor_id", ("energy_uj", "carbon_ng")),
    ("fill", "id, {target}, device_id, method, split", ("carbon_ng",)),
)
"""Tables with rows that are added up: table, primary key, columns with sums."""
REPLACED_TABLES = ("total", "label", "unit", "result")
"""Tables from which the rows of the old run are deleted; the same batch rewrites the new one's."""
UPDATE_ENCLOSING = """
UPDATE party SET enclosing_uid = ?, enclosing_run_id = ?, enclosing_job_id = ?
WHERE enclosing_uid = ? AND enclosing_run_id = ? AND enclosing_job_id = ?
"""


class RunMerges:
    """Merges made by this process, and those that the ledger does not have yet."""

    def __init__(
        self, lines: Accounts, restored: Iterable[tuple[RunKey, RunKey]], restored_seq: int
    ) -> None:
        """`restored` are merges from before a restart, which are in the batch `restored_seq`."""
        self._lines = lines
        self._merged_into: dict[RunKey, RunKey] = {}
        self._unwritten = [MergedRun(old, new, restored_seq) for old, new in restored]

    def resolve(self, key: RunKey) -> RunKey:
        """Return the run that a key belongs to now."""
        while key in self._merged_into:
            key = self._merged_into[key]
        return key

    def is_unwritten(self, key: RunKey) -> bool:
        """Return whether the ledger may still have a merged run as a run of its own."""
        return any(key == merged.old for merged in self._unwritten)

    def merge(self, old: RunKey, new: RunKey, *, is_counted: bool) -> Amount:
        """Move the balances of run `old` to run `new`; return the amount that was counted.

        Unless `is_counted`, the counters of the new run do not include it and DEPARTED_RUNS
        continues to count it.
        """
        counted = ZERO_AMOUNT
        for use in self._lines.factor_uses_of(old).totals():
            self._lines.factor_uses_of(new).add(*use)
        self._lines.move_usage(old, new)
        for account in self._lines.close(old):
            balance = account.balance
            counted = counted.plus(balance.counted)
            if not is_counted:
                departed = self._lines.at(account.line._replace(target=DEPARTED_RUNS))
                self._lines.move(departed, Balance(ZERO_AMOUNT, ZERO_AMOUNT.minus(balance.counted)))
                balance = Balance(balance.total, balance.total)
            target = self._lines.at(account.line._replace(target=new))
            self._lines.move(target, balance)
            target.window_uj += account.window_uj
            if account.power_watts is not None:
                target.power_watts = account.power_watts + (target.power_watts or 0.0)
        self._merged_into[old] = new
        self._unwritten.append(MergedRun(old, new))
        return counted

    def unmerge(self, key: RunKey) -> None:
        """Forget the merge of a key that is in use again."""
        self._merged_into.pop(key, None)

    def forget(self, key: RunKey) -> None:
        """Forget the merges into a run that has departed."""
        self._merged_into = {old: new for old, new in self._merged_into.items() if new != key}

    def unwritten(self) -> tuple[MergedRun, ...]:
        """Return the merges that the ledger may not have yet, in order."""
        return tuple(self._unwritten)

    def pop_unsent(self, seq: int) -> tuple[tuple[RunKey, RunKey], ...]:
        """Return the merges that are in no batch, and record that the batch `seq` has them."""
        unsent = tuple((old, new) for old, new, sent in self._unwritten if sent == NO_BATCH)
        self._unwritten = [
            merged._replace(seq=seq) if merged.seq == NO_BATCH else merged
            for merged in self._unwritten
        ]
        return unsent

    def apply_committed(self, committed_seq: int) -> bool:
        """Forget the merges that the ledger has; return whether there were any."""
        before = len(self._unwritten)
        self._unwritten = [
            merged
            for merged in self._unwritten
            if merged.seq == NO_BATCH or merged.seq > committed_seq
        ]
        return len(self._unwritten) < before

    def backfill(self, fill: Backfill) -> Backfill:
        """Return a backfill with the keys of the runs that its accounts belong to now."""
        if not self._merged_into:
            return fill
        uses: dict[RunKey, tuple[FactorUse, ...]] = {}
        for key, added in fill.uses.items():
            uses[self.resolve(key)] = (*uses.get(self.resolve(key), ()), *added)
        late_carbon = (
            late._replace(line=late.line._replace(target=self.resolve(late.line.target)))
            if isinstance(late.line.target, RunKey)
            else late
            for late in fill.late_carbon
        )
        return Backfill(fill.id, tuple(late_carbon), uses)


def merge_balances(lines: dict[AccountKey, Balance], old: RunKey, new: RunKey) -> None:
    """Move the balances of a run to another one."""
    for line in [line for line in lines if line.target == old]:
        target = line._replace(target=new)
        lines[target] = lines.get(target, ZERO_BALANCE).plus(lines.pop(line))


def merge_backfills(
    late_carbon: Iterable[LateCarbon], old: RunKey, new: RunKey
) -> tuple[LateCarbon, ...]:
    """Return late carbon with the key of the run that it was merged into."""
    return tuple(
        late._replace(line=late.line._replace(target=new)) if late.line.target == old else late
        for late in late_carbon
    )


def merge_stored_runs(old: StoredRun, new: StoredRun) -> StoredRun:
    """Return the stored totals of run `new` after a merge of run `old` into it."""
    lines = {**old.lines, **new.lines}
    merge_balances(lines, old.key, new.key)
    uses = FactorUses((*new.factor_uses, *old.factor_uses))
    return StoredRun(new.key, new.info, lines, uses.totals())


def merge_rows(connection: sqlite3.Connection, old: RunKey, new: RunKey) -> None:
    """Merge the ledger's rows of two runs; does nothing if it has no row of the old one."""
    old_row = connection.execute(FIND_RUN, old).fetchone()
    if old_row is None:
        return
    (old_id,) = old_row
    connection.execute(UPDATE_ENCLOSING, (*new, *old))
    new_row = connection.execute(FIND_RUN, new).fetchone()
    if new_row is None:
        connection.execute(
            "UPDATE party SET uid = ?, run_id = ?, job_id = ? WHERE id = ?", (*new, old_id)
        )
        return
    (new_id,) = new_row
    for table, key, sums in SUMMED_TABLES:
        names = key.format(target="party_id")
        added = ", ".join(f"{name} = {name} + excluded.{name}" for name in sums)
        connection.execute(
            f"INSERT INTO {table} ({names}, {', '.join(sums)}) "  # noqa: S608  our own names
            f"SELECT {key.format(target='?')}, {', '.join(sums)} FROM {table} WHERE party_id = ? "
            f"ON CONFLICT ({names}) DO UPDATE SET {added}",
            (new_id, old_id),
        )
    for table in (*[table for table, *_ in SUMMED_TABLES], *REPLACED_TABLES):
        connection.execute(f"DELETE FROM {table} WHERE party_id = ?", (old_id,))  # noqa: S608  our own names
    connection.execute("DELETE FROM party WHERE id = ?", (old_id,))
