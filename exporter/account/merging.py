"""Runs that turned out to be another one: in the books, in what the ledger holds, and in its rows.

A pod becomes a run before anybody knows what it is called. When the API server describes it, what
was booked on it goes over to the run that it belongs to, and its own key is forgotten. Books and
journal merge first, the ledger with the next batch; until that is committed the journal lists the
merge, so that a crash in between merges what the ledger still has apart. No sum over a device
changes, in the totals or in the counters.
"""

import sqlite3
from collections.abc import Iterable

from exporter.account.accounts import FactorUses
from exporter.account.image import NO_BATCH, Merged
from exporter.account.lines import ZERO, Lines
from exporter.model.books import NOTHING, Amount, Balance, FactorUse, Fill, Late, Line, Past
from exporter.model.runs import DEPARTED, RunKey

SUMS = ("energy_uj", "held_uj", "carbon_ng")
TABLES = (
    ("usage", "minute, {party}, device_id, factor_id, method, split", SUMS),
    ("usage_hour", "hour, {party}, device_id, factor_id, method, split", SUMS),
    ("factor_use", "{party}, factor_id", ("energy_uj", "carbon_ng")),
    ("fill", "id, {party}, device_id, method, split", ("carbon_ng",)),
)
"""Tables whose rows are added up: their primary key, and the columns of sums."""
DROPPED = ("total", "label", "unit", "result")
"""Tables that have the values of the run that stays: the same batch writes them anew."""
MOVE_INNER = """
UPDATE party SET enclosing_uid = ?, enclosing_run_id = ?, enclosing_job_id = ?
WHERE enclosing_uid = ? AND enclosing_run_id = ? AND enclosing_job_id = ?
"""
FIND = "SELECT id FROM party WHERE uid = ? AND run_id = ? AND job_id = ?"


class Merges:
    """The merges of this process: which key leads where, and which the ledger lacks."""

    def __init__(
        self, lines: Lines, restored: Iterable[tuple[RunKey, RunKey]], restored_seq: int
    ) -> None:
        """`restored` are those of before a restart, which the batch `restored_seq` has."""
        self._lines = lines
        self._leads_to: dict[RunKey, RunKey] = {}
        self._unwritten = [Merged(old, new, restored_seq) for old, new in restored]

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
        counted = NOTHING
        for use in self._lines.uses_of(old).shown():
            self._lines.uses_of(new).add(*use)
        self._lines.relabel(old, new)
        for account in self._lines.close(old):
            balance = account.balance
            counted = counted.plus(balance.counted)
            if not is_counted:
                departed = self._lines.at(account.line._replace(party=DEPARTED))
                self._lines.move(departed, Balance(NOTHING, NOTHING.minus(balance.counted)))
                balance = Balance(balance.total, balance.total)
            target = self._lines.at(account.line._replace(party=new))
            self._lines.move(target, balance)
            target.window_uj += account.window_uj
            if account.power_watts is not None:
                target.power_watts = account.power_watts + (target.power_watts or 0.0)
        self._leads_to[old] = new
        self._unwritten.append(Merged(old, new))
        return counted

    def take_back(self, key: RunKey) -> None:
        """A run has a key again that led elsewhere."""
        self._leads_to.pop(key, None)

    def forget(self, key: RunKey) -> None:
        """A run has left: nothing comes late for those that were merged into it."""
        self._leads_to = {old: new for old, new in self._leads_to.items() if new != key}

    def unwritten(self) -> tuple[Merged, ...]:
        """Those that the ledger may lack, in order."""
        return tuple(self._unwritten)

    def take(self, seq: int) -> tuple[tuple[RunKey, RunKey], ...]:
        """Those that no batch has yet; from now on the batch `seq` has them."""
        taken = tuple((old, new) for old, new, sent in self._unwritten if sent == NO_BATCH)
        self._unwritten = [
            merged._replace(seq=seq) if merged.seq == NO_BATCH else merged
            for merged in self._unwritten
        ]
        return taken

    def settle(self, committed_seq: int) -> bool:
        """Forget those that the ledger has; whether there were any."""
        before = len(self._unwritten)
        self._unwritten = [
            merged
            for merged in self._unwritten
            if merged.seq == NO_BATCH or merged.seq > committed_seq
        ]
        return len(self._unwritten) < before

    def fill(self, fill: Fill) -> Fill:
        """The fill, on the runs that its lines belong to now."""
        if not self._leads_to:
            return fill
        uses: dict[RunKey, tuple[FactorUse, ...]] = {}
        for key, added in fill.uses.items():
            uses[self.resolve(key)] = (*uses.get(self.resolve(key), ()), *added)
        lates = (
            late._replace(line=late.line._replace(party=self.resolve(late.line.party)))
            if isinstance(late.line.party, RunKey)
            else late
            for late in fill.lates
        )
        return Fill(fill.id, tuple(lates), uses)


def merge_lines(lines: dict[Line, Balance], old: RunKey, new: RunKey) -> None:
    """Move the balances of a run to another one."""
    for line in [line for line in lines if line.party == old]:
        target = line._replace(party=new)
        lines[target] = lines.get(target, ZERO).plus(lines.pop(line))


def merge_lates(lates: Iterable[Late], old: RunKey, new: RunKey) -> tuple[Late, ...]:
    """Late grams on the lines of the run that stays."""
    return tuple(
        late._replace(line=late.line._replace(party=new)) if late.line.party == old else late
        for late in lates
    )


def merge_pasts(old: Past, new: Past) -> Past:
    """What the ledger would say of a run once another one was merged into it."""
    lines = {**old.lines, **new.lines}
    merge_lines(lines, old.key, new.key)
    uses = FactorUses((*new.factor_uses, *old.factor_uses))
    return Past(new.key, new.info, lines, uses.shown())


def merge_rows(connection: sqlite3.Connection, old: RunKey, new: RunKey) -> None:
    """Merge the ledger's rows of two runs; nothing where it has none of the old one."""
    found = connection.execute(FIND, old).fetchone()
    if found is None:
        return
    (old_id,) = found
    connection.execute(MOVE_INNER, (*new, *old))
    known = connection.execute(FIND, new).fetchone()
    if known is None:
        connection.execute(
            "UPDATE party SET uid = ?, run_id = ?, job_id = ? WHERE id = ?", (*new, old_id)
        )
        return
    (new_id,) = known
    for table, key, sums in TABLES:
        names = key.format(party="party_id")
        added = ", ".join(f"{name} = {name} + excluded.{name}" for name in sums)
        connection.execute(
            f"INSERT INTO {table} ({names}, {', '.join(sums)}) "  # noqa: S608  our own names
            f"SELECT {key.format(party='?')}, {', '.join(sums)} FROM {table} WHERE party_id = ? "
            f"ON CONFLICT ({names}) DO UPDATE SET {added}",
            (new_id, old_id),
        )
    for table in (*[table for table, *_ in TABLES], *DROPPED):
        connection.execute(f"DELETE FROM {table} WHERE party_id = ?", (old_id,))  # noqa: S608  our own names
    connection.execute("DELETE FROM party WHERE id = ?", (old_id,))
