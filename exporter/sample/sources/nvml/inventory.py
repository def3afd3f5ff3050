"""List of GPUs and their MIG layout, from the driver and from the PCI bus in sysfs."""

import os
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from exporter.model.readings import Device, DeviceInfo, DeviceKind, Method
from exporter.sample.kernel_files import read_text
from exporter.sample.sources.nvml.driver import (
    MAX_REFUSALS,
    UNUSABLE,
    ErrorClass,
    NvmlDriver,
    NvmlError,
    decode_text,
    nvml_errors,
)
from exporter.sample.sources.nvml.processes import MigInstance, MigLayout

NAME = "nvml"
MILLI = 1000
FALLBACK_CAP_WATTS = 1500.0
PLAUSIBLE_LIMITS_WATTS = (10.0, 10_000.0)
"""Range of plausible power limits of a GPU or module; others are ignored."""
UNKNOWN_MODEL = "unknown GPU"
MAX_GPUS = 256
MAX_MIG_DEVICES = 64
"""Upper bounds of GPUs per machine and MIG instances per GPU, in case the driver miscounts."""
VOLTA = 5
"""Architecture number of the first GPUs with an energy counter."""
SUPERCHIPS = ("GH200", "GB200", "GB300")
"""Superchips, whose energy counter covers the processor on the same module too."""
SUPERCHIP_SUFFIX = " (whole module: GPU and CPU)"
MIG_ENABLED = 1


class ListedGpu(NamedTuple):
    """A GPU listed by the driver, with its current handle."""

    handle: Any
    info: DeviceInfo
    layout: MigLayout


def list_gpus(driver: NvmlDriver) -> tuple[list[ListedGpu], list[NvmlError]]:
    """Return all GPUs that respond, and the errors of those that do not.

    Raises NvmlError if no GPU responds and an error concerns the driver itself.
    """
    listed, failures = [], []
    for index in range(min(driver.call("nvmlDeviceGetCount"), MAX_GPUS)):
        try:
            with nvml_errors("description"):
                handle = driver.call("nvmlDeviceGetHandleByIndex", index)
                listed.append(
                    ListedGpu(handle, _info(driver, handle, index), _layout(driver, handle))
                )
        except NvmlError as failure:
            failures.append(failure.of(f"GPU {index}"))
    fatal = [
        each for each in failures if each.error_class in (ErrorClass.LIBRARY, ErrorClass.PROCESS)
    ]
    if fatal and not listed:
        raise fatal[0]
    return listed, failures


def with_unique_ids(listed: Iterable[ListedGpu], known: Iterable[DeviceInfo]) -> list[ListedGpu]:
    """Return the GPUs with unique ids, in case several report the same UUID.

    The first of them keeps the UUID, the others get their PCI address appended, and each keeps the
    id under which it is `known`. GPUs with the same UUID and address, or without an address, are
    merged into one.
    """
    by_address = {(each.info.device, each.info.pci_bus_id): each for each in listed}
    known_addresses = {(info.device, info.pci_bus_id) for info in known}

    def is_new(each: ListedGpu) -> bool:
        return (each.info.device, each.info.pci_bus_id) not in known_addresses

    unique: dict[Device, ListedGpu] = {}
    for each in sorted(by_address.values(), key=is_new):
        other = _with_address(each)
        chosen = other if each.info.device in unique or not is_new(other) else each
        unique.setdefault(chosen.info.device, chosen)
    return list(unique.values())


def _with_address(listed: ListedGpu) -> ListedGpu:
    device = listed.info.device
    if not listed.info.pci_bus_id:
        return listed
    unique = device._replace(id=f"{device.id}@{listed.info.pci_bus_id}")
    return listed._replace(info=listed.info._replace(device=unique))


def _info(driver: NvmlDriver, handle: Any, index: int) -> DeviceInfo:
    uuid = decode_text(driver.call("nvmlDeviceGetUUID", handle))
    if not uuid:
        raise NvmlError("nvmlDeviceGetUUID", UNUSABLE, "the UUID is empty")
    name = _optional(driver, "nvmlDeviceGetName", handle)
    model = decode_text(name) if name else UNKNOWN_MODEL
    limit_mw = _optional(driver, "nvmlDeviceGetEnforcedPowerLimit", handle)
    limit_watts = _limit_watts(limit_mw)
    bus = _optional(driver, "nvmlDeviceGetPciInfo", handle)
    return DeviceInfo(
        device=Device(DeviceKind.GPU, uuid),
        model=model + SUPERCHIP_SUFFIX * is_superchip(model),
        vendor="NVIDIA",
        source=NAME,
        power_cap_watts=2 * limit_watts if limit_watts else FALLBACK_CAP_WATTS,
        method=Method.COUNTER if _has_counter(driver, handle) else Method.INTEGRATED,
        power_limit_watts=limit_watts,
        ordinal=str(index),
        pci_bus_id=decode_text(bus.busId) if bus is not None else "",
        minor=_optional(driver, "nvmlDeviceGetMinorNumber", handle),
    )


def _limit_watts(limit_mw: int | None) -> float | None:
    least, most = PLAUSIBLE_LIMITS_WATTS
    return limit_mw / MILLI if limit_mw and least <= limit_mw / MILLI <= most else None


def with_previous_info(info: DeviceInfo, known: DeviceInfo) -> DeviceInfo:
    """Return the description with missing values replaced by those that are already `known`."""
    if info.model == UNKNOWN_MODEL:
        info = info._replace(model=known.model)
    if info.power_limit_watts is None:
        info = info._replace(
            power_limit_watts=known.power_limit_watts, power_cap_watts=known.power_cap_watts
        )
    return info._replace(
        pci_bus_id=info.pci_bus_id or known.pci_bus_id,
        minor=known.minor if info.minor is None else info.minor,
    )


def is_superchip(model: str) -> bool:
    """Whether the energy counter of a GPU covers the processor on the same module."""
    return any(name in model for name in SUPERCHIPS)


def _has_counter(driver: NvmlDriver, handle: Any) -> bool:
    """Whether a GPU has an energy counter; those before Volta and most virtual GPUs have none."""
    architecture = _optional(driver, "nvmlDeviceGetArchitecture", handle)
    if architecture is not None and architecture < VOLTA:
        return False
    for _ in range(MAX_REFUSALS):
        try:
            driver.call("nvmlDeviceGetTotalEnergyConsumption", handle)
        except NvmlError as failure:
            if failure.error_class is ErrorClass.CAPABILITY:
                continue
        return True
    return False


def _layout(driver: NvmlDriver, handle: Any) -> MigLayout:
    mode = _optional(driver, "nvmlDeviceGetMigMode", handle)
    if mode is None or mode[0] != MIG_ENABLED:
        return MigLayout()
    most = _optional(driver, "nvmlDeviceGetMaxMigDeviceCount", handle) or 0
    most = most if most <= MAX_MIG_DEVICES else 0
    slots = range(most)
    found = [instance for index in slots for instance in _instance(driver, handle, index, most)]
    multiprocessors: dict[int, int] = {}
    for gi, _, _, _, own in found:
        multiprocessors[gi] = multiprocessors.get(gi, 0) + own
    instances = tuple(
        MigInstance(uuid, gi, ci, slices * own / multiprocessors[gi])
        for gi, ci, uuid, slices, own in found
    )
    return MigLayout(max(most, 1), instances)


def _instance(
    driver: NvmlDriver, handle: Any, index: int, most: int
) -> Iterator[tuple[int, int, str, int, int]]:
    """Yield the MIG device in a slot: GPU and compute instance id, UUID, slices, multiprocessors.

    The number of slices is limited to the range from 1 to `most`.
    """
    try:
        mig = driver.call("nvmlDeviceGetMigDeviceHandleByIndex", handle, index)
        attributes = driver.call("nvmlDeviceGetAttributes", mig)
        yield (
            driver.call("nvmlDeviceGetGpuInstanceId", mig),
            driver.call("nvmlDeviceGetComputeInstanceId", mig),
            decode_text(driver.call("nvmlDeviceGetUUID", mig)),
            max(1, min(attributes.gpuInstanceSliceCount, most)),
            max(1, attributes.multiprocessorCount),
        )
    except NvmlError as failure:  # most slots are empty
        if failure.error_class in (ErrorClass.LIBRARY, ErrorClass.DEVICE, ErrorClass.PROCESS):
            raise


def _optional(driver: NvmlDriver, name: str, handle: Any) -> Any:
    """Call a function; return None if the GPU does not support it or has no value."""
    try:
        return driver.call(name, handle)
    except NvmlError as failure:
        if failure.error_class in (ErrorClass.CAPABILITY, ErrorClass.EMPTY, ErrorClass.TRANSIENT):
            return None
        raise


NVIDIA_VENDOR_ID = "0x10de"
DISPLAY_CLASS = "0x03"
"""Prefix of the PCI class of display and compute devices."""
SUSPENDED = "suspended"
NVIDIA_DRIVER = "nvidia"
PASSTHROUGH_DRIVERS = ("pci-stub", "xen-pciback", "pciback")
"""Drivers, in addition to those of VFIO, that reserve a device for a virtual machine."""
VFIO_DRIVER = "vfio"
"""Substring of the names of VFIO drivers, such as vfio-pci and nvgrace-gpu-vfio-pci."""


class PciGpu(NamedTuple):
    """A GPU on the PCI bus. `driver` is "" if it has none or it is not visible."""

    address: str
    driver: str
    is_asleep: bool

    @property
    def is_passed_through(self) -> bool:
        """Whether it is passed through to a virtual machine, so that the host cannot read it."""
        return VFIO_DRIVER in self.driver or self.driver in PASSTHROUGH_DRIVERS

    @property
    def is_foreign(self) -> bool:
        """Whether it is bound to a driver other than that of NVIDIA."""
        return self.driver not in ("", NVIDIA_DRIVER)


def is_suspended(sysfs: str, pci_bus_id: str) -> bool:
    """Whether a GPU is suspended by runtime power management."""
    return read_text(_path(sysfs, pci_address(pci_bus_id)), "power/runtime_status") == SUSPENDED


def pci_address(pci_bus_id: str) -> str:
    """Convert a PCI bus id of NVML to the kernel's form: a domain of four digits, lower case.

    >>> pci_address("00000000:3B:00.0")
    '0000:3b:00.0'
    """
    return pci_bus_id.lower()[-len("0000:00:00.0") :]


def pci_gpus(sysfs: str) -> list[PciGpu]:
    """Return all NVIDIA GPUs, sorted by address, without virtual functions."""
    return sorted(_pci_gpus(sysfs))


def _pci_gpus(sysfs: str) -> Iterator[PciGpu]:
    try:
        addresses = os.listdir(_path(sysfs, ""))
    except OSError:
        return
    for address in addresses:
        path = _path(sysfs, address)
        if (
            read_text(path, "vendor") == NVIDIA_VENDOR_ID
            and read_text(path, "class").startswith(DISPLAY_CLASS)
            and not os.path.lexists(os.path.join(path, "physfn"))
        ):
            yield PciGpu(address, _driver(path), is_suspended(sysfs, address))


def _driver(path: str) -> str:
    try:
        return os.path.basename(os.readlink(os.path.join(path, "driver")))
    except OSError:
        return ""


def _path(sysfs: str, address: str) -> str:
    return os.path.join(sysfs, "bus", "pci", "devices", address)
