"""Splits are exact for all weights."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.attribute.split import merge_samples, split_cpu, split_dram, split_rest
from exporter.model.readings import Device, DeviceKind
from exporter.model.runs import RunKey
from exporter.model.workload import (
    EnergyShare,
    GpuHolding,
    HostUsage,
    RunUsage,
    SplitMethod,
    UnattributedReason,
    WorkloadSample,
)

A, B, HOLDER = RunKey(1, "a", ""), RunKey(2, "b", ""), RunKey(0, "all", "")

energies = st.integers(0, 10**12)
usages = st.lists(
    st.builds(
        RunUsage,
        st.builds(RunKey, st.integers(0, 9), st.sampled_from("abc"), st.just("")),
        st.integers(0, 10**9),
        st.integers(0, 10**12),
    ),
    max_size=12,
    unique_by=lambda usage: usage.run,
)
machines = st.none() | st.builds(
    HostUsage, st.integers(0, 10**9), st.integers(0, 10**9), *[st.integers(0, 10**12)] * 2
)
sightings = st.builds(
    lambda usage, machine, holder: WorkloadSample(0, tuple(usage), machine, holder),
    usages,
    machines,
    st.sampled_from([None, HOLDER]),
)


def total(shares: list[EnergyShare]) -> int:
    return sum(share.energy_uj for share in shares)


@given(energies, st.floats(0, 1), sightings, st.booleans())
def test_shares_of_a_package_sum_to_its_energy(energy, idle_part, sighting, restart):
    shares = split_cpu(energy, round(energy * idle_part), sighting, restart=restart)
    assert total(shares) == energy
    assert all(0 <= share.held_uj <= share.energy_uj for share in shares)


@given(energies, sightings, st.booleans())
def test_shares_of_a_memory_sum_to_its_energy(energy, sighting, restart):
    assert total(split_dram(energy, sighting, restart=restart)) == energy


def sighting(
    *usage: RunUsage, machine: HostUsage | None, holder: RunKey | None = None
) -> WorkloadSample:
    return WorkloadSample(0, usage, machine, holder)


def test_active_energy_is_split_by_cpu_time_and_the_rest_is_idle():
    seen = sighting(RunUsage(A, 300, 0), RunUsage(B, 100, 0), machine=HostUsage(1000, 2000, 0, 0))
    assert split_cpu(1_500, 500, seen, restart=False) == [
        EnergyShare(A, 300, SplitMethod.CPU_TIME),
        EnergyShare(B, 100, SplitMethod.CPU_TIME),
        EnergyShare(UnattributedReason.IDLE, 500, SplitMethod.REST),
        EnergyShare(UnattributedReason.OTHER, 600, SplitMethod.REST),
    ]


def test_runs_that_used_more_than_the_machine_was_busy_share_all_of_it():
    seen = sighting(RunUsage(A, 300, 0), RunUsage(B, 100, 0), machine=HostUsage(50, 100, 0, 0))
    assert split_cpu(400, 0, seen, restart=False) == [
        EnergyShare(A, 300, SplitMethod.CPU_TIME),
        EnergyShare(B, 100, SplitMethod.CPU_TIME),
    ]


def test_an_idle_run_on_an_idle_machine_is_charged_nothing():
    seen = sighting(RunUsage(A, 0, 0), machine=HostUsage(0, 2000, 0, 0))
    assert split_cpu(900, 100, seen, restart=False) == [
        EnergyShare(UnattributedReason.IDLE, 900, SplitMethod.REST)
    ]


def test_the_machine_owner_is_charged_for_the_rest_with_its_idle_part_reported():
    seen = sighting(RunUsage(A, 300, 0), machine=HostUsage(1000, 2000, 0, 0), holder=HOLDER)
    assert split_cpu(1_500, 500, seen, restart=False) == [
        EnergyShare(A, 300, SplitMethod.CPU_TIME),
        EnergyShare(HOLDER, 1_200, SplitMethod.EXCLUSIVE, held_uj=500),
    ]


@pytest.mark.parametrize(
    "machine",
    [None, HostUsage(0, 0, 0, 0, is_partial=True), HostUsage(9, 99, 0, 0, is_partial=True)],
)
def test_over_a_restart_without_the_clocks_of_the_host_no_run_is_charged(machine):
    """The journal is gone, for example after a backup was restored; A used 5 us since."""
    seen = sighting(RunUsage(A, 5, 0), machine=machine)
    assert split_cpu(30_000_000, 500, seen, restart=True) == [
        EnergyShare(UnattributedReason.RESTART, 30_000_000, SplitMethod.REST)
    ]
    merged = merge_samples(seen, sighting(RunUsage(A, 7, 0), machine=HostUsage(10, 20, 0, 0)))
    assert split_cpu(7, 0, merged, restart=True)[0].target == (
        UnattributedReason.RESTART if machine else A
    )


def test_over_a_restart_a_run_that_began_after_it_is_not_charged():
    seen = sighting(
        RunUsage(A, 300, 30), RunUsage(B, 100, 20), machine=HostUsage(1000, 2000, 100, 100)
    )._replace(known_runs=frozenset({A}))
    after = sighting(RunUsage(A, 0, 30), RunUsage(B, 0, 20), machine=HostUsage(0, 0, 100, 100))
    for sample in (seen, merge_samples(seen, after)):
        for shares in (
            split_cpu(1_000, 0, sample, restart=True),
            split_dram(1_000, sample, restart=True),
        ):
            energies = {share.target: share.energy_uj for share in shares}
            assert energies == {A: 300, UnattributedReason.RESTART: 700}
    energies = {share.target for share in split_dram(1_000, seen, restart=False)}
    assert energies == {A, B, UnattributedReason.OTHER}


def test_over_a_restart_energy_of_no_run_is_attributed_to_restart():
    seen = sighting(RunUsage(A, 300, 0), machine=HostUsage(1000, 2000, 0, 0))
    assert split_cpu(1_500, 500, seen, restart=True) == [
        EnergyShare(A, 300, SplitMethod.CPU_TIME),
        EnergyShare(UnattributedReason.RESTART, 1_200, SplitMethod.REST),
    ]


def test_memory_follows_bytes_held_and_free_memory_is_idle():
    seen = sighting(RunUsage(A, 0, 30), machine=HostUsage(0, 0, 50, 100))
    assert split_dram(1_000, seen, restart=False) == [
        EnergyShare(A, 300, SplitMethod.MEMORY),
        EnergyShare(UnattributedReason.IDLE, 500, SplitMethod.REST),
        EnergyShare(UnattributedReason.OTHER, 200, SplitMethod.REST),
    ]


def test_an_unreadable_machine_leaves_the_energy_to_other():
    assert split_cpu(7, 0, sighting(machine=None), restart=False) == [
        EnergyShare(UnattributedReason.OTHER, 7, SplitMethod.REST)
    ]


def test_merged_samples_add_cpu_time_and_keep_the_later_memory():
    first = sighting(RunUsage(A, 5, 10), machine=HostUsage(10, 20, 1, 9))
    second = sighting(RunUsage(A, 7, 12), RunUsage(B, 1, 1), machine=HostUsage(1, 2, 3, 9))
    assert merge_samples(first, second) == sighting(
        RunUsage(A, 12, 12), RunUsage(B, 1, 1), machine=HostUsage(11, 22, 3, 9)
    )


def test_merged_samples_keep_all_holdings_and_the_later_owners():
    gpu = Device(DeviceKind.GPU, "GPU-1")
    early, late = GpuHolding(gpu, A, since_ns=1), GpuHolding(gpu, B, since_ns=5)
    first = sighting(machine=None)._replace(holdings=(early,), run_of_pid={7: A, 8: A})
    ended = early._replace(until_ns=4)
    second = sighting(machine=None)._replace(holdings=(ended, late), run_of_pid={8: B})
    merged = merge_samples(first, second)
    assert merged.holdings == (ended, late)
    assert merged.run_of_pid == {7: A, 8: B}


def test_merged_samples_keep_the_proxies_of_both():
    first = sighting(machine=None)._replace(proxy_pids=frozenset({5}))
    second = sighting(machine=None)._replace(proxy_pids=frozenset({6}))
    assert merge_samples(first, second).proxy_pids == {5, 6}


@pytest.mark.parametrize(
    ("restart", "reason"),
    [(False, UnattributedReason.OTHER), (True, UnattributedReason.RESTART)],
)
def test_rest_of_a_node_belongs_to_no_run(restart, reason):
    assert split_rest(500, restart=restart) == [EnergyShare(reason, 500, SplitMethod.REST)]
    assert split_rest(0, restart=restart) == []
