"""GPUs on the PCI bus, in sysfs. Reading these files does not wake a suspended GPU."""

import os
from collections.abc import Iterator
from typing import NamedTuple

from exporter.sample.kernel_files import read_text

SUSPENDED = "suspended"
PASSTHROUGH_DRIVERS = ("pci-stub", "xen-pciback", "pciback")
"""Drivers, in addition to those of VFIO, that reserve a device for a virtual machine."""
VFIO_DRIVER = "vfio"
"""Substring of the names of VFIO drivers, such as vfio-pci and nvgrace-gpu-vfio-pci."""


class PciMatch(NamedTuple):
    """How the GPUs of a vendor are found on the PCI bus."""

    vendor_id: str
    """As in the file `vendor` of sysfs, such as "0x10de"."""
    class_prefixes: tuple[str, ...]
    """Prefixes of the file `class`: 0x03 for display controllers, 0x12 for accelerators."""
    kernel_drivers: tuple[str, ...]
    """Kernel modules with which the driver can read a GPU."""


class PciGpu(NamedTuple):
    """A GPU on the PCI bus."""

    address: str
    """In the kernel's form, such as 0000:3b:00.0."""
    driver: str
    """Its kernel driver; "": none, or it is not visible."""
    is_asleep: bool
    is_foreign: bool
    """Whether it is bound to a kernel driver with which it cannot be read."""

    @property
    def is_passed_through(self) -> bool:
        """Whether it is passed through to a virtual machine, so that the host cannot read it."""
        return VFIO_DRIVER in self.driver or self.driver in PASSTHROUGH_DRIVERS


def pci_gpus(sysfs: str, match: PciMatch) -> list[PciGpu]:
    """Return all GPUs of a vendor, sorted by address, without virtual functions."""
    return sorted(_pci_gpus(sysfs, match))


def is_suspended(sysfs: str, pci_bus_id: str) -> bool:
    """Whether a GPU is suspended by runtime power management."""
    path = pci_path(sysfs, pci_address(pci_bus_id))
    return read_text(path, "power/runtime_status") == SUSPENDED


def pci_address(pci_bus_id: str) -> str:
    """Convert a PCI bus id to the kernel's form: a domain of four digits, lower case.

    >>> pci_address("00000000:3B:00.0")
    '0000:3b:00.0'
    """
    return pci_bus_id.lower()[-len("0000:00:00.0") :]


def pci_path(sysfs: str, address: str) -> str:
    """Return the directory of a PCI device; of all devices for ""."""
    return os.path.join(sysfs, "bus", "pci", "devices", address)


def _pci_gpus(sysfs: str, match: PciMatch) -> Iterator[PciGpu]:
    try:
        addresses = os.listdir(pci_path(sysfs, ""))
    except OSError:
        return
    for address in addresses:
        path = pci_path(sysfs, address)
        if (
            read_text(path, "vendor") == match.vendor_id
            and read_text(path, "class").startswith(match.class_prefixes)
            and not os.path.lexists(os.path.join(path, "physfn"))
        ):
            driver = _driver(path)
            is_foreign = driver not in ("", *match.kernel_drivers)
            yield PciGpu(address, driver, is_suspended(sysfs, address), is_foreign)


def _driver(path: str) -> str:
    try:
        return os.path.basename(os.readlink(os.path.join(path, "driver")))
    except OSError:
        return ""
