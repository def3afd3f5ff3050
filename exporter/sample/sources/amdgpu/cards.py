"""AMD cards in sysfs: identity, sensors, and what the kernel calls them.

Files: `amdgpu_pm.c` of Linux. None of those that are read here wakes a suspended card, except
where it is stated.
"""

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from exporter.sample.kernel_files import parse_number, read_text
from exporter.sample.sources.gpu.pci import PciMatch, is_kept_awake, pci_gpus, pci_path
from exporter.units import MICROWATTS_PER_WATT

AMD_PCI = PciMatch("0x1002", ("0x03", "0x12"), ("amdgpu",))
HWMON_NAME = "amdgpu"
APU_VOLTAGE = "in1_label"
"""Voltage of the northbridge, which the kernel shows for APUs other than MI300A only."""
MI300A = "0x74a0"
"""PCI id of an APU for servers, which has an energy counter: that of the whole socket."""
DUAL_DIE = ("0x7408", "0x740c")
"""PCI ids of MI250X and MI250: each die is a PCI device."""
ALDEBARAN = ("0x7408", "0x740c", "0x740f", "0x7410")
"""PCI ids of MI200: MI250X, MI250, MI210."""
NARROW_REVISIONS = ("1.1", "1.2", "1.3")
"""Revisions of `gpu_metrics` in which only MI200 has a counter of 64 bits with a known unit.

The firmware of MI100 and Radeons counts in 32 bits without a documented unit
(`smu11_driver_if_arcturus.h` and others of Linux), and MI100's stops (ROCm/amdsmi issue 22).
"""
DRM_NODE = re.compile(r"(card|renderD)(\d+)")


class Die(NamedTuple):
    """A PCI device with the driver amdgpu."""

    address: str
    device_id: str
    """PCI id, as in sysfs."""
    unique_id: str
    """Serial number in hexadecimal; "": it has none."""
    model: str
    path: str
    hwmon: str
    """Directory of its sensors; "": none."""
    nodes: tuple[str, ...]
    """Names of its DRM devices: card1, renderD128."""
    is_asleep: bool
    is_kept_awake: bool
    """Whether only reads keep it from being suspended."""
    is_apu: bool

    @property
    def metrics_path(self) -> str:
        """The file with energy, power and activity."""
        return os.path.join(self.path, "gpu_metrics")


def list_dies(sysfs: str) -> list[Die]:
    """Return all PCI devices of the driver amdgpu, by address."""
    return [
        _die(sysfs, gpu.address, is_asleep=gpu.is_asleep)
        for gpu in pci_gpus(sysfs, AMD_PCI)
        if not gpu.is_foreign and gpu.driver
    ]


def _die(sysfs: str, address: str, *, is_asleep: bool) -> Die:
    path = pci_path(sysfs, address)
    hwmon = _hwmon(path)
    device_id = read_text(path, "device")
    return Die(
        address,
        device_id,
        read_text(path, "unique_id").removeprefix("0x").lower(),
        read_text(path, "product_name") or f"AMD GPU {device_id}",
        path,
        hwmon,
        tuple(drm_nodes(path)),
        is_asleep,
        is_kept_awake(path),
        is_apu=device_id == MI300A
        or (bool(hwmon) and os.path.exists(os.path.join(hwmon, APU_VOLTAGE))),
    )


def _hwmon(path: str) -> str:
    directory = os.path.join(path, "hwmon")
    for name in sorted(_listed(directory)):
        if read_text(os.path.join(directory, name), "name") == HWMON_NAME:
            return os.path.join(directory, name)
    return ""


def has_known_counter(device_id: str, revision: str) -> bool:
    """Whether the energy counter of a model, if it has one, is of 64 bits and of a known unit."""
    return revision not in NARROW_REVISIONS or device_id in ALDEBARAN


def drm_nodes(path: str) -> list[str]:
    """Return the names of the DRM devices of a PCI or platform device, such as card1."""
    return sorted(name for name in _listed(os.path.join(path, "drm")) if DRM_NODE.fullmatch(name))


def partition_names(sysfs: str) -> Mapping[str, tuple[str, ...]]:
    """Return the names of each partition, by its render node: renderD129, card2, amdgpu_xcp_1.

    Partitions other than the first one of a card are platform devices.
    """
    found = {}
    platform = os.path.join(sysfs, "devices", "platform")
    for name in _listed(platform):
        if name.startswith("amdgpu_xcp"):
            nodes = drm_nodes(os.path.join(platform, name))
            for node in nodes:
                if node.startswith("renderD"):
                    # Kernels have named them amdgpu_xcp.1 and amdgpu_xcp_1.
                    number = re.split(r"[._]", name)[-1]
                    names = (f"amdgpu_xcp_{number}", f"amdgpu_xcp.{number}")
                    found[node] = (*nodes, *names)
    return found


def dra_names(nodes: Iterable[str]) -> Iterator[str]:
    """Yield the name that AMD's driver for dynamic resource allocation derives from DRM devices.

    It is `gpu-<card>-<render node>` (ROCm/k8s-gpu-dra-driver, `CanonicalName`).
    """
    numbers = {match[1]: match[2] for node in nodes if (match := DRM_NODE.fullmatch(node))}
    if len(numbers) == 2:
        yield f"gpu-{numbers['card']}-{numbers['renderD']}"


def read_watts(hwmon: str, *names: str) -> float | None:
    """Return the first of these sensors that can be read and is not 0; wakes a suspended card."""
    for name in names:
        if microwatts := parse_number(read_text(hwmon, name)) if hwmon else None:
            return microwatts / MICROWATTS_PER_WATT
    return None


def pair_dies(dies: Iterable[Die], secondary: Collection[str]) -> Iterator[tuple[Die, ...]]:
    """Group dies by card, given all of cards with two: the one that measures both comes first.

    `secondary` has the addresses of the dies that measure nothing. The two dies of a card are
    neighbors in the order of addresses, either one first (rocm_smi_lib issue 160).
    """
    left = sorted(dies)
    while left:
        die = left.pop(0)
        if left and (die.address in secondary) != (left[0].address in secondary):
            pair = die, left.pop(0)
            yield pair if die.address not in secondary else pair[::-1]
        else:
            yield (die,)


def _listed(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []
