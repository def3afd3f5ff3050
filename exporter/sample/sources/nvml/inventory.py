"""What cards there are and how they are divided: asked of the driver by index, known by UUID."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from exporter.model.readings import Device, DeviceInfo, Kind, Method
from exporter.sample.sources.nvml.capabilities import REFUSALS
from exporter.sample.sources.nvml.codes import UNUSABLE, Reaction
from exporter.sample.sources.nvml.driver import Driver, Failure, readable, usable
from exporter.sample.sources.nvml.tenants import Instance, Layout

NAME = "nvml"
MILLI = 1000
FALLBACK_CAP_WATTS = 1500.0
LIMITS_WATTS = (10.0, 10_000.0)
"""Between these is the power limit of any card or module; another one is none."""
UNKNOWN_MODEL = "unknown GPU"
CARDS_AT_MOST = 256
INSTANCES_AT_MOST = 64
"""More than any machine has cards, and any card has MIG instances; for a driver that miscounts."""
VOLTA = 5
"""Architecture of the first cards with an energy counter."""
MODULES = ("GH200", "GB200", "GB300")
"""Superchips, whose counter covers the processor on the same module too."""
MODULE_REMARK = " (whole module: GPU and CPU)"
MIG_ENABLED = 1


class Found(NamedTuple):
    """A card and the driver's handle of it now."""

    handle: Any
    info: DeviceInfo
    layout: Layout


def inventory(driver: Driver) -> tuple[list[Found], list[Failure]]:
    """All cards that answer, and the failures of those that do not.

    Raises Failure where no card answers and one reports that the driver itself is at fault.
    """
    found, failures = [], []
    for index in range(min(driver.call("nvmlDeviceGetCount"), CARDS_AT_MOST)):
        try:
            with usable("its description"):
                handle = driver.call("nvmlDeviceGetHandleByIndex", index)
                found.append(Found(handle, _info(driver, handle, index), _layout(driver, handle)))
        except Failure as failure:
            failures.append(failure.of(f"GPU {index}"))
    fatal = [each for each in failures if each.reaction in (Reaction.LIBRARY, Reaction.PROCESS)]
    if fatal and not found:
        raise fatal[0]
    return found, failures


def with_unique_ids(found: Iterable[Found], known: Iterable[DeviceInfo]) -> list[Found]:
    """The cards, each with an id of its own where several report one UUID.

    The first of those keeps the UUID, the others have their PCI addresses added to it, and each
    keeps the id under which it is `known`. Cards without even an address of their own are one, as
    is a card that is listed twice.
    """
    by_place = {(each.info.device, each.info.pci_bus_id): each for each in found}
    places = {(info.device, info.pci_bus_id) for info in known}

    def is_new(each: Found) -> bool:
        return (each.info.device, each.info.pci_bus_id) not in places

    apart: dict[Device, Found] = {}
    for each in sorted(by_place.values(), key=is_new):
        other = _with_address(each)
        chosen = other if each.info.device in apart or not is_new(other) else each
        apart.setdefault(chosen.info.device, chosen)
    return list(apart.values())


def _with_address(found: Found) -> Found:
    device = found.info.device
    if not found.info.pci_bus_id:
        return found
    apart = device._replace(id=f"{device.id}@{found.info.pci_bus_id}")
    return found._replace(info=found.info._replace(device=apart))


def _info(driver: Driver, handle: Any, index: int) -> DeviceInfo:
    uuid = readable(driver.call("nvmlDeviceGetUUID", handle))
    if not uuid:
        raise Failure("nvmlDeviceGetUUID", UNUSABLE, "the UUID is empty")
    name = _optional(driver, "nvmlDeviceGetName", handle)
    model = readable(name) if name else UNKNOWN_MODEL
    limit_mw = _optional(driver, "nvmlDeviceGetEnforcedPowerLimit", handle)
    limit_watts = _limit_watts(limit_mw)
    bus = _optional(driver, "nvmlDeviceGetPciInfo", handle)
    return DeviceInfo(
        device=Device(Kind.GPU, uuid),
        model=model + MODULE_REMARK * is_module(model),
        vendor="NVIDIA",
        source=NAME,
        power_cap_watts=2 * limit_watts if limit_watts else FALLBACK_CAP_WATTS,
        method=Method.COUNTER if _has_counter(driver, handle) else Method.INTEGRATED,
        power_limit_watts=limit_watts,
        ordinal=str(index),
        pci_bus_id=readable(bus.busId) if bus is not None else "",
        minor=_optional(driver, "nvmlDeviceGetMinorNumber", handle),
    )


def _limit_watts(limit_mw: int | None) -> float | None:
    least, most = LIMITS_WATTS
    return limit_mw / MILLI if limit_mw and least <= limit_mw / MILLI <= most else None


def with_known(info: DeviceInfo, known: DeviceInfo) -> DeviceInfo:
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


def is_module(model: str) -> bool:
    """Whether a card's counter covers the processor beside it."""
    return any(name in model for name in MODULES)


def _has_counter(driver: Driver, handle: Any) -> bool:
    """Cards before Volta have none, nor do most virtual ones."""
    architecture = _optional(driver, "nvmlDeviceGetArchitecture", handle)
    if architecture is not None and architecture < VOLTA:
        return False
    for _ in range(REFUSALS):
        try:
            driver.call("nvmlDeviceGetTotalEnergyConsumption", handle)
        except Failure as failure:
            if failure.reaction is Reaction.CAPABILITY:
                continue
        return True
    return False


def _layout(driver: Driver, handle: Any) -> Layout:
    mode = _optional(driver, "nvmlDeviceGetMigMode", handle)
    if mode is None or mode[0] != MIG_ENABLED:
        return Layout()
    most = _optional(driver, "nvmlDeviceGetMaxMigDeviceCount", handle) or 0
    most = most if most <= INSTANCES_AT_MOST else 0
    slots = range(most)
    found = [instance for index in slots for instance in _instance(driver, handle, index, most)]
    multiprocessors: dict[int, int] = {}
    for gi, _, _, _, own in found:
        multiprocessors[gi] = multiprocessors.get(gi, 0) + own
    instances = tuple(
        Instance(uuid, gi, ci, slices * own / multiprocessors[gi])
        for gi, ci, uuid, slices, own in found
    )
    return Layout(max(most, 1), instances)


def _instance(
    driver: Driver, handle: Any, index: int, most: int
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
            readable(driver.call("nvmlDeviceGetUUID", mig)),
            max(1, min(attributes.gpuInstanceSliceCount, most)),
            max(1, attributes.multiprocessorCount),
        )
    except Failure as failure:  # most slots are free
        if failure.reaction in (Reaction.LIBRARY, Reaction.DEVICE, Reaction.PROCESS):
            raise


def _optional(driver: Driver, name: str, handle: Any) -> Any:
    """The result of a function; None where the card has none."""
    try:
        return driver.call(name, handle)
    except Failure as failure:
        if failure.reaction in (Reaction.CAPABILITY, Reaction.EMPTY, Reaction.TRANSIENT):
            return None
        raise
