"""Merge of a provisional run: what counters show, and what the ledger has."""

import pytest

from exporter.account.journal import Journal
from exporter.account.ledger_writer import merge_batches
from exporter.account.recovery import recover
from exporter.model.ledger import Amount, Backfill, LateCarbon, StoredRun
from exporter.model.runs import DEPARTED_RUNS, Owner, RunMerge
from tests.unit.account.making import (
    CPU,
    FRANCE,
    GERMANY,
    MINUTE,
    SECOND,
    WALL,
    batch,
    books,
    checkpoint,
    device_sums,
    entry,
    key,
    known_run,
    opened,
    posting,
    query,
    run,
)

POD, BERT = key("pod")._replace(uid=-2), key("bert")


def provisional(**changes):
    return run(user="", owner=None, is_provisional=True, **changes)._replace(key=POD)


def use(made, target, energy_uj, **where):
    made.post([posting(entry(target, energy_uj, **where))], SECOND)


@pytest.fixture
def made():
    """Books with a provisional run that has used 100."""
    made = books()
    known_run(made, provisional())
    use(made, POD, 100)
    return made


def of(made, target):
    return sum(row.balance.total.energy_uj for row in made.rows() if row.target == target)


def counted(made, target):
    return sum(row.balance.counted.energy_uj for row in made.rows() if row.target == target)


def owners(made):
    return {owner: energy_uj for owner, energy_uj, _ in made.owners()}


def test_a_new_run_has_all_that_was_booked_before_it_was_known(made):
    known_run(made, run())
    before = device_sums(made.rows())
    assert made.merge(RunMerge(POD, BERT))
    assert (of(made, BERT), counted(made, BERT), of(made, POD)) == (100, 100, 0)
    assert device_sums(made.rows()) == before
    assert [info.key for info in checkpoint(made).layout.runs] == [BERT]
    assert set(made.factor_uses()) == {BERT}


def test_a_counter_that_was_shown_beside_another_one_is_not_added_to_it(made):
    known_run(made, run())
    use(made, BERT, 7)
    before = device_sums(made.rows())
    assert made.merge(RunMerge(POD, BERT, is_counted=False))
    assert (of(made, BERT), counted(made, BERT), counted(made, DEPARTED_RUNS)) == (107, 7, 100)
    assert device_sums(made.rows()) == before
    assert owners(made) == {Owner("ada"): 100}


def test_it_waits_until_stored_totals_are_restored(made):
    made.update_run(run())
    assert not made.merge(RunMerge(POD, BERT))
    made.restore_run(StoredRun(BERT))
    assert made.merge(RunMerge(POD, BERT))


def test_one_that_is_not_there_any_more_is_done(made):
    assert made.merge(RunMerge(POD, key("gone")))
    assert made.merge(RunMerge(key("gone"), POD))
    assert of(made, POD) == 100


def test_a_provisional_run_is_of_no_owner_until_it_is_identified_or_ends(made):
    assert POD not in made.owner_of()
    made.update_run(provisional()._replace(namespace="ml", is_provisional=False))
    assert made.owner_of() == {POD: Owner("", "ml")}
    made = books()
    known_run(made, provisional(ended=WALL))
    assert made.owner_of() == {POD: Owner("")}


def test_where_an_owner_was_settled_its_counter_keeps_what_it_has_shown():
    made = books()
    known_run(made, provisional(namespace="a")._replace(is_provisional=False))
    use(made, POD, 100)
    known_run(made, run(owner=Owner("", "b")))
    assert made.merge(RunMerge(POD, BERT))
    assert owners(made) == {Owner("", "a"): 100}
    assert (of(made, BERT), counted(made, BERT)) == (100, 0)


def test_a_run_that_ended_unnamed_is_not_added_to_a_counter_that_is_shown(made):
    made.update_run(provisional(ended=WALL, namespace="ml"))
    known_run(made, run(owner=Owner("", "ml")))
    use(made, BERT, 7)
    assert made.merge(RunMerge(POD, BERT, is_counted=False))
    assert (of(made, BERT), counted(made, BERT), counted(made, DEPARTED_RUNS)) == (107, 7, 100)
    assert owners(made) == {Owner("", "ml"): 100}


def test_what_comes_late_for_a_run_that_became_another_one_is_of_that(made):
    known_run(made, run())
    made.merge(RunMerge(POD, BERT))
    use(made, POD, 5)
    assert (of(made, BERT), of(made, DEPARTED_RUNS)) == (105, 0)


def test_carbon_that_come_late_are_those_of_the_run_that_it_became(made):
    known_run(made, run())
    line = next(row for row in checkpoint(made).layout.lines if row.target == POD)
    made.merge(RunMerge(POD, BERT))
    made.backfill(Backfill(1, (LateCarbon(1, line, 11),), {}))
    (row,) = [row for row in made.rows() if row.target == BERT and row.device == CPU]
    assert row.balance.total == Amount(100, 25, 311)


def test_the_ledger_has_one_run_with_all_usage(tmp_path, made):
    ledger = opened(tmp_path)
    known_run(made, run())
    for target, factor, minute in ((POD, FRANCE, 0), (BERT, GERMANY, 0), (BERT, GERMANY, 1)):
        use(made, target, 10, factor=factor, minute=MINUTE + minute)
    ledger.commit(batch(made, 1))
    made.merge(RunMerge(POD, BERT))
    use(made, BERT, 1)
    checkpoint(made, 2)
    ledger.commit(batch(made, 2))
    assert query(ledger, "SELECT uid, run_id FROM party WHERE id > 99") == [(1000, "bert")]
    for table in ("usage", "factor_use", "total"):
        sql = f"SELECT sum(energy_uj) FROM {table} WHERE party_id > 99"
        assert query(ledger, sql) == [(131,)], table
    assert query(ledger, "PRAGMA foreign_key_check") == []
    assert ledger.stored_run(BERT).lines == {
        row[:4]: row.balance for row in made.rows() if row.target == BERT
    }
    ledger.close()


def test_a_run_that_the_ledger_has_never_seen_takes_the_row_of_the_one_it_was(tmp_path, made):
    ledger = opened(tmp_path)
    ledger.commit(batch(made, 1))
    known_run(made, run(namespace="ml"))
    made.merge(RunMerge(POD, BERT))
    ledger.commit(batch(made, 2))
    found = query(ledger, "SELECT run_id, namespace FROM party WHERE id > 99")
    assert found == [("bert", "ml")]
    assert query(ledger, "SELECT sum(energy_uj) FROM usage WHERE party_id > 99") == [(100,)]
    ledger.close()


def test_batches_that_waited_for_the_disk_have_one_run_as_well(tmp_path, made):
    ledger = opened(tmp_path)
    waiting = batch(made, 1)
    known_run(made, run())
    made.merge(RunMerge(POD, BERT))
    ledger.commit(merge_batches(waiting, batch(made, 2)))
    assert query(ledger, "SELECT run_id FROM party WHERE id > 99") == [("bert",)]
    assert query(ledger, "SELECT sum(energy_uj) FROM usage WHERE party_id > 99") == [(100,)]
    ledger.close()


def test_old_hours_and_what_is_inside_go_over_too(tmp_path, made):
    ledger = opened(tmp_path)
    known_run(made, run())
    known_run(made, run("inner", enclosing=POD))
    use(made, BERT, 10)
    ledger.commit(batch(made, 1))
    ledger.prune(WALL + 30 * 86_400, 1, 365)
    made.merge(RunMerge(POD, BERT))
    ledger.commit(batch(made, 2))
    hours = "SELECT run_id, sum(energy_uj) FROM usage_hour JOIN party ON party.id = party_id"
    assert query(ledger, f"{hours} WHERE party.id > 99 GROUP BY 1") == [("bert", 110)]
    inner = "SELECT enclosing_run_id FROM party WHERE run_id = 'inner'"
    assert query(ledger, inner) == [("bert",)]
    ledger.close()


class Life:
    """Books, journal and ledger of a daemon that is killed and started again."""

    def __init__(self, directory):
        self.directory = directory
        self.seq = 0
        self.start()

    def start(self):
        self.ledger = opened(self.directory)
        self.journal = Journal(str(self.directory / "journal"))
        recovered = recover(self.ledger, self.journal, "boot", WALL)
        self.ledger.start()
        self.first = recovered.batch
        self.books = books(recovered.restored)
        self.seq = recovered.restored.seq

    def tick(self):
        self.seq += 1
        self.journal.write(checkpoint(self.books, self.seq))

    def commit(self):
        self.ledger.commit(batch(self.books, self.seq))

    def kill(self):
        self.journal.close()
        self.ledger.close()
        self.start()

    def written(self):
        """Energy by run in the totals and in the usage of the ledger."""
        return [
            dict(
                query(
                    self.ledger,
                    f"SELECT run_id, sum(energy_uj) FROM {table} JOIN party ON party.id = party_id "
                    "WHERE party.id > 99 GROUP BY 1",
                )
            )
            for table in ("total", "usage", "factor_use")
        ]


@pytest.fixture
def life(tmp_path):
    """The ledger has 100 of a provisional run, which has become `bert`; the journal knows that."""
    life = Life(tmp_path)
    known_run(life.books, provisional())
    use(life.books, POD, 100)
    life.tick()
    life.commit()
    known_run(life.books, run())
    use(life.books, BERT, 10)
    life.books.merge(RunMerge(POD, BERT))
    life.tick()
    yield life
    life.journal.close()
    life.ledger.close()


@pytest.mark.parametrize("kills", [1, 2, 3])
def test_a_kill_before_the_ledger_has_a_merge_loses_and_doubles_nothing(life, kills):
    for _ in range(kills):
        life.kill()
        assert (of(life.books, BERT), counted(life.books, BERT)) == (110, 110)
        life.tick()
    life.ledger.commit(life.first)
    use(life.books, BERT, 1)
    life.tick()
    life.commit()
    assert life.written() == [{"bert": 111}] * 3


@pytest.mark.parametrize("has_ticked", [False, True])
def test_a_kill_after_the_ledger_has_a_merge_does_not_repeat_it(life, has_ticked):
    life.commit()
    known_run(life.books, provisional())  # one that has the key of the old one
    use(life.books, POD, 7)
    if has_ticked:
        life.tick()
        life.commit()
    life.kill()
    expected = {"bert": 110, "pod": 7} if has_ticked else {"bert": 110}
    here = [each.key for each in checkpoint(life.books).layout.runs]
    assert {each.run_id: of(life.books, each) for each in here} == expected
    assert {each.run_id: counted(life.books, each) for each in here} == expected
    if life.first is not None:
        life.ledger.commit(life.first)
    assert life.written() == [expected] * 3


def test_a_key_that_comes_back_before_the_ledger_has_the_merge_starts_again(life):
    life.books.update_run(provisional())
    use(life.books, POD, 7)
    life.books.restore_run(life.ledger.stored_run(POD))
    assert (of(life.books, POD), of(life.books, BERT), of(life.books, DEPARTED_RUNS)) == (7, 110, 0)
    life.tick()
    life.kill()
    life.ledger.commit(life.first)
    assert life.written() == [{"bert": 110, "pod": 7}] * 3


def test_a_key_that_comes_back_and_waits_for_the_ledger_at_a_kill_starts_again(life):
    life.books.update_run(provisional())
    use(life.books, POD, 7)
    life.tick()
    life.kill()
    life.ledger.commit(life.first)
    assert life.written() == [{"bert": 110, "pod": 7}] * 3


def test_after_a_power_cut_what_the_ledger_has_counts(life):
    life.journal.close()
    (life.directory / "journal").unlink()
    life.ledger.close()
    life.start()
    assert (of(life.books, POD), counted(life.books, POD)) == (100, 0)
