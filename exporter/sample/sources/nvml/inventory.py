"""What cards there are and how they are divided: asked of the driver by index, known by UUID."""

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
"""Between these is the power limit of any card or module; another one is none."""
UNKNOWN_MODEL = "unknown GPU"
MAX_GPUS = 256
MAX_MIG_DEVICES = 64
"""More than any machine has cards, and any card has MIG instances; for a driver that miscounts."""
VOLTA = 5
"""Architecture of the first cards with an energy counter."""
SUPERCHIPS = ("GH200", "GB200", "GB300")
"""Superchips, whose counter covers the processor on the same module too."""
SUPERCHIP_SUFFIX = " (whole module: GPU and CPU)"
MIG_ENABLED = 1


class ListedGpu(NamedTuple):
    """A card and the driver's handle of it now."""

    handle: Any
    info: DeviceInfo
    layout: MigLayout


def list_gpus(driver: NvmlDriver) -> tuple[list[ListedGpu], list[NvmlError]]:
    """All cards that answer, and the failures of those that do not.

    Raises Failure where no card answers and one reports that the driver itself is at fault.
    """
    found, failures = [], []
    for index in range(min(driver.call("nvmlDeviceGetCount"), MAX_GPUS)):
        try:
            with nvml_errors("its description"):
                handle = driver.call("nvmlDeviceGetHandleByIndex", index)
                found.append(
                    ListedGpu(handle, _info(driver, handle, index), _layout(driver, handle))
                )
        except NvmlError as failure:
            failures.append(failure.of(f"GPU {index}"))
    fatal = [
        each for each in failures if each.error_class in (ErrorClass.LIBRARY, ErrorClass.PROCESS)
    ]
    if fatal and not found:
        raise fatal[0]
    return found, failures


def with_unique_ids(found: Iterable[ListedGpu], known: Iterable[DeviceInfo]) -> list[ListedGpu]:
    """The cards, each with an id of its own where several report one UUID.

    The first of those keeps the UUID, the others have their PCI addresses added to it, and each
    keeps the id under which it is `known`. Cards without even an address of their own are one, as
    is a card that is listed twice.
    """
    by_place = {(each.info.device, each.info.pci_bus_id): each for each in found}
    places = {(info.device, info.pci_bus_id) for info in known}

    def is_new(each: ListedGpu) -> bool:
        return (each.info.device, each.info.pci_bus_id) not in places

    apart: dict[Device, ListedGpu] = {}
    for each in sorted(by_place.values(), key=is_new):
        other = _with_address(each)
        chosen = other if each.info.device in apart or not is_new(other) else each
        apart.setdefault(chosen.info.device, chosen)
    return list(apart.values())


def _with_address(found: ListedGpu) -> ListedGpu:
    device = found.info.device
    if not found.info.pci_bus_id:
        return found
    apart = device._replace(id=f"{device.id}@{found.info.pci_bus_id}")
    return found._replace(info=found.info._replace(device=apart))


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
    """What was read of a card now, and what is `known` for what could not be read this time."""
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
    """Whether a card's counter covers the processor beside it."""
    return any(name in model for name in SUPERCHIPS)


def _has_counter(driver: NvmlDriver, handle: Any) -> bool:
    """Cards before Volta have none, nor do most virtual ones."""
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
    """The MIG device in a slot: GPU instance, compute instance, UUID, slices, multiprocessors.

    It has one slice at least, and `most` at most, whatever the driver reports.
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
    except NvmlError as failure:  # most slots are free
        if failure.error_class in (ErrorClass.LIBRARY, ErrorClass.DEVICE, ErrorClass.PROCESS):
            raise


def _optional(driver: NvmlDriver, name: str, handle: Any) -> Any:
    """The result of a function; None where the card has none."""
    try:
        return driver.call(name, handle)
    except NvmlError as failure:
        if failure.error_class in (ErrorClass.CAPABILITY, ErrorClass.EMPTY, ErrorClass.TRANSIENT):
            return None
        raise


NVIDIA_VENDOR_ID = "0x10de"
DISPLAY_CLASS = "0x03"
"""What the class of every display and compute device begins with."""
SUSPENDED = "suspended"
NVIDIA_DRIVER = "nvidia"
PASSTHROUGH_DRIVERS = ("pci-stub", "xen-pciback", "pciback")
"""Drivers besides those of VFIO that only keep a device for a virtual machine."""
VFIO_DRIVER = "vfio"
"""In the name of each of VFIO's own: vfio-pci, nvgrace-gpu-vfio-pci and so on."""


class PciGpu(NamedTuple):
    """A card as the kernel sees it. `driver` is "" where it has none, or that is not shown."""

    address: str
    driver: str
    is_asleep: bool

    @property
    def is_passed_through(self) -> bool:
        """Whether it is kept for a virtual machine, so that nothing here can read it."""
        return VFIO_DRIVER in self.driver or self.driver in PASSTHROUGH_DRIVERS

    @property
    def is_foreign(self) -> bool:
        """Whether a driver has it that NVML does not speak to."""
        return self.driver not in ("", NVIDIA_DRIVER)


def is_suspended(sysfs: str, pci_bus_id: str) -> bool:
    """Whether a card is asleep to save power."""
    return read_text(_path(sysfs, pci_address(pci_bus_id)), "power/runtime_status") == SUSPENDED


def pci_address(pci_bus_id: str) -> str:
    """The kernel's name of a place on the bus: NVML names domains with eight digits, it with four.

    >>> address_of("00000000:3B:00.0")
    '0000:3b:00.0'
    """
    return pci_bus_id.lower()[-len("0000:00:00.0") :]


def pci_gpus(sysfs: str) -> list[PciGpu]:
    """All NVIDIA cards, by address. Virtual functions are parts of cards and left out."""
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
