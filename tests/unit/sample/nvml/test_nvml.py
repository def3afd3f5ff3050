"""The collector `nvml` with the unmodified binding and the fake driver."""

import itertools
import threading

import pynvml
import pytest

from exporter.clock import SystemClock
from exporter.errors import RestartRequired
from exporter.model.readings import CounterEvent, Device, DeviceKind, Method
from exporter.sample.energy_counters import EnergyCounters
from exporter.sample.sources.gpu.collector import STOP_SECONDS
from exporter.sample.sources.gpu.driver import ErrorClass
from exporter.sample.sources.nvml.calls import (
    NOT_SUPPORTED,
    RETRY_NS,
    Capabilities,
    classify_error,
)
from exporter.units import NANOSECONDS_PER_SECOND
from exporter.worker import wait_until
from tests.fakes import FakeClock
from tests.unit.sample.nvml.conftest import SOON, gpu

pytestmark = [pytest.mark.real, pytest.mark.beside]

FIELDS, ENERGY = "nvmlDeviceGetFieldValues", "nvmlDeviceGetTotalEnergyConsumption"
POWER = "nvmlDeviceGetPowerUsage"
PROCESSES = "nvmlDeviceGetComputeRunningProcesses_v3"
CALLS = (
    "nvmlDeviceGetCount_v2",
    "nvmlDeviceGetHandleByIndex_v2",
    "nvmlDeviceGetUUID",
    "nvmlDeviceGetName",
    "nvmlDeviceGetPciInfo_v3",
    "nvmlDeviceGetMinorNumber",
    "nvmlDeviceGetEnforcedPowerLimit",
    "nvmlDeviceGetArchitecture",
    "nvmlDeviceGetMigMode",
    FIELDS,
    ENERGY,
    POWER,
    PROCESSES,
    "nvmlDeviceGetMPSComputeRunningProcesses_v3",
    "nvmlDeviceGetProcessUtilization",
    "nvmlDeviceGetUtilizationRates",
)
CODES = (1, 2, 3, 4, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 19, 20, 21, 25, 26, 27, 28, 29)
UNKNOWN_CODES = (999, 1234)
MISMATCH = 18


def counters(bench):
    return {name: reading.counter_uj for name, reading in bench.readings().items()}


def test_energy_and_power_are_the_drivers(bench):
    two = bench()
    two.fake.set_time(1000.0, 1000.0)
    first = two.until(two.is_healthy)
    two.fake.set_time(1007.0, 1007.0)
    second = two.read()
    for before, after in zip(first.readings, second.readings, strict=True):
        assert after.power_watts == two.fake.gpus[int(after.device.id[-1])]["watts"][0][1]
        used = two.fake.joules(after.device.id, 1000.0, 1007.0)
        step = 0.02 * after.power_watts  # the counter moves each 20 ms
        assert (after.counter_uj - before.counter_uj) / 1e6 == pytest.approx(used, abs=step)


def test_a_gpu_is_described(bench):
    (info, _) = (two := bench()).until(two.is_healthy).infos
    assert info.device == Device(DeviceKind.GPU, "GPU-0")
    assert (info.model, info.vendor, info.source) == ("NVIDIA H200", "NVIDIA", "nvml")
    assert (info.power_limit_watts, info.power_cap_watts) == (700.0, 1400.0)
    assert (info.ordinal, info.pci_bus_id) == ("0", "00000000:01:00.0")
    assert info.method is Method.COUNTER


def test_index_minor_number_and_address_are_distinct(bench):
    cards = [
        gpu(0, pci_bus_id="00000000:C1:00.0", nvml={"minor": 1}),
        gpu(1, pci_bus_id="00000000:01:00.0", nvml={"minor": 0}),
        gpu(2, pci_bus_id="00000000:41:00.0", nvml={"minor": -1}),
    ]
    infos = (three := bench(*cards)).until(three.is_healthy).infos
    assert [(info.ordinal, info.aliases, info.pci_bus_id[9:11]) for info in infos] == [
        ("0", ("nvidia1",), "C1"),
        ("1", ("nvidia0",), "01"),
        ("2", (), "41"),
    ]


def test_the_first_reading_has_the_gpus(bench):
    assert [info.device.id for info in bench().read().infos] == ["GPU-0", "GPU-1"]


def test_calls_are_counted_and_timed(bench):
    two = bench()
    calls = two.until(two.is_healthy).calls
    assert calls[FIELDS].calls >= 2
    assert calls["nvmlInit"].calls == 1


@pytest.mark.parametrize("code", [*CODES, *UNKNOWN_CODES])
def test_errors_of_calls_affect_no_other_gpu_and_do_not_last(bench, caplog, code):
    two = bench()
    two.until(two.is_healthy)
    for call in CALLS:
        two.fake.fault(call, code, gpu=0)
    for _ in range(4):
        two.read()
    if classify_error(code) is not ErrorClass.LIBRARY:  # that is begun anew for all
        two.until(lambda seen: any(r.device.id == "GPU-1" and r.counter_uj for r in seen.readings))
    two.fake.heal()
    if code in (3, 4, 13, 25, 26):  # believed for an hour, unless the driver is begun anew
        two.nvml._supervisor._must_reinitialize = True
        for card in two.nvml._supervisor.cards:
            card.reader._energy._can = Capabilities()
    two.until(two.is_healthy)
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("call", CALLS)
def test_every_error_of_a_call_is_recovered_from(bench, caplog, call):
    clock = FakeClock()
    two = bench(clock=clock)

    def is_well(observation):
        clock.advance(1)
        return two.is_healthy(observation)

    def is_quiet():
        return not any(card.is_busy() for card in two.nvml._supervisor.cards)

    two.until(is_well)
    for code in (*CODES, *UNKNOWN_CODES):
        two.fake.fault(call, code)
        for _ in range(3):
            clock.advance(6)  # so that processes are looked at too
            two.read()
            assert wait_until(is_quiet, SOON)
        two.fake.heal()
        for card in two.nvml._supervisor.cards:
            card.reader._energy._can = Capabilities()
            card.reader._processes._can = Capabilities()
        two.until(is_well)
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("code", [4, 9, 12, 17, 999])
def test_a_failed_initialization_is_reported_and_retried(bench, code):
    clock = FakeClock()
    two = bench(clock=clock)
    two.fake.fault("nvmlInitWithFlags", code)
    seen = two.read()
    assert f"NVML error {code}" in seen.error
    assert not seen.readings
    two.fake.heal()

    def is_well(observation):
        clock.advance(1)
        return two.is_healthy(observation)

    two.until(is_well)


@pytest.mark.parametrize("call", ["nvmlInitWithFlags", FIELDS, "nvmlDeviceGetCount_v2", PROCESSES])
def test_a_driver_that_was_replaced_ends_the_process(bench, call):
    two = bench()
    if call != "nvmlInitWithFlags":
        two.until(two.is_healthy)
    two.fake.fault(call, MISMATCH)
    for card in two.nvml._supervisor.cards:
        card._polled_ns = 0

    def is_outdated():
        try:
            two.read()
        except RestartRequired as error:
            return "this process must be restarted" in str(error)
        return False

    assert wait_until(is_outdated, SOON)
    assert RestartRequired.exit_code == 75


@pytest.mark.parametrize("call", [FIELDS, PROCESSES])
@pytest.mark.parametrize("delay_ms", [500, -1])
@pytest.mark.usefixtures("impatient")
def test_a_hung_gpu_is_reported_and_delays_no_other(bench, call, delay_ms):
    two = bench()
    two.until(two.is_healthy)
    before = {reading.device: reading.counter_uj for reading in two.until(two.is_healthy).readings}
    two.fake.fault(call, gpu=0, delay_ms=delay_ms)
    for card in two.nvml._supervisor.cards:
        card._polled_ns = 0

    def counter_continues(reading):
        return bool(reading.counter_uj) and reading.counter_uj > before[reading.device]

    if call == FIELDS:
        two.until(
            lambda seen: (
                "has not answered" in seen.readings[0].why and counter_continues(seen.readings[1])
            )
        )
    else:  # a list of processes is never in the way of energy
        two.until(lambda seen: all(map(counter_continues, seen.readings)))
    two.fake.heal()
    two.until(two.is_healthy)


@pytest.mark.usefixtures("impatient")
def test_a_hung_gpu_does_not_delay_shutdown(bench, monkeypatch):
    one = bench(gpu(0))
    one.until(one.is_healthy)
    one.fake.fault(FIELDS, delay_ms=-1)
    began, call = threading.Event(), getattr(pynvml, FIELDS)
    monkeypatch.setattr(pynvml, FIELDS, lambda *given: began.set() or call(*given))
    one.until(lambda seen: "has not answered" in seen.readings[0].why)
    assert began.wait(SOON)
    one.nvml.release()
    assert one.nvml._supervisor.cards[0].is_busy()


@pytest.mark.usefixtures("impatient")
def test_a_hung_initialization_delays_nothing(bench):
    two = bench()
    two.fake.fault("nvmlInitWithFlags", delay_ms=-1)
    assert "has not answered" in two.read().error
    two.fake.heal()
    two.until(two.is_healthy)


def test_a_lost_gpu_is_down_and_is_found_again_by_its_uuid(bench):
    two = bench(gpu(0), gpu(1), gpu(2))
    two.until(two.is_healthy)
    before = counters(two)
    two.fake.mark_lost(0)
    gone = two.until(lambda seen: seen.readings[0].why != "" and seen.infos[1].ordinal == "0")
    assert [reading.why == "" for reading in gone.readings] == [False, True, True]
    assert [info.device.id for info in gone.infos] == ["GPU-0", "GPU-1", "GPU-2"]
    two.until(lambda seen: [r.power_watts for r in seen.readings] == [None, 200, 300])
    two.fake.heal()
    back = two.until(two.is_healthy)
    assert back.infos[1].ordinal in ("0", "1")
    assert all(after >= before[name] for name, after in counters(two).items())


def test_a_gpu_that_is_added_later_is_found(bench):
    two = bench()
    two.fake.mark_lost(1)
    assert len(two.read().infos) == 1
    two.fake.heal()
    two.until(two.is_healthy)


def test_a_reloaded_driver_is_a_counter_reset(bench):
    one = bench(gpu(0))
    energy_counters = EnergyCounters(())
    energy_counters.advance(one.until(one.is_healthy))
    one.fake.reload(0)
    intervals = []

    def is_booked(observation):
        intervals.extend(energy_counters.advance(observation))
        return any(interval.event is CounterEvent.RESET for interval in intervals)

    one.until(is_booked)
    assert sum(interval.energy_uj for interval in intervals) < 100e6 * SOON


@pytest.mark.parametrize("power", [32, 33])
def test_a_counter_beyond_32_bits_continues(bench, power):
    one = bench(gpu(0))
    one.until(one.is_healthy)
    shown = counters(one)["GPU-0"] // 1000
    one.fake.add_mj(0, 2**power - shown - 1)
    before = counters(one)["GPU-0"]
    one.until(lambda seen: (seen.readings[0].counter_uj or 0) > 2**power * 1000)
    assert counters(one)["GPU-0"] - before < 100e6 * SOON


def test_a_field_of_zero_is_no_reading(bench):
    one = bench(gpu(0))
    one.until(one.is_healthy)
    for field in (83, 185, 186):
        one.fake.fault("field", 0, field=field)
    (reading,) = one.read().readings
    assert reading.counter_uj > 0
    assert reading.power_watts == 100


@pytest.mark.parametrize("field", [83, 185, 186])
def test_each_field_replaces_the_others(bench, field):
    one = bench(gpu(0))
    one.until(one.is_healthy)
    one.fake.fault("field", 3, field=field)
    for _ in range(5):
        (reading,) = one.read().readings
        assert reading.counter_uj > 0
        assert reading.power_watts == 100


def test_the_power_of_a_gpu_without_a_counter_is_integrated(bench):
    one = bench(gpu(0, counter=False, nvml={"architecture": 4, "power_average": False}))
    seen = one.until(lambda seen: bool(seen.readings[0].power_watts))
    assert seen.infos[0].method is Method.INTEGRATED
    assert seen.readings[0].counter_uj is None


def test_a_virtual_gpu_without_values_is_reported(bench):
    silent = {"architecture": 7, "power_average": False, "power_instant": False}
    one = bench(gpu(0, counter=False, watts=[], nvml=silent))
    seen = one.until(lambda seen: "neither energy nor power" in seen.readings[0].why)
    assert seen.infos[0].device.id == "GPU-0"


def test_a_suspended_gpu_is_not_woken(bench):
    one = bench(gpu(0))
    power = one.sysfs / "bus/pci/devices/0000:01:00.0/power"
    power.mkdir(parents=True)
    (power / "runtime_status").write_text("suspended\n")
    seen = one.until(lambda seen: "not woken" in seen.readings[0].why)
    assert FIELDS not in seen.calls
    assert "GPU 0000:01:00.0 is asleep" in seen.note
    assert not seen.error
    (power / "runtime_status").write_text("active\n")
    one.until(one.is_healthy)


def test_gpus_are_not_listed_while_all_are_suspended(bench):
    one = bench(gpu(0))
    card = one.sysfs / "bus/pci/devices/0000:01:00.0"
    (card / "power").mkdir(parents=True)
    (card / "vendor").write_text("0x10de\n")
    (card / "class").write_text("0x030200\n")
    (card / "power/runtime_status").write_text("suspended\n")
    seen = one.read()
    assert "not woken" in seen.note
    assert not seen.error
    assert not seen.calls
    (card / "power/runtime_status").write_text("active\n")
    one.until(one.is_healthy)


def test_processes_and_their_activity_are_seen(bench):
    run = {"starts": 0, "ends": 600, "gpus": [{"id": "GPU-0", "pid": 7, "active": [[0, 0.6]]}]}
    idle = {"starts": 0, "ends": 600, "gpus": [{"id": "GPU-0", "pid": 8}]}
    two = bench(workload=[run, idle])
    (activity,) = two.until(
        lambda seen: any(o.gpu_processes for o in seen.gpu_activity)
    ).gpu_activity[:1]
    assert {o.pid: round(o.active, 2) for o in activity.gpu_processes} == {7: 0.6, 8: 0.0}
    assert activity.coverage > 0.5
    assert activity.utilization == 0.6


def test_a_list_that_grows_while_it_is_read_is_read_again(bench):
    run = {"starts": 0, "ends": 600, "gpus": [{"id": "GPU-0", "pid": 7, "active": [[0, 0.6]]}]}
    one = bench(gpu(0), workload=[run])
    one.fake.race(1)
    (activity,) = one.until(lambda seen: bool(seen.gpu_activity)).gpu_activity
    assert [process.pid for process in activity.gpu_processes] == [7]


def test_behind_an_mps_server_its_clients_are_seen(bench):
    server = {"id": "GPU-0", "pid": 5, "serves": True, "active": [[0, 0.9]]}
    rows = [
        {"starts": 0, "ends": 600, "gpus": [seat]}
        for seat in (server, {"id": "GPU-0", "pid": 7}, {"id": "GPU-0", "pid": 8})
    ]
    one = bench(gpu(0), workload=rows)
    (activity,) = one.until(lambda seen: bool(seen.gpu_activity)).gpu_activity
    assert {o.pid: o.is_proxy for o in activity.gpu_processes} == {5: True, 7: False, 8: False}


def mig(gpm):
    instances = [
        {"id": "MIG-a", "gi": 1, "ci": 0, "slices": 3, "multiprocessors": 60},
        {"id": "MIG-b", "gi": 2, "ci": 0, "slices": 2, "multiprocessors": 16},
        {"id": "MIG-c", "gi": 2, "ci": 1, "slices": 2, "multiprocessors": 16},
    ]
    workload = [
        {
            "starts": 0,
            "ends": 600,
            "gpus": [{"id": "GPU-0", "partition": "MIG-a", "pid": 7, "active": [[0, 0.5]]}],
        }
    ]
    return gpu(0, mig={"slices": 7, "instances": instances}, nvml={"gpm": gpm}), workload


def test_partitions_are_seen_with_their_slices(bench):
    card, workload = mig(gpm=False)
    one = bench(card, workload=workload)
    (activity,) = one.until(lambda seen: bool(seen.gpu_activity)).gpu_activity
    assert activity.slices == 7
    assert {p.id: (p.slices, p.active) for p in activity.partitions} == {
        "MIG-a": (3, None),
        "MIG-b": (1, None),
        "MIG-c": (1, None),
    }
    assert [(o.pid, o.partition) for o in activity.gpu_processes] == [(7, "MIG-a")]


def test_partitions_of_hopper_have_activity_from_the_second_look_on(bench):
    card, workload = mig(gpm=True)
    one = bench(card, workload=workload)
    one.fake.set_time(100.0, 100.0)
    one.until(lambda seen: bool(seen.gpu_activity))
    one.fake.set_time(105.0, 105.0)
    one.nvml._supervisor.cards[0]._polled_ns = 0
    (activity,) = one.until(lambda seen: bool(seen.gpu_activity)).gpu_activity
    assert activity.coverage == 1.0
    assert {p.id: round(p.active, 2) for p in activity.partitions}["MIG-a"] == 0.5


def test_a_changed_layout_is_seen(bench):
    card, workload = mig(gpm=False)
    one = bench(card, workload=workload)
    one.until(lambda seen: bool(seen.gpu_activity))
    one.fake.partition(0, 0, [])
    layouts = one.nvml._supervisor
    assert wait_until(lambda: layouts.cards[0].layout.slices == 0, SOON)


def test_the_counter_of_a_superchip_covers_its_processor(bench):
    one = bench(gpu(0, model="NVIDIA GH200 480GB"))
    assert one.nvml.covers_host()
    assert "whole module" in one.read().infos[0].model


def test_the_driver_is_released_and_initialized_again(bench):
    clock = FakeClock()
    two = bench(clock=clock)
    two.until(two.is_healthy)
    two.nvml.release_for(300)
    two.until(lambda seen: "temporarily released" in seen.error)
    assert wait_until(lambda: not two.nvml._supervisor._is_open, SOON)
    clock.advance(301)
    two.until(two.is_healthy)


@pytest.mark.usefixtures("impatient")
def test_a_gpu_that_blocks_the_release_is_named(bench, caplog, monkeypatch):
    monkeypatch.setattr("exporter.sample.sources.gpu.supervisor.RELEASE_WAIT_SECONDS", 0.05)
    two = bench()
    two.until(two.is_healthy)
    two.fake.fault(FIELDS, gpu=1, delay_ms=-1)
    two.until(lambda seen: "has not answered" in seen.readings[1].why)
    two.nvml.release_for(300)
    assert wait_until(
        lambda: any(getattr(each, "gpus", "") == "GPU 1 (GPU-1)" for each in caplog.records), SOON
    )


@pytest.mark.parametrize("code", [17, 999])
def test_lost_device_files_are_unrecoverable_after_a_minute(bench, code):
    clock = FakeClock()
    two = bench(clock=clock)
    two.until(two.is_healthy)
    for call in (FIELDS, ENERGY, POWER):
        two.fake.fault(call, code)
    two.until(lambda seen: all(f"NVML error {code}" in r.why for r in seen.readings))
    assert not two.read().unrecoverable
    clock.advance(61)
    two.until(lambda seen: "restart the container" in seen.unrecoverable)
    two.fake.heal()
    two.until(lambda seen: not seen.unrecoverable)


def test_lost_device_files_of_one_gpu_of_two_are_recoverable(bench):
    clock = FakeClock()
    two = bench(clock=clock)
    two.until(two.is_healthy)
    for call in (FIELDS, ENERGY, POWER):
        two.fake.fault(call, 999, gpu=0)
    two.until(lambda seen: "NVML error 999" in seen.readings[0].why)
    clock.advance(61)
    assert not two.read().unrecoverable


def test_three_refusals_disable_a_call_for_an_hour():
    can = Capabilities()
    for asked in range(3):
        assert can.has("x", asked)
        can.refused("x", asked)
    assert not can.has("x", RETRY_NS)
    assert can.has("x", RETRY_NS + 3)


def test_times_of_readings_are_those_of_the_reads(bench):
    two = bench()
    two.until(two.is_healthy)
    before = SystemClock().boottime_ns()
    readings = two.readings().values()
    after = SystemClock().boottime_ns()
    assert all(before <= reading.at_ns <= after for reading in readings)
    assert all(a != b for a, b in itertools.pairwise(r.at_ns for r in readings))


def test_a_counter_that_is_refused_now_and_then_stays_the_method(bench):
    clock = FakeClock()
    two = bench(clock=clock)
    two.until(two.is_healthy)
    two.fake.fault(ENERGY, NOT_SUPPORTED)
    listed = two.read().calls["nvmlDeviceGetUUID"].calls
    seen = two.until(lambda now: now.calls["nvmlDeviceGetUUID"].calls > listed + 2)
    assert [info.method for info in seen.infos] == [Method.COUNTER, Method.COUNTER]


def test_refused_calls_are_retried_after_the_driver_was_released(bench):
    clock = FakeClock()
    one = bench(gpu(0), clock=clock)
    one.until(one.is_healthy)
    one.fake.fault("field", NOT_SUPPORTED, field=83)
    one.fake.fault(ENERGY, NOT_SUPPORTED)
    one.until(lambda seen: seen.readings[0].counter_uj is None)
    for _ in range(5):
        one.read()
    one.fake.heal()
    one.nvml.release_for(5)
    one.until(lambda seen: "temporarily released" in seen.error)
    clock.advance(6)
    one.until(one.is_healthy)


def test_one_field_that_fails_leaves_the_others(bench):
    one = bench(gpu(0))
    one.until(one.is_healthy)
    one.fake.fault("field", 999, field=186)
    one.until(one.is_healthy)


@pytest.mark.parametrize(("ticks", "seconds"), [(120, 1), (12, 20)])
def test_reinitializations_back_off(bench, ticks, seconds):
    clock = FakeClock()
    two = bench(clock=clock)
    two.until(two.is_healthy)
    begun = begins(two)
    two.fake.fault(FIELDS, 9, gpu=0)
    for _ in range(ticks):
        two.until(lambda seen: "NVML error 9" in seen.readings[0].why)
        clock.advance(seconds)
        wait_for_two_cycles(two)
    assert 1 <= begins(two) - begun <= 8


def test_the_backoff_is_reset_after_a_minute(bench):
    clock = FakeClock()
    two = bench(clock=clock)
    two.until(two.is_healthy)
    for _ in range(4):
        begun = begins(two)
        two.fake.fault(FIELDS, 9, gpu=0)
        two.until(lambda _seen, begun=begun: begins(two) > begun)
        two.fake.heal()
        two.until(two.is_healthy)
        for _ in range(2):  # the first may begin it once more, as was asked for before
            clock.advance(61)
            wait_for_two_cycles(two)


def begins(two):
    """Number of initializations of the driver."""
    return two.nvml._supervisor.driver.call_stats()["nvmlInit"].calls


def wait_for_two_cycles(two):
    """Wait, without a reading, for two cycles of the supervisor, the second started after now."""

    def listed():
        return two.nvml._supervisor.driver.call_stats()["nvmlDeviceGetCount"].calls

    seen = listed()
    assert wait_until(lambda: listed() >= seen + 2, SOON)


@pytest.mark.usefixtures("impatient")
def test_four_hung_gpus_delay_shutdown_no_more_than_one(bench):
    four = bench(*map(gpu, range(4)))
    four.until(four.is_healthy)
    four.fake.fault(FIELDS, delay_ms=-1)
    four.until(lambda seen: all("answered" in each.why for each in seen.readings))
    began_ns = SystemClock().monotonic_ns()
    four.nvml.release()
    one_by_one_ns = round(4 * STOP_SECONDS * NANOSECONDS_PER_SECOND)
    assert SystemClock().monotonic_ns() - began_ns < one_by_one_ns


def test_gpus_that_cannot_be_listed_for_a_minute_are_unrecoverable(bench):
    clock = FakeClock()
    two = bench(clock=clock)
    two.until(two.is_healthy)
    two.fake.fault("nvmlDeviceGetHandleByIndex_v2", 999)

    def is_unrecoverable(seen):
        clock.advance(1)
        return "restart the container" in seen.unrecoverable

    two.until(is_unrecoverable)
