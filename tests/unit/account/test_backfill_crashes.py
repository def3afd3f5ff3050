"""Grams that come later come once, whatever stops the daemon, and however often.

Hypothesis plays as in test_crashes, with a ledger that fills grams in at any moment. Each
microjoule costs three nanograms, whichever factor it is converted with: so what was lost or doubled
shows in the end. A disk that is full is a batch that waits.
"""

import tempfile

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from exporter.account.journal import Journal
from exporter.account.ledger_writer import merge_batches
from exporter.account.recovery import recover
from exporter.model.ledger import Backfill
from exporter.model.runs import DEPARTED_RUNS
from exporter.model.workload import UnattributedReason
from tests.unit.account.making import (
    FRANCE,
    GERMANY,
    MINUTE,
    SECOND,
    WALL,
    balances,
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

PER_MICROJOULE = 3
EXACT = GERMANY._replace(grams_per_kwh=3_600.0 * PER_MICROJOULE, pue=1.0)
SAME = FRANCE._replace(grams_per_kwh=1_800.0 * PER_MICROJOULE, pue=2.0)
names = st.sampled_from(["bert", "gpt"])
energies = st.integers(1, 10**6)
factors = st.sampled_from([EXACT, SAME])


def sums(ledger, table):
    return query(
        ledger,
        f"SELECT party_id, sum(energy_uj), sum(carbon_ng) FROM {table} "
        "WHERE party_id != 99 GROUP BY 1 HAVING sum(energy_uj) > 0 ORDER BY 1",
    )


class FillCrashes(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.boot = 1
        self.power_was_cut = False
        self.start()

    def open(self):
        self.ledger = opened(self.directory.name)
        self.journal = Journal(f"{self.directory.name}/journal")
        recovered = recover(self.ledger, self.journal, f"boot-{self.boot}", WALL)
        self.ledger.start()
        self.restored = recovered.restored
        self.pending = recovered.batch

    def start(self):
        self.open()
        self.committed_seq = 0
        self.books = books(self.restored)
        self.seq = self.restored.seq
        self.questions = []
        self.told = []
        self.tick()

    def close(self):
        self.journal.close()
        self.ledger.close()

    def teardown(self):
        self.when_all_has_a_factor_all_has_its_grams()
        self.close()
        self.directory.cleanup()

    def tick(self):
        self.books.apply_committed(self.committed_seq)
        self.seq += 1
        self.journal.write(checkpoint(self.books, self.seq, factor=None))
        self.shown = self.counters()

    @property
    def here(self):
        return {each.key for each in shown(self.books)}

    def counters(self):
        """Grams on the counters of devices, of runs on the page, and of their owner."""
        found = {"owner": sum(grams for _, _, grams in self.books.owners())}
        for row in self.books.rows():
            of_owner = {"owner"} if row.target in self.here else set()
            for name in {"device", row.target, *of_owner} - {DEPARTED_RUNS}:
                found[name] = found.get(name, 0) + row.balance.counted.carbon_ng
        return found

    @rule(
        amounts=st.dictionaries(names, energies),
        idle=energies,
        factor=st.sampled_from([None, None, EXACT, SAME]),
        minute=st.integers(MINUTE, MINUTE + 1),
    )
    def post(self, amounts, idle, factor, minute):
        where = {"factor": factor, "minute": minute}
        entries = [entry(UnattributedReason.IDLE, idle, **where)]
        entries += [entry(key(n), e, **where) for n, e in amounts.items() if key(n) in self.here]
        self.books.post([posting(*entries)], SECOND)
        self.tick()

    @rule(name=names)
    def begin(self, name):
        if key(name) not in self.here:
            self.questions.append(key(name))
        self.books.update_run(run(name))
        self.tick()

    @rule(name=names)
    def leave(self, name):
        if key(name) in self.here:
            self.books.update_run(run(name, ended=WALL + 60))
            self.books.remove_run(key(name))
            self.tick()

    @rule()
    def hand_over(self):
        handed = batch(self.books, self.seq)
        self.pending = handed if self.pending is None else merge_batches(self.pending, handed)

    @rule()
    def write(self):
        if self.pending is not None:
            self.ledger.commit(self.pending)
            self.committed_seq = self.pending.seq
            self.pending = None

    @rule()
    def commit(self):
        self.hand_over()
        self.write()

    @rule()
    def look_up(self):
        self.told += [self.ledger.stored_run(asked) for asked in self.questions]
        self.questions = []

    @rule(factor=factors, count=st.integers(1, 3))
    def backfill(self, factor, count):
        minutes = self.ledger.unconverted(WALL)[:count]
        backfill_id = self.ledger.backfill(dict.fromkeys(minutes, factor))
        assert (backfill_id is None) == (minutes == ())
        self.told += [backfill_id] if backfill_id else []

    @rule(amounts=st.fixed_dictionaries({"bert": energies, "gpt": energies}), factor=factors)
    def use_and_fill(self, amounts, factor):
        """What most of the rest is about, so that it is not left to chance."""
        self.post(amounts, 1, None, MINUTE)
        self.commit()
        self.backfill(factor, 3)

    @rule(name=names, energy_uj=energies)
    def use_and_leave(self, name, energy_uj):
        self.begin(name)
        self.look_up()
        self.hear()
        self.post({name: energy_uj}, 1, None, MINUTE)
        self.leave(name)
        self.commit()
        self.tick()
        self.commit()

    @rule()
    def hear(self):
        for told in self.told:
            (self.books.backfill if isinstance(told, Backfill) else self.books.restore_run)(told)
        self.told = []
        self.tick()

    @precondition(lambda self: not checkpoint(self.books).layout.awaiting_history)
    @rule(writes=st.lists(st.booleans(), max_size=2))
    def kill_on_the_way_up(self, writes):
        """The ledger was told what it missed, and the journal was not written since."""
        before = self.shown
        self.close()
        for is_written in writes:
            self.open()
            if is_written and self.pending is not None:
                self.ledger.commit(self.pending)
            self.close()
        self.go_on(before)

    @rule()
    def kill(self):
        before = self.shown
        self.close()
        self.go_on(before)

    @rule(reboot=st.booleans(), factor=factors, count=st.integers(0, 1))
    def stop_in_good_order(self, reboot, factor, count):
        self.look_up()
        self.hear()
        handed = batch(self.books, self.seq, clean=True)
        self.ledger.commit(handed if self.pending is None else merge_batches(self.pending, handed))
        self.backfill(factor, count)
        before = self.shown
        self.close()
        self.boot += reboot
        self.go_on(before)

    def go_on(self, before):
        self.start()
        assert not begin_at_zero(self.restored)
        for name, value in self.shown.items():
            assert value >= before.get(name, 0)

    @rule()
    def power_cut(self):
        self.close()
        self.boot += 1
        self.start()
        self.power_was_cut = True
        assert set(self.shown.values()) <= {0}

    def when_all_has_a_factor_all_has_its_grams(self):
        self.bring_home()
        self.backfill(EXACT, 10)
        self.bring_home()
        assert self.ledger.restore().late_carbon == ()
        written = self.ledger.restore().restored
        assert balances(self.books.rows()) == written.lines
        assert {owner: tuple(sums) for owner, *sums in self.books.owners()} == written.owners
        for target, energy_uj, carbon_ng in sums(self.ledger, "total"):
            assert carbon_ng == energy_uj * PER_MICROJOULE, target
        for row in self.books.rows():
            assert row.balance.total.carbon_ng == row.balance.total.energy_uj * PER_MICROJOULE
        for uses in self.books.factor_uses().values():
            assert all(use.carbon_ng == use.energy_uj * PER_MICROJOULE for use in uses)
        if not self.power_was_cut:  # else counters have grams of energy from before
            left_uj = sum(energy_uj for _, energy_uj, _ in self.books.owners())
            counted = [r.balance.counted for r in self.books.rows() if r.target in self.here]
            owned_uj = left_uj + sum(amount.energy_uj for amount in counted)
            assert self.shown["owner"] == owned_uj * PER_MICROJOULE

    def bring_home(self):
        """All that is on its way arrives."""
        self.write()
        self.look_up()
        self.hear()
        self.commit()

    @invariant()
    def usage_is_the_totals(self):
        assert sums(self.ledger, "usage") == sums(self.ledger, "total")

    @invariant()
    def the_departed_have_what_their_runs_have(self):
        sql = (
            "SELECT coalesce(sum(CASE party_id WHEN 99 THEN carbon_ng ELSE -carbon_ng END), 0) "
            "FROM total JOIN party ON party.id = party_id WHERE party_id = 99 OR departed"
        )
        assert query(self.ledger, sql) == [(0,)]

    @invariant()
    def factor_uses_are_the_usage(self):
        sql = "SELECT party_id, factor_id, sum(energy_uj), sum(carbon_ng) FROM {} {} GROUP BY 1, 2"
        of_runs = sql.format("usage", "WHERE party_id > 99")
        assert query(self.ledger, of_runs) == query(self.ledger, sql.format("factor_use", ""))

    @invariant()
    def no_counter_is_below_zero(self):
        assert all(min(row.balance.counted) >= 0 for row in self.books.rows())


FillCrashes.TestCase.settings = settings(stateful_step_count=40, deadline=None)
TestFillCrashes = FillCrashes.TestCase
