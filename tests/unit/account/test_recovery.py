"""Recovery after every kind of stop."""

import os
import shutil
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest

from exporter.account.books import Books
from exporter.account.journal import Journal
from exporter.account.journal_format import JournalOrigin
from exporter.account.recovery import recover
from exporter.errors import LedgerError
from exporter.model.ledger import (
    ZERO_AMOUNT,
    AccountKey,
    Amount,
    FactorUse,
    HostCpuTime,
    RunCpuTime,
)
from exporter.model.readings import Method, Observation, Reading
from exporter.model.runs import DEPARTED_RUNS
from exporter.model.workload import SplitMethod, UnattributedReason
from exporter.sample.energy_counters import EnergyCounters
from tests.unit.account.making import (
    CPU,
    GERMANY,
    INFOS,
    SECOND,
    WALL,
    backfill,
    balances,
    batch,
    begin_at_zero,
    books,
    checkpoint,
    device_sums,
    entry,
    key,
    known_run,
    opened,
    path_in,
    position,
    posting,
    query,
    run,
)

CPU_LINE = AccountKey(CPU, key(), Method.COUNTER, SplitMethod.CPU_TIME)


class Daemon:
    """Ledger, journal and books, wired as a daemon wires them."""

    def __init__(self, directory, boot="boot-1"):
        self.ledger = opened(directory)
        self.journal = Journal(str(directory / "journal"))
        self.recovered = recover(self.ledger, self.journal, boot, WALL)
        with suppress(LedgerError):
            self.ledger.start()
        self.restored = self.recovered.restored
        self.books = books(self.restored)
        self.seq = self.restored.seq
        self.is_killed = False
        if self.recovered.batch is not None:  # not before the first tick has written the journal
            self.show()
            self.ledger.commit(self.recovered.batch)

    def show(self, **changes):
        self.seq += 1
        self.journal.write(checkpoint(self.books, self.seq, **changes))

    def commit(self, **changes):
        self.ledger.commit(batch(self.books, self.seq, **changes))

    def kill(self):
        """As `kill -9`: nothing more is written."""
        if not self.is_killed:
            self.journal.close()
            self.ledger.close()
        self.is_killed = True


@pytest.fixture
def start(tmp_path):
    daemons = []

    def started(boot="boot-1"):
        if daemons:
            daemons[-1].kill()
        daemons.append(Daemon(tmp_path / "state", boot))
        return daemons[-1]

    yield started
    if daemons:
        daemons[-1].kill()


READINGS = [
    Observation(
        "rapl", at_ns, INFOS, (Reading(CPU, at_ns, "boot", position().raw_uj + grown_uj, None),)
    )
    for at_ns, grown_uj in ((6 * SECOND, 50), (7 * SECOND, 120))
]
"""Of the CPU of `position`, which grows by 50 and by 70 microjoules."""


def used(daemon, seed=0):
    known_run(daemon.books, run())
    backfill(daemon.books, names=("bert",), seed=seed)


def usage_and_totals(ledger):
    sums = "party_id, device_id, sum(energy_uj), sum(held_uj), sum(carbon_ng)"
    where = "WHERE party_id != 99 GROUP BY 1, 2 HAVING sum(energy_uj) > 0 ORDER BY 1, 2"
    return tuple(
        query(ledger, f"SELECT {sums} FROM {table} {where}") for table in ("usage", "total")
    )


def test_the_first_start_has_no_notes(start):
    daemon = start()
    assert daemon.restored.lines == {}
    assert daemon.restored.notes == ()


def test_after_a_kill_everything_shown_continues(start):
    daemon = start()
    used(daemon)
    daemon.show()
    shown = balances(daemon.books.rows())
    again = start()
    assert balances(again.books.rows()) == shown
    assert not begin_at_zero(again.restored)


def test_after_a_kill_there_is_a_note(start):
    daemon = start()
    used(daemon)
    daemon.show()
    daemon.commit()
    daemon.show()
    assert "no data is lost" in start().restored.notes[0]


def test_after_a_kill_the_ledger_gets_what_it_missed(start):
    daemon = start()
    used(daemon)
    daemon.show()
    daemon.commit()
    backfill(daemon.books, names=("bert",), seed=2)
    daemon.show()
    again = start()
    usage, totals = usage_and_totals(again.ledger)
    assert usage == totals
    assert again.ledger.restore().restored.lines == balances(again.books.rows())


def test_what_the_ledger_missed_is_booked_at_the_last_minute_and_factor(start):
    daemon = start()
    known_run(daemon.books, run())
    daemon.show()
    daemon.commit()
    daemon.books.post([posting(entry(key(), 100))], SECOND)
    daemon.show()
    (usage,) = start().recovered.batch.usage.items()
    assert usage[0].minute == int((WALL + 2) // 60)
    assert (usage[0].factor, usage[1]) == (GERMANY, Amount(100, 25, 300))


def test_factor_uses_include_what_the_ledger_missed(start):
    daemon = start()
    known_run(daemon.books, run())
    daemon.books.post([posting(entry(key(), 100))], SECOND)
    daemon.show()
    daemon.commit()
    daemon.books.post([posting(entry(key(), 11))], SECOND)
    daemon.show()
    assert start().restored.factor_uses[key()] == (FactorUse(GERMANY, 111, 333),)


def test_counter_states_and_cpu_times_are_those_of_the_journal(start):
    daemon = start()
    daemon.show()
    daemon.commit()
    cpu, machine = (RunCpuTime(key(), 77),), HostCpuTime(5, 9)
    daemon.show(counter_states=(position(raw_uj=999),), run_cpu=cpu, machine_cpu=machine)
    restored = start().restored
    assert restored.counter_states == (position(raw_uj=999, restored=True),)
    assert (restored.run_cpu, restored.machine_cpu) == (cpu, machine)


def test_a_run_that_only_the_journal_knew_is_written_to_the_ledger(start):
    daemon = start()
    daemon.show()
    daemon.commit()
    used(daemon)
    daemon.show()
    again = start()
    assert again.restored.runs == (run(),)
    assert again.ledger.stored_run(key()).info == run()


def test_floors_are_those_of_the_ledger(start):
    daemon = start()
    daemon.show()
    daemon.commit(floors={CPU: 9.5})
    daemon.show()
    assert start().restored.floors == {CPU: 9.5}


def test_after_a_clean_shutdown_counters_continue_even_after_a_reboot(start):
    daemon = start()
    used(daemon)
    daemon.show()
    daemon.commit(clean=True)
    shown = balances(daemon.books.rows())
    again = start("boot-2")
    assert balances(again.books.rows()) == shown
    assert again.restored.notes == ()


def test_after_a_power_cut_counters_begin_at_zero_and_totals_continue(start):
    daemon = start()
    used(daemon)
    daemon.show()
    daemon.commit()
    committed = balances(daemon.books.rows())
    backfill(daemon.books, names=("bert",), seed=3)
    daemon.show()
    again = start("boot-2")
    lines = balances(again.books.rows())
    assert {line: b.total for line, b in lines.items()} == {
        line: b.total for line, b in committed.items()
    }
    assert {b.counted for b in lines.values()} == {ZERO_AMOUNT}
    assert begin_at_zero(again.restored)
    assert "counters begin at zero" in again.restored.notes[0]


def test_a_start_after_a_power_cut_that_is_killed_continues(start):
    """The second stop must not bring back the counters from before the first."""
    daemon = start()
    used(daemon)
    daemon.show()
    daemon.commit()
    second = start("boot-2")
    second.show()
    shown = balances(second.books.rows())
    assert balances(start("boot-2").books.rows()) == shown


def test_counters_that_began_at_zero_stay_so_after_a_clean_shutdown(start):
    daemon = start()
    used(daemon)
    daemon.show()
    daemon.commit()
    second = start("boot-2")
    second.show()
    second.commit(clean=True)
    third = start("boot-3")
    assert {row.balance.counted for row in third.books.rows()} == {ZERO_AMOUNT}


def test_a_power_cut_before_the_first_commit_is_not_taken_for_a_clean_shutdown(start):
    daemon = start()
    used(daemon)
    daemon.show()
    daemon.commit(clean=True)
    second = start("boot-1")
    backfill(second.books, names=("bert",), seed=5)
    second.show()
    third = start("boot-2")
    assert {row.balance.counted for row in third.books.rows()} == {ZERO_AMOUNT}


@pytest.mark.parametrize("clean", [True, False])
def test_a_lost_journal_means_counters_from_zero(start, tmp_path, clean):
    daemon = start()
    used(daemon)
    daemon.show()
    daemon.commit(clean=clean)
    os.unlink(tmp_path / "state" / "journal")
    again = start()
    assert {row.balance.counted for row in again.books.rows()} == {ZERO_AMOUNT}


@pytest.mark.parametrize("is_journal_removed", [True, False])
def test_counters_of_a_restored_copy_of_a_stopped_daemon_begin_at_zero(
    start, tmp_path, is_journal_removed
):
    state = tmp_path / "state"
    daemon = start()
    used(daemon)
    daemon.show()
    daemon.commit(clean=True)
    copied = {line: balance.total for line, balance in balances(daemon.books.rows()).items()}
    daemon.kill()
    shutil.copy(path_in(state), tmp_path / "copy")
    second = start()
    backfill(second.books, names=("bert",), seed=5)
    second.show()
    second.commit(clean=True)
    second.kill()
    shutil.copy(tmp_path / "copy", path_in(state))
    if is_journal_removed:
        os.unlink(state / "journal")
    third = start("boot-2")
    lines = balances(third.books.rows())
    assert {line: balance.total for line, balance in lines.items()} == copied
    assert {balance.counted for balance in lines.values()} == {ZERO_AMOUNT}
    assert begin_at_zero(third.restored)


def test_an_unknown_boot_has_no_journal(start):
    daemon = start("")
    used(daemon)
    daemon.show()
    daemon.commit()
    assert begin_at_zero(start("").restored)


@pytest.mark.parametrize("clean", [True, False])
def test_it_is_reported_whether_the_shutdown_was_clean(start, clean):
    daemon = start()
    daemon.show()
    daemon.commit(clean=clean)
    assert start().recovered.clean == clean


def test_a_journal_older_than_the_ledger_is_not_used(start):
    daemon = start()
    used(daemon)
    daemon.show()
    backfill(daemon.books, names=("bert",), seed=4)
    daemon.seq += 1
    daemon.commit()
    assert begin_at_zero(start().restored)


def test_a_journal_below_the_ledger_is_not_used(start):
    daemon = start()
    used(daemon)
    daemon.show()
    backfill(daemon.books, names=("bert",), seed=4)
    daemon.commit()
    assert begin_at_zero(start().restored)


def test_a_journal_that_cannot_be_read_is_noted(start, monkeypatch):
    daemon = start()
    used(daemon)
    daemon.show()
    daemon.commit()

    def broken(_):
        raise LedgerError("journal cannot be read: Input/output error")

    monkeypatch.setattr(Journal, "read", broken)
    notes = start().restored.notes
    assert "Input/output error" in notes[0]
    assert "counters begin at zero" in notes[1]


def test_a_damaged_ledger_takes_the_totals_of_the_journal_without_usage(start, tmp_path):
    daemon = start()
    used(daemon)
    daemon.show()
    daemon.commit()
    shown = balances(daemon.books.rows())
    daemon.kill()
    daemon.journal = daemon.ledger = closing_nothing()
    with open(path_in(tmp_path / "state"), "r+b") as file:
        file.write(b"\x00" * 4096)
    again = start()
    assert balances(again.books.rows()) == shown
    assert again.recovered.batch.usage == {}
    assert again.ledger.restore().restored.lines == shown
    assert "renamed to" in again.restored.notes[0]
    assert "restored from the journal" in again.restored.notes[1]


def closing_nothing():
    class Closed:
        def close(self):
            pass

    return Closed()


def test_another_ledgers_journal_is_not_used(start):
    daemon = start()
    used(daemon)
    daemon.show()
    daemon.commit()
    daemon.journal.origin = JournalOrigin("another", "boot-1")
    daemon.show()
    assert begin_at_zero(start().restored)


def test_a_run_that_left_before_the_kill_stays_gone(start):
    daemon = start()
    used(daemon)
    daemon.books.update_run(run(ended=WALL))
    daemon.books.remove_run(key())
    daemon.show()
    daemon.commit()
    daemon.books.apply_committed(daemon.seq)
    daemon.show()
    shown = device_sums(daemon.books.rows())
    again = start()
    assert again.restored.runs == ()
    assert device_sums(again.books.rows()) == shown
    assert again.ledger.restore().restored.runs == ()


def left(daemon):
    """A run of 100 microjoules that has left the page."""
    known_run(daemon.books, run())
    daemon.books.post([posting(entry(key(), 100))], SECOND)
    daemon.books.update_run(run(ended=WALL))
    daemon.books.remove_run(key())
    daemon.show()
    daemon.commit()
    daemon.books.apply_committed(daemon.seq)
    daemon.show()
    daemon.commit()


def test_a_run_that_awaited_its_stored_totals_has_them_after_the_kill(start):
    daemon = start()
    left(daemon)
    daemon.books.update_run(run(started=WALL + 9))
    daemon.books.post([posting(entry(key(), 8))], SECOND)
    daemon.show()
    sums = device_sums(daemon.books.rows())
    again = start()
    balance = balances(again.books.rows())[CPU_LINE]
    assert (balance.total.energy_uj, balance.counted.energy_uj) == (108, 8)
    assert device_sums(again.books.rows()) == sums
    assert again.restored.runs == (run(),)
    assert again.restored.factor_uses[key()] == (FactorUse(GERMANY, 108, 324),)
    usage, totals = usage_and_totals(again.ledger)
    assert usage == totals


def test_a_run_that_had_its_stored_totals_keeps_them_after_the_kill(start):
    daemon = start()
    left(daemon)
    daemon.books.update_run(run())
    daemon.books.post([posting(entry(key(), 8))], SECOND)
    daemon.books.restore_run(daemon.ledger.stored_run(key()))
    daemon.show()
    shown = balances(daemon.books.rows())
    again = start()
    assert balances(again.books.rows()) == shown
    usage, totals = usage_and_totals(again.ledger)
    assert usage == totals


def test_a_run_with_stored_totals_restored_just_before_a_clean_shutdown_is_counted_once(start):
    """The journal was not written in between: it lacks the past that the ledger has."""
    daemon = start()
    left(daemon)
    daemon.books.update_run(run())
    daemon.books.post([posting(entry(key(), 8))], SECOND)
    daemon.show()
    daemon.books.restore_run(daemon.ledger.stored_run(key()))
    daemon.commit(clean=True)
    shown = balances(daemon.books.rows())
    again = start()
    assert balances(again.books.rows()) == shown
    assert shown[CPU_LINE].total.energy_uj == 108


def test_a_run_that_awaits_its_stored_totals_at_a_clean_shutdown_is_found_in_the_journal(start):
    daemon = start()
    left(daemon)
    daemon.books.update_run(run())
    daemon.books.post([posting(entry(key(), 8))], SECOND)
    daemon.show()
    sums = device_sums(daemon.books.rows())
    daemon.commit(clean=True)
    again = start()
    assert device_sums(again.books.rows()) == sums
    assert balances(again.books.rows())[CPU_LINE].total.energy_uj == 108


def test_what_came_late_for_a_run_that_left_continues(start):
    daemon = start()
    left(daemon)
    daemon.books.post([posting(entry(key(), 8))], SECOND)
    daemon.show()
    shown = balances(daemon.books.rows())
    again = start()
    assert balances(again.books.rows()) == shown
    assert again.ledger.stored_run(key()).lines[CPU_LINE].total.energy_uj == 100


def test_clocks_of_a_clean_shutdown_are_those_of_the_journal(start):
    daemon = start()
    cpu, machine = (RunCpuTime(key(), 77),), HostCpuTime(5, 9)
    daemon.show(run_cpu=cpu, machine_cpu=machine)
    daemon.commit(clean=True)
    restored = start().restored
    assert (restored.run_cpu, restored.machine_cpu) == (cpu, machine)


def test_a_flag_that_a_full_disk_kept_is_not_used_after_a_power_cut(start, monkeypatch):
    daemon = start()
    used(daemon)
    daemon.show()
    daemon.commit(clean=True)

    def full(_):
        raise LedgerError("disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(type(daemon.ledger), "start", full)
        second = start()
    backfill(second.books, names=("bert",), seed=5)
    second.show()
    third = start("boot-2")
    assert {row.balance.counted for row in third.books.rows()} == {ZERO_AMOUNT}
    assert not third.recovered.clean


@pytest.mark.parametrize("is_shown_again", [True, False])
def test_the_time_of_the_last_write_is_restored(start, is_shown_again):
    daemon = start()
    used(daemon)
    daemon.show(wall=WALL + 40)
    daemon.commit(wall=WALL + 41)
    if is_shown_again:
        daemon.show(wall=WALL + 70)
    else:
        daemon.commit(wall=WALL + 71, clean=True)
    assert start().restored.wall == WALL + (70 if is_shown_again else 71)


def test_the_run_around_another_is_restored(start):
    daemon = start()
    known_run(daemon.books, run("outer"))
    known_run(daemon.books, run("inner", enclosing=key("outer")))
    daemon.show()
    assert run("inner", enclosing=key("outer")) in start().restored.runs
    start("boot-2")
    assert run("inner", enclosing=key("outer")) in start("boot-3").restored.runs


def test_fifty_runs_are_restored(start):
    daemon = start()
    names = [f"run-{number}" for number in range(50)]
    for name in names:
        known_run(daemon.books, run(name))
    backfill(daemon.books, names=names)
    daemon.show()
    daemon.commit()
    backfill(daemon.books, names=names, seed=1)
    daemon.show()
    shown = balances(daemon.books.rows())
    again = start()
    assert balances(again.books.rows()) == shown
    assert len(again.restored.runs) == 50


def test_books_are_the_same_with_the_batch_of_the_recovery_still_to_come(tmp_path):
    """The disk is full at start: a second kill finds the same state as the first."""
    state = tmp_path / "state"
    daemon = Daemon(state)
    used(daemon)
    daemon.show()
    daemon.commit()
    backfill(daemon.books, names=("bert",), seed=6)
    daemon.show()
    daemon.kill()
    found = []
    for _ in range(2):
        with closing(opened(state)) as ledger, closing(Journal(str(state / "journal"))) as journal:
            recovered = recover(ledger, journal, "boot-1", WALL)
            ledger.start()
            found.append(recovered)
            journal.write(checkpoint(Books(recovered.restored, SECOND), recovered.restored.seq + 1))
    assert found[0].restored.lines == found[1].restored.lines
    assert found[0].batch.usage == found[1].batch.usage


def test_the_departed_have_no_usage_of_their_own(start):
    daemon = start()
    left(daemon)
    daemon.show()
    again = start()
    assert {k.target for k in again.recovered.batch.usage} == set()
    assert DEPARTED_RUNS in {row.target for row in again.books.rows()}


def test_a_failed_start_keeps_the_flag_of_a_clean_shutdown(tmp_path):
    state = tmp_path / "state"
    daemon = Daemon(state)
    used(daemon)
    daemon.show()
    daemon.commit(clean=True)
    daemon.kill()
    for _ in range(2):
        with closing(opened(state)) as ledger, closing(Journal(str(state / "journal"))) as journal:
            assert recover(ledger, journal, "boot-1", WALL).clean


@pytest.fixture
def lost(start, tmp_path):
    """A daemon whose predecessor was killed, and lost its journal."""
    daemon = start()
    used(daemon)
    daemon.show()
    daemon.commit()
    (tmp_path / "state" / "journal").unlink()
    return start()


def absence(*entries):
    """What the first reading of a device brings when the counters have begun at zero before it."""
    made = posting(*entries)
    return made._replace(interval=made.interval._replace(restart=True, uncounted=True))


def on(daemon, target):
    """Total and counted energy of a party on the CPU."""
    (row,) = [
        row
        for row in daemon.books.rows()
        if row[:2] == (CPU, target) and row[3] != SplitMethod.REST
    ]
    return row.balance.total.energy_uj, row.balance.counted.energy_uj


def test_counters_that_begin_at_zero_leave_the_absence_to_the_totals(lost):
    lost.books.post([absence(entry(UnattributedReason.RESTART, 500))], SECOND)
    assert on(lost, UnattributedReason.RESTART) == (500, 0)
    lost.books.post([posting(entry(UnattributedReason.RESTART, 7))], 2 * SECOND)
    assert on(lost, UnattributedReason.RESTART) == (507, 7)


def test_after_a_lost_journal_and_a_late_device_a_kill_moves_no_counter(lost, start):
    lost.show()
    total_uj, _ = on(lost, key())
    lost.books.post([absence(entry(key(), 500))], SECOND)
    lost.books.post([posting(entry(key(), 7))], 2 * SECOND)
    assert on(lost, key()) == (total_uj + 507, 7)
    lost.show()
    assert on(start(), key()) == (total_uj + 507, 7)


@pytest.mark.parametrize("boot", ["boot-1", "boot-2"], ids=["killed", "stopped before a reboot"])
def test_a_device_that_is_not_there_before_the_second_start_is_counted_no_more(lost, start, boot):
    counter_states = EnergyCounters(lost.restored.counter_states).counter_states()
    lost.show(counter_states=counter_states)
    if boot == "boot-2":
        lost.commit(counter_states=counter_states, clean=True)
    again = start(boot)
    assert not begin_at_zero(again.restored)
    energy_counters = EnergyCounters(again.restored.counter_states)
    intervals = [interval for reading in READINGS for interval in energy_counters.advance(reading)]
    assert [(each.energy_uj, each.uncounted) for each in intervals] == [(50, True), (70, False)]
    assert not any(position.uncounted for position in energy_counters.counter_states())


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE total SET method = 20",
        "UPDATE device SET kind = 'drai'",
        "UPDATE total SET energy_uj = energy_uj + 5 WHERE energy_uj > 0",
    ],
)
def test_a_ledger_with_values_that_were_never_written_gives_way_to_the_journal(tmp_path, damage):
    state = tmp_path / "state"
    daemon = Daemon(state)
    used(daemon)
    daemon.show()
    daemon.commit(clean=True)
    shown = balances(daemon.books.rows())
    daemon.kill()
    with closing(sqlite3.connect(path_in(state))) as file:
        file.execute(damage)
        file.commit()
    again = Daemon(state)
    assert {line: again.restored.lines[line] for line in shown} == shown
    again.kill()


@pytest.mark.skipif(
    sqlite3.sqlite_version_info < (3, 34),
    reason="SQLite 3.26 finds a table of another name, and the ledger is left as it is",
)
def test_a_ledger_whose_schema_is_no_text_is_renamed(tmp_path):
    state = tmp_path / "state"
    daemon = Daemon(state)
    used(daemon)
    daemon.show()
    daemon.commit(clean=True)
    daemon.kill()
    path = Path(path_in(state))
    content = bytearray(path.read_bytes())
    content[content.index(b"CREATE TABLE factor_use") + 14] = 0xB2
    path.write_bytes(content)
    again = Daemon(state)
    assert any("renamed to" in note for note in again.restored.notes)
    again.kill()


def test_a_kill_right_after_what_was_recovered_is_committed_doubles_nothing(start):
    daemon = start()
    daemon.books.update_run(run())  # it waits for its past until it is killed
    daemon.books.post([posting(entry(key(), 5))], SECOND)
    daemon.show()
    for _ in range(3):
        rows = start().books.rows()
        used = [(row.target, row.balance.total.energy_uj) for row in rows if any(row.balance.total)]
        assert used == [(key(), 5)]
