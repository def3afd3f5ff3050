"""GPUs of NVIDIA, by NVML: driver, list of GPUs and their MIG layout."""

import ctypes
from collections.abc import Iterator, Mapping
from typing import Any

from exporter.clock import Clock
from exporter.errors import Unavailable
from exporter.model.readings import Device, DeviceInfo, DeviceKind, DriverCallStats, Method
from exporter.sample.sources.gpu.driver import (
    ErrorClass,
    GpuError,
    GpuListing,
    ListedGpu,
    PartitionLayout,
)
from exporter.sample.sources.gpu.identity import (
    UNKNOWN_MODEL,
    WHOLE_MODULE_SUFFIX,
    plausible_limit_watts,
    power_cap_watts,
)
from exporter.sample.sources.gpu.pci import PciMatch, pci_gpus
from exporter.sample.sources.nvml.calls import (
    LIBRARY,
    MAX_REFUSALS,
    UNUSABLE,
    NvmlCalls,
    NvmlError,
    decode_text,
    nvml_errors,
)
from exporter.sample.sources.nvml.processes import MigInstance, MigLayout
from exporter.sample.sources.nvml.reader import MILLI, NvmlHandle, NvmlReader, is_superchip

NVIDIA_GPUS = PciMatch("0x10de", ("0x03",), ("nvidia",))
MAX_GPUS = 256
MAX_MIG_DEVICES = 64
"""Upper bounds of GPUs per machine and MIG instances per GPU, in case the driver miscounts."""
VOLTA = 5
"""Architecture number of the first GPUs with an energy counter."""
MIG_ENABLED = 1


class NvmlDriver:
    """NVML; see GpuDriver. Raises Unavailable if there is neither a GPU nor the library."""

    name = "nvml"
    vendor = "NVIDIA"
    pci = NVIDIA_GPUS
    wakes_gpus = True
    users_period_seconds = 5.0
    """The list of processes may hold the lock of the driver for milliseconds."""

    def __init__(self, sysfs: str, clock: Clock) -> None:
        if not has_gpu_or_library(sysfs):
            raise Unavailable("no NVIDIA GPU found")
        import pynvml  # 20 ms that only machines with GPUs need

        self._nvml = pynvml
        self._clock = clock
        self._calls = NvmlCalls(pynvml)

    def open(self) -> None:
        """Initialize NVML. Raises NvmlError."""
        self._calls.call("nvmlInit")

    def list_gpus(self) -> GpuListing:
        """Return all GPUs that respond, and the errors of those that do not.

        Raises NvmlError if no GPU responds and an error concerns the driver itself.
        """
        listed, failures = list[ListedGpu](), list[GpuError]()
        for index in range(min(self._calls.call("nvmlDeviceGetCount"), MAX_GPUS)):
            try:
                with nvml_errors("description"):
                    handle = self._calls.call("nvmlDeviceGetHandleByIndex", index)
                    listed.append(_listed(self._calls, handle, index))
            except NvmlError as failure:
                failures.append(failure.of(f"GPU {index}"))
        fatal = [
            each
            for each in failures
            if each.error_class in (ErrorClass.LIBRARY, ErrorClass.PROCESS)
        ]
        if fatal and not listed:
            raise fatal[0]
        return GpuListing(listed, failures)

    def reader(self, info: DeviceInfo) -> NvmlReader:
        """Return the reader of a GPU."""
        return NvmlReader(self._nvml, self._clock, info)

    def close(self) -> None:
        """Shut NVML down. Raises NvmlError."""
        self._calls.call("nvmlShutdown")

    def call_stats(self) -> Mapping[str, DriverCallStats]:
        """Return its own calls."""
        return self._calls.call_stats()


def has_gpu_or_library(sysfs: str) -> bool:
    """Whether there is an NVIDIA GPU on the bus, or the NVML library."""
    return _can_load() or bool(pci_gpus(sysfs, NVIDIA_GPUS))


def _can_load() -> bool:
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return False
    return True


def _listed(calls: NvmlCalls, handle: Any, index: int) -> ListedGpu:
    uuid = decode_text(calls.call("nvmlDeviceGetUUID", handle))
    if not uuid:
        raise NvmlError("nvmlDeviceGetUUID", UNUSABLE, "the UUID is empty")
    name = _optional(calls, "nvmlDeviceGetName", handle)
    model = decode_text(name) if name else UNKNOWN_MODEL
    is_module = is_superchip(model)
    limit_mw = _optional(calls, "nvmlDeviceGetEnforcedPowerLimit", handle)
    limit_watts = plausible_limit_watts(limit_mw / MILLI if limit_mw is not None else None)
    bus = _optional(calls, "nvmlDeviceGetPciInfo", handle)
    has_counter = _has_counter(calls, handle)
    minor = _optional(calls, "nvmlDeviceGetMinorNumber", handle)
    files = (f"nvidia{minor}",) if minor is not None else ()
    info = DeviceInfo(
        device=Device(DeviceKind.GPU, uuid),
        model=model + WHOLE_MODULE_SUFFIX * is_module,
        vendor=NvmlDriver.vendor,
        source=NvmlDriver.name,
        power_cap_watts=power_cap_watts(limit_watts),
        method=Method.COUNTER if has_counter else Method.INTEGRATED,
        power_limit_watts=limit_watts,
        ordinal=str(index),
        pci_bus_id=decode_text(bus.busId) if bus is not None else "",
        aliases=files,
    )
    mig = _mig_layout(calls, handle, uuid, files)
    partitions = tuple(instance.partition() for instance in mig.instances)
    layout = PartitionLayout(mig.slices, partitions)
    return ListedGpu(NvmlHandle(handle, mig), info, layout, is_module)


def _has_counter(calls: NvmlCalls, handle: Any) -> bool:
    """Whether a GPU has an energy counter; those before Volta and most virtual GPUs have none."""
    architecture = _optional(calls, "nvmlDeviceGetArchitecture", handle)
    if architecture is not None and architecture < VOLTA:
        return False
    for _ in range(MAX_REFUSALS):
        try:
            calls.call("nvmlDeviceGetTotalEnergyConsumption", handle)
        except NvmlError as failure:
            if failure.is_refusal:
                continue
        return True
    return False


def _mig_layout(calls: NvmlCalls, handle: Any, gpu: str, files: tuple[str, ...]) -> MigLayout:
    """Return the MIG layout of `gpu`, a UUID, with the device files `files`."""
    mode = _optional(calls, "nvmlDeviceGetMigMode", handle)
    if mode is None or mode[0] != MIG_ENABLED:
        return MigLayout()
    most = _optional(calls, "nvmlDeviceGetMaxMigDeviceCount", handle) or 0
    most = most if most <= MAX_MIG_DEVICES else 0
    slots = range(most)
    found = [instance for index in slots for instance in _instance(calls, handle, index, most)]
    multiprocessors: dict[int, int] = {}
    for gi, _, _, _, own in found:
        multiprocessors[gi] = multiprocessors.get(gi, 0) + own
    instances = tuple(
        MigInstance(
            *(uuid, gi, ci, slices * own / multiprocessors[gi]),
            # The first is part of the ids of drivers before R470; GKE's plugin uses the other.
            (f"{gpu}/{gi}/{ci}", *(f"{file}/gi{gi}" for file in files)),
        )
        for gi, ci, uuid, slices, own in found
    )
    return MigLayout(max(most, 1), instances)


def _instance(
    calls: NvmlCalls, handle: Any, index: int, most: int
) -> Iterator[tuple[int, int, str, int, int]]:
    """Yield the MIG device in a slot: GPU and compute instance id, UUID, slices, multiprocessors.

    The number of slices is limited to the range from 1 to `most`.
    """
    try:
        mig = calls.call("nvmlDeviceGetMigDeviceHandleByIndex", handle, index)
        attributes = calls.call("nvmlDeviceGetAttributes", mig)
        yield (
            calls.call("nvmlDeviceGetGpuInstanceId", mig),
            calls.call("nvmlDeviceGetComputeInstanceId", mig),
            decode_text(calls.call("nvmlDeviceGetUUID", mig)),
            max(1, min(attributes.gpuInstanceSliceCount, most)),
            max(1, attributes.multiprocessorCount),
        )
    except NvmlError as failure:  # most slots are empty
        if failure.error_class in (ErrorClass.LIBRARY, ErrorClass.DEVICE, ErrorClass.PROCESS):
            raise


def _optional(calls: NvmlCalls, name: str, handle: Any) -> Any:
    """Call a function; return None if the GPU does not support it or has no value."""
    try:
        return calls.call(name, handle)
    except NvmlError as failure:
        if failure.is_refusal or failure.error_class in (ErrorClass.EMPTY, ErrorClass.TRANSIENT):
            return None
        raise
