"""Power of processors that the kernel shows in hwmon: EPYC by HSMP, Ampere by xgene-hwmon."""

import errno
import os
import threading

import pytest

from exporter.errors import Unavailable
from exporter.model.readings import Device, DeviceKind, Method
from exporter.sample import power_sensors
from exporter.sample.energy_counters import EnergyCounters
from exporter.sample.kernel_files import ReusedFile
from exporter.sample.power_model import CpuInfo
from exporter.sample.power_sensors import read_positive
from exporter.sample.sources.hsmp import open_hsmp
from exporter.sample.sources.xgene import open_xgene
from tests.unit.sample.conftest import BOOT_ID, THREAD_TIMEOUT_SECONDS

pytestmark = pytest.mark.usefixtures("patient_ticks")

EPYC = CpuInfo(model="AMD EPYC 9654 96-Core Processor", vendor="AMD", packages=(0, 1))
SOCKETS = [Device(DeviceKind.CPU, "package-0"), Device(DeviceKind.CPU, "package-1")]


@pytest.fixture
def opened(sysfs, clock):
    """Open a collector; it is released at the end."""
    collectors = []

    def build(opening=open_hsmp, cpu=EPYC):
        collectors.append(opening(sysfs.root, clock, BOOT_ID, cpu))
        return collectors[-1]

    yield build
    for collector in collectors:
        collector.release()


def watts(observation):
    return {reading.device: reading.power_watts for reading in observation.readings}


def test_sockets_of_the_acpi_driver_have_the_numbers_of_their_uids(sysfs, opened):
    sysfs.hsmp_socket("ID01", hwmon=3, microwatts=150_000_000, device=0)
    sysfs.hsmp_socket("ID00", hwmon=4, microwatts=200_000_000, device=1)
    observation = opened().read()
    assert watts(observation) == dict(zip(SOCKETS, (200.0, 150.0), strict=True))
    info, _ = observation.infos
    assert (info.source, info.method, info.model) == ("hsmp", Method.INTEGRATED, EPYC.model)
    assert (info.power_limit_watts, info.power_cap_watts) == (400.0, 1000.0)
    assert observation.error == ""


def test_sockets_of_the_platform_driver_are_in_the_order_of_their_hwmon_numbers(sysfs, opened):
    for number, power in ((10, 150_000_000), (9, 200_000_000)):
        files = {"name": "amd_hsmp_hwmon", "power1_input": power}
        sysfs.write(f"bus/platform/devices/amd_hsmp/hwmon/hwmon{number}", files)
    assert watts(opened().read()) == dict(zip(SOCKETS, (200.0, 150.0), strict=True))


def test_no_sensor_is_unavailable_with_the_remedy(opened):
    with pytest.raises(Unavailable, match="hsmp_acpi"):
        opened()


def test_socket_power_that_includes_a_gpu_is_no_processor_power(sysfs, opened):
    sysfs.hsmp_socket("ID00", 3, 300_000_000)
    with pytest.raises(Unavailable, match="includes its GPU"):
        opened(cpu=EPYC._replace(model="AMD Instinct MI300A Accelerator"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("0", "reports 0,"),
        ("-1000", "reports -1000,"),
        ("", "does not contain a number"),
        ("N/A", "does not contain a number"),
    ],
)
def test_value_that_is_no_power_is_a_reason_and_never_zero(sysfs, opened, content, reason):
    path = sysfs.hsmp_socket("ID00", 3, 200_000_000)
    collector = opened()
    with open(os.path.join(path, "power1_input"), "w", encoding="ascii") as file:
        file.write(content)
    observation = collector.read()
    (reading,) = observation.readings
    assert reading.power_watts is None
    assert reason in reading.why
    assert observation.error == reading.why


@pytest.mark.parametrize(
    "code", [errno.ETIMEDOUT, errno.ENODEV, errno.EINVAL, errno.EBUSY, errno.EACCES]
)
def test_error_of_the_driver_is_the_reason(sysfs, opened, monkeypatch, code):
    """Those of hsmp_send_message in hsmp.c: lock or answer late, no device, message, firmware."""
    sysfs.hsmp_socket("ID00", 3, 200_000_000)
    collector = opened()

    def fail(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "pread", fail)
    (reading,) = collector.read().readings
    assert (reading.power_watts, reading.counter_uj) == (None, None)
    assert os.strerror(code) in reading.why


def test_unreadable_socket_does_not_affect_the_other(sysfs, opened):
    sysfs.hsmp_socket("ID00", 3, 200_000_000, device=0)
    os.remove(os.path.join(sysfs.hsmp_socket("ID01", 4, 1, device=1), "power1_input"))
    observation = opened().read()
    assert watts(observation) == dict(zip(SOCKETS, (200.0, None), strict=True))
    assert "power1_input" in observation.error


def test_limit_above_half_of_the_usual_bound_raises_the_bound(sysfs, opened, clock):
    path = sysfs.hsmp_socket("ID00", 3, 200_000_000)
    collector = opened()
    with open(os.path.join(path, "power1_cap"), "w", encoding="ascii") as file:
        file.write("600000000\n")
    clock.advance(31)
    collector.read()
    (info,) = collector.read().infos
    assert (info.power_limit_watts, info.power_cap_watts) == (600.0, 1200.0)


def test_energy_is_the_integral_of_the_power(sysfs, opened, clock):
    path = sysfs.hsmp_socket("ID00", 3, 200_000_000)
    collector, counters = opened(), EnergyCounters(())
    booked = []
    for power_watts in (200, 200, 300, 300):
        with open(os.path.join(path, "power1_input"), "w", encoding="ascii") as file:
            file.write(f"{power_watts * 1_000_000}\n")
        booked += counters.advance(collector.read())
        clock.advance(1)
    assert [interval.energy_uj for interval in booked] == [200_000_000, 250_000_000, 300_000_000]
    assert {interval.method for interval in booked} == {Method.INTEGRATED}


def test_restart_continues_with_the_power_before_it(sysfs, opened, clock):
    sysfs.hsmp_socket("ID00", 3, 200_000_000)
    before = EnergyCounters(())
    before.advance(opened().read())
    clock.advance(20)
    after = EnergyCounters(before.counter_states())
    (interval,) = after.advance(opened().read())
    assert (interval.energy_uj, interval.restart) == (4_000_000_000, True)


def test_counter_of_another_collector_is_not_continued(sysfs, opened):
    """A socket that RAPL counted before has a counter of its own."""
    sysfs.hsmp_socket("ID00", 3, 200_000_000)
    (reading,) = opened().read().readings
    assert reading.epoch != BOOT_ID


def test_tick_does_not_wait_for_a_driver_that_hangs(sysfs, opened, clock, monkeypatch):
    sysfs.hsmp_socket("ID00", 3, 200_000_000)
    monkeypatch.setattr(power_sensors, "READ_TIMEOUT_SECONDS", 0.01)
    collector = opened()
    entered, answer = threading.Event(), threading.Event()
    real = os.pread

    def hang(*arguments):
        entered.set()
        assert answer.wait(THREAD_TIMEOUT_SECONDS)
        return real(*arguments)

    monkeypatch.setattr(os, "pread", hang)
    assert "has not answered" in collector.read().error
    assert entered.wait(THREAD_TIMEOUT_SECONDS)
    read_ns = clock.boottime_ns()
    answer.set()
    late = collector.read()
    while late.error or not late.readings:
        late = collector.read()
    (reading,) = late.readings
    assert (reading.power_watts, reading.at_ns) == (200.0, read_ns)


def test_files_are_closed_on_release(sysfs, opened, open_files):
    sysfs.hsmp_socket("ID00", 3, 200_000_000)
    collector = opened()
    collector.read()
    collector.release()
    assert open_files() == 0


def test_power_of_an_ampere_processor_is_that_of_cores_and_io(sysfs, opened):
    """Values of a real Altra: AmpereComputing/ampere-lts-kernel issue 186."""
    parent = "devices/platform/APMC0D29:00"
    files = {
        "name": "apm_xgene",
        "power1_label": "CPU power",
        "power1_input": 16_280_000,
        "power2_label": "IO power",
        "power2_input": 31_900_000,
    }
    path = sysfs.write(f"{parent}/hwmon/hwmon1", files)
    sysfs.link("bus/platform/drivers/xgene-slimpro-hwmon/APMC0D29:00", parent)
    collector = opened(open_xgene)
    assert watts(collector.read()) == {SOCKETS[0]: pytest.approx(48.18)}
    os.remove(os.path.join(path, "power2_input"))
    (reading,) = collector.read().readings
    assert (reading.power_watts, "power2_input" in reading.why) == (None, True)


def test_ampere_sensors_with_other_labels_are_not_used(sysfs, opened):
    files = {"name": "apm_xgene", "power1_label": "CPU power", "power1_input": 1}
    sysfs.write("bus/platform/drivers/xgene-slimpro-hwmon/APMC0D29:00/hwmon/hwmon1", files)
    with pytest.raises(Unavailable, match="xgene-hwmon"):
        opened(open_xgene)


def test_reading_a_file_that_is_no_file(tmp_path):
    assert read_positive(ReusedFile(str(tmp_path / "absent")))[0] == 0
