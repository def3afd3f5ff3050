"""What the kernel says of NVIDIA cards on the PCI bus; asking it wakes no card."""

import os
from collections.abc import Iterator

from exporter.sample.sysfs import text

NVIDIA = "0x10de"
DISPLAY_CLASS = "0x03"
"""What the class of every display and compute device begins with."""
SUSPENDED = "suspended"


def is_asleep(sysfs: str, pci_bus_id: str) -> bool:
    """Whether a card is asleep to save power.

    NVML names PCI domains with eight digits, the kernel with four.
    """
    address = pci_bus_id.lower()[-len("0000:00:00.0") :]
    return text(_path(sysfs, address), "power/runtime_status") == SUSPENDED


def cards(sysfs: str) -> list[str]:
    """The addresses of all NVIDIA cards."""
    return sorted(_cards(sysfs))


def _cards(sysfs: str) -> Iterator[str]:
    try:
        addresses = os.listdir(_path(sysfs, ""))
    except OSError:
        return
    for address in addresses:
        path = _path(sysfs, address)
        if text(path, "vendor") == NVIDIA and text(path, "class").startswith(DISPLAY_CLASS):
            yield address


def _path(sysfs: str, address: str) -> str:
    return os.path.join(sysfs, "bus", "pci", "devices", address)
