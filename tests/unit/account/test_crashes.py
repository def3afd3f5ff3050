"""A daemon that is stopped at any moment, in any way, any number of times, loses nothing.

Hypothesis plays runs that come and go, ticks, commits, a disk that fails, and stops of every kind;
a plain dictionary of what was posted is the judge.
"""

import tempfile
from contextlib import suppress

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from exporter.account.journal import Journal
from exporter.account.ledger_writer import merge_batches
from exporter.account.recovery import recover
from exporter.errors import LedgerError
from exporter.model.runs import DEPARTED_RUNS, RunKey
from exporter.model.workload import UnattributedReason
from tests.unit.account.making import (
    CPU,
    FRANCE,
    GERMANY,
    MINUTE,
    SECOND,
    WALL,
    batch,
    begin_at_zero,
    books,
    checkpoint,
    entry,
    key,
    opened,
    posting,
    query,
    run,
    shown,
)

NAMES = ["bert", "gpt", "clip"]
names = st.sampled_from(NAMES)
energies = st.integers(0, 10**9)


def sums_by_party(rows):
    sums = {}
    for row in rows:
        sums[row.target] = sums.get(row.target, 0) + row.balance.total.energy_uj
    return sums


def counted(rows):
    """What the counters of devices and of runs on the page show."""
    shown = {}
    for row in rows:
        for name in {"device", row.target} - {DEPARTED_RUNS}:
            shown[name] = shown.get(name, 0) + row.balance.counted.energy_uj
    return shown


class Crashes(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.boot = 1
        self.posted = {}
        """Energy by party since the beginning: the truth."""
        self.shown = {}
        """The counters on the last page."""
        self.disk_works = True
        self.start()

    def start(self):
        self.ledger = opened(self.directory.name)
        self.journal = Journal(f"{self.directory.name}/journal")
        recovered = recover(self.ledger, self.journal, f"boot-{self.boot}", WALL)
        with suppress(LedgerError):
            self.ledger.start()
        self.restored = recovered.restored
        self.pending = recovered.batch
        self.committed_seq = 0
        self.books = books(self.restored)
        self.seq = self.restored.seq
        self.questions = []
        self.answers = []
        self.open = {r.key for r in self.restored.runs if r.ended is None}
        self.on_page = {r.key for r in self.restored.runs}
        self.is_beginning = True
        self.tick()
        self.is_beginning = False

    def teardown(self):
        self.journal.close()
        self.ledger.close()
        self.directory.cleanup()

    def tick(self):
        self.books.apply_committed(self.committed_seq)
        self.seq += 1
        self.journal.write(checkpoint(self.books, self.seq))
        before = self.shown.get("owner", 0)
        self.shown = {**counted(self.books.rows()), "owner": self.counted_of_owners()}
        assert self.shown["owner"] >= before or self.is_beginning

    def counted_of_owners(self):
        """What the counters of owners show: runs that left, and those that are there."""
        left = sum(energy_uj for _, energy_uj, _ in self.books.owners())
        here = {r.key for r in shown(self.books)}
        rows = self.books.rows()
        return left + sum(r.balance.counted.energy_uj for r in rows if r.target in here)

    @rule(
        amounts=st.dictionaries(names, energies),
        idle=energies,
        factor=st.sampled_from([GERMANY, FRANCE, None]),
        minute=st.integers(MINUTE, MINUTE + 2),
    )
    def post(self, amounts, idle, factor, minute):
        where = {"factor": factor, "minute": minute}
        entries = [entry(UnattributedReason.IDLE, idle, **where)]
        entries += [entry(key(name), energy, **where) for name, energy in amounts.items()]
        here = {r.key for r in shown(self.books)} | {UnattributedReason.IDLE}
        self.books.post([posting(*entries)], SECOND)
        for each in entries:
            # What comes late for a run that left, or never was, is booked where those are.
            target = self.party_of(each.target)
            target = target if target in here else DEPARTED_RUNS
            self.posted[target] = self.posted.get(target, 0) + each.energy_uj
        self.tick()

    @rule(energy=energies)
    def find_device_late(self, energy):
        """Counters began at zero before the first reading of a device; the totals take it alone."""
        late = posting(entry(UnattributedReason.RESTART, energy))
        late = late._replace(interval=late.interval._replace(uncounted=True))
        self.books.post([late], SECOND)
        self.posted[UnattributedReason.RESTART] = (
            self.posted.get(UnattributedReason.RESTART, 0) + energy
        )
        before = self.shown
        self.tick()
        assert self.shown["device"] == before["device"]

    @invariant()
    def the_journal_has_what_is_shown(self):
        written = checkpoint(self.books, self.seq)
        assert written.balances() == {row[:4]: row.balance for row in self.books.rows()}
        assert written.layout.owners == self.books.owners()

    def party_of(self, target):
        """Who pays now for what is posted on a party."""
        return target

    def info(self, name, **changes):
        return run(name, **changes)

    @rule(name=names)
    def begin(self, name):
        if key(name) not in self.on_page:
            self.questions.append(key(name))
        self.on_page.add(key(name))
        self.open.add(key(name))
        self.books.update_run(self.info(name))
        self.tick()

    @rule(name=names)
    def end(self, name):
        if key(name) in self.open:
            self.open.remove(key(name))
            self.books.update_run(self.info(name, ended=WALL + 60))
            self.tick()

    @rule(name=names)
    def leave(self, name):
        if key(name) in self.on_page - self.open:
            self.on_page.remove(key(name))
            self.books.remove_run(key(name))
            self.tick()

    @rule()
    def hand_over(self):
        handed = batch(self.books, self.seq)
        self.pending = handed if self.pending is None else merge_batches(self.pending, handed)

    @rule()
    def write(self):
        """What the ledger's thread does."""
        if not self.disk_works:
            return
        if self.pending is not None:
            self.ledger.commit(self.pending)
            self.committed_seq = self.pending.seq
            self.pending = None
        self.answers += [self.ledger.stored_run(asked) for asked in self.questions]
        self.questions = []

    @rule()
    def answer_only(self):
        """The thread was slow: it answers, and commits later."""
        self.answers += [self.ledger.stored_run(asked) for asked in self.questions]
        self.questions = []

    @rule()
    def hear(self):
        for stored_run in self.answers:
            self.books.restore_run(stored_run)
        self.answers = []
        self.tick()

    @rule()
    def disk_fails_or_recovers(self):
        self.disk_works = not self.disk_works

    @rule()
    def kill(self):
        before = self.shown
        totals = sums_by_party(self.books.rows())
        self.journal.close()
        self.ledger.close()
        self.start()
        assert not begin_at_zero(self.restored)
        after = sums_by_party(self.books.rows())
        assert sum(after.values()) == sum(totals.values())
        assert self.shown["device"] == before["device"]
        for name, value in self.shown.items():
            assert value >= before.get(name, 0)

    @rule()
    def kill_between_posting_and_journal(self):
        """Nobody saw it: the energy is still in the hardware's counter."""
        self.books.post([posting(entry(UnattributedReason.IDLE, 12_345))], SECOND)
        before = self.shown
        self.journal.close()
        self.ledger.close()
        self.start()
        assert self.shown["device"] == before["device"]

    @precondition(lambda self: self.disk_works)
    @rule(reboot=st.booleans())
    def stop_in_good_order(self, reboot):
        self.write()
        for stored_run in self.answers:
            self.books.restore_run(stored_run)
        handed = batch(self.books, self.seq, clean=True)
        self.ledger.commit(handed if self.pending is None else merge_batches(self.pending, handed))
        before = self.shown
        self.journal.close()
        self.ledger.close()
        self.boot += reboot
        self.start()
        assert not begin_at_zero(self.restored)
        assert self.shown == before

    @rule()
    def power_cut(self):
        self.journal.close()
        self.ledger.close()
        self.boot += 1
        self.start()
        assert set(self.shown.values()) <= {0}
        # From here on the truth is what had reached the ledger.
        self.posted = {**self.written_by_party(), DEPARTED_RUNS: self.written_late()}

    def written_by_party(self):
        sql = (
            "SELECT uid, run_id, job_id, sum(energy_uj) FROM total JOIN party "
            "ON party.id = party_id WHERE party_id != 99 GROUP BY 1, 2, 3"
        )
        return {
            UnattributedReason(name) if uid == -2 else RunKey(uid, name, job): energy
            for uid, name, job, energy in query(self.ledger, sql)
        }

    def written_late(self):
        """What the departed have in the ledger beyond the totals of the runs that left."""
        sql = (
            "SELECT coalesce(sum(CASE party_id WHEN 99 THEN energy_uj ELSE -energy_uj END), 0) "
            "FROM total JOIN party ON party.id = party_id WHERE party_id = 99 OR departed"
        )
        return query(self.ledger, sql)[0][0]

    @precondition(lambda self: self.disk_works)
    @rule()
    def when_all_is_written_the_ledger_is_the_truth(self):
        self.write()
        self.hear()
        self.hand_over()
        self.write()
        written = {target: e for target, e in self.written_by_party().items() if e}
        posted = dict(self.posted)
        assert self.written_late() == posted.pop(DEPARTED_RUNS, 0)
        assert written == {target: e for target, e in posted.items() if e}
        by_usage = query(
            self.ledger,
            "SELECT party_id, sum(energy_uj), sum(held_uj), sum(carbon_ng) FROM usage "
            "WHERE party_id != 99 GROUP BY 1 HAVING sum(energy_uj) > 0 ORDER BY 1",
        )
        by_total = query(
            self.ledger,
            "SELECT party_id, sum(energy_uj), sum(held_uj), sum(carbon_ng) FROM total "
            "WHERE party_id != 99 GROUP BY 1 HAVING sum(energy_uj) > 0 ORDER BY 1",
        )
        assert by_usage == by_total
        for each, uses in self.books.factor_uses().items():
            assert sum(use.energy_uj for use in uses) == self.posted.get(each, 0)

    @invariant()
    def the_device_has_all_that_was_posted(self):
        rows = self.books.rows()
        booked = sum(row.balance.total.energy_uj for row in rows if row.device == CPU)
        assert booked == sum(self.posted.values())

    @invariant()
    def no_counter_is_below_zero(self):
        assert all(min(row.balance.counted) >= 0 for row in self.books.rows())
        assert self.books.imbalance_uj == 0


Crashes.TestCase.settings = settings(stateful_step_count=40, deadline=None)
TestCrashes = Crashes.TestCase
