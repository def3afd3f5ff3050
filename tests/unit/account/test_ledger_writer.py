"""Ledger thread: no submitted batch is lost, and every failure is reported."""

import logging
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.account.ledger_writer import (
    MAX_PENDING_ROWS,
    PRUNE_EVERY_NS,
    RETRY_SECONDS,
    LedgerWriter,
    fold_to_hours,
    merge_batches,
)
from exporter.errors import LedgerError
from exporter.model.commands import ImportResult, ImportRuns
from exporter.model.ledger import ZERO_AMOUNT, Amount, Backfill, Balance, StoredRun, UsageKey
from exporter.model.readings import Method
from exporter.model.runs import DEPARTED_RUNS
from exporter.model.workload import SplitMethod, UnattributedReason
from tests.unit.account.making import (
    CPU,
    GERMANY,
    GPU,
    INFOS,
    MINUTE,
    SECOND,
    WALL,
    backfill,
    balances,
    batch,
    books,
    key,
    known_run,
    opened,
    position,
    run,
    shown,
)


class Clock:
    def __init__(self):
        self.ns = 1_000 * SECOND

    def boottime_ns(self):
        return self.ns

    def monotonic_ns(self):
        return self.ns

    def wall(self):
        return WALL + self.ns / SECOND


class ByHand:
    """A worker whose calls are made by the test."""

    stalled_seconds = 0.0

    def __init__(self, name, work, period_seconds):
        self.work = work
        self.period_seconds = period_seconds
        self.pokes = 0

    def start(self):
        self.work()

    def wake(self):
        self.pokes += 1

    def stop(self, timeout_seconds):
        self.work()
        return True


class FlakyLedger:
    """Notes what it is asked, and fails while `error` is set."""

    path = "/state/ledger.sqlite"

    def __init__(self):
        self.error = ""
        self.commits = []
        self.pruned = []
        self.damage = ""
        self.checks = 0
        self.minutes = ()
        self.backfill_id = []

    def _try(self):
        if self.error:
            raise LedgerError(self.error)

    def commit(self, handed):
        self._try()
        self.commits.append(handed)

    def unconverted(self, wall):
        return self.minutes

    def backfill(self, factors):
        self._try()
        self.backfill_id.append((len(self.commits), factors))
        self.minutes = tuple(sorted(set(self.minutes) - set(factors)))
        return Backfill(len(self.backfill_id), ()) if factors else None

    def stored_run(self, asked):
        self._try()
        return StoredRun(asked)

    def prune(self, *asked):
        self._try()
        self.pruned.append(asked)

    def quick_check(self):
        self.checks += 1
        return self.damage


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def ledger():
    return FlakyLedger()


def writer_of(ledger, clock, *, check=False):
    return LedgerWriter(
        ledger, clock, keep_minutes_days=35, keep_hours_days=400, check=check, worker=ByHand
    )


@pytest.fixture
def writer(ledger, clock):
    return writer_of(ledger, clock)


def work(writer):
    writer._worker.work()


def empty(seq):
    return batch(books(), seq)


def test_a_submitted_batch_is_committed(writer, ledger, clock):
    writer.submit(empty(3))
    clock.ns += 5
    work(writer)
    assert [handed.seq for handed in ledger.commits] == [3]
    assert (writer.committed_seq, writer.committed_at_ns) == (3, clock.ns)


def test_submitting_wakes_the_thread(writer):
    writer.submit(empty(1))
    writer.look_up(key(), print)
    assert writer._worker.pokes == 2


def test_nothing_to_do_commits_nothing(writer, ledger):
    work(writer)
    assert ledger.commits == []


def test_the_minutes_without_carbon_are_those_after_the_last_commit(writer, ledger):
    ledger.minutes = (MINUTE,)
    work(writer)
    assert writer.unconverted == ()
    writer.submit(empty(1))
    work(writer)
    assert writer.unconverted == (MINUTE,)


def test_a_backfill_comes_after_the_batches_and_before_the_lookups(writer, ledger):
    told = []
    ledger.minutes = (MINUTE, MINUTE + 1)
    writer.look_up(key(), told.append)
    writer.submit(empty(1))
    writer.backfill({MINUTE: GERMANY}, told.append)
    work(writer)
    assert ledger.backfill_id == [(1, {MINUTE: GERMANY})]
    assert told == [Backfill(1, ()), StoredRun(key())]
    assert writer.unconverted == (MINUTE + 1,)


def test_an_empty_backfill_is_not_answered(writer):
    told = []
    writer.backfill({}, told.append)
    work(writer)
    assert told == []


def test_nothing_is_backfilled_while_a_batch_cannot_be_committed(writer, ledger, monkeypatch):
    def full(_):
        raise LedgerError("disk full")

    told = []
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "commit", full)
        writer.submit(empty(1))
        writer.backfill({MINUTE: GERMANY}, told.append)
        work(writer)
        assert ledger.backfill_id == []
    work(writer)
    assert (len(ledger.backfill_id), len(told)) == (1, 1)


def test_a_failed_backfill_is_reported_and_not_answered(writer, ledger):
    told = []
    ledger.error = "disk full"
    writer.backfill({MINUTE: GERMANY}, told.append)
    work(writer)
    assert (writer.why, told) == ("disk full", [])


def test_only_the_last_requested_backfill_is_done(writer, ledger):
    told = []
    for minute in (MINUTE, MINUTE + 1):
        writer.backfill({minute: GERMANY}, told.append)
    work(writer)
    assert ledger.backfill_id == [(0, {MINUTE + 1: GERMANY})]


def test_a_failure_is_counted_reported_and_logged_once(writer, ledger, caplog):
    ledger.error = "disk full; free space"
    writer.submit(empty(1))
    with caplog.at_level(logging.INFO):
        work(writer)
        work(writer)
    assert (writer.errors, writer.why) == (2, "disk full; free space")
    assert [(record.getMessage(), record.error) for record in caplog.records] == [
        ("ledger failed", "disk full; free space")
    ]


def test_what_could_not_be_written_is_written_later(writer, ledger):
    ledger.error = "disk full"
    for seq in (1, 2):
        writer.submit(empty(seq))
        work(writer)
    assert writer.committed_seq == 0
    ledger.error = ""
    work(writer)
    assert [handed.seq for handed in ledger.commits] == [2]
    assert (writer.why, writer.committed_seq) == ("", 2)


def test_a_lookup_is_answered(writer):
    answers = []
    writer.look_up(key(), answers.append)
    work(writer)
    assert answers == [StoredRun(key())]


def test_a_lookup_that_failed_is_answered_later(writer, ledger):
    answers = []
    ledger.error = "gone"
    writer.look_up(key(), answers.append)
    work(writer)
    ledger.error = ""
    work(writer)
    assert answers == [StoredRun(key())]


def test_a_failed_lookup_does_not_prevent_other_work(writer, ledger, monkeypatch):
    def stored_run(asked):
        if asked == key("unreadable"):
            raise LedgerError("row 7 cannot be read")
        return StoredRun(asked)

    monkeypatch.setattr(ledger, "stored_run", stored_run)
    answers = []
    for name in ("unreadable", "bert"):
        writer.look_up(key(name), answers.append)
    writer.submit(empty(3))
    work(writer)
    assert (writer.committed_seq, answers) == (3, [StoredRun(key("bert"))])
    assert (writer.errors, writer.why) == (1, "row 7 cannot be read")


def test_lookups_are_answered_though_commits_fail(writer, ledger, monkeypatch):
    def commit(_):
        raise LedgerError("disk full")

    monkeypatch.setattr(ledger, "commit", commit)
    answers = []
    writer.submit(empty(1))
    writer.look_up(key(), answers.append)
    work(writer)
    assert answers == [StoredRun(key())]
    assert writer.why == "disk full"


def test_a_defect_is_counted_reported_and_logged_once(writer, ledger, monkeypatch, caplog):
    def commit(_):
        raise TypeError("no such thing")

    monkeypatch.setattr(ledger, "commit", commit)
    writer.submit(empty(1))
    work(writer)
    work(writer)
    assert writer.errors == 2
    assert "TypeError('no such thing')" in writer.why
    (record,) = caplog.records
    assert record.exc_info[0] is TypeError


def test_an_unresponsive_disk_is_reported(writer, ledger):
    writer._worker.stalled_seconds = 41.2
    assert "/state/ledger.sqlite has not responded for 41 s" in writer.why
    writer._worker.stalled_seconds = 0.0
    assert writer.why == ""


def test_old_usage_is_pruned_each_hour(writer, ledger, clock):
    work(writer)
    clock.ns += PRUNE_EVERY_NS
    work(writer)
    work(writer)
    assert ledger.pruned == [(clock.wall(), 35, 400)]


def test_the_file_is_checked_once_after_an_unclean_shutdown(ledger, clock):
    writer = writer_of(ledger, clock, check=True)
    work(writer)
    work(writer)
    assert ledger.checks == 1


def test_the_file_is_not_checked_after_a_clean_shutdown(writer, ledger):
    work(writer)
    assert ledger.checks == 0


def test_damage_stays_reported(ledger, clock):
    ledger.damage = "page 3 is lost"
    writer = writer_of(ledger, clock, check=True)
    for seq in (1, 2):
        writer.submit(empty(seq))
        work(writer)
    assert "page 3 is lost; stop the exporter" in writer.why
    assert (writer.errors, len(ledger.commits)) == (1, 2)


def test_stopping_commits_what_is_left(writer, ledger):
    writer.submit(empty(9)._replace(clean=True))
    assert writer.stop(1.0)
    assert not writer.is_behind
    assert [handed.clean for handed in ledger.commits] == [True]


def test_stopping_reports_that_a_batch_was_not_written(writer, ledger):
    ledger.error = "disk full"
    writer.submit(empty(9))
    assert writer.stop(1.0)
    assert writer.is_behind


def test_a_thread_of_its_own_commits(tmp_path, clock):
    with closing(opened(tmp_path)) as ledger:
        writer = LedgerWriter(ledger, clock, keep_minutes_days=35, keep_hours_days=400, check=True)
        writer.start()
        made = books()
        backfill(made)
        writer.submit(batch(made, seq=4, clean=True))
        assert writer.stop(60.0)
        assert ledger.restore().restored.lines == balances(made.rows())
    assert writer.why == ""


def test_the_thread_tries_again_by_itself(writer):
    assert writer._worker.period_seconds == RETRY_SECONDS


usage_keys = st.builds(
    UsageKey,
    st.integers(MINUTE, MINUTE + 200),
    st.sampled_from([CPU, GPU]),
    st.sampled_from([key(), UnattributedReason.IDLE]),
    st.sampled_from([GERMANY, None]),
    st.just(Method.COUNTER),
    st.just(SplitMethod.REST),
)
usages = st.dictionaries(usage_keys, st.builds(Amount, *[st.integers(0, 10**15)] * 3), max_size=8)


def total(usage):
    amount = ZERO_AMOUNT
    for each in usage.values():
        amount = amount.plus(each)
    return amount


@settings(max_examples=30, deadline=None)
@given(usages, usages)
def test_merging_adds_usage_by_key(old, new):
    merged = merge_batches(empty(1)._replace(usage=old), empty(2)._replace(usage=new)).usage
    assert merged == {
        k: old.get(k, ZERO_AMOUNT).plus(new.get(k, ZERO_AMOUNT)) for k in old.keys() | new.keys()
    }


@settings(max_examples=30, deadline=None)
@given(usages)
def test_aggregating_to_hours_keeps_the_sums(usage):
    folded = fold_to_hours(usage)
    assert total(folded) == total(usage)
    assert {k.minute % 60 for k in folded} <= {0}


def test_usage_that_accumulates_is_aggregated():
    many = {
        UsageKey(
            minute, CPU, UnattributedReason.IDLE, None, Method.COUNTER, SplitMethod.REST
        ): Amount(1, 0, 0)
        for minute in range(MAX_PENDING_ROWS + 1)
    }
    merged = merge_batches(empty(1)._replace(usage=many), empty(2)).usage
    assert len(merged) == MAX_PENDING_ROWS // 60 + 1
    assert total(merged) == Amount(MAX_PENDING_ROWS + 1, 0, 0)


def test_merging_takes_the_later_of_everything_else():
    old = batch(books(), 1, counter_states=(position(), position(GPU)), floors={CPU: 1.0, GPU: 2.0})
    new = batch(books(), 2, counter_states=(position(raw_uj=9),), floors={CPU: 3.0}, infos=())
    line = next(iter(old.lines))
    merged = merge_batches(
        old._replace(runs=(run(),)),
        new._replace(
            runs=(run(ended=WALL),),
            lines={line: Balance(Amount(5, 0, 0))},
            backfill_id=7,
            journaled_backfill_id=6,
        ),
    )
    assert (merged.seq, merged.wall) == (2, new.wall)
    assert (merged.backfill_id, merged.journaled_backfill_id) == (7, 6)
    assert set(merged.counter_states) == {position(raw_uj=9), position(GPU)}
    assert merged.floors == {CPU: 3.0, GPU: 2.0}
    assert merged.runs == (run(ended=WALL),)
    assert merged.infos == INFOS
    assert merged.lines == {**old.lines, line: Balance(Amount(5, 0, 0))}


def test_a_departure_is_kept_unless_the_run_came_back():
    old = empty(1)._replace(departed=(key("bert"), key("gpt")))
    new = empty(2)._replace(runs=(run("bert"),), departed=(key("clip"),))
    assert merge_batches(old, new).departed == (key("gpt"), key("clip"))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(["fill", "end", "depart", "back"]), max_size=12))
def test_merged_batches_leave_the_ledger_as_if_written_one_by_one(tmp_path_factory, steps):
    made = books()
    known_run(made, run())
    batches = [batch(made, seq=0)]
    for seq, step in enumerate(steps, 1):
        if step == "fill" and shown(made):
            backfill(made, names=("bert",), rounds=1, seed=seq)
        elif step == "end" and shown(made):
            made.update_run(run(ended=WALL))
            made.remove_run(key())
        elif step == "depart":
            made.apply_committed(seq - 1)
        elif step == "back" and not shown(made):
            known_run(made, run())
        batches.append(batch(made, seq=seq))
    merged = batches[0]
    for following in batches[1:]:
        merged = merge_batches(merged, following)
    with closing(opened(tmp_path_factory.mktemp("one"))) as one:
        one.commit(merged)
        known_one = one.restore([key(), DEPARTED_RUNS])
    with closing(opened(tmp_path_factory.mktemp("many"))) as many:
        for each in batches:
            many.commit(each)
        known_many = many.restore([key(), DEPARTED_RUNS])
    assert known_one._replace(ledger_id="") == known_many._replace(ledger_id="")


def test_an_import_is_done_once_and_answered(writer, ledger):
    ledger.import_runs = lambda records: ImportResult(len(records), 0, 0)
    told = []
    writer.import_runs(ImportRuns(()), told.append)
    work(writer)
    work(writer)
    assert told == [ImportResult(0, 0, 0)]


def test_an_import_that_cannot_be_written_is_refused(writer, ledger):
    def fail(_):
        raise LedgerError("the disk is full")

    ledger.import_runs = fail
    told = []
    writer.import_runs(ImportRuns(()), told.append)
    work(writer)
    (refused,) = told
    assert (refused.status, str(refused)) == (503, "nothing was imported: the disk is full")
    assert writer.why == "the disk is full"
