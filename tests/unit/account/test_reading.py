"""Ledgers that are read without their daemon, one or several combined."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from exporter.account.archive import LedgerArchive
from exporter.account.journal import Journal
from exporter.account.journal_format import JournalOrigin
from exporter.account.ledger import Ledger
from exporter.account.reading import LedgerReader, Ledgers, shared
from exporter.errors import LedgerError
from exporter.model.ledger import Amount, FactorUse, sum_amounts
from exporter.model.record import ANY_RUN, GroupBy, RecordPart, RunFilter, RunRecord
from exporter.model.runs import UnitCount
from exporter.model.workload import SplitMethod
from tests.real.parts import let_others_in
from tests.unit.account.making import (
    CPU,
    GERMANY,
    GPU,
    SECOND,
    WALL,
    backfill,
    batch,
    books,
    checkpoint,
    entry,
    key,
    known_run,
    opened,
    path_in,
    posting,
    run,
)
from tests.unit.account.test_migrations import strict, version  # noqa: F401  fixtures

NOBODY = 65534


def written(directory, *infos, seed=0, has_grams=False, **changes):
    """A ledger with these runs, of a daemon that stopped in order unless told otherwise.

    Some of the energy has no grams, unless all of it is to have some.
    """
    made = books()
    for info in infos:
        known_run(made, info)
    names = [info.key.run_id for info in infos]
    if has_grams:
        entries = [
            entry(key(name), 10**9, device=GPU, split=SplitMethod.EXCLUSIVE) for name in names
        ]
        made.post([posting(*entries)], SECOND)
    else:
        backfill(made, names=names, seed=seed)
    with closing(opened(directory)) as ledger:
        ledger.commit(batch(made, **{"clean": True, **changes}))
    return directory


def reader(directory):
    return closing(LedgerReader(str(directory), "node-1"))


@pytest.fixture
def two(tmp_path):
    """Makes a history of two ledgers, each of the runs that are given."""
    made = []

    def make(first, second):
        for name, infos in (("a", first), ("b", second)):
            directory = written(tmp_path / name, *infos, seed=ord(name))
            made.append(LedgerReader(str(directory), "node-1"))
        return Ledgers(made)

    yield make
    for each in made:
        each.close()


def ended(run_id, begin, end, **changes):
    return run(run_id, started=WALL + begin, ended=WALL + end)._replace(**changes)


def test_records_are_those_of_the_daemon_with_the_models_of_the_devices(tmp_path):
    written(tmp_path, run("bert"), run("gpt"))
    of_daemon = LedgerArchive(path_in(tmp_path), "node-1").runs(9)
    with reader(tmp_path) as found:
        records = found.runs(9)
        assert [r._replace(models={}) for r in records] == list(of_daemon)
        assert records[0].models[GPU] == "model"


def test_reading_does_not_change_the_ledger(tmp_path):
    written(tmp_path, run())
    before = Path(path_in(tmp_path)).read_bytes()
    with reader(tmp_path) as found:
        found.runs(9)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            found._connection.execute("DELETE FROM total")
    assert Path(path_in(tmp_path)).read_bytes() == before


def test_a_daemon_writes_and_stops_while_the_ledger_is_read(tmp_path):
    made = books()
    known_run(made, run())
    with closing(opened(tmp_path)) as ledger:
        ledger.commit(batch(made))
        with reader(tmp_path) as found:
            before = found.runs(9)
            backfill(made, names=("bert",))
            ledger.commit(batch(made, 2))
            assert found.runs(9) == before
        with reader(tmp_path) as found:
            assert found.runs(9)[0].energy_uj > before[0].energy_uj


def test_a_commit_that_a_kill_left_in_the_write_ahead_log_is_read(tmp_path):
    made, killed = books(), tmp_path / "killed"
    killed.mkdir()
    known_run(made, run())
    backfill(made, names=("bert",))
    with closing(opened(tmp_path)) as ledger:
        ledger.commit(batch(made))
        for suffix in ("", "-wal"):
            shutil.copy(path_in(tmp_path) + suffix, path_in(killed) + suffix)
        with reader(tmp_path) as one, reader(killed) as other:
            assert one.runs(9) == other.runs(9) != []


@pytest.fixture
def without_rights():
    """As a user other than root, whom permissions hold back."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(NOBODY)
    yield
    os.seteuid(was)


@pytest.fixture
def read_only(tmp_path):
    """A ledger with one run in a directory into which nobody may write; its energy."""
    directory = written(tmp_path / "state", run())
    with reader(directory) as found:
        energy_uj = found.runs(9)[0].energy_uj
    for suffix in ("-wal", "-shm"):
        Path(path_in(directory) + suffix).unlink(missing_ok=True)
    Path(path_in(directory)).chmod(0o444)
    let_others_in(tmp_path)
    directory.chmod(0o555)
    yield directory, energy_uj
    directory.chmod(0o755)


@pytest.mark.parametrize("log", [None, b""])
def test_a_ledger_in_a_directory_that_may_not_be_written_is_read(read_only, request, log):
    directory, energy_uj = read_only
    if log is not None:
        Path(path_in(directory) + "-wal").write_bytes(log)
    request.getfixturevalue("without_rights")
    with reader(directory) as found:
        assert found.runs(9)[0].energy_uj == energy_uj
    assert not Path(path_in(directory) + "-shm").exists()


def test_without_the_right_to_share_locks_no_commit_is_passed_over(read_only, request):
    """The write-ahead log may hold one, so reading the file alone could miss it."""
    directory, _ = read_only
    Path(path_in(directory) + "-wal").write_bytes(bytes(32))
    request.getfixturevalue("without_rights")
    with pytest.raises(LedgerError, match="belongs to root, and this process runs as nobody"):
        LedgerReader(str(directory), "n")


def test_a_ledger_of_an_older_schema_is_read_as_after_its_migration(strict, tmp_path):  # noqa: F811
    shutil.copytree(strict, tmp_path / "migrated")
    before = Path(path_in(strict)).read_bytes()
    opened(tmp_path / "migrated").close()
    with reader(strict) as old, reader(tmp_path / "migrated") as migrated:
        assert old.runs(9) == migrated.runs(9)
        assert len(old.runs(9)) == 2
        assert old.sums(GroupBy.USER, 0.0, ANY_RUN, ()) == migrated.sums(
            GroupBy.USER, 0.0, ANY_RUN, ()
        )
        assert old.ledger_id() == migrated.ledger_id()
    assert Path(path_in(strict)).read_bytes() == before


def test_a_ledger_of_a_newer_exporter_is_an_error(tmp_path):
    written(tmp_path, run())
    with closing(sqlite3.connect(path_in(tmp_path))) as newer:
        newer.execute("PRAGMA user_version = 99")
    with pytest.raises(LedgerError, match=r"schema version 99, .* upgrade the exporter"):
        LedgerReader(str(tmp_path), "n")


@pytest.mark.parametrize("content", [b"no database " * 1000, b"SQLite format 3\0" + bytes(4080)])
def test_a_file_that_is_no_ledger_is_an_error(tmp_path, content):
    Path(path_in(tmp_path)).write_bytes(content)
    with pytest.raises(LedgerError, match=r"ledger\.sqlite"):
        LedgerReader(str(tmp_path), "n")


def test_an_empty_file_has_no_runs(tmp_path):
    Path(path_in(tmp_path)).touch()
    with reader(tmp_path) as found:
        assert (found.runs(9), found.committed_until) == ([], None)


class TestWhatTheLedgerLacks:
    def test_is_nothing_after_a_clean_shutdown(self, tmp_path):
        with reader(written(tmp_path, run())) as found:
            assert found.committed_until is None

    def test_is_what_was_used_since_the_last_commit_of_a_daemon_that_was_killed(self, tmp_path):
        with reader(written(tmp_path, run(), clean=False)) as found:
            assert found.committed_until == WALL + 1

    @pytest.mark.parametrize(("seq", "expected"), [(1, None), (2, WALL + 1)])
    def test_is_what_a_newer_journal_has(self, tmp_path, seq, expected):
        """The mark of an orderly stop stays in the ledger where its disk was full."""
        written(tmp_path, run())
        with reader(tmp_path) as found:
            ledger_id = found.ledger_id()
        journal = Journal(str(tmp_path / "journal"))
        journal.origin = JournalOrigin(ledger_id, "boot-1")
        journal.write(checkpoint(books(), seq))
        journal.close()
        with reader(tmp_path) as found:
            assert found.committed_until == expected

    def test_is_not_what_the_journal_of_another_ledger_has(self, tmp_path):
        written(tmp_path, run())
        journal = Journal(str(tmp_path / "journal"))
        journal.origin = JournalOrigin("another", "boot-1")
        journal.write(checkpoint(books(), 9))
        journal.close()
        with reader(tmp_path) as found:
            assert found.committed_until is None

    def test_is_all_before_the_first_commit(self, tmp_path):
        with closing(Ledger(str(tmp_path), WALL)), reader(tmp_path) as found:
            journal = Journal(str(tmp_path / "journal"))
            journal.origin = JournalOrigin(found.ledger_id(), "boot-1")
            journal.write(checkpoint(books(), 1))
            journal.close()
            assert found.committed_until == 0.0


def test_runs_of_two_ledgers_are_one_list_the_newest_first(two):
    known = two([ended("one", 0, 9), ended("three", 20, 29)], [ended("two", 10, 19)])
    assert [record.run.name for record in known.runs(ANY_RUN)] == ["three", "two", "one"]


def test_a_run_that_another_daemon_continued_is_one_with_the_sum_of_both(two):
    first = ended(
        "bert", 0, 9, units=(UnitCount("tokens", 5.0),), logged=(("loss", 3.0), ("seed", 1.0))
    )
    second = ended("bert", 10, 19, units=(UnitCount("tokens", 2.0),), logged=(("loss", 2.0),))
    known = two([first], [second])
    (record,) = known.runs(ANY_RUN)
    parts = [each for ledger in known.ledgers for each in ledger.runs(9)]
    assert record.energy_uj == sum(each.energy_uj for each in parts)
    assert record.carbon_ng == sum(each.carbon_ng for each in parts)
    assert sum(use.energy_uj for use in record.factors) == record.energy_uj
    assert (record.run.started, record.run.ended) == (WALL, WALL + 19)
    assert {unit.name: unit.amount for unit in record.run.units} == {"tokens": 7.0}
    assert dict(record.run.logged) == {"loss": 2.0, "seed": 1.0}


def test_of_records_of_the_same_time_the_one_with_the_most_energy_counts(two):
    known = two([ended("bert", 0, 20)], [ended("bert", 10, 30)])
    (record,) = known.runs(ANY_RUN)
    energies = sorted(each.runs(9)[0].energy_uj for each in known.ledgers)
    assert record.energy_uj == energies[1]
    assert [each.energy_uj for each in known.shared(ANY_RUN)[0].excluded] == energies[:1]


@pytest.mark.parametrize(
    "wanted", [ANY_RUN, RunFilter(user="ada"), RunFilter(user="eve"), RunFilter("bert")]
)
@pytest.mark.parametrize("by", list(GroupBy))
def test_sums_have_what_the_list_has(two, by, wanted):
    """Also of a run whose user only one of the two knows."""
    known = two(
        [ended("bert", 0, 9, user=""), ended("gpt", 0, 9)],
        [ended("bert", 10, 19), ended("clip", 0, 9, user="eve"), ended("vit", 0, 9)],
    )
    listed = known.runs(wanted)
    summed = known.sums(by, 0.0, wanted)
    apart = [each.record for each in known.shared(wanted)]
    assert sum(each.runs for each in summed) + len(apart) == len(listed)
    energy_uj = sum(sum_amounts(part.amount for part in each.parts).energy_uj for each in summed)
    energy_uj += sum(record.energy_uj for record in apart)
    assert energy_uj == sum(record.energy_uj for record in listed) > 0


def record(begin, end, energy_uj):
    info = run("bert", started=WALL + begin, ended=None if end is None else WALL + end)
    part = RecordPart(CPU, 1, 2, Amount(energy_uj, 0, 3))
    return RunRecord(info, (part,), (FactorUse(GERMANY, energy_uj, 3),), WALL + 50, "n")


@pytest.mark.parametrize(
    ("records", "counted_uj"),
    [
        ([(0, 10, 5), (10, 20, 3)], 8),
        ([(0, 10, 5), (9, 20, 3)], 5),
        ([(0, 10, 3), (9, 20, 5)], 5),
        ([(0, 10, 5), (0, 10, 5)], 5),
        ([(7, 7, 5), (7, 7, 5)], 5),
        ([(0, None, 5), (49, 60, 3)], 5),
        ([(0, None, 5), (51, 60, 3)], 8),
        ([(0, 10, 5), (5, 25, 3), (20, 30, 4)], 9),
    ],
)
def test_nothing_that_two_daemons_may_both_have_measured_counts_twice(records, counted_uj):
    found = shared([record(*each) for each in records])
    assert found.record.energy_uj == counted_uj
    assert sum(each.energy_uj for each in found.counted) == counted_uj
    everything = sum(energy_uj for _, _, energy_uj in records)
    assert sum(each.energy_uj for each in found.excluded) == everything - counted_uj
