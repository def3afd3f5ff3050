"""GPUs of two made-up vendors, whose drivers have no more than the interface requires."""

import threading
from pathlib import Path

import pytest

from exporter.errors import Unavailable
from exporter.model.readings import (
    NO_DRIVER_CALLS,
    Device,
    DeviceInfo,
    DeviceKind,
    GpuActivity,
    GpuProcess,
)
from exporter.sample.kernel_files import read_text
from exporter.sample.sources.gpu import collector
from exporter.sample.sources.gpu.collector import GpuCollector
from exporter.sample.sources.gpu.driver import (
    ErrorClass,
    GpuError,
    GpuListing,
    GpuValues,
    ListedGpu,
)
from exporter.sample.sources.gpu.identity import UNKNOWN_MODEL, power_cap_watts
from exporter.sample.sources.gpu.pci import PciMatch, pci_gpus, pci_path
from exporter.worker import wait_until
from tests.fakes import FakeClock

SOON = 30.0
"""Timeout that is far longer than any wait here takes."""
LOOK_SECONDS = 0.02


class FileDriver:
    """GPUs with an energy counter, a power and pids in files of their PCI devices."""

    wakes_gpus = False
    users_period_seconds = 5.0

    def __init__(self, sysfs, name, vendor_id):
        self.name, self.vendor = name, name.capitalize()
        self.pci = PciMatch(vendor_id, ("0x03", "0x12"), (name,))
        self.is_open = False
        self.error = None
        """What opening and listing raise."""
        self.notes = ()
        self.failures = ()
        self.readers = {}
        self.looks = 0
        """How often the GPUs were listed."""
        self._sysfs = sysfs
        if not pci_gpus(sysfs, self.pci):
            raise Unavailable(f"no {self.vendor} GPU found")

    def open(self):
        self._fail()
        self.is_open = True

    def list_gpus(self):
        self.looks += 1
        self._fail()
        gpus = [
            self._listed(number, card)
            for number, card in enumerate(pci_gpus(self._sysfs, self.pci))
            if not card.is_foreign
        ]
        return GpuListing(gpus, self.failures, self.notes)

    def _fail(self):
        if self.error is not None:
            raise self.error

    def _listed(self, number, card):
        info = DeviceInfo(
            Device(DeviceKind.GPU, f"{self.name}-{card.address}"),
            UNKNOWN_MODEL,
            self.vendor,
            self.name,
            power_cap_watts(None),
            ordinal=str(number),
            pci_bus_id=card.address,
            aliases=(card.address,),
        )
        return ListedGpu(pci_path(self._sysfs, card.address), info)

    def reader(self, info):
        made = self.readers[info.device.id] = FileReader(info.device)
        return made

    def close(self):
        self.is_open = False

    def call_stats(self):
        return NO_DRIVER_CALLS


class FileReader:
    """Reads a GPU of FileDriver. `values` replaces what it reads; an exception is raised."""

    def __init__(self, device):
        self.values = None
        self.reads = self.polls = 0
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.is_released = False
        self._device = device

    def read_energy(self, handle, cap_watts):
        self.reads += 1
        assert self.may_answer.wait(SOON)
        if isinstance(self.values, Exception):
            raise self.values
        if self.values is not None:
            return self.values
        if not Path(handle).is_dir():
            raise GpuError("removed", ErrorClass.DEVICE)
        energy_uj = read_text(handle, "energy_uj")
        return GpuValues(int(energy_uj) if energy_uj else None, 100.0)

    def read_users(self, handle):
        self.polls += 1
        with open(f"{handle}/pids", encoding="ascii") as file:
            users = tuple(GpuProcess(int(pid)) for pid in file.read().split())
        return GpuActivity(self._device, 1, users)

    def forget(self):
        self.is_released = False

    def release(self):
        self.is_released = True

    def call_stats(self):
        return NO_DRIVER_CALLS


VENDOR_IDS = {"alpha": "0xaaaa", "beta": "0xbbbb"}


class Machine:
    """A PCI bus in a directory, and the collectors of its vendors."""

    def __init__(self, sysfs):
        self.sysfs = sysfs
        self.clock = FakeClock()
        self.drivers = {}
        self.collectors = {}

    def card(self, vendor, number, driver=None, status="active"):
        """Add a GPU, or change its kernel driver and power state."""
        path = self.sysfs / f"bus/pci/devices/0000:{number:02x}:00.0"
        (path / "power").mkdir(parents=True, exist_ok=True)
        (path / "vendor").write_text(VENDOR_IDS[vendor] + "\n")
        (path / "class").write_text("0x120000\n")
        (path / "power/runtime_status").write_text(status + "\n")
        (path / "energy_uj").write_text("1000000")
        (path / "pids").write_text(f"{number}")
        link = path / "driver"
        link.unlink(missing_ok=True)
        link.symlink_to(self.sysfs / "bus/pci/drivers" / (driver or vendor))
        return path

    def open(self, *vendors):
        """Make the collectors of these vendors."""
        for vendor in vendors:
            driver = self.drivers[vendor] = self.driver(vendor)
            self.collectors[vendor] = self.collector(driver)
        return self.collectors[vendors[0]]

    def driver(self, vendor):
        return FileDriver(str(self.sysfs), vendor, VENDOR_IDS[vendor])

    def collector(self, driver):
        return GpuCollector(driver, str(self.sysfs), self.clock, "boot", LOOK_SECONDS)

    def reader(self, vendor, number=1):
        return self.drivers[vendor].readers[f"{vendor}-0000:{number:02x}:00.0"]

    def until(self, vendor, condition):
        """Return the first observation of a vendor's GPUs that meets the condition."""
        seen = []

        def is_met():
            seen[:] = [self.collectors[vendor].read()]
            return condition(seen[0])

        assert wait_until(is_met, SOON), seen
        return seen[0]

    def close(self):
        for driver in self.drivers.values():
            for reader in driver.readers.values():
                reader.may_answer.set()
        for each in self.collectors.values():
            each.release()


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine without GPUs; what is requested in a reading is there in that reading."""
    monkeypatch.setattr(collector, "READ_TIMEOUT_SECONDS", SOON)
    monkeypatch.setattr(collector, "FIRST_READ_TIMEOUT_SECONDS", SOON)
    made = Machine(tmp_path)
    yield made
    made.close()
