"""Runs that turned out to be another one: in the books, in what the ledger holds, and in its rows.

A pod becomes a run before anybody knows what it is called. When the API server describes it, what
was booked on it goes over to the run that it belongs to, and its own key is forgotten. Books and
journal merge first, the ledger with the next batch; until that is committed the journal lists the
merge, so that a crash in between merges what the ledger still has apart. No sum over a device
changes, in the totals or in the counters.
"""

import sqlite3
from collections.abc import Iterable

from exporter.account.accounts import ZERO_BALANCE, Accounts, FactorUses
from exporter.account.journal_format import NO_BATCH, MergedRun
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
"""Tables whose rows are added up: their primary key, and the columns of sums."""
REPLACED_TABLES = ("total", "label", "unit", "result")
"""Tables that have the values of the run that stays: the same batch writes them anew."""
UPDATE_ENCLOSING = """
UPDATE party SET enclosing_uid = ?, enclosing_run_id = ?, enclosing_job_id = ?
WHERE enclosing_uid = ? AND enclosing_run_id = ? AND enclosing_job_id = ?
"""
FIND_PARTY = "SELECT id FROM party WHERE uid = ? AND run_id = ? AND job_id = ?"


class RunMerges:
    """The merges of this process: which key leads where, and which the ledger lacks."""

    def __init__(
        self, lines: Accounts, restored: Iterable[tuple[RunKey, RunKey]], restored_seq: int
    ) -> None:
        """`restored` are those of before a restart, which the batch `restored_seq` has."""
        self._lines = lines
        self._leads_to: dict[RunKey, RunKey] = {}
        self._unwritten = [MergedRun(old, new, restored_seq) for old, new in restored]

    def resolve(self, key: RunKey) -> RunKey:
        """The run that a key belongs to now."""
        while key in self._leads_to:
            key = self._leads_to[key]
        return key

    def is_unwritten(self, key: RunKey) -> bool:
        """Whether the ledger may still have a run apart that was merged into another one."""
        return any(key == merged.old for merged in self._unwritten)

    def merge(self, old: RunKey, new: RunKey, *, is_counted: bool) -> Amount:
        """Move all that stands on the lines of a run to those of another; what was counted of it.

        Where the counters of the new run are not to show it, DEPARTED goes on counting it.
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
        self._leads_to[old] = new
        self._unwritten.append(MergedRun(old, new))
        return counted

    def unmerge(self, key: RunKey) -> None:
        """A run has a key again that led elsewhere."""
        self._leads_to.pop(key, None)

    def forget(self, key: RunKey) -> None:
        """A run has left: nothing comes late for those that were merged into it."""
        self._leads_to = {old: new for old, new in self._leads_to.items() if new != key}

    def unwritten(self) -> tuple[MergedRun, ...]:
        """Those that the ledger may lack, in order."""
        return tuple(self._unwritten)

    def pop_unsent(self, seq: int) -> tuple[tuple[RunKey, RunKey], ...]:
        """Those that no batch has yet; from now on the batch `seq` has them."""
        taken = tuple((old, new) for old, new, sent in self._unwritten if sent == NO_BATCH)
        self._unwritten = [
            merged._replace(seq=seq) if merged.seq == NO_BATCH else merged
            for merged in self._unwritten
        ]
        return taken

    def apply_committed(self, committed_seq: int) -> bool:
        """Forget those that the ledger has; whether there were any."""
        before = len(self._unwritten)
        self._unwritten = [
            merged
            for merged in self._unwritten
            if merged.seq == NO_BATCH or merged.seq > committed_seq
        ]
        return len(self._unwritten) < before

    def backfill(self, fill: Backfill) -> Backfill:
        """The fill, on the runs that its lines belong to now."""
        if not self._leads_to:
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
    """Late grams on the lines of the run that stays."""
    return tuple(
        late._replace(line=late.line._replace(target=new)) if late.line.target == old else late
        for late in late_carbon
    )


def merge_stored_runs(old: StoredRun, new: StoredRun) -> StoredRun:
    """What the ledger would say of a run once another one was merged into it."""
    lines = {**old.lines, **new.lines}
    merge_balances(lines, old.key, new.key)
    uses = FactorUses((*new.factor_uses, *old.factor_uses))
    return StoredRun(new.key, new.info, lines, uses.totals())


def merge_rows(connection: sqlite3.Connection, old: RunKey, new: RunKey) -> None:
    """Merge the ledger's rows of two runs; nothing where it has none of the old one."""
    found = connection.execute(FIND_PARTY, old).fetchone()
    if found is None:
        return
    (old_id,) = found
    connection.execute(UPDATE_ENCLOSING, (*new, *old))
    known = connection.execute(FIND_PARTY, new).fetchone()
    if known is None:
        connection.execute(
            "UPDATE party SET uid = ?, run_id = ?, job_id = ? WHERE id = ?", (*new, old_id)
        )
        return
    (new_id,) = known
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
