"""Books: conservation of energy, runs that begin and depart, power, batches."""

import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.account.departed_runs import MAX_DEPARTURES_PER_TICK, OwnerTotals
from exporter.model.ledger import (
    ZERO_AMOUNT,
    AccountKey,
    Amount,
    Balance,
    FactorUse,
    IntervalPostings,
    RestoredState,
    StoredRun,
    UsageKey,
)
from exporter.model.readings import Device, DeviceKind, Interval, Method
from exporter.model.runs import DEPARTED_RUNS, Owner
from exporter.model.workload import SplitMethod, UnattributedReason
from tests.unit.account.making import (
    CPU,
    DRAM,
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
    checkpoint,
    device_sums,
    entry,
    key,
    known_run,
    posting,
    run,
    shown,
    used_by,
)

CPU_LINE = AccountKey(CPU, key(), Method.COUNTER, SplitMethod.CPU_TIME)
amounts = st.integers(0, 10**12)
parties = st.sampled_from(
    [key("bert"), key("gpt"), UnattributedReason.IDLE, UnattributedReason.OTHER]
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.tuples(parties, amounts), max_size=5), max_size=5),
    st.lists(amounts, min_size=5, max_size=5),
)
def test_device_energy_is_never_short_of_its_intervals(ticks, energies):
    made = books()
    due = 0
    for entries, energy_uj in zip(ticks, energies, strict=False):
        booked = sum(e for _, e in entries)
        made.post([posting(*[entry(p, e) for p, e in entries], energy_uj=energy_uj)], SECOND)
        due += max(booked, energy_uj)
    total = sum(r.balance.total.energy_uj for r in made.rows())
    assert total == due


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(parties, amounts), max_size=20))
def test_balanced_postings_leave_no_imbalance(entries):
    made = books()
    made.post([posting(*[entry(p, e) for p, e in entries])], SECOND)
    assert made.imbalance_uj == 0


def test_missing_energy_goes_to_other_and_into_the_imbalance():
    made = used_by("bert")
    made.post([posting(entry(key(), 60), energy_uj=100)], SECOND)
    rest = balances(made.rows())[CPU, UnattributedReason.OTHER, Method.COUNTER, SplitMethod.REST]
    assert (rest.total, made.imbalance_uj) == (Amount(40, 0, 0), 40)


def test_surplus_counts_as_imbalance_and_takes_nothing_back():
    made = used_by("bert")
    made.post([posting(entry(key(), 100), energy_uj=60)], SECOND)
    assert balances(made.rows())[CPU_LINE].total.energy_uj == 100
    assert made.imbalance_uj == 40


def test_an_imbalance_is_logged_once(caplog):
    made = used_by("bert")
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            made.post([posting(entry(key(), 60), energy_uj=100)], SECOND)
    (record,) = caplog.records
    assert record.getMessage().startswith("postings do not sum to the energy of their interval")


@pytest.mark.parametrize("field", ["energy_uj", "held_uj", "carbon_ng"])
def test_a_negative_entry_lowers_no_total(field):
    made = used_by("bert")
    made.post([posting(entry(key(), 100))], SECOND)
    made.post([posting(entry(key(), 0)._replace(**{field: -50}), energy_uj=10)], SECOND)
    assert balances(made.rows())[CPU_LINE].total == Amount(100, 25, 300)


def test_declared_devices_have_an_idle_line_at_zero():
    lines = balances(books().rows())
    for device in (GPU, CPU, DRAM):
        assert lines[device, UnattributedReason.IDLE, Method.COUNTER, SplitMethod.REST] == Balance(
            ZERO_AMOUNT
        )


def test_a_new_run_begins_at_zero_on_cpu_and_memory_alone():
    made = books()
    made.update_run(run())
    mine = {line[0]: b for line, b in balances(made.rows()).items() if line[1] == key()}
    assert mine == {CPU: Balance(ZERO_AMOUNT), DRAM: Balance(ZERO_AMOUNT)}


def test_a_device_that_comes_later_begins_the_lines_of_open_runs():
    made = books(RestoredState())
    made.update_run(run())
    made.update_run(run("gpt", ended=WALL))
    later = INFOS[1]._replace(device=CPU._replace(id="package-1"))
    made.register_devices([*INFOS, later])
    assert {r.target for r in made.rows() if r.device == later.device} == {
        UnattributedReason.IDLE,
        key(),
    }


def test_power_is_unknown_before_the_first_full_window():
    made = used_by("bert")
    made.post([posting(entry(key(), 10), t1_ns=SECOND // 4)], SECOND // 4)
    assert made.powers() == {}
    assert {r.power_watts for r in made.rows()} == {None}


def test_power_is_the_mean_over_the_window():
    made = used_by("bert")
    made.post([posting(entry(key(), 1_000_000), t1_ns=SECOND // 4)], SECOND // 4)
    late = posting(entry(key(), 2_000_000), t0_ns=SECOND // 4, t1_ns=SECOND)
    made.post([late], SECOND)
    assert made.powers() == {CPU: 3.0}


def test_powers_of_lines_sum_to_that_of_the_device():
    made = used_by("bert", "gpt")
    backfill(made)
    powers = [r.power_watts for r in made.rows() if r.device == CPU]
    assert sum(powers) == pytest.approx(made.powers()[CPU])


def test_an_idle_line_has_a_power_of_zero_beside_a_busy_one():
    made = books()
    made.update_run(run())
    made.post([posting(entry(UnattributedReason.OTHER, 10))], SECOND)
    mine = [r for r in made.rows() if r.target == key() and r.device == CPU]
    assert mine[0].power_watts == 0.0


def test_power_of_a_silent_device_becomes_unknown():
    made = used_by("bert")
    made.post([posting(entry(key(), 10))], SECOND)
    made.post([], SECOND + 3 * SECOND // 2)
    assert made.powers() == {CPU: 10e-6}
    made.post([], SECOND + 3 * SECOND // 2 + 1)
    assert made.powers() == {}
    assert {r.power_watts for r in made.rows()} == {None}


def test_power_of_the_rest_is_known_until_its_meter_misses_three_readings():
    rest = Device(DeviceKind.REST, "rest")
    made, duration = used_by("bert"), 15 * SECOND
    used = entry(UnattributedReason.OTHER, 30_000_000, device=rest, split=SplitMethod.REST)
    interval = Interval(rest, SECOND, SECOND + duration, 30_000_000, Method.INTEGRATED)
    made.post([IntervalPostings(interval, (used,))], SECOND + duration)
    made.post([], SECOND + 4 * duration)
    assert made.powers() == {rest: 2.0}
    made.post([], SECOND + 4 * duration + 1)
    assert made.powers() == {}


def test_factor_uses_are_kept_per_run_and_factor():
    made = used_by("bert")
    made.post([posting(entry(key(), 10), entry(key(), 5, factor=FRANCE), entry(key(), 1))], SECOND)
    assert made.factor_uses()[key()] == (
        FactorUse(GERMANY, 11, 33),
        FactorUse(FRANCE, 5, 15),
    )


def test_factor_uses_sum_to_the_totals_of_the_run():
    made = used_by("bert", "gpt")
    backfill(made)
    total = sum(r.balance.total.energy_uj for r in made.rows() if r.target == key())
    assert sum(use.energy_uj for use in made.factor_uses()[key()]) == total


def test_usage_is_kept_by_minute_and_factor():
    made = books()
    made.post([posting(entry(UnattributedReason.IDLE, 10))], SECOND)
    made.post([posting(entry(UnattributedReason.IDLE, 20, factor=FRANCE))], SECOND)
    made.post(
        [posting(entry(UnattributedReason.IDLE, 40, factor=FRANCE, minute=MINUTE + 1))], SECOND
    )
    made.post([posting(entry(UnattributedReason.IDLE, 80))], SECOND)
    where = {"device": CPU, "target": UnattributedReason.IDLE, "method": Method.COUNTER}
    found = {
        k: v.energy_uj
        for k, v in batch(made).usage.items()
        if k == UsageKey(k.minute, factor=k.factor, split=SplitMethod.CPU_TIME, **where)
    }
    assert {(k.minute, k.factor): v for k, v in found.items()} == {
        (MINUTE, GERMANY): 90,
        (MINUTE, FRANCE): 20,
        (MINUTE + 1, FRANCE): 40,
    }


def test_energy_without_entries_is_booked_in_the_present_minute():
    made = books()
    made.post([posting(energy_uj=40)], SECOND)
    checkpoint(made)
    made.post([posting(energy_uj=2)], SECOND)
    (used,) = batch(made).usage.items()
    assert (used[0].minute, used[0].target, used[1].energy_uj) == (
        MINUTE,
        UnattributedReason.OTHER,
        42,
    )


def test_a_batch_holds_only_what_changed_since_the_last():
    made = used_by("bert")
    backfill(made, names=("bert",))
    first = batch(made)
    made.post([posting(entry(key(), 7))], SECOND)
    second = batch(made, seq=2)
    assert first.runs == (run(),)
    assert first.infos == INFOS
    assert (list(second.lines), second.runs, second.infos) == ([CPU_LINE], (), ())
    assert second.lines[CPU_LINE].total.energy_uj == first.lines[CPU_LINE].total.energy_uj + 7
    assert [u.energy_uj for u in second.usage.values()] == [7]


def test_usage_of_all_batches_sums_to_the_totals():
    made = books()
    for name in ("bert", "gpt"):
        known_run(made, run(name))
    used: dict[AccountKey, Amount] = {}
    for seq in range(4):
        backfill(made, seed=seq)
        for k, amount in batch(made, seq=seq).usage.items():
            line = AccountKey(k.device, k.target, k.method, k.split)
            used[line] = used.get(line, ZERO_AMOUNT).plus(amount)
    totals = {line: b.total for line, b in balances(made.rows()).items() if any(b.total)}
    assert used == totals


def test_a_run_stays_out_of_batches_until_its_stored_totals_are_restored():
    made = books()
    made.update_run(run())
    made.post([posting(entry(key(), 100))], SECOND)
    before = batch(made)
    made.restore_run(StoredRun(key()))
    after = batch(made, seq=2)
    assert key() not in {line.target for line in before.lines} | {k.target for k in before.usage}
    assert before.runs == ()
    assert after.lines[CPU_LINE].total.energy_uj == 100
    assert [u.energy_uj for u in after.usage.values()] == [100]
    assert after.runs == (run(),)


def departed(made, name="bert"):
    made.update_run(run(name, ended=WALL + 9))
    made.remove_run(key(name))
    handed = batch(made, seq=7)
    made.apply_committed(7)
    return handed


def test_a_run_leaves_only_when_all_of_it_is_committed():
    made = used_by("bert")
    backfill(made, names=("bert",))
    made.remove_run(key())
    made.apply_committed(99)
    assert key() in {r.key for r in shown(made)}
    batch(made, seq=5)
    made.apply_committed(4)
    assert key() in {r.key for r in shown(made)}
    made.apply_committed(5)
    assert shown(made) == ()
    assert key() not in {r.target for r in made.rows()}
    assert key() not in made.factor_uses()


def test_departure_goes_into_the_next_batch():
    made = used_by("bert")
    departed(made)
    assert batch(made, seq=8).departed == (key(),)
    assert batch(made, seq=9).departed == ()


def test_departure_uses_no_energy():
    made = used_by("bert")
    backfill(made, names=("bert",))
    departed(made)
    assert batch(made, seq=8).usage == {}


def test_what_comes_late_for_a_run_that_left_is_booked_on_the_departed():
    made = used_by("bert")
    backfill(made, names=("bert",))
    departed(made)
    batch(made, seq=8)
    before = device_sums(made.rows())[CPU, Method.COUNTER]
    made.post([posting(entry(key(), 700))], SECOND)
    late = batch(made, seq=9)
    assert list(late.lines) == [CPU_LINE._replace(target=DEPARTED_RUNS)]
    assert {(k.target, v.energy_uj) for k, v in late.usage.items()} == {(DEPARTED_RUNS, 700)}
    after = device_sums(made.rows())[CPU, Method.COUNTER]
    assert [b.energy_uj - a.energy_uj for a, b in zip(before, after, strict=True)] == [700, 700]
    assert (shown(made), made.imbalance_uj) == ((), 0)


def test_of_many_runs_some_leave_at_each_tick():
    made = used_by(*[f"run-{number}" for number in range(2 * MAX_DEPARTURES_PER_TICK + 1)])
    batch(made, seq=5)
    for each in shown(made):
        made.remove_run(each.key)
    here = []
    for _ in range(3):
        made.apply_committed(5)
        here.append(len(shown(made)))
    assert here == [MAX_DEPARTURES_PER_TICK + 1, 1, 0]


def test_a_run_that_waits_to_be_committed_delays_no_other():
    made = used_by(*[f"run-{number:03}" for number in range(MAX_DEPARTURES_PER_TICK + 1)])
    batch(made, seq=5)
    for each in shown(made):
        made.remove_run(each.key)
        if each != shown(made)[-1]:
            made.post([posting(entry(each.key, 1))], SECOND)
    made.apply_committed(5)
    assert [each.name for each in shown(made)] == [
        f"run-{n:03}" for n in range(MAX_DEPARTURES_PER_TICK)
    ]


def test_a_run_that_comes_back_before_it_left_stays():
    made = used_by("bert")
    made.remove_run(key())
    made.update_run(run())
    batch(made, seq=5)
    made.apply_committed(5)
    assert [r.key for r in shown(made)] == [key()]


def test_unexpected_stored_totals_change_nothing():
    made = used_by("bert")
    made.restore_run(StoredRun(key(), run(), {CPU_LINE: Balance(Amount(5, 0, 0))}))
    assert balances(made.rows())[CPU_LINE] == Balance(ZERO_AMOUNT)


def test_a_run_that_comes_back_continues_from_its_total_and_its_counter():
    made = used_by("bert")
    made.post([posting(entry(key(), 100))], SECOND)
    stored_run = StoredRun(key(), run(), departed(made).lines, (FactorUse(GERMANY, 100, 300),))
    stored_run = stored_run._replace(
        lines={k: v for k, v in stored_run.lines.items() if k.target == key()}
    )
    made.update_run(run(started=WALL + 50))
    made.post([posting(entry(key(), 8))], SECOND)
    made.restore_run(stored_run)
    balance = balances(made.rows())[CPU_LINE]
    assert (balance.total.energy_uj, balance.counted.energy_uj) == (108, 8)
    assert made.factor_uses()[key()] == (FactorUse(GERMANY, 108, 324),)
    assert [r.started for r in shown(made)] == [WALL]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["post", "note", "end", "batch", "settle", "rejoin"]), max_size=40))
def test_coming_and_going_changes_no_sum_over_a_device(steps):
    """The ledger is played by a dictionary."""
    made = books()
    ledger: dict[AccountKey, Balance] = {}
    seq = 0
    noted = False
    for step in steps:
        before = device_sums(made.rows())
        if step == "post":
            made.post(
                [posting(entry(key(), 1_000 + seq), entry(UnattributedReason.IDLE, 5))], SECOND
            )
        elif step == "note":
            made.update_run(run())
            noted = True
        elif step == "end" and noted:
            made.update_run(run(ended=WALL))
            made.remove_run(key())
        elif step == "batch":
            seq += 1
            ledger.update(batch(made, seq=seq).lines)
        elif step == "settle":
            made.apply_committed(seq)
        elif step == "rejoin":
            mine = {line: b for line, b in ledger.items() if line.target == key()}
            made.restore_run(StoredRun(key(), run() if mine else None, mine))
        if step != "post":
            after = device_sums(made.rows())
            assert {k: v for k, v in after.items() if k in before} == before
        assert all(min(r.balance.counted) >= 0 for r in made.rows())


def test_a_checkpoint_shares_its_layout_while_nothing_rare_changes():
    made = books()
    first = checkpoint(made)
    made.post([posting(entry(UnattributedReason.IDLE, 5, split=SplitMethod.REST))], SECOND)
    second = checkpoint(made, seq=2)
    assert second.layout is first.layout
    made.update_run(run())
    assert checkpoint(made, seq=3).layout is not first.layout


def test_a_checkpoint_equals_the_rows():
    made = used_by("bert")
    backfill(made)
    assert checkpoint(made).balances() == balances(made.rows())


def test_restored_lines_continue():
    lines = {CPU_LINE: Balance(Amount(100, 0, 0), Amount(40, 0, 0))}
    made = books(RestoredState(lines=lines, runs=(run(),)))
    made.post([posting(entry(key(), 1))], SECOND)
    assert balances(made.rows())[CPU_LINE].counted.energy_uj == 61


def test_the_departed_are_in_the_rows():
    made = used_by("bert")
    made.post([posting(entry(key(), 100))], SECOND)
    departed(made)
    gone = [r.balance.counted.energy_uj for r in made.rows() if r.target == DEPARTED_RUNS]
    assert sum(gone) == 100


def test_a_run_that_changes_its_name_keeps_its_owner():
    made = books()
    known_run(made, run(owner=None, user="5"))
    made.update_run(run(owner=None, user="games"))
    assert made.owner_of() == {key(): Owner("5")}


def test_a_run_has_no_owner_until_its_users_name_is_known_and_then_with_all_it_used():
    made = books()
    known_run(made, run(owner=None, user=""))
    made.post([posting(entry(key(), 100))], SECOND)
    assert made.owner_of() == {}
    made.update_run(run(owner=None, user="ada"))
    assert made.owner_of() == {key(): Owner("ada")}
    assert made.used(key()).energy_uj == 100


def test_the_owner_of_a_run_is_still_open_after_a_restart_if_it_was_before():
    waiting = run(owner=None, user="")
    made = books(RestoredState(runs=(waiting,)))
    assert made.owner_of() == {}
    made.update_run(waiting._replace(user="ada"))
    assert made.owner_of() == {key(): Owner("ada")}


def test_a_run_that_leaves_before_its_users_name_is_known_is_added_up_under_the_number():
    owners = OwnerTotals({}, ())
    owners.add(run(owner=None, user=""), 5, 50)
    assert owners.totals == ((Owner("1000"), 5, 50),)
