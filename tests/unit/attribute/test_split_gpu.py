"""GPU energy is split by holdings and activity, and shares sum to the device's energy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.attribute.split_gpu import split_gpu
from exporter.model.readings import (
    Device,
    DeviceKind,
    GpuActivity,
    GpuProcess,
    Interval,
    Method,
    Partition,
)
from exporter.model.runs import RunKey
from exporter.model.workload import (
    EnergyShare,
    GpuHolding,
    SplitMethod,
    UnattributedReason,
    WorkloadSample,
)

GPU = Device(DeviceKind.GPU, "GPU-1")
A, B, C = (RunKey(1, name, "") for name in "abc")
SECOND = 1_000_000_000
JOULE = 1_000_000
E = 400 * JOULE
"""One second of a GPU of 400 W."""


def interval(energy_uj=E, *, t0=0, t1=SECOND, restart=False):
    return Interval(GPU, t0, t1, energy_uj, Method.COUNTER, restart=restart)


def sighting(*holdings, owners=None, holder=None):
    return WorkloadSample(SECOND, (), None, holder, holdings, owners or {})


def hold(run, partition="", **more):
    return GpuHolding(GPU, run, partition, **more)


def looked(*occupants, partitions=(), slices=0, coverage=1.0):
    return GpuActivity(GPU, SECOND, occupants, partitions, slices, coverage)


def unseen(**more):
    return looked(**more)._replace(why="the driver does not say")


def parts(shares):
    """Joules by target, after a check that they sum to the energy of the interval."""
    assert sum(share.energy_uj for share in shares) == E
    sums = {}
    for share in shares:
        sums[share.target] = sums.get(share.target, 0) + share.energy_uj / JOULE
    return sums


def test_an_exclusive_holder_pays_for_all_of_it_and_the_floor_is_named():
    seen = sighting(hold(A), owners={7: A})
    (share,) = split_gpu(interval(), 80 * JOULE, seen, looked(GpuProcess(7, active=0.9)))
    assert share == EnergyShare(A, E, SplitMethod.EXCLUSIVE, 80 * JOULE)


def test_an_exclusive_holder_without_a_process_pays_for_an_idle_gpu():
    (share,) = split_gpu(interval(), E, sighting(hold(A)), looked())
    assert share == EnergyShare(A, E, SplitMethod.EXCLUSIVE, E)


def test_a_holder_of_all_replicas_is_charged_for_unknown_processes():
    seen = sighting(hold(A, units=1, units_of=1))
    shares = split_gpu(interval(), None, seen, looked(GpuProcess(9, active=0.9)))
    assert parts(shares) == {A: 400}


def test_two_time_sliced_holders_of_a_400_w_gpu_sum_to_400_w():
    seen = sighting(hold(A), hold(B), owners={7: A, 8: B})
    busy = looked(GpuProcess(7, active=0.6), GpuProcess(8, active=0.2))
    shares = split_gpu(interval(), 80 * JOULE, seen, busy)
    assert parts(shares) == {A: 40 + 240, B: 40 + 80}
    assert {share.split for share in shares} == {SplitMethod.ACTIVITY}


@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_activity_is_taken_in_proportion_whatever_it_sums_to(scale):
    seen = sighting(hold(A), hold(B), owners={7: A, 8: B})
    busy = looked(GpuProcess(7, active=scale), GpuProcess(8, active=scale / 3))
    assert parts(split_gpu(interval(), None, seen, busy)) == {A: 300, B: 100}


def test_without_activity_two_holders_pay_the_same():
    seen = sighting(hold(A), hold(B), owners={7: A, 8: B})
    for look in (unseen(), looked(GpuProcess(7), GpuProcess(8))):
        shares = split_gpu(interval(), None, seen, look)
        assert parts(shares) == {A: 200, B: 200}
        assert {share.split for share in shares} == {SplitMethod.EQUAL}


def test_activity_counts_as_far_as_it_is_covered_and_not_below_half():
    seen = sighting(hold(A), hold(B), owners={7: A, 8: B})
    only_a = GpuProcess(7, active=0.6), GpuProcess(8)
    more = split_gpu(interval(), 0, seen, looked(*only_a, coverage=0.6))
    less = split_gpu(interval(), 0, seen, looked(*only_a, coverage=0.4))
    assert parts(more) == pytest.approx({A: 400 * (0.6 + 0.4 / 2), B: 400 * 0.4 / 2})
    assert parts(less) == {A: 200, B: 200}


def test_noise_is_no_activity():
    seen = sighting(hold(A), hold(B), owners={7: A, 8: B})
    look = looked(GpuProcess(7, active=0.04), GpuProcess(8, active=0.01))
    assert parts(split_gpu(interval(), 0, seen, look)) == {A: 200, B: 200}


def test_free_replicas_leave_their_part_of_the_floor_unallocated_and_nothing_else():
    seen = sighting(hold(A, units_of=4), hold(B, units_of=4), owners={7: A, 8: B})
    look = looked(GpuProcess(7, active=0.3), GpuProcess(8, active=0.1))
    shares = split_gpu(interval(), 80 * JOULE, seen, look)
    assert parts(shares) == {A: 20 + 240, B: 20 + 80, UnattributedReason.UNALLOCATED: 40}


def test_who_holds_more_replicas_pays_more_of_the_floor():
    seen = sighting(hold(A, units=3), hold(B, units=1))
    assert parts(split_gpu(interval(), E, seen, looked())) == {A: 300, B: 100}


def test_an_idle_holder_pays_its_part_of_the_floor_and_nothing_else():
    seen = sighting(hold(A), hold(B), owners={7: A})
    for active in (0.9, 0.0):
        shares = split_gpu(interval(), 80 * JOULE, seen, looked(GpuProcess(7, active=active)))
        assert parts(shares) == {A: 40 + 320, B: 40}
        assert {share.target: share.held_uj for share in shares} == {A: 40 * JOULE, B: 40 * JOULE}


def test_a_gpu_without_holder_and_process_is_unallocated():
    for look in (looked(), unseen()):
        for floor_uj in (None, 0, 80 * JOULE, E):
            shares = split_gpu(interval(), floor_uj, sighting(), look)
            assert shares == [EnergyShare(UnattributedReason.UNALLOCATED, E, SplitMethod.REST)]


def test_a_process_of_no_run_is_charged_for_all_active_energy():
    look = looked(GpuProcess(9))
    assert parts(split_gpu(interval(), None, sighting(), look)) == {
        UnattributedReason.UNKNOWN_PROCESS: 400
    }
    assert parts(split_gpu(interval(), 80 * JOULE, sighting(), look)) == {
        UnattributedReason.UNALLOCATED: 80,
        UnattributedReason.UNKNOWN_PROCESS: 320,
    }


def test_activity_without_a_visible_process_is_an_unknown_process():
    look = looked()._replace(utilization=0.5)
    assert parts(split_gpu(interval(), None, sighting(), look)) == {
        UnattributedReason.UNKNOWN_PROCESS: 400
    }
    assert parts(split_gpu(interval(), None, sighting(hold(A)), look)) == {A: 400}


def test_a_process_of_no_run_beside_a_holder_is_charged_by_its_activity():
    seen = sighting(hold(A), owners={7: A})
    look = looked(GpuProcess(7, active=0.3), GpuProcess(9, active=0.1))
    shares = split_gpu(interval(), 80 * JOULE, seen, look)
    assert parts(shares) == {A: 80 + 240, UnattributedReason.UNKNOWN_PROCESS: 80}


def test_a_process_of_no_run_without_known_activity_counts_as_one_replica():
    seen = sighting(hold(A), owners={7: A})
    look = looked(GpuProcess(7), GpuProcess(9), coverage=0.0)
    shares = split_gpu(interval(), 80 * JOULE, seen, look)
    assert parts(shares) == {A: 80 + 160, UnattributedReason.UNKNOWN_PROCESS: 160}


def test_a_process_of_a_run_without_a_holding_is_ignored():
    seen = sighting(hold(A, until_ns=SECOND // 2), owners={7: A})
    shares = split_gpu(interval(), None, seen, looked(GpuProcess(7, active=0.9)))
    assert parts(shares) == {A: 200, UnattributedReason.UNALLOCATED: 200}


def test_clients_of_an_mps_server_share_its_activity():
    seen = sighting(hold(A, units=3), hold(B), owners={7: A, 8: B})
    server = GpuProcess(5, active=0.9, is_proxy=True)
    for look in (looked(server), looked(server, GpuProcess(7), GpuProcess(8))):
        shares = split_gpu(interval(), 0, seen, look)
        assert parts(shares) == {A: 300, B: 100}
        assert {share.split for share in shares} == {SplitMethod.EQUAL}


def test_an_mps_server_listed_as_an_ordinary_process_is_recognized():
    seen = sighting(hold(A, units=3), hold(B), owners={5: C})._replace(proxy_pids=frozenset({5}))
    shares = split_gpu(interval(), 0, seen, looked(GpuProcess(5, active=0.9)))
    assert parts(shares) == {A: 300, B: 100}


def seven(*active):
    """Five partitions on seven slices: of 1, 1, 1, 1 and 2 slices, and one slice in none."""
    slices = (1, 1, 1, 1, 2)
    return tuple(
        Partition(f"MIG-{n}", size, active[n] if n < len(active) else None)
        for n, size in enumerate(slices)
    )


MIG = (GpuProcess(7, "MIG-0"), GpuProcess(8, "MIG-1"), GpuProcess(9, "MIG-4"))
HELD = (hold(A, "MIG-0"), hold(A, "MIG-1"), hold(B, "MIG-4"))
OWNERS = {7: A, 8: A, 9: B}


def test_seven_slices_some_free_pay_the_floor_by_slices_and_the_free_ones_nothing_else():
    look = looked(*MIG, partitions=seven(), slices=7)
    shares = split_gpu(interval(), 70 * JOULE, sighting(*HELD, owners=OWNERS), look)
    assert parts(shares) == {A: 20 + 165, B: 20 + 165, UnattributedReason.UNALLOCATED: 30}
    assert {s.split for s in shares if s.target != UnattributedReason.UNALLOCATED} == {
        SplitMethod.SLICES
    }


def test_before_idle_power_is_learned_free_slices_share_by_size():
    look = looked(*MIG, partitions=seven(), slices=8)
    shares = split_gpu(interval(), None, sighting(*HELD, owners=OWNERS), look)
    assert parts(shares) == {A: 100, B: 100, UnattributedReason.UNALLOCATED: 200}


def test_seven_slices_with_known_activity_are_split_by_it():
    look = looked(*MIG, partitions=seven(0.6, 0.2, 0.0, 0.0, 0.1), slices=7)
    shares = split_gpu(interval(), 70 * JOULE, sighting(*HELD, owners=OWNERS), look)
    assert parts(shares) == pytest.approx(
        {A: 20 + 264, B: 20 + 66, UnattributedReason.UNALLOCATED: 30}
    )
    assert {s.split for s in shares if s.target != UnattributedReason.UNALLOCATED} == {
        SplitMethod.ACTIVITY
    }


def test_a_held_slice_without_a_process_pays_its_part_of_the_floor():
    look = looked(MIG[0], partitions=seven(), slices=7)
    seen = sighting(hold(A, "MIG-0"), hold(B, "MIG-4"), owners={7: A})
    shares = split_gpu(interval(), 70 * JOULE, seen, look)
    assert parts(shares) == {A: 10 + 330, B: 20, UnattributedReason.UNALLOCATED: 40}


def test_a_process_of_no_run_in_a_free_slice_is_unknown():
    look = looked(*MIG[:2], partitions=seven(), slices=7)
    seen = sighting(hold(A, "MIG-0"), owners={7: A})
    shares = split_gpu(interval(), 70 * JOULE, seen, look)
    assert parts(shares) == {
        A: 10 + 165,
        UnattributedReason.UNKNOWN_PROCESS: 165,
        UnattributedReason.UNALLOCATED: 60,
    }


def test_the_holder_of_a_partitioned_gpu_holds_all_parts_without_a_holder():
    look = looked(MIG[0], partitions=seven(), slices=7)
    seen = sighting(hold(A, "MIG-0"), hold(C), owners={7: A})
    assert parts(split_gpu(interval(), 70 * JOULE, seen, look)) == {A: 10 + 330, C: 60}


def test_a_slice_that_is_held_by_two_runs_is_shared_by_its_replicas():
    look = unseen(partitions=seven(), slices=7)
    seen = sighting(hold(A, "MIG-4", units_of=2), hold(B, "MIG-4", units_of=2))
    shares = split_gpu(interval(), 70 * JOULE, seen, look)
    assert parts(shares) == {A: 10 + 165, B: 10 + 165, UnattributedReason.UNALLOCATED: 50}


def test_an_allocation_that_changes_inside_an_interval_cuts_it():
    seen = sighting(hold(A, until_ns=SECOND // 4), hold(B, since_ns=SECOND // 2), owners={8: B})
    shares = split_gpu(interval(), 40 * JOULE, seen, looked(GpuProcess(8, active=0.5)))
    assert shares == [
        EnergyShare(A, E // 4, SplitMethod.EXCLUSIVE, 10 * JOULE),
        EnergyShare(UnattributedReason.UNALLOCATED, E // 4, SplitMethod.REST),
        EnergyShare(B, E // 2, SplitMethod.EXCLUSIVE, 20 * JOULE),
    ]


def test_a_holder_is_charged_alone_until_another_one_joins():
    seen = sighting(hold(A), hold(B, since_ns=SECOND // 2))
    assert split_gpu(interval(), None, seen, unseen()) == [
        EnergyShare(A, E // 2, SplitMethod.EXCLUSIVE),
        EnergyShare(A, E // 4, SplitMethod.EQUAL),
        EnergyShare(B, E // 4, SplitMethod.EQUAL),
    ]


def test_over_a_restart_only_holdings_are_charged():
    look = looked(GpuProcess(9, active=0.9))
    assert parts(split_gpu(interval(restart=True), None, sighting(), look)) == {
        UnattributedReason.RESTART: 400
    }
    later = sighting(hold(A, since_ns=SECOND // 2))
    assert parts(split_gpu(interval(restart=True), None, later, look)) == {
        A: 200,
        UnattributedReason.RESTART: 200,
    }


def test_over_a_restart_energy_is_split_by_holdings_not_by_activity():
    seen = sighting(hold(A, units_of=4), hold(B, units_of=4), owners={7: A, 8: B})
    look = looked(GpuProcess(7, active=0.9), GpuProcess(8))
    shares = split_gpu(interval(restart=True), None, seen, look)
    assert parts(shares) == {A: 100, B: 100, UnattributedReason.RESTART: 200}
    assert {s.split for s in shares if s.target != UnattributedReason.RESTART} == {
        SplitMethod.EQUAL
    }


def test_the_machine_owner_is_charged_for_energy_of_no_other_run():
    seen = sighting(hold(A, units_of=4), owners={7: A}, holder=C)
    shares = split_gpu(interval(), 80 * JOULE, seen, looked(GpuProcess(7, active=0.9)))
    assert parts(shares) == {A: 340, C: 60}
    for look in (looked(), looked(GpuProcess(9))):
        assert parts(split_gpu(interval(), None, sighting(holder=C), look)) == {C: 400}


runs = st.sampled_from([A, B, C])
times = st.integers(-SECOND, 2 * SECOND)
holdings = st.builds(
    GpuHolding,
    st.just(GPU),
    runs,
    st.sampled_from(["", "MIG-0", "MIG-1", "gone"]),
    st.integers(1, 4),
    st.integers(0, 8),
    times,
    st.none() | times,
)
activity = st.floats(0, 1)
occupants = st.builds(
    GpuProcess,
    st.integers(1, 6),
    st.sampled_from(["", "MIG-0", "MIG-1"]),
    activity,
    st.booleans(),
)
partitions = st.builds(
    Partition,
    st.sampled_from(["MIG-0", "MIG-1", "MIG-2"]),
    st.floats(0.1, 7),
    st.none() | activity,
)
occupancies = st.builds(
    GpuActivity,
    st.just(GPU),
    times,
    st.lists(occupants, max_size=5).map(tuple),
    st.lists(partitions, max_size=3).map(tuple),
    st.sampled_from([0, 7]),
    activity,
    st.none() | activity,
    st.sampled_from(["", "not known"]),
)
sightings = st.builds(
    WorkloadSample,
    times,
    st.just(()),
    st.none(),
    st.none() | st.just(C),
    st.lists(holdings, max_size=5).map(tuple),
    st.dictionaries(st.integers(1, 6), runs),
)


@given(
    st.integers(0, 10**12),
    st.none() | st.floats(0, 1),
    sightings,
    occupancies,
    st.booleans(),
    st.integers(0, SECOND),
)
def test_shares_sum_to_the_energy_and_none_is_negative(
    energy_uj, idle_part, seen, occupancy, restart, t1
):
    floor_uj = None if idle_part is None else round(energy_uj * idle_part)
    whole = interval(energy_uj, t1=t1, restart=restart)
    shares = split_gpu(whole, floor_uj, seen, occupancy)
    assert sum(share.energy_uj for share in shares) == energy_uj
    assert all(0 <= share.held_uj <= share.energy_uj for share in shares)
    assert all(share.energy_uj > 0 for share in shares)
    lines = [(share.target, share.split) for share in shares]
    assert len(set(lines)) == len(lines)
    if seen.machine_owner is not None:
        assert not any(isinstance(share.target, UnattributedReason) for share in shares)
