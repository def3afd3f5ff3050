"""Energy without a factor gets its carbon in the ledger, then in the books, exactly once."""

import os

import pytest

from exporter.account.journal import Journal
from exporter.account.ledger import BACKFILL_DAYS
from exporter.account.ledger_writer import merge_batches
from exporter.account.recovery import recover
from exporter.errors import LedgerError
from exporter.model.ledger import AccountKey, FactorUse
from exporter.model.readings import Method
from exporter.model.runs import DEPARTED_RUNS, Owner
from exporter.model.workload import SplitMethod, UnattributedReason
from exporter.units import SECONDS_PER_DAY, carbon_ng
from tests.unit.account.making import (
    CPU,
    FRANCE,
    GERMANY,
    GPU,
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
    known_run,
    opened,
    posting,
    query,
    run,
)

EXACT = GERMANY._replace(grams_per_kwh=10_800.0, pue=1.0)
"""Three nanograms for each microjoule, as those that `entry` knows a factor of."""
CPU_LINE = AccountKey(CPU, key(), Method.COUNTER, SplitMethod.CPU_TIME)
IDLE_LINE = CPU_LINE._replace(target=UnattributedReason.IDLE)
GONE_LINE = CPU_LINE._replace(target=DEPARTED_RUNS)


def grams(energy_uj, factor=GERMANY):
    return carbon_ng(energy_uj, factor.grams_per_kwh, factor.pue)


class Daemon:
    """Ledger, journal and books as a pipeline and a writer use them, each step by hand."""

    def __init__(self, directory, boot="boot-1"):
        self.directory = directory
        self.boot = boot
        self.open()

    def open(self):
        self.ledger = opened(self.directory)
        self.journal = Journal(str(self.directory / "journal"))
        self.recovered = recover(self.ledger, self.journal, self.boot, WALL)
        self.ledger.start()
        if self.recovered.batch is not None:
            self.ledger.commit(self.recovered.batch)
        self.books = books(self.recovered.restored)
        self.seq = self.recovered.restored.seq

    def kill(self):
        self.close()
        self.open()

    def close(self):
        self.journal.close()
        self.ledger.close()

    def post(self, target, energy_uj, **changes):
        where = {"factor": None, **changes}
        self.books.post([posting(entry(target, energy_uj, **where))], SECOND)

    def show(self):
        self.seq += 1
        self.journal.write(checkpoint(self.books, self.seq, factor=None))

    def hand_over(self, **changes):
        return batch(self.books, self.seq, **changes)

    def commit(self, **changes):
        self.ledger.commit(self.hand_over(**changes))

    def save(self):
        self.show()
        self.commit()

    def backfill(self, factor=GERMANY):
        return self.ledger.backfill(dict.fromkeys(self.ledger.unconverted(WALL), factor))

    def begin(self):
        known_run(self.books, run())

    def leave(self):
        self.books.update_run(run(ended=WALL))
        self.books.remove_run(key())
        self.save()
        self.books.apply_committed(self.seq)

    def carbon(self, line):
        """What the books say, and what the ledger says."""
        written = {**self.ledger.restore().restored.lines, **self.ledger.stored_run(key()).lines}
        known = balances(self.books.rows())
        return tuple(
            where[line].total.carbon_ng if line in where else 0 for where in (known, written)
        )

    def check(self):
        """The ledger's usage is its totals."""
        usage, total = (
            query(
                self.ledger,
                "SELECT party_id, device_id, method, split, sum(energy_uj), sum(held_uj), "
                f"sum(carbon_ng) FROM {table} WHERE party_id != 99 GROUP BY 1, 2, 3, 4 "
                "HAVING sum(energy_uj) > 0 ORDER BY 1, 2, 3, 4",
            )
            for table in ("usage", "total")
        )
        assert usage == total


@pytest.fixture
def daemon(tmp_path):
    made = Daemon(tmp_path / "state")
    made.show()
    yield made
    made.check()
    made.close()


def test_an_account_of_no_run_gets_exactly_its_carbon(daemon):
    for _ in range(3):
        daemon.post(UnattributedReason.IDLE, 1_000_001)
    daemon.save()
    assert daemon.ledger.unconverted(WALL) == (MINUTE,)
    daemon.books.backfill(daemon.backfill())
    assert daemon.carbon(IDLE_LINE) == (grams(3_000_003),) * 2
    assert daemon.ledger.unconverted(WALL) == ()


def test_a_run_gets_its_carbon_and_its_factors_are_updated(daemon):
    daemon.begin()
    daemon.post(key(), 1_000)
    daemon.post(key(), 500, factor=FRANCE)
    daemon.save()
    daemon.books.backfill(daemon.backfill())
    assert daemon.carbon(CPU_LINE) == (grams(1_000) + 1_500,) * 2
    uses = {FactorUse(GERMANY, 1_000, grams(1_000)), FactorUse(FRANCE, 500, 1_500)}
    assert set(daemon.books.factor_uses()[key()]) == uses
    assert set(daemon.ledger.stored_run(key()).factor_uses) == uses


def test_counters_rise_by_what_came_late(daemon):
    daemon.post(UnattributedReason.IDLE, 1_000)
    daemon.save()
    daemon.books.backfill(daemon.backfill())
    counted = balances(daemon.books.rows())[IDLE_LINE].counted
    assert (counted.energy_uj, counted.carbon_ng) == (1_000, grams(1_000))


def test_late_carbon_is_not_added_to_usage_again(daemon):
    daemon.post(UnattributedReason.IDLE, 1_000)
    daemon.save()
    daemon.books.backfill(daemon.backfill())
    daemon.show()
    assert daemon.hand_over().usage == {}


def test_each_minute_has_its_own_factor(daemon):
    factors = {MINUTE: GERMANY, MINUTE + 1: FRANCE, MINUTE + 2: GERMANY}
    for minute in factors:
        daemon.post(UnattributedReason.IDLE, 10_000, minute=minute)
        daemon.post(UnattributedReason.IDLE, 70_000, minute=minute, device=GPU)
    daemon.save()
    daemon.books.backfill(daemon.ledger.backfill(factors))
    assert daemon.carbon(IDLE_LINE) == (2 * grams(10_000) + grams(10_000, FRANCE),) * 2
    gpu = IDLE_LINE._replace(device=GPU)
    assert daemon.carbon(gpu) == (2 * grams(70_000) + grams(70_000, FRANCE),) * 2


def test_a_row_of_the_same_factor_takes_it_in(daemon):
    daemon.post(UnattributedReason.IDLE, 1_000, factor=GERMANY)
    daemon.post(UnattributedReason.IDLE, 2_000)
    daemon.save()
    daemon.books.backfill(daemon.backfill())
    rows = query(daemon.ledger, "SELECT energy_uj, carbon_ng FROM usage")
    assert rows == [(3_000, 3_000 + grams(2_000))]


def test_minutes_without_gaps_are_left_alone(daemon):
    daemon.post(UnattributedReason.IDLE, 1_000, factor=FRANCE)
    daemon.save()
    assert daemon.ledger.backfill({MINUTE: GERMANY, MINUTE + 5: GERMANY}) is None
    assert daemon.carbon(IDLE_LINE) == (3_000, 3_000)


def test_a_second_backfill_finds_nothing(daemon):
    daemon.post(UnattributedReason.IDLE, 1_000)
    daemon.save()
    factors = {MINUTE: GERMANY}
    assert daemon.ledger.backfill(factors) is not None
    assert daemon.ledger.backfill(factors) is None


def test_what_comes_to_a_backfilled_minute_later_is_backfilled_later(daemon):
    for energy_uj in (1_000, 500):
        daemon.post(UnattributedReason.IDLE, energy_uj)
        daemon.save()
        daemon.books.backfill(daemon.backfill())
    assert daemon.carbon(IDLE_LINE) == (grams(1_000) + grams(500),) * 2


def test_minutes_that_are_too_old_are_forgotten(daemon):
    daemon.post(UnattributedReason.IDLE, 1_000)
    daemon.save()
    days = BACKFILL_DAYS * SECONDS_PER_DAY
    assert daemon.ledger.unconverted(WALL + days - 60) == (MINUTE,)
    assert daemon.ledger.unconverted(WALL + days + 60) == ()


def test_many_minutes_are_found_by_the_index(daemon):
    for minute in range(MINUTE, MINUTE + 500, 5):
        daemon.post(UnattributedReason.IDLE, 10, minute=minute)
        daemon.post(UnattributedReason.OTHER, 10, minute=minute + 1, factor=GERMANY)
    daemon.save()
    assert daemon.ledger.unconverted(WALL) == tuple(range(MINUTE, MINUTE + 500, 5))


def test_a_run_that_has_left_gets_its_carbon_among_the_departed(daemon):
    daemon.begin()
    daemon.post(key(), 1_000)
    daemon.leave()
    daemon.save()
    daemon.books.backfill(daemon.backfill())
    assert daemon.carbon(GONE_LINE) == (grams(1_000),) * 2
    assert daemon.ledger.stored_run(key()).lines[CPU_LINE].total.carbon_ng == grams(1_000)
    assert daemon.ledger.stored_run(key()).factor_uses == (FactorUse(GERMANY, 1_000, grams(1_000)),)
    assert daemon.books.owners() == ((Owner("ada"), 1_000, grams(1_000)),)
    assert daemon.ledger.restore().restored.owners == {Owner("ada"): (1_000, grams(1_000))}


def test_what_came_late_for_a_run_that_has_left_gets_its_carbon(daemon):
    daemon.begin()
    daemon.leave()
    daemon.post(key(), 1_000)
    daemon.save()
    daemon.books.backfill(daemon.backfill())
    assert daemon.carbon(GONE_LINE) == (grams(1_000),) * 2


@pytest.mark.parametrize("is_shown", [False, True])
def test_a_run_that_leaves_between_the_backfill_and_its_result(daemon, is_shown):
    daemon.begin()
    daemon.post(key(), 1_000)
    daemon.save()
    backfill_id = daemon.backfill()
    daemon.leave()
    daemon.save()
    assert daemon.carbon(GONE_LINE) == (0, grams(1_000))
    daemon.books.backfill(backfill_id)
    if is_shown:
        daemon.save()
    assert daemon.carbon(GONE_LINE) == (grams(1_000),) * 2
    daemon.kill()
    assert daemon.carbon(GONE_LINE) == (grams(1_000),) * 2
    assert daemon.ledger.stored_run(key()).lines[CPU_LINE].total.carbon_ng == grams(1_000)
    assert daemon.books.owners() == ((Owner("ada"), 1_000, grams(1_000)),)


@pytest.mark.parametrize("is_committed", [False, True])
@pytest.mark.parametrize("is_in_past", [False, True])
def test_a_run_that_comes_back_between_the_backfill_and_its_result(
    daemon, is_in_past, is_committed
):
    daemon.begin()
    daemon.post(key(), 1_000)
    daemon.leave()
    daemon.save()
    stored_run = daemon.ledger.stored_run(key())
    backfill_id = daemon.backfill()
    if is_in_past:
        stored_run = daemon.ledger.stored_run(key())
    daemon.books.update_run(run())
    steps = [
        lambda: daemon.books.backfill(backfill_id),
        lambda: daemon.books.restore_run(stored_run),
    ]
    for step in steps if is_in_past else reversed(steps):
        if is_committed:
            daemon.save()
        step()
    daemon.save()
    assert daemon.carbon(CPU_LINE) == (grams(1_000),) * 2
    assert daemon.carbon(GONE_LINE) == (0, 0)
    # Either its own counter shows them now or its owner's sum has them.
    ((_, _, of_owner),) = daemon.books.owners()
    counted = balances(daemon.books.rows())[CPU_LINE].counted
    assert of_owner + counted.carbon_ng == grams(1_000)
    assert daemon.ledger.restore().restored.owners[Owner("ada")][1] == of_owner


def test_a_run_that_awaits_its_stored_totals_after_a_kill_has_its_carbon(daemon):
    daemon.begin()
    daemon.post(key(), 1_000)
    daemon.leave()
    daemon.save()
    daemon.backfill()
    daemon.books.update_run(run())
    daemon.post(key(), 10, factor=FRANCE)
    daemon.show()
    daemon.kill()
    assert daemon.carbon(CPU_LINE) == (grams(1_000) + 30,) * 2
    assert daemon.carbon(GONE_LINE) == (0, 0)
    assert daemon.books.owners() == ((Owner("ada"), 1_000, grams(1_000)),)


def test_commits_between_the_backfill_and_its_result_leave_the_owner_its_carbon(daemon):
    daemon.begin()
    daemon.post(key(), 1_000)
    daemon.leave()
    daemon.save()
    daemon.backfill()
    for _ in range(2):
        daemon.save()
        assert daemon.ledger.restore().restored.owners == {Owner("ada"): (1_000, grams(1_000))}


STEPS = ("fill", "hear", "show", "commit", "show")


@pytest.mark.parametrize("reached", range(len(STEPS) + 1))
@pytest.mark.parametrize("kills", [1, 2])
@pytest.mark.parametrize("has_left", [False, True])
def test_a_kill_at_any_step_loses_and_doubles_nothing(daemon, reached, kills, has_left):
    daemon.begin()
    daemon.post(key(), 1_000)
    daemon.post(UnattributedReason.IDLE, 2_000)
    daemon.save()
    if has_left:
        daemon.leave()
        daemon.save()
    backfill_id = None
    for step in STEPS[:reached]:
        match step:
            case "fill":
                backfill_id = daemon.backfill()
            case "hear":
                daemon.books.backfill(backfill_id)
            case "show":
                daemon.show()
            case "commit":
                daemon.commit()
    for _ in range(kills):  # the second before the journal is written again
        daemon.kill()
        assert not begin_at_zero(daemon.recovered.restored)
    daemon.show()
    late = daemon.backfill()
    if late is not None:
        daemon.books.backfill(late)
    daemon.save()
    line = GONE_LINE if has_left else CPU_LINE
    assert daemon.carbon(line) == (grams(1_000),) * 2
    assert daemon.carbon(IDLE_LINE) == (grams(2_000),) * 2
    assert daemon.ledger.stored_run(key()).factor_uses == (FactorUse(GERMANY, 1_000, grams(1_000)),)
    assert daemon.ledger.restore().late_carbon == ()


def test_a_backfill_after_the_last_commit_of_a_clean_shutdown_is_found(daemon):
    daemon.post(UnattributedReason.IDLE, 1_000)
    daemon.show()
    daemon.commit(clean=True)
    daemon.backfill()
    daemon.kill()
    assert daemon.recovered.clean
    assert daemon.carbon(IDLE_LINE) == (grams(1_000),) * 2


def test_without_a_journal_the_totals_have_it(daemon, tmp_path):
    daemon.post(UnattributedReason.IDLE, 1_000)
    daemon.save()
    daemon.backfill()
    os.unlink(tmp_path / "state" / "journal")
    daemon.kill()
    assert begin_at_zero(daemon.recovered.restored)
    assert daemon.carbon(IDLE_LINE) == (grams(1_000),) * 2
    daemon.save()
    assert daemon.carbon(IDLE_LINE) == (grams(1_000),) * 2


def test_totals_that_were_written_without_it_have_it_again(daemon):
    daemon.post(UnattributedReason.IDLE, 1_000)
    daemon.save()
    daemon.backfill()
    daemon.post(UnattributedReason.IDLE, 50, factor=FRANCE)
    daemon.save()
    assert daemon.carbon(IDLE_LINE) == (150, 150 + grams(1_000))


def test_batches_that_piled_up_before_and_after_the_result_are_right_together(daemon):
    daemon.post(UnattributedReason.IDLE, 1_000)
    daemon.save()
    backfill_id = daemon.backfill()
    daemon.post(UnattributedReason.IDLE, 50, factor=FRANCE)
    daemon.show()
    old = daemon.hand_over()
    daemon.books.backfill(backfill_id)
    daemon.show()
    daemon.ledger.commit(merge_batches(old, daemon.hand_over()))
    assert daemon.carbon(IDLE_LINE) == (150 + grams(1_000),) * 2


def test_a_backfill_that_fails_changes_nothing(daemon):
    daemon.post(UnattributedReason.IDLE, 1_000)
    daemon.save()
    before = daemon.ledger.restore()
    (pages,) = query(daemon.ledger, "PRAGMA page_count")[0]
    query(daemon.ledger, f"PRAGMA max_page_count = {pages}")
    huge = {MINUTE: GERMANY._replace(zone="x" * 100_000)}
    with pytest.raises(LedgerError, match="free space on its disk"):
        daemon.ledger.backfill(huge)
    assert daemon.ledger.restore() == before
    assert daemon.ledger.unconverted(WALL) == (MINUTE,)
    query(daemon.ledger, "PRAGMA max_page_count = 1000000")
    assert daemon.ledger.backfill(huge).id == 1


def test_ids_are_not_given_twice(daemon):
    found = []
    for number in range(3):
        daemon.post(UnattributedReason.IDLE, 1_000, minute=MINUTE + number)
        daemon.save()
        backfill_id = daemon.backfill()
        found.append(backfill_id.id)
        daemon.books.backfill(backfill_id)
        daemon.save()
        daemon.kill()
        daemon.save()
        assert query(daemon.ledger, "SELECT * FROM fill") == []
    assert found == [1, 2, 3]


def test_carbon_of_a_factor_lost_in_a_crash_is_not_counted_twice(daemon):
    """What the journal had beyond the ledger is written up under the last factor: none."""
    daemon.post(UnattributedReason.IDLE, 1_000_000, factor=GERMANY)
    daemon.post(UnattributedReason.IDLE, 1_000)
    daemon.show()
    daemon.kill()
    (minute,) = daemon.ledger.unconverted(WALL)
    daemon.books.backfill(daemon.ledger.backfill({minute: EXACT}))
    assert daemon.carbon(IDLE_LINE) == (3_003_000, 3_003_000)
