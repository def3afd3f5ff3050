"""What the kernel says of NVIDIA cards on the PCI bus; asking it wakes no card."""

import os
from collections.abc import Iterator
from typing import NamedTuple

from exporter.sample.sysfs import text

NVIDIA = "0x10de"
DISPLAY_CLASS = "0x03"
"""What the class of every display and compute device begins with."""
SUSPENDED = "suspended"
NVIDIA_DRIVER = "nvidia"
PASSING = ("pci-stub", "xen-pciback", "pciback")
"""Drivers besides those of VFIO that only keep a device for a virtual machine."""
VFIO = "vfio"
"""In the name of each of VFIO's own: vfio-pci, nvgrace-gpu-vfio-pci and so on."""


class PciCard(NamedTuple):
    """A card as the kernel sees it. `driver` is "" where it has none, or that is not shown."""

    address: str
    driver: str
    is_asleep: bool

    @property
    def is_passed_through(self) -> bool:
        """Whether it is kept for a virtual machine, so that nothing here can read it."""
        return VFIO in self.driver or self.driver in PASSING

    @property
    def is_foreign(self) -> bool:
        """Whether a driver has it that NVML does not speak to."""
        return self.driver not in ("", NVIDIA_DRIVER)


def is_asleep(sysfs: str, pci_bus_id: str) -> bool:
    """Whether a card is asleep to save power."""
    return text(_path(sysfs, address_of(pci_bus_id)), "power/runtime_status") == SUSPENDED


def address_of(pci_bus_id: str) -> str:
    """The kernel's name of a place on the bus: NVML names domains with eight digits, it with four.

    >>> address_of("00000000:3B:00.0")
    '0000:3b:00.0'
    """
    return pci_bus_id.lower()[-len("0000:00:00.0") :]


def cards(sysfs: str) -> list[PciCard]:
    """All NVIDIA cards, by address. Virtual functions are parts of cards and left out."""
    return sorted(_cards(sysfs))


def _cards(sysfs: str) -> Iterator[PciCard]:
    try:
        addresses = os.listdir(_path(sysfs, ""))
    except OSError:
        return
    for address in addresses:
        path = _path(sysfs, address)
        if (
            text(path, "vendor") == NVIDIA
            and text(path, "class").startswith(DISPLAY_CLASS)
            and not os.path.lexists(os.path.join(path, "physfn"))
        ):
            yield PciCard(address, _driver(path), is_asleep(sysfs, address))


def _driver(path: str) -> str:
    try:
        return os.path.basename(os.readlink(os.path.join(path, "driver")))
    except OSError:
        return ""


def _path(sysfs: str, address: str) -> str:
    return os.path.join(sysfs, "bus", "pci", "devices", address)
