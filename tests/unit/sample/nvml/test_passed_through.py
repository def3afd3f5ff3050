"""GPUs that the host cannot read: passed through, suspended, or with another driver.

Names of drivers are those that Linux shows under /sys/bus/pci/drivers: `vfio-pci`
(drivers/vfio/pci/vfio_pci.c), `nvgrace-gpu-vfio-pci` (drivers/vfio/pci/nvgrace-gpu/main.c),
`pci-stub` (drivers/pci/pci-stub.c), `xen-pciback` (DRV_NAME in drivers/xen/xen-pciback/pciback.h;
`pciback` before), `nouveau`, `nvidia`. `physfn` is the link that pci_iov_sysfs_link() in
drivers/pci/iov.c makes in each virtual function.
"""

import ctypes

import pytest

from exporter.cli import main as command
from exporter.model.readings import Method
from exporter.sample.energy_counters import EnergyCounters
from exporter.sample.sources.gpu import collector
from exporter.sample.sources.gpu.pci import pci_gpus
from exporter.sample.sources.nvml.driver import NVIDIA_GPUS
from tests.fakes import FakeClock
from tests.unit.sample.nvml.conftest import SOON, gpu, make_collector

NO_COUNTER = {"counter": False, "nvml": {"architecture": 4, "power_average": False}}
PASSED = "passed through to a virtual machine"
VFIO = ("vfio-pci", "nvgrace-gpu-vfio-pci", "pci-stub", "xen-pciback", "pciback")


def place(sysfs, number, driver, status="active", **more):
    """Add a GPU to the bus."""
    path = sysfs / f"bus/pci/devices/0000:{number:02x}:00.0"
    (path / "power").mkdir(parents=True, exist_ok=True)
    for name, text in {"vendor": "0x10de", "class": "0x030200", **more}.items():
        (path / name).write_text(text + "\n")
    (path / "power/runtime_status").write_text(status + "\n")
    link = path / "driver"
    link.unlink(missing_ok=True)
    if driver:
        (sysfs / f"bus/pci/drivers/{driver}").mkdir(parents=True, exist_ok=True)
        link.symlink_to(sysfs / f"bus/pci/drivers/{driver}")
    return path


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """A collector on a host without the library."""
    monkeypatch.setattr(collector, "FIRST_READ_TIMEOUT_SECONDS", SOON)
    made = []

    def make():
        made.append(make_collector(tmp_path, FakeClock()))
        return made[0]

    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        yield make
    else:
        pytest.skip("this machine has the NVIDIA library")
    for each in made:
        each.release()


@pytest.mark.parametrize("status", ["active", "suspended", "unsupported"])
@pytest.mark.parametrize("driver", VFIO)
def test_a_host_with_all_gpus_passed_through_has_no_failure(alone, tmp_path, driver, status):
    place(tmp_path, 1, driver, status)
    place(tmp_path, 2, driver, status, **{"class": "0x030000"})
    seen = alone().read()
    assert not seen.error
    assert f"GPU 0000:01:00.0 is {PASSED}" in seen.note
    assert f"GPU 0000:02:00.0 is {PASSED}" in seen.note
    assert not seen.calls


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("driver", "status", "text"),
    [("vfio-pci", "active", PASSED), ("nvidia", "suspended", "asleep")],
)
def test_the_note_is_logged_and_no_collector_fails(tmp_path, capfd, driver, status, text):
    place(tmp_path / "sys", 1, driver, status)
    paths = [f"--path.sysfs={tmp_path / 'sys'}", f"--path.state={tmp_path / 'state'}"]
    assert command.main(["once", "--sample.interval=0.1", *paths]) == 0
    page, log = capfd.readouterr()
    assert 'emissions_collector_success{collector="nvml"} 1.0' in page
    assert 'device="gpu"' not in page
    (line,) = [line for line in log.splitlines() if "collector=nvml" in line]
    assert text in line
    assert "level=info" in line


def test_a_suspended_gpu_with_another_passed_through_is_no_failure(alone, tmp_path):
    place(tmp_path, 1, "vfio-pci")
    place(tmp_path, 2, "nvidia", "suspended")
    seen = alone().read()
    assert not seen.error
    assert PASSED in seen.note
    assert "asleep" in seen.note
    assert not seen.calls


@pytest.mark.parametrize("driver", ["nouveau", "nvidiafb", "nova_core"])
def test_another_driver_is_named_where_there_is_no_library(alone, tmp_path, driver):
    place(tmp_path, 1, driver)
    place(tmp_path, 2, "vfio-pci")
    seen = alone().read()
    assert "install the driver" in seen.error
    assert f"GPU 0000:01:00.0 has the driver {driver}" in seen.error
    assert "0000:02" not in seen.error
    assert PASSED in seen.note


@pytest.mark.parametrize("driver", ["", "nvidia"])
def test_a_gpu_of_this_host_without_a_library_is_a_failure(alone, tmp_path, driver):
    place(tmp_path, 1, driver)
    assert "install the driver" in alone().read().error


def test_a_gpu_of_the_host_is_read_while_another_is_passed_through(bench):
    one = bench(gpu(0))
    place(one.sysfs, 1, "nvidia")
    place(one.sysfs, 2, "vfio-pci", "suspended")
    seen = one.until(one.is_healthy)
    assert not seen.error
    assert seen.note.startswith("GPU 0000:02:00.0 is passed through")
    assert "0000:01" not in seen.note


def test_a_suspended_gpu_is_not_woken_while_another_is_passed_through(bench):
    two = bench(gpu(0))
    place(two.sysfs, 1, "nvidia", "suspended")
    place(two.sysfs, 2, "vfio-pci")
    place(two.sysfs, 3, "nouveau")
    seen = two.read()
    assert not seen.calls
    assert not seen.error


def test_a_gpu_that_was_passed_through_temporarily_continues(bench):
    two = bench()
    place(two.sysfs, 1, "nvidia")
    place(two.sysfs, 2, "nvidia")
    two.until(two.is_healthy)
    place(two.sysfs, 2, "vfio-pci")
    two.fake.mark_lost(1)
    seen = two.until(lambda seen: PASSED in seen.readings[1].why)
    assert not seen.error
    assert seen.readings[0].counter_uj
    place(two.sysfs, 2, "nvidia")
    two.fake.heal()
    seen = two.until(two.is_healthy)
    assert not seen.note


def test_the_driver_is_released_when_the_last_gpu_is_passed_through(bench):
    one = bench(gpu(0))
    place(one.sysfs, 1, "nvidia")
    one.until(one.is_healthy)
    place(one.sysfs, 1, "vfio-pci")
    seen = one.until(lambda seen: PASSED in seen.readings[0].why)
    assert not seen.error
    one.until(lambda seen: "nvmlShutdown" in seen.calls)
    place(one.sysfs, 1, "nvidia")
    one.until(one.is_healthy)


def test_virtual_functions_are_not_gpus(tmp_path):
    place(tmp_path, 1, "nvidia")
    place(tmp_path, 2, "vfio-pci").joinpath("physfn").symlink_to("../0000:01:00.0")
    place(tmp_path, 3, "nvidia").joinpath("physfn").symlink_to("../0000:01:00.0")
    assert [card.address for card in pci_gpus(str(tmp_path), NVIDIA_GPUS)] == ["0000:01:00.0"]


def test_a_virtual_function_in_a_guest_is_a_gpu(tmp_path):
    place(tmp_path, 1, "nvidia")
    assert [card.driver for card in pci_gpus(str(tmp_path), NVIDIA_GPUS)] == ["nvidia"]


def test_other_device_classes_are_not_gpus(tmp_path):
    place(tmp_path, 1, "snd_hda_intel", **{"class": "0x040300"})
    place(tmp_path, 2, "amdgpu", vendor="0x1002")
    assert not pci_gpus(str(tmp_path), NVIDIA_GPUS)


def test_no_power_is_integrated_over_a_suspend(bench):
    clock, energy_counters = FakeClock(), EnergyCounters(())
    one = bench(gpu(0, **NO_COUNTER), clock=clock)
    place(one.sysfs, 1, "nvidia")

    def joules(seconds):
        energy_uj = 0
        for _ in range(seconds):
            clock.advance(1)
            energy_uj += sum(each.energy_uj for each in energy_counters.advance(one.read()))
        return energy_uj / 1e6

    assert joules(11) == pytest.approx(1000)
    place(one.sysfs, 1, "nvidia", "suspended")
    assert joules(100) == 0
    place(one.sysfs, 1, "nvidia")
    assert joules(11) == pytest.approx(1000)


def test_a_suspended_gpu_is_no_failure_and_its_energy_is_counted_later(bench):
    one = bench(gpu(0))
    place(one.sysfs, 1, "nvidia")
    before = one.until(one.is_healthy).readings[0].counter_uj
    place(one.sysfs, 1, "nvidia", "suspended")
    seen = one.until(lambda seen: "asleep" in seen.readings[0].why)
    assert not seen.error
    assert "GPU 0000:01:00.0 is asleep" in seen.note
    place(one.sysfs, 1, "nvidia")
    after = one.until(one.is_healthy)
    assert after.readings[0].counter_uj >= before
    assert after.infos[0].method is Method.COUNTER
