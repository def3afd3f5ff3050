"""What cards there are and how they are divided: asked of the driver by index, known by UUID."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from exporter.model.readings import Device, DeviceInfo, Kind, Method
from exporter.sample.sources.nvml.capabilities import REFUSALS
from exporter.sample.sources.nvml.codes import Reaction
from exporter.sample.sources.nvml.driver import Driver, Failure
from exporter.sample.sources.nvml.tenants import Instance, Layout

NAME = "nvml"
MILLI = 1000
FALLBACK_CAP_WATTS = 1500.0
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
    """All cards that answer, and what those that do not have said. Raises Failure."""
    found, failures = [], []
    for index in range(driver.call("nvmlDeviceGetCount")):
        try:
            handle = driver.call("nvmlDeviceGetHandleByIndex", index)
            found.append(Found(handle, _info(driver, handle, index), _layout(driver, handle)))
        except Failure as failure:
            if failure.reaction in (Reaction.LIBRARY, Reaction.PROCESS):
                raise
            failures.append(failure)
    return found, failures


def _info(driver: Driver, handle: Any, index: int) -> DeviceInfo:
    model = str(driver.call("nvmlDeviceGetName", handle))
    limit_mw = _optional(driver, "nvmlDeviceGetEnforcedPowerLimit", handle)
    limit_watts = limit_mw / MILLI if limit_mw else None
    bus = _optional(driver, "nvmlDeviceGetPciInfo", handle)
    return DeviceInfo(
        device=Device(Kind.GPU, str(driver.call("nvmlDeviceGetUUID", handle))),
        model=model + MODULE_REMARK * is_module(model),
        vendor="NVIDIA",
        source=NAME,
        power_cap_watts=2 * limit_watts if limit_watts else FALLBACK_CAP_WATTS,
        method=Method.COUNTER if _has_counter(driver, handle) else Method.INTEGRATED,
        power_limit_watts=limit_watts,
        ordinal=str(index),
        pci_bus_id=_text(bus.busId) if bus is not None else "",
        minor=_optional(driver, "nvmlDeviceGetMinorNumber", handle),
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
    most = int(_optional(driver, "nvmlDeviceGetMaxMigDeviceCount", handle) or 0)
    found = [instance for index in range(most) for instance in _instance(driver, handle, index)]
    multiprocessors: dict[int, int] = {}
    for gi, _, _, _, own in found:
        multiprocessors[gi] = multiprocessors.get(gi, 0) + own
    instances = tuple(
        Instance(uuid, gi, ci, slices * own / max(1, multiprocessors[gi]))
        for gi, ci, uuid, slices, own in found
    )
    return Layout(max(most, 1), instances)


def _instance(driver: Driver, handle: Any, index: int) -> Iterator[tuple[int, int, str, int, int]]:
    """The MIG device in a slot: GPU instance, compute instance, UUID, slices, multiprocessors."""
    try:
        mig = driver.call("nvmlDeviceGetMigDeviceHandleByIndex", handle, index)
        attributes = driver.call("nvmlDeviceGetAttributes", mig)
        yield (
            driver.call("nvmlDeviceGetGpuInstanceId", mig),
            driver.call("nvmlDeviceGetComputeInstanceId", mig),
            str(driver.call("nvmlDeviceGetUUID", mig)),
            attributes.gpuInstanceSliceCount,
            attributes.multiprocessorCount,
        )
    except Failure as failure:  # most slots are free
        if failure.reaction in (Reaction.LIBRARY, Reaction.DEVICE, Reaction.PROCESS):
            raise


def _optional(driver: Driver, name: str, handle: Any) -> Any:
    """What a function says; None where the card does not."""
    try:
        return driver.call(name, handle)
    except Failure as failure:
        if failure.reaction in (Reaction.CAPABILITY, Reaction.EMPTY, Reaction.TRANSIENT):
            return None
        raise


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
