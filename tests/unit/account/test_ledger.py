"""Ledger file: committed data is restored; failures are reported and survived."""

import fcntl
import os
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.account.database import LEDGER_FILE, lock
from exporter.account.decoding import FIXED_PARTY_IDS, METHOD_IDS, SPLIT_IDS
from exporter.errors import LedgerError, LedgerLocked
from exporter.model.ledger import (
    ZERO_AMOUNT,
    AccountKey,
    Amount,
    Balance,
    FactorUse,
    StoredRun,
    UsageKey,
)
from exporter.model.readings import Method
from exporter.model.runs import DEPARTED_RUNS, Owner, UnitCount
from exporter.model.workload import SplitMethod, UnattributedReason
from exporter.units import SECONDS_PER_DAY
from tests.unit.account.making import (
    CPU,
    FRANCE,
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


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def ledger(directory):
    with closing(opened(directory)) as made:
        yield made


def used(names=("bert",), *, seed=0):
    made = books()
    for name in names:
        known_run(made, run(name))
    backfill(made, names=names, seed=seed)
    return made


def test_a_new_ledger_is_empty(ledger):
    known = ledger.restore()
    assert (known.restored.lines, known.restored.runs, known.clean) == ({}, (), False)


def test_committed_totals_come_back_after_a_restart(directory):
    made = used()
    with closing(opened(directory)) as ledger:
        ledger.commit(batch(made, seq=7))
    with closing(opened(directory)) as ledger:
        restored = ledger.restore().restored
    assert restored.lines == balances(made.rows())
    assert restored.seq == 7


def test_bases_come_back(ledger):
    made = used()
    lines = {CPU_LINE: Balance(Amount(9, 8, 7), Amount(6, 5, -4))}
    ledger.commit(batch(made)._replace(lines=lines))
    assert ledger.restore().restored.lines == lines


def test_runs_come_back_with_all_their_fields(ledger):
    info = run(
        ended=WALL + 5,
        end_reason="exited",
        scope="cgroup",
        lead_pid=4,
        lead_start=5,
        cgroup="/job",
        account="physics",
        labels=(("team", "nlp"), ("x", "")),
        budget_grams=1.5,
        enclosing=key("around"),
    )
    ledger.commit(batch(used())._replace(runs=(info,)))
    assert ledger.restore().restored.runs == (info,)


def test_labels_are_those_of_the_last_commit(ledger):
    for labels in ((("a", "1"), ("b", "2")), (("b", "3"),)):
        ledger.commit(batch(used())._replace(runs=(run(labels=labels),)))
    assert ledger.restore().restored.runs == (run(labels=(("b", "3"),)),)


def test_a_reopened_run_is_the_same_row_and_keeps_its_first_start(ledger):
    ledger.commit(batch(used())._replace(runs=(run(ended=WALL),)))
    ledger.commit(batch(used())._replace(runs=(run(started=WALL + 60),)))
    assert ledger.restore().restored.runs == (run(started=WALL, ended=None),)


def test_counter_states_come_back_as_read_before_this_process(ledger):
    full = position(provisional_uj=1, provisional_at_ns=2, debt_uj=3, suspect_uj=4, suspect_at_ns=5)
    full = full._replace(awake_ns=6)
    other = position(GPU)
    ledger.commit(batch(used(), counter_states=(full, other)))
    found = ledger.restore().restored.counter_states
    assert set(found) == {full._replace(restored=True), other._replace(restored=True)}


def test_floors_come_back(ledger):
    ledger.commit(batch(used(), floors={CPU: 12.5}))
    assert ledger.restore().restored.floors == {CPU: 12.5}


def test_factor_uses_come_back(ledger):
    made = books()
    known_run(made, run())
    for seq, factor in enumerate([GERMANY, None, FRANCE, GERMANY]):
        made.post([posting(entry(key(), 10, factor=factor))], SECOND)
        ledger.commit(batch(made, seq=seq))
    found = ledger.restore().restored.factor_uses[key()]
    assert set(found) == {
        FactorUse(GERMANY, 20, 60),
        FactorUse(FRANCE, 10, 30),
        FactorUse(None, 10, 0),
    }


def test_one_factor_is_one_row(ledger):
    for seq in range(3):
        ledger.commit(batch(used(seed=seq), seq=seq))
    assert query(ledger, "SELECT count(*) FROM factor") == [(3,)]


def test_two_users_with_one_id_are_two_runs(ledger):
    made = books()
    for uid in (1, 2):
        known_run(made, run()._replace(key=key(uid=uid)))
        made.post([posting(entry(key(uid=uid), uid))], SECOND)
    ledger.commit(batch(made))
    lines = ledger.restore().restored.lines
    assert [lines[CPU_LINE._replace(target=key(uid=uid))].total.energy_uj for uid in (1, 2)] == [
        1,
        2,
    ]


@settings(max_examples=20, deadline=None)
@given(seeds=st.lists(st.integers(), min_size=1, max_size=4))
def test_usage_sums_to_the_totals_after_any_commits(tmp_path_factory, seeds):
    ledger = opened(tmp_path_factory.mktemp("state"))
    made = used(("bert", "gpt"))
    for seq, seed in enumerate(seeds):
        ledger.commit(batch(made, seq=seq))
        backfill(made, seed=seed)
    ledger.commit(batch(made, seq=99))
    sums = "party_id, device_id, method, split, {0}(energy_uj), {0}(held_uj), {0}(carbon_ng)"
    by_usage = query(ledger, f"SELECT {sums.format('sum')} FROM usage GROUP BY 1, 2, 3, 4")
    by_total = query(ledger, f"SELECT {sums.format('')} FROM total WHERE energy_uj > 0")
    ledger.close()
    assert sorted(by_usage) == sorted(by_total)


def test_a_departed_run_is_not_restored_and_can_be_looked_up(ledger):
    made = used()
    made.update_run(run(ended=WALL))
    made.remove_run(key())
    total = balances(made.rows())[CPU_LINE]
    ledger.commit(batch(made, seq=1))
    made.apply_committed(1)
    ledger.commit(batch(made, seq=2))
    restored = ledger.restore().restored
    stored_run = ledger.stored_run(key())
    assert restored.runs == ()
    assert restored.lines[CPU_LINE._replace(target=DEPARTED_RUNS)] == total
    assert stored_run.lines[CPU_LINE] == total
    assert stored_run.info == run(ended=WALL)
    assert sum(use.energy_uj for use in stored_run.factor_uses) == sum(
        b.total.energy_uj for b in stored_run.lines.values()
    )


def test_what_comes_late_for_a_run_that_left_lowers_no_total_of_it(ledger):
    made = used()
    made.update_run(run(ended=WALL))
    made.remove_run(key())
    ledger.commit(batch(made, seq=1))
    made.apply_committed(1)
    before = ledger.stored_run(key()).lines
    made.post([posting(entry(key(), 7))], SECOND)
    ledger.commit(batch(made, seq=2))
    assert ledger.stored_run(key()).lines == before
    assert ledger.restore().restored.lines == balances(made.rows())
    late = "SELECT energy_uj FROM usage WHERE party_id = 99"
    assert query(ledger, late) == [(7,)]
    assert query(ledger, "SELECT * FROM factor_use WHERE party_id = 99") == []


ODD = key("caf\ud800")
"""An id that UTF-8 cannot hold."""


def test_a_run_with_an_id_that_is_no_text_is_committed_and_found(ledger):
    info = run(labels=(("\udcff", "\N{REPLACEMENT CHARACTER}"),), budget_grams=1.0)
    info = info._replace(key=ODD, cgroup="/\udc80", enclosing=ODD)
    line = CPU_LINE._replace(target=ODD)
    lines = {line: Balance(Amount(5, 0, 0))}
    ledger.commit(batch(books())._replace(runs=(info,), lines=lines))
    assert ledger.restore().restored.runs == (info,)
    assert ledger.stored_run(ODD).lines == lines


def test_nan_does_not_prevent_a_commit(ledger):
    nan = float("nan")
    odd = GERMANY._replace(grams_per_kwh=nan)
    made = used()
    made.post([posting(entry(key(), 5, factor=odd))], SECOND)
    handed = batch(made, counter_states=(position(power_watts=nan),), floors={CPU: nan})
    for _ in range(2):
        ledger.commit(handed._replace(runs=(run(started=nan),), wall=nan))
    assert ledger.restore().restored.counter_states == (position(power_watts=0.0, restored=True),)


def test_the_time_of_the_last_commit_comes_back(ledger):
    ledger.commit(batch(used(), wall=WALL + 33))
    assert ledger.restore().restored.wall == WALL + 33


def test_a_departed_run_that_is_back_is_restored(ledger):
    ledger.commit(batch(used(), seq=1)._replace(departed=(key(),)))
    ledger.commit(batch(used(), seq=2))
    assert [found.key for found in ledger.restore().restored.runs] == [key()]


def test_an_open_run_without_an_owner_is_provisional_only_if_its_user_is_known(ledger):
    made = books()
    pod = run("pod")._replace(key=key("pod", uid=-1), user="", owner=None, is_provisional=True)
    waiting = run("waiting")._replace(key=key("waiting"), user="", owner=None)
    for info in (pod, waiting):
        known_run(made, info)
    ledger.commit(batch(made))
    stored = {info.name: info.is_provisional for info in ledger.restore(()).restored.runs}
    assert stored == {"pod": True, "waiting": False}


def test_an_unknown_run_has_no_stored_totals(ledger):
    assert ledger.stored_run(key()) == StoredRun(key())


def test_stored_totals_of_any_runs_can_be_requested_at_start(ledger):
    ledger.commit(batch(used(("bert", "gpt")))._replace(departed=(key(),)))
    known = ledger.restore([key("bert"), key("gpt"), key("new")])
    assert [(stored_run.key, stored_run.info) for stored_run in known.stored_runs] == [
        (key("bert"), run("bert")),
        (key("gpt"), run("gpt")),
        (key("new"), None),
    ]


def test_the_flag_of_a_clean_shutdown_is_valid_once(directory, ledger):
    ledger.commit(batch(used(), clean=True))
    assert ledger.restore().clean
    ledger.start()
    assert not ledger.restore().clean


def test_a_run_without_a_row_is_stored(ledger):
    balance = Balance(Amount(5, 0, 0))
    ledger.commit(batch(books())._replace(lines={CPU_LINE: balance}))
    assert ledger.stored_run(key()).lines == {CPU_LINE: balance}


def test_a_device_without_a_description_is_stored(ledger):
    ledger.commit(batch(used(), infos=()))
    ledger.commit(batch(used()))
    rows = query(ledger, "SELECT name, model FROM device ORDER BY name")
    assert rows == sorted((info.device.id, info.model) for info in INFOS)


def test_a_commit_that_fails_changes_nothing(ledger):
    made = used()
    ledger.commit(batch(made, seq=1))
    before = ledger.restore()
    backfill(made)
    bad = UsageKey(MINUTE, CPU, UnattributedReason.IDLE, None, Method.COUNTER, SplitMethod.REST)
    broken = batch(made, seq=2)._replace(usage={bad: Amount(2**63, 0, 0)})
    with pytest.raises(LedgerError, match="cannot be stored"):
        ledger.commit(broken)
    assert ledger.restore() == before


def test_a_full_disk_is_reported_and_survived(ledger):
    made = used()
    ledger.commit(batch(made, seq=1))
    (pages,) = query(ledger, "PRAGMA page_count")[0]
    query(ledger, f"PRAGMA max_page_count = {pages}")
    before = ledger.restore()
    for number in range(200):
        known_run(made, run(f"run-{number}"))
    large = batch(made, seq=2)
    with pytest.raises(LedgerError, match="free space on its disk"):
        ledger.commit(large)
    assert ledger.restore() == before
    query(ledger, "PRAGMA max_page_count = 1000000")
    ledger.commit(large)
    assert len(ledger.restore().restored.runs) == 201


def test_a_second_daemon_is_refused_by_the_pid_of_the_first(directory, ledger):
    with pytest.raises(LedgerLocked, match=f"pid {os.getpid()}; stop that one"):
        opened(directory)


def test_the_lock_ends_with_the_ledger(directory):
    opened(directory).close()
    opened(directory).close()


def test_a_directory_that_cannot_be_made_is_reported_with_the_remedy(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(LedgerError, match=r"account\.state_directory \(--path\.state\) elsewhere"):
        opened(tmp_path / "file" / "state")


def test_a_user_without_a_home_gets_an_error_with_the_flag():
    with pytest.raises(
        LedgerError, match=r"no home directory.* set a directory with --path\.state"
    ):
        lock("")


def test_a_disk_that_cannot_lock_is_reported(directory, monkeypatch):
    def refuse(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(LedgerError, match="No locks available; point"):
        opened(directory)


def test_the_state_directory_is_the_users_own(directory, ledger):
    assert directory.stat().st_mode & 0o777 == 0o700


def test_a_file_of_a_newer_exporter_is_not_changed(directory):
    with closing(opened(directory)) as ledger:
        query(ledger, "PRAGMA user_version = 99")
    before = Path(path_in(directory)).read_bytes()
    with pytest.raises(LedgerError, match=r"version 99.*upgrade the exporter"):
        opened(directory)
    assert Path(path_in(directory)).read_bytes() == before


def test_a_file_with_other_tables_is_not_changed_and_reported_with_the_remedy(directory):
    with closing(opened(directory)) as ledger:
        query(ledger, "ALTER TABLE party RENAME COLUMN nodes TO machines")
    with (
        closing(opened(directory)) as ledger,
        pytest.raises(LedgerError, match=r"no such column.*not those of this exporter: move"),
    ):
        ledger.restore()
    assert not list(directory.glob("*.damaged-*"))


def test_a_refused_file_is_not_kept_locked(directory):
    with closing(opened(directory)) as ledger:
        query(ledger, "PRAGMA user_version = 99")
    for _ in range(2):
        with pytest.raises(LedgerError, match="version 99"):
            opened(directory)


def test_a_file_that_is_no_database_is_renamed(directory):
    directory.mkdir()
    Path(path_in(directory)).write_bytes(b"not a database " * 100)
    made = opened(directory)
    made.close()
    aside = directory / "ledger.sqlite.damaged-20231114T221320Z"
    assert aside.read_bytes() == b"not a database " * 100
    assert str(aside) in made.notes[0]


def test_a_second_damaged_file_does_not_replace_the_first(directory):
    directory.mkdir()
    for content in (b"first " * 100, b"second " * 100):
        Path(path_in(directory)).write_bytes(content)
        opened(directory).close()
    asides = sorted(directory.glob("*.damaged-*"))
    assert [aside.read_bytes()[:5] for aside in asides] == [b"first", b"secon"]


def test_damage_met_while_restoring_renames_the_file_too(directory):
    with closing(opened(directory)) as made:
        made.commit(batch(used([f"run-{n}" for n in range(100)])))
    path = Path(path_in(directory))
    content = bytearray(path.read_bytes())
    for page in range(1, len(content) // 4096):
        content[page * 4096 : page * 4096 + 200] = b"\xff" * 200
    path.write_bytes(content)
    with closing(opened(directory)) as made:
        assert made.restore().restored.lines == {}
        assert "damaged" in made.notes[0]
        made.commit(batch(used()))


def test_quick_check_of_a_whole_file_finds_nothing(ledger):
    ledger.commit(batch(used()))
    assert ledger.quick_check() == ""


def test_quick_check_finds_damage(directory):
    with closing(opened(directory)) as made:
        made.commit(batch(used([f"run-{n}" for n in range(100)])))
    path = Path(path_in(directory))
    content = bytearray(path.read_bytes())
    content[-2 * 4096 :] = b"\x0d\x00\x00\xff" * 2048
    path.write_bytes(content)
    with closing(opened(directory)) as made:
        assert made.quick_check() != ""


def usage_sums(ledger, table):
    columns = "party_id, factor_id, sum(energy_uj), sum(held_uj), sum(carbon_ng)"
    return query(ledger, f"SELECT {columns} FROM {table} GROUP BY 1, 2 ORDER BY 1, 2")


def test_pruning_aggregates_minutes_to_hours_and_keeps_the_sums(ledger):
    made = used()
    for seq in range(3):
        ledger.commit(batch(made, seq=seq))
        backfill(made, seed=seq, rounds=50)
        ledger.prune(WALL + 2 * SECONDS_PER_DAY, 1, 400)
    ledger.commit(batch(made, seq=9))
    before = usage_sums(ledger, "(SELECT * FROM usage UNION ALL SELECT * FROM usage_hour)")
    ledger.prune(WALL + 2 * SECONDS_PER_DAY, 1, 400)
    assert usage_sums(ledger, "usage") == []
    assert usage_sums(ledger, "usage_hour") == before


def test_pruning_leaves_young_minutes_and_deletes_old_hours(ledger):
    made = books()
    made.post([posting(entry(UnattributedReason.IDLE, 1, minute=MINUTE - 24 * 60 * 500))], SECOND)
    made.post([posting(entry(UnattributedReason.IDLE, 2, minute=MINUTE - 24 * 60 * 40))], SECOND)
    made.post([posting(entry(UnattributedReason.IDLE, 4))], SECOND)
    ledger.commit(batch(made))
    ledger.prune(WALL, 35, 400)
    assert query(ledger, "SELECT energy_uj FROM usage") == [(4,)]
    assert query(ledger, "SELECT energy_uj FROM usage_hour") == [(2,)]
    total = ledger.restore().restored.lines[CPU_LINE._replace(target=UnattributedReason.IDLE)].total
    assert total.energy_uj == 7


def test_fifty_open_runs_come_back_beside_thousands_that_ended(ledger):
    made = used([f"run-{n}" for n in range(50)])
    ended = tuple(run(f"old-{n}", ended=WALL) for n in range(3_000))
    old = {CPU_LINE._replace(target=info.key): Balance(Amount(1, 0, 0)) for info in ended}
    handed = batch(made)
    ledger.commit(
        handed._replace(
            runs=(*ended, *handed.runs),
            lines={**old, **handed.lines},
            departed=tuple(info.key for info in ended),
        )
    )
    restored = ledger.restore().restored
    assert len(restored.runs) == 50
    assert restored.lines == balances(made.rows())


def test_amounts_of_all_parties_are_kept_apart(ledger):
    made = books()
    for number, reason in enumerate(UnattributedReason, 1):
        made.post([posting(entry(reason, number))], SECOND)
    ledger.commit(batch(made))
    lines = ledger.restore().restored.lines
    sums = {
        reason: sum(
            (b.total.energy_uj for line, b in lines.items() if line.target == reason),
        )
        for reason in UnattributedReason
    }
    assert sums == {reason: number for number, reason in enumerate(UnattributedReason, 1)}
    assert ZERO_AMOUNT in {b.total for b in lines.values()}


def test_a_ledger_that_was_removed_while_in_use_is_reported_and_not_written(tmp_path):
    ledger = opened(tmp_path)
    (tmp_path / LEDGER_FILE).unlink()
    with pytest.raises(LedgerError, match="removed or replaced"):
        ledger.commit(batch(books()))
    ledger.close()


def test_every_method_split_and_reason_has_its_number():
    assert set(METHOD_IDS) == set(Method)
    assert set(SPLIT_IDS) == set(SplitMethod)
    assert set(UnattributedReason) <= set(FIXED_PARTY_IDS)


def test_units_and_results_of_a_run_come_back(directory):
    spoken = run()._replace(
        nodes=4,
        units=(UnitCount("requests", 1.0, 1.0), UnitCount("tokens", 9.5)),
        logged=(("accuracy", 0.93), ("note", "good")),
    )
    made = books()
    known_run(made, spoken)
    backfill(made, ["bert"])
    with closing(opened(directory)) as ledger:
        ledger.commit(batch(made))
    with closing(opened(directory)) as ledger:
        (restored,) = ledger.restore().restored.runs
    assert (restored.nodes, restored.units, restored.logged) == (
        spoken.nodes,
        spoken.units,
        spoken.logged,
    )


def test_sums_of_owners_come_back_and_are_replaced(directory):
    owners = {Owner("ada", "", (("team", "nlp"),)): (5, 50), Owner("bob"): (1, 10)}
    made = books()
    with closing(opened(directory)) as ledger:
        ledger.commit(batch(made)._replace(owners=owners))
        ledger.commit(batch(made)._replace(owners={Owner("bob"): (2, 20)}))
    with closing(opened(directory)) as ledger:
        assert ledger.restore().restored.owners == {**owners, Owner("bob"): (2, 20)}


def test_nobody_but_its_owner_can_read_it_wherever_it_lies(directory):
    directory.mkdir(mode=0o755)
    for _ in range(2):
        with closing(opened(directory)):
            files = list(directory.glob(f"{LEDGER_FILE}*"))
            assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
        os.chmod(path_in(directory), 0o644)  # as one of an older exporter
