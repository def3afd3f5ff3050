"""Intervals are split by all samples since the previous interval, after gaps of any length."""

import pytest

from exporter.attribute.attribution import MAX_ENDED, Attribution
from exporter.model.readings import Device, DeviceKind, GpuActivity, GpuProcess, Interval, Method
from exporter.model.runs import RunKey
from exporter.model.workload import (
    GpuHolding,
    HostUsage,
    RunUsage,
    SplitMethod,
    UnattributedReason,
    WorkloadSample,
)

GPU, CPU = Device(DeviceKind.GPU, "GPU-1"), Device(DeviceKind.CPU, "package-0")
A, B = RunKey(1, "a", ""), RunKey(1, "b", "")
SECOND = 1_000_000_000
JOULE = 1_000_000


def interval(t0, t1, watts=400, *, restart=False):
    energy_uj = (t1 - t0) * watts * JOULE
    return Interval(GPU, t0 * SECOND, t1 * SECOND, energy_uj, Method.COUNTER, restart=restart)


def sighting(at, *holdings, owners=None):
    return WorkloadSample(at * SECOND, (), None, None, holdings, owners or {})


def looked(at, *gpu_processes, coverage=1.0):
    return {GPU: GpuActivity(GPU, at * SECOND, gpu_processes, coverage=coverage)}


def hold(run, since=0, until=None):
    return GpuHolding(
        GPU, run, since_ns=since * SECOND, until_ns=None if until is None else until * SECOND
    )


def joules(done):
    return {share.target: share.energy_uj / JOULE for _, shares in done for share in shares}


def test_energy_after_a_gap_is_split_by_all_activity_of_the_gap():
    attribution = Attribution({})
    owners = {7: A, 8: B}
    for second, a, b in ((5, 0.9, 0.1), (10, 0.1, 0.9), (15, 0.5, 0.5)):
        for tick in range(second, second + 5):
            seen = sighting(tick, hold(A), hold(B), owners=owners)
            look = looked(second, GpuProcess(7, active=a), GpuProcess(8, active=b))
            assert attribution.shares([], [GPU], seen, look) == []
    seen = sighting(20, hold(A), hold(B), owners=owners)
    look = looked(20, GpuProcess(7, active=0.5), GpuProcess(8, active=0.5))
    done = attribution.shares([interval(5, 20)], [GPU], seen, look)
    assert joules(done) == pytest.approx({A: 3000, B: 3000})


def test_energy_after_a_gap_is_charged_also_to_ended_holders():
    attribution = Attribution({})
    attribution.shares([], [GPU], sighting(1, hold(A)), {})
    attribution.shares([], [GPU], sighting(2, hold(A, 0, 2)), {})
    done = attribution.shares([interval(0, 4)], [GPU], sighting(4, hold(B, 2)), {})
    assert joules(done) == {A: 800, B: 800}


def test_pending_samples_are_used_once():
    attribution = Attribution({})
    attribution.shares([], [GPU], sighting(1, hold(A, 0, 1)), {})
    attribution.shares([interval(0, 1)], [GPU], sighting(1), {})
    done = attribution.shares([interval(0, 1)], [GPU], sighting(2), {})
    assert joules(done) == {UnattributedReason.UNALLOCATED: 400}


def test_an_interval_is_not_idle_if_a_process_was_there_at_its_start_or_at_its_end():
    attribution = Attribution({})
    process = GpuProcess(7, active=0.9)
    found = []
    for second, there in ((1, ()), (2, (process,)), (3, ()), (4, ())):
        look = looked(second, *there)
        done = attribution.shares([interval(second - 1, second)], [GPU], sighting(second), look)
        found.append(joules(done))
    idle, unknown = UnattributedReason.UNALLOCATED, UnattributedReason.UNKNOWN_PROCESS
    assert found == [{idle: 400}, {unknown: 400}, {unknown: 400}, {idle: 400}]


def test_activity_older_than_30_s_is_not_used():
    for age, split in ((30, SplitMethod.ACTIVITY), (31, SplitMethod.EQUAL)):
        seen = sighting(age, hold(A), hold(B), owners={7: A, 8: B})
        look = looked(0, GpuProcess(7, active=0.9), GpuProcess(8, active=0.3))
        ((_, shares),) = Attribution({}).shares([interval(age - 1, age)], [GPU], seen, look)
        assert {share.split for share in shares} == {split}


def learned(*gpu_processes, restart=False):
    attribution = Attribution({})
    for second in range(70):
        look = looked(second - second % 5, *gpu_processes)
        step = interval(second, second + 1, 70, restart=restart)
        attribution.shares([step], [GPU], sighting(second + 1), look)
    return attribution.floors()


def test_gpu_idle_power_is_learned_only_without_processes():
    assert learned() == {GPU: 70.0}
    assert learned(GpuProcess(9)) == {}
    assert learned(restart=True) == {}


def test_held_idle_energy_is_reported_separately_in_shares():
    seen = sighting(1, hold(A), hold(B), owners={7: A, 8: B})
    look = looked(0, GpuProcess(7, active=0.9), GpuProcess(8))
    ((_, shares),) = Attribution({GPU: 80.0}).shares([interval(0, 1)], [GPU], seen, look)
    assert {share.target: share.held_uj for share in shares} == {A: 40 * JOULE, B: 40 * JOULE}
    assert joules([(None, shares)]) == {A: 360, B: 40}


def test_pending_samples_keep_only_the_fields_that_the_device_needs():
    attribution = Attribution({})
    for second in range(100):
        seen = sighting(second, hold(A), owners={7: A})
        attribution.shares([], [GPU, CPU], seen, looked(second, GpuProcess(7)))
    assert len(attribution._pending[GPU].activities) <= 31
    assert attribution._pending[CPU].workload.holdings == ()


DRAM = Device(DeviceKind.DRAM, "dram-0")
TICKS = 2000
EACH_TICK = 5


def run(number):
    return RunKey(1, f"run-{number}", "")


def used(second, *rows, machine=True):
    busy_us = sum(cpu_us for _, cpu_us in rows) + 1000
    usage = tuple(RunUsage(key, cpu_us, memory_bytes=1 << 20) for key, cpu_us in rows)
    of_all = HostUsage(busy_us, 2_000_000, 1 << 30, 2 << 30) if machine else None
    return WorkloadSample(second * SECOND, usage, of_all, None)


def kept(attribution):
    """Number of pending items of the device."""
    return sum(
        len(part)
        for seen in attribution._pending.values()
        for part in (*seen.workload, seen.activities)
        if isinstance(part, tuple | frozenset | dict)
    )


def away(attribution, devices, machine=True):
    """Devices cannot be read while runs start and end; the last run uses most."""
    for second in range(TICKS):
        rows = [(run(second * EACH_TICK + n), 100) for n in range(EACH_TICK)]
        if second == TICKS // 2:
            rows.append((A, 900_000))
        attribution.shares([], devices, used(second, *rows, machine=machine), {})


def of(device):
    return Interval(device, 0, TICKS * SECOND, 1_000_003 * JOULE, Method.COUNTER)


@pytest.mark.parametrize("machine", [True, False], ids=["clocks", "no clocks"])
def test_pending_samples_are_limited_to_present_runs_and_100_ended_runs(machine):
    attribution = Attribution({})
    away(attribution, [CPU, DRAM], machine=machine)
    assert kept(attribution) <= 2 * (MAX_ENDED + EACH_TICK + len(HostUsage._fields) + 1)


@pytest.mark.parametrize("machine", [True, False], ids=["clocks", "no clocks"])
def test_energy_after_a_long_gap_sums_up_and_the_most_active_runs_keep_their_shares(machine):
    attribution = Attribution({})
    away(attribution, [CPU], machine=machine)
    ((_, shares),) = attribution.shares([of(CPU)], [CPU], used(TICKS, machine=machine), {})
    paid = joules([(None, shares)])
    assert sum(share.energy_uj for share in shares) == 1_000_003 * JOULE
    all_us = TICKS * EACH_TICK * 100 + 900_000 + (TICKS * 1000 + 1000 if machine else 0)
    active = 1_000_003 - paid.get(UnattributedReason.IDLE, 0)
    assert paid[A] == pytest.approx(active * 900_000 / all_us, rel=1e-3)
    last, first = run(TICKS * EACH_TICK - 1), run(0)
    assert paid[last] == pytest.approx(active * 100 / all_us, rel=1e-2)
    assert first not in paid
    assert paid[UnattributedReason.OTHER] > 0


def test_pending_holdings_are_limited_to_present_and_100_ended_ones():
    attribution = Attribution({})
    for second in range(TICKS):
        ended = [hold(run(second - 1), second - 1, second)] if second else []
        seen = sighting(second, hold(B), *ended, hold(run(second), second))
        seen = seen._replace(
            run_of_pid={second * 10 + n: run(second) for n in range(9)},
            proxy_pids=frozenset({second * 10}),
        )
        looks = looked(second, GpuProcess(second * 10), GpuProcess(second * 10 + 1))
        attribution.shares([], [GPU], seen, looks)
    looks_kept = attribution._pending[GPU].activities
    assert len(looks_kept) <= 31
    assert len(attribution._pending[GPU].workload.holdings) <= MAX_ENDED + 3
    assert len(attribution._pending[GPU].workload.run_of_pid) <= 2 * len(looks_kept)
    assert len(attribution._pending[GPU].workload.proxy_pids) <= len(looks_kept)
    done = attribution.shares([interval(0, TICKS)], [GPU], sighting(TICKS, hold(B)), {})
    assert sum(share.energy_uj for _, shares in done for share in shares) == 400 * TICKS * JOULE
    assert B in joules(done)


def test_the_longest_ended_holdings_are_kept():
    attribution = Attribution({})
    attribution.shares([], [GPU], sighting(500, hold(A, 0, 500)), {})
    for second in range(500, 1000):
        attribution.shares(
            [], [GPU], sighting(second + 1, hold(run(second), second, second + 1)), {}
        )
    done = attribution.shares([interval(0, 1000)], [GPU], sighting(1000), {})
    assert joules(done)[A] == 200_000
    assert joules(done)[UnattributedReason.UNALLOCATED] == (500 - MAX_ENDED) * 400


def test_cpu_time_of_runs_is_busy_time_even_if_the_host_clocks_lag():
    usage = RunUsage(A, cpu_us=1_000_000, memory_bytes=0)
    seen = WorkloadSample(SECOND, (usage,), HostUsage(950_000, 2_000_000, 0, 0), None)
    one = Interval(CPU, 0, SECOND, 100 * JOULE, Method.COUNTER)
    assert joules(Attribution({}).shares([one], [CPU], seen, {})) == {
        A: 50,
        UnattributedReason.IDLE: 50,
    }
