"""Splitting is exact, whatever the weights are."""

from hypothesis import given
from hypothesis import strategies as st

from exporter.attribute.split import merge, split_cpu, split_dram
from exporter.model.readings import Device, Kind
from exporter.model.runs import RunKey
from exporter.model.workload import Holding, Machine, Reason, Share, Sighting, Split, Usage

A, B, HOLDER = RunKey(1, "a", ""), RunKey(2, "b", ""), RunKey(0, "all", "")

energies = st.integers(0, 10**12)
usages = st.lists(
    st.builds(
        Usage,
        st.builds(RunKey, st.integers(0, 9), st.sampled_from("abc"), st.just("")),
        st.integers(0, 10**9),
        st.integers(0, 10**12),
    ),
    max_size=12,
    unique_by=lambda usage: usage.run,
)
machines = st.none() | st.builds(
    Machine, st.integers(0, 10**9), st.integers(0, 10**9), *[st.integers(0, 10**12)] * 2
)
sightings = st.builds(
    lambda usage, machine, holder: Sighting(0, tuple(usage), machine, holder),
    usages,
    machines,
    st.sampled_from([None, HOLDER]),
)


def total(shares: list[Share]) -> int:
    return sum(share.energy_uj for share in shares)


@given(energies, st.floats(0, 1), sightings, st.booleans())
def test_shares_of_a_package_sum_to_its_energy(energy, idle_part, sighting, restart):
    shares = split_cpu(energy, round(energy * idle_part), sighting, restart=restart)
    assert total(shares) == energy
    assert all(0 <= share.held_uj <= share.energy_uj for share in shares)


@given(energies, sightings, st.booleans())
def test_shares_of_a_memory_sum_to_its_energy(energy, sighting, restart):
    assert total(split_dram(energy, sighting, restart=restart)) == energy


def sighting(*usage: Usage, machine: Machine | None, holder: RunKey | None = None) -> Sighting:
    return Sighting(0, usage, machine, holder)


def test_energy_above_the_floor_follows_cpu_time_and_the_floor_is_idle():
    seen = sighting(Usage(A, 300, 0), Usage(B, 100, 0), machine=Machine(1000, 2000, 0, 0))
    assert split_cpu(1_500, 500, seen, restart=False) == [
        Share(A, 300, Split.CPU_TIME),
        Share(B, 100, Split.CPU_TIME),
        Share(Reason.IDLE, 500, Split.REST),
        Share(Reason.OTHER, 600, Split.REST),
    ]


def test_runs_that_used_more_than_the_machine_was_busy_share_all_of_it():
    seen = sighting(Usage(A, 300, 0), Usage(B, 100, 0), machine=Machine(50, 100, 0, 0))
    assert split_cpu(400, 0, seen, restart=False) == [
        Share(A, 300, Split.CPU_TIME),
        Share(B, 100, Split.CPU_TIME),
    ]


def test_a_sleeping_run_on_a_sleeping_machine_pays_nothing():
    seen = sighting(Usage(A, 0, 0), machine=Machine(0, 2000, 0, 0))
    assert split_cpu(900, 100, seen, restart=False) == [Share(Reason.IDLE, 900, Split.REST)]


def test_the_holder_of_the_machine_pays_for_the_rest_and_its_idle_part_is_told_apart():
    seen = sighting(Usage(A, 300, 0), machine=Machine(1000, 2000, 0, 0), holder=HOLDER)
    assert split_cpu(1_500, 500, seen, restart=False) == [
        Share(A, 300, Split.CPU_TIME),
        Share(HOLDER, 1_200, Split.EXCLUSIVE, held_uj=500),
    ]


def test_over_a_restart_what_no_run_provably_used_is_charged_to_the_restart():
    seen = sighting(Usage(A, 300, 0), machine=Machine(1000, 2000, 0, 0))
    assert split_cpu(1_500, 500, seen, restart=True) == [
        Share(A, 300, Split.CPU_TIME),
        Share(Reason.RESTART, 1_200, Split.REST),
    ]


def test_memory_follows_bytes_held_and_free_memory_is_idle():
    seen = sighting(Usage(A, 0, 30), machine=Machine(0, 0, 50, 100))
    assert split_dram(1_000, seen, restart=False) == [
        Share(A, 300, Split.MEMORY),
        Share(Reason.IDLE, 500, Split.REST),
        Share(Reason.OTHER, 200, Split.REST),
    ]


def test_an_unreadable_machine_leaves_the_energy_to_other():
    assert split_cpu(7, 0, sighting(machine=None), restart=False) == [
        Share(Reason.OTHER, 7, Split.REST)
    ]


def test_merged_sightings_add_cpu_time_and_keep_the_later_memory():
    first = sighting(Usage(A, 5, 10), machine=Machine(10, 20, 1, 9))
    second = sighting(Usage(A, 7, 12), Usage(B, 1, 1), machine=Machine(1, 2, 3, 9))
    assert merge(first, second) == sighting(
        Usage(A, 12, 12), Usage(B, 1, 1), machine=Machine(11, 22, 3, 9)
    )


def test_merged_sightings_keep_what_was_held_at_any_time_and_the_later_owners():
    gpu = Device(Kind.GPU, "GPU-1")
    early, late = Holding(gpu, A, since_ns=1), Holding(gpu, B, since_ns=5)
    first = sighting(machine=None)._replace(holdings=(early,), owners={7: A, 8: A})
    ended = early._replace(until_ns=4)
    second = sighting(machine=None)._replace(holdings=(ended, late), owners={8: B})
    merged = merge(first, second)
    assert merged.holdings == (ended, late)
    assert merged.owners == {7: A, 8: B}


def test_merged_sightings_keep_the_servers_of_both():
    first = sighting(machine=None)._replace(servers=frozenset({5}))
    second = sighting(machine=None)._replace(servers=frozenset({6}))
    assert merge(first, second).servers == {5, 6}
