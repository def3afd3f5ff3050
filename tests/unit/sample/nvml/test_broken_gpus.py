"""Unusable answers and exceptions of one GPU affect no other."""

import ctypes
import threading

import pynvml
import pytest

from exporter.errors import RestartRequired
from exporter.model.readings import Device, DeviceInfo, DeviceKind, Method
from exporter.sample.energy_counters import EnergyCounters
from exporter.sample.sources.gpu.driver import ListedGpu
from exporter.sample.sources.gpu.identity import UNKNOWN_MODEL, with_unique_ids
from exporter.sample.sources.nvml.calls import decode_text
from exporter.worker import deadline, wait_until
from tests.fakes import FakeClock
from tests.unit.sample.nvml.conftest import SOON, gpu

NAME, UUID = "nvmlDeviceGetName", "nvmlDeviceGetUUID"
UTILIZATION = "nvmlDeviceGetUtilizationRates"
POWER, ENERGY = "nvmlDeviceGetPowerUsage", "nvmlDeviceGetTotalEnergyConsumption"
LIMIT = "nvmlDeviceGetEnforcedPowerLimit"
NO_COUNTER = {"counter": False, "nvml": {"architecture": 4, "power_average": False}}
UNKNOWN_MW = 0xFFFFFFFF
EXCEPTIONS = (
    UnicodeDecodeError("utf-8", b"\xf8", 0, 1, "invalid start byte"),
    ValueError("embedded null byte"),
    OSError(5, "Input/output error"),
    ctypes.ArgumentError("argument 1"),
    AttributeError("undefined symbol"),
    TypeError("an integer is required"),
    KeyError(1234),
    MemoryError(),
)
WSL_PATH = bytes.fromhex("f89a8080af")
"""What nvmlSystemGetProcessName gives for `/h...` under WSL, as recorded in cuda-python #2128."""


def raw(name):
    """Convert a name to text for the description of a fake GPU."""
    return name.decode(errors="surrogateescape")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (WSL_PATH, "/h"),
        (WSL_PATH + WSL_PATH[:3], "/h"),
        (b"NVIDIA GeForce RTX\xae 3090", r"NVIDIA GeForce RTX\xae 3090"),
        (b"\xff\xfe\x80", r"\xff\xfe\x80"),
        ("NVIDIA 卡".encode(), "NVIDIA 卡"),
        ("NVIDIA 卡".encode("gbk"), r"NVIDIA \xbf\xa8"),
    ],
)
def test_a_name_in_any_encoding_hides_no_gpu(bench, name, shown):
    two = bench(gpu(0, model=raw(name)), gpu(1))
    seen = two.until(two.is_healthy)
    assert [info.model for info in seen.infos] == [shown, "NVIDIA H200"]
    assert not seen.error


def test_a_string_that_is_text_stays_as_it_is():
    assert decode_text("NVIDIA H200") == decode_text(b"NVIDIA H200") == "NVIDIA H200"
    assert decode_text(b"") == ""


def test_a_uuid_that_is_not_utf8_is_an_identity(bench):
    two = bench(gpu(0, id=raw(b"GPU-\xf8\x01")), gpu(1, id=raw(b"GPU-\xf9\x01")))
    seen = two.until(two.is_healthy)
    assert [info.device.id for info in seen.infos] == ["GPU-\\xf8\x01", "GPU-\\xf9\x01"]


@pytest.fixture
def breaks(monkeypatch):
    """Make a call raise for the first GPU, with any arguments."""

    def make(call, error):
        known = pynvml.nvmlDeviceGetUUID.__wrapped__
        real = getattr(pynvml, call)

        def broken(*given):
            if given[0] and known(given[0]) == b"GPU-0":
                raise error
            return getattr(real, "__wrapped__", real)(*given)

        monkeypatch.setattr(pynvml, call, broken)

    return make


@pytest.mark.parametrize("error", EXCEPTIONS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    "call",
    [
        NAME,
        LIMIT,
        "nvmlDeviceGetPciInfo",
        "nvmlDeviceGetArchitecture",
        "nvmlDeviceGetMigMode",
        ENERGY,
    ],
)
def test_a_gpu_whose_description_raises_is_listed_and_hides_no_other(
    bench, breaks, caplog, call, error
):
    two = bench()
    breaks(call, error)
    seen = two.until(two.is_healthy)
    assert [info.device.id for info in seen.infos] == ["GPU-0", "GPU-1"]
    assert (seen.infos[0].model == UNKNOWN_MODEL) is (call == NAME)
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("error", EXCEPTIONS, ids=lambda error: type(error).__name__)
def test_a_gpu_without_uuid_is_reported_as_an_error(bench, breaks, error):
    two = bench()
    breaks(UUID, error)
    seen = two.until(lambda seen: any(r.counter_uj for r in seen.readings))
    assert [reading.device.id for reading in seen.readings] == ["GPU-1"]
    assert "GPU 0: nvmlDeviceGetUUID: unusable answer" in seen.error


@pytest.mark.parametrize("error", EXCEPTIONS, ids=lambda error: type(error).__name__)
def test_a_gpu_whose_readings_raise_is_down_and_others_are_up(bench, breaks, caplog, error):
    two = bench()
    two.until(two.is_healthy)
    for call in ("nvmlDeviceGetFieldValues", ENERGY, POWER):
        breaks(call, error)
    seen = two.until(lambda seen: "unusable answer" in seen.readings[0].why)
    assert seen.readings[1].counter_uj
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("code", [1, 4, 9, 18, 29, 999, 1234])
@pytest.mark.parametrize("call", ["nvmlDeviceGetHandleByIndex_v2", UUID])
def test_a_gpu_that_cannot_be_listed_hides_no_other(bench, code, call):
    two = bench()
    if call == UUID:
        two.fake.fault(UUID, code, gpu=0)
    else:
        two.fake.fault("handle", code, gpu=0)
    seen = two.until(
        lambda seen: any(r.device.id == "GPU-1" and r.counter_uj for r in seen.readings)
    )
    assert f"NVML error {code}" in (seen.note if code == 4 else seen.error)


def test_a_library_mismatch_of_one_gpu_does_not_end_the_process(bench):
    two = bench()
    two.until(two.is_healthy)
    two.fake.fault("nvmlDeviceGetFieldValues", 18, gpu=0)
    seen = two.until(lambda seen: "NVML error 18" in seen.readings[0].why)
    assert seen.readings[1].counter_uj
    two.fake.fault("nvmlDeviceGetFieldValues", 18)

    def is_outdated():
        try:
            two.read()
        except RestartRequired:
            return True
        return False

    assert wait_until(is_outdated, SOON)


def test_descriptions_that_cannot_be_read_keep_their_last_value(bench):
    two = bench()
    before = two.until(two.is_healthy).infos
    for call in (NAME, LIMIT, "nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetMinorNumber"):
        two.fake.fault(call, 999, gpu=0)
    listed = two.read().calls[NAME].calls
    after = two.until(lambda seen: seen.calls[NAME].calls > listed + 4).infos
    assert after == before


def test_an_implausible_number_of_gpus_is_limited(bench):
    two = bench()
    two.fake.force("nvmlDeviceGetCount_v2", 4e9)
    two.until(two.is_healthy)


@pytest.mark.parametrize("percent", [808_334_905, 2_619, 102, UNKNOWN_MW])
def test_an_implausible_utilization_is_none(bench, percent):
    one = bench(gpu(0))
    one.fake.force(UTILIZATION, percent)
    (activity,) = one.until(lambda seen: bool(seen.gpu_activity)).gpu_activity
    assert activity.utilization is None
    assert not activity.why


def test_a_utilization_of_101_percent_is_rounded(bench):
    one = bench(gpu(0))
    one.fake.force(UTILIZATION, 101)
    (activity,) = one.until(lambda seen: bool(seen.gpu_activity)).gpu_activity
    assert activity.utilization == 1.0


@pytest.mark.parametrize("percent", [float("nan"), 8e6, -5, float("inf")])
def test_an_implausible_activity_of_a_partition_is_none(bench, percent):
    instances = [{"id": "MIG-a", "gi": 1, "ci": 0, "slices": 3}]
    one = bench(gpu(0, mig={"slices": 7, "instances": instances}, nvml={"gpm": True}))
    one.fake.force("nvmlGpmMetricsGet", percent)
    one.fake.set_time(100.0, 100.0)
    one.until(lambda seen: bool(seen.gpu_activity))
    one.fake.set_time(105.0, 105.0)
    one.nvml._supervisor.cards[0]._polled_ns = 0
    (activity,) = one.until(lambda seen: bool(seen.gpu_activity)).gpu_activity
    assert [part.active for part in activity.partitions] == [None]
    assert activity.coverage == 0.0


@pytest.mark.parametrize(("slices", "part"), [(0, 1), (4_294_967_295, 7)])
def test_the_slices_of_an_instance_are_limited(bench, slices, part):
    instances = [{"id": "MIG-a", "gi": 1, "ci": 0, "slices": slices, "multiprocessors": 0}]
    one = bench(gpu(0, mig={"slices": 7, "instances": instances}))
    (activity,) = one.until(lambda seen: bool(seen.gpu_activity)).gpu_activity
    assert [each.slices for each in activity.partitions] == [part]


@pytest.mark.parametrize("mw", [UNKNOWN_MW, 4_000_000, 1_400_001])
def test_an_implausible_power_is_none_and_is_reported(bench, mw):
    one = bench(gpu(0, **NO_COUNTER))
    one.until(lambda seen: bool(seen.readings[0].power_watts))
    one.fake.force(POWER, mw)
    one.fake.force("field186", mw)
    seen = one.until(lambda seen: seen.readings[0].power_watts is None)
    assert "an implausible power of" in seen.readings[0].why


def test_an_implausible_field_falls_back_to_the_next(bench):
    one = bench(gpu(0, **NO_COUNTER))
    one.fake.force("field186", UNKNOWN_MW)
    seen = one.until(lambda seen: bool(seen.readings[0].power_watts))
    assert seen.readings[0].power_watts == 100


@pytest.mark.parametrize("mj", [1e19, 9.3e15])
def test_a_counter_beyond_63_bits_is_none(bench, mj):
    one = bench(gpu(0))
    for call in ("field83", ENERGY):
        one.fake.force(call, mj)
    seen = one.until(lambda seen: bool(seen.readings[0].power_watts))
    assert seen.readings[0].counter_uj is None


@pytest.mark.parametrize("limit_mw", [UNKNOWN_MW, 1, 0])
def test_an_implausible_limit_is_none(bench, limit_mw):
    one = bench(gpu(0))
    one.fake.force(LIMIT, limit_mw)
    (info,) = one.until(one.is_healthy).infos
    assert (info.power_limit_watts, info.power_cap_watts) == (None, 1500.0)


def ticks(one, clock, count, second=lambda number: None):
    """Return the energy in joules of some seconds."""
    energy_counters, energy_uj = EnergyCounters(()), 0
    for number in range(count):
        clock.advance(1)
        second(number)
        for interval in energy_counters.advance(one.read()):
            energy_uj += interval.energy_uj
    return energy_uj / 1e6


@pytest.mark.parametrize("limit_watts", [250, 0], ids=["limit", "no limit"])
@pytest.mark.parametrize("mw", [UNKNOWN_MW, 3_000_000, 0])
def test_one_implausible_power_adds_nothing(bench, limit_watts, mw):
    clock = FakeClock()
    one = bench(gpu(0, **NO_COUNTER, power_limit_watts=limit_watts), clock=clock)

    def second(number):
        one.fake.heal()
        if number == 5:
            one.fake.force("field186", mw)
            one.fake.force(POWER, mw)

    assert ticks(one, clock, 11, second) == pytest.approx(1000)


def test_a_counter_that_stays_zero_is_replaced_by_power(bench):
    clock = FakeClock()
    one = bench(gpu(0), clock=clock)
    for call in ("field83", ENERGY):
        one.fake.force(call, 0)
    one.until(lambda seen: bool(seen.readings[0].power_watts))
    clock.advance(31)
    one.read()
    one.until(lambda seen: seen.infos[0].method is Method.INTEGRATED)
    assert ticks(one, clock, 11) == pytest.approx(1000)
    one.fake.heal()
    seen = one.until(lambda seen: seen.infos[0].method is Method.COUNTER)
    assert seen.readings[0].counter_uj


def test_a_reading_fits_the_description_that_it_comes_with(bench):
    one = bench(gpu(0))
    one.until(one.is_healthy)
    (card,) = one.nvml._supervisor.cards
    for method in (Method.INTEGRATED, Method.COUNTER, Method.INTEGRATED):
        card.start_reading()
        card.info = card.info._replace(method=method)  # as the supervisor's thread may
        info, reading = card.reading(deadline(SOON))
        assert (reading.epoch == "boot") == (info.method is Method.COUNTER)


def test_a_counter_that_begins_after_power_was_integrated_books_nothing_twice(bench):
    clock = FakeClock()
    one = bench(gpu(0), clock=clock)
    for call in ("field83", ENERGY):
        one.fake.force(call, 0)
    one.until(lambda seen: bool(seen.readings[0].power_watts))
    clock.advance(31)
    one.read()
    one.until(lambda seen: seen.infos[0].method is Method.INTEGRATED)

    def second(number):
        for call in ("field83", ENERGY):
            one.fake.force(call, 0 if number < 10 else 500_000 + 100_000 * number)

    assert ticks(one, clock, 20, second) <= 1900


def found(uuid, bus, handle):
    info = DeviceInfo(Device(DeviceKind.GPU, uuid), "", "", "nvml", 700.0, pci_bus_id=bus)
    return ListedGpu(handle, info)


def names(cards):
    return {card.handle: card.info.device.id for card in cards}


A, B = found("GPU-0", "1", "a"), found("GPU-0", "2", "b")


def test_gpus_with_one_uuid_are_distinguished_by_address():
    assert names(with_unique_ids([A, B], [])) == {"a": "GPU-0", "b": "GPU-0@2"}


def test_a_gpu_keeps_its_id_when_others_change():
    known = [card.info for card in with_unique_ids([A, B], [])]
    assert names(with_unique_ids([B], known)) == {"b": "GPU-0@2"}
    assert names(with_unique_ids([A], known)) == {"a": "GPU-0"}
    assert names(with_unique_ids([B, A], known)) == {"a": "GPU-0", "b": "GPU-0@2"}


def test_a_moved_gpu_keeps_its_uuid():
    assert names(with_unique_ids([B], [A.info])) == {"b": "GPU-0"}


@pytest.mark.parametrize("bus", ["", "1"])
def test_gpus_with_one_uuid_and_no_address_are_merged(bus):
    pair = [found("GPU-0", bus, "a"), found("GPU-0", bus, "b"), found("GPU-0", bus, "c")]
    assert sorted(names(with_unique_ids(pair, [])).values()) == ["GPU-0"]


def test_two_gpus_with_one_uuid_are_both_read_and_leak_no_threads(bench):
    two = bench(gpu(0), gpu(1, id="GPU-0"))
    seen = two.until(two.is_healthy)
    assert [info.device.id for info in seen.infos] == ["GPU-0", "GPU-0@00000000:02:00.0"]
    assert [reading.power_watts for reading in seen.readings] == [100, 200]
    assert "2 GPUs report the UUID GPU-0: distinguished as GPU-0@00000000:02:00.0" in seen.note
    assert not seen.error
    before = threading.active_count()
    listed = seen.calls[NAME].calls
    after = two.until(lambda seen: seen.calls[NAME].calls > listed + 40)
    assert len(after.infos) == 2
    assert threading.active_count() <= before
