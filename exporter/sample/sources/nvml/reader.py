"""Reads one NVIDIA GPU: energy, power and processes."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from exporter.clock import Clock
from exporter.model.readings import DeviceInfo, DriverCallStats, GpuActivity
from exporter.sample.counter_arithmetic import is_plausible_uj, is_plausible_watts
from exporter.sample.sources.gpu.driver import ErrorClass, GpuValues, total_call_stats
from exporter.sample.sources.nvml.calls import SUCCESS, Capabilities, NvmlCalls, NvmlError
from exporter.sample.sources.nvml.processes import GpuProcessReader, MigLayout
from exporter.units import MICROJOULES_PER_JOULE

MILLI = 1000
MICROJOULES_PER_MILLIJOULE = MICROJOULES_PER_JOULE // MILLI
ENERGY, AVERAGE, INSTANT = 83, 185, 186
"""NVML fields: energy since the driver was loaded in mJ; power averaged over 1 s, and
instantaneous, in mW."""
CARD, MODULE = 0, 1
"""Scopes of the power fields: the GPU, or the superchip module that it is part of."""
ENERGY_CALL, POWER_CALL = "nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetPowerUsage"
SUPERCHIPS = ("GH200", "GB200", "GB300")
"""Superchips, whose energy counter covers the processor on the same module too."""


def is_superchip(model: str) -> bool:
    """Whether the energy counter of a GPU covers the processor on the same module."""
    return any(name in model for name in SUPERCHIPS)


class NvmlHandle(NamedTuple):
    """The handle of a GPU in NVML, with its MIG layout."""

    device: Any
    mig: MigLayout


class NvmlReader:
    """Reads one GPU; see GpuReader."""

    def __init__(self, nvml: Any, clock: Clock, info: DeviceInfo) -> None:
        self._energy_calls, self._process_calls = NvmlCalls(nvml), NvmlCalls(nvml)
        self._energy = EnergyReader(self._energy_calls, clock, is_module=is_superchip(info.model))
        self._processes = GpuProcessReader(self._process_calls, clock, info.device)

    def read_energy(self, handle: NvmlHandle, cap_watts: float) -> GpuValues:
        """Read counter and power."""
        return self._energy.read(handle.device, cap_watts)

    def read_users(self, handle: NvmlHandle) -> GpuActivity:
        """Read processes and MIG instances."""
        return self._processes.read(*handle)

    def forget(self) -> None:
        """Retry functions and fields that the GPU has refused."""
        self._energy.forget()
        self._processes.forget()

    def release(self) -> None:
        """Free the samples of the driver."""
        self._processes.release_samples()

    def call_stats(self) -> Mapping[str, DriverCallStats]:
        """Return the calls of both threads."""
        return total_call_stats((self._energy_calls.call_stats(), self._process_calls.call_stats()))


class EnergyReader:
    """Reads energy and power of one GPU, all fields in one call, else with a call for each value.

    A field that a GPU does not support may be returned with success and the value 0, so 0 is not
    accepted, nor is an implausible value.
    """

    def __init__(self, calls: NvmlCalls, clock: Clock, *, is_module: bool) -> None:
        """Create a reader.

        `is_module`: the energy counter covers the whole module, so power is read for the module.
        """
        scopes = (MODULE, CARD) if is_module else (CARD,)
        self._powers = tuple((field, scope) for scope in scopes for field in (AVERAGE, INSTANT))
        self._calls = calls
        self._clock = clock
        self._can = Capabilities()
        self._failure: NvmlError | None = None
        """The first error of the current reading other than a missing capability."""

    def forget(self) -> None:
        """Retry functions and fields that the GPU has refused."""
        self._can.forget()

    def read(self, handle: Any, cap_watts: float) -> GpuValues:
        """Read counter and power; a power above `cap_watts` is returned only if it is the last.

        Raises NvmlError for an error of the GPU, the driver or the process.
        """
        now_ns = self._clock.boottime_ns()
        self._failure = None
        fields = self._fields(handle, now_ns)
        energy_mj = _plausible_mj(fields.get((ENERGY, CARD))) or _plausible_mj(
            self._single(ENERGY_CALL, handle, now_ns)
        )
        power_watts = None
        for mw in self._powers_mw(fields, handle, now_ns):
            power_watts = mw / MILLI
            if is_plausible_watts(power_watts, cap_watts):
                break
        return GpuValues(
            None if energy_mj is None else energy_mj * MICROJOULES_PER_MILLIJOULE,
            power_watts,
            failure=self._failure,
        )

    def _powers_mw(
        self, fields: Mapping[tuple[int, int], int], handle: Any, now_ns: int
    ) -> Iterator[int]:
        """Yield the reported powers, the best first; the last one requires a call of its own."""
        yield from (fields[power] for power in self._powers if power in fields)
        single = self._single(POWER_CALL, handle, now_ns)
        if single is not None:
            yield single

    def _fields(self, handle: Any, now_ns: int) -> dict[tuple[int, int], int]:
        """Return values above 0 by field and scope."""
        fields = ((ENERGY, CARD), *self._powers)
        wanted = [field for field in fields if self._can.has(field, now_ns)]
        name = "nvmlDeviceGetFieldValues"
        if not wanted or not self._can.has(name, now_ns):
            return {}
        try:
            answers = self._calls.call(name, handle, wanted)
        except NvmlError as failure:
            self._failed(failure, name, now_ns)
            return {}
        self._can.works(name)
        values = {}
        for field, answer in zip(wanted, answers, strict=True):
            value = _value(answer) if answer.nvmlReturn == SUCCESS else 0
            if value:
                values[field] = value
                self._can.works(field)
            else:
                self._failed(NvmlError(name, answer.nvmlReturn), field, now_ns)
        return values

    def _single(self, name: str, handle: Any, now_ns: int) -> int | None:
        if not self._can.has(name, now_ns):
            return None
        try:
            value = int(self._calls.call(name, handle))
        except NvmlError as failure:
            self._failed(failure, name, now_ns)
            return None
        self._can.works(name)
        return value or None

    def _failed(self, failure: NvmlError, what: object, now_ns: int) -> None:
        """Record a failure of `what`. Raises it if it affects the whole GPU or the driver."""
        if failure.is_refusal or failure.code == SUCCESS:
            self._can.refused(what, now_ns)
        elif failure.error_class in (ErrorClass.DEVICE, ErrorClass.LIBRARY, ErrorClass.PROCESS):
            raise failure
        else:
            self._failure = self._failure or failure


def _plausible_mj(energy_mj: int | None) -> int | None:
    if energy_mj is None or not is_plausible_uj(energy_mj * MICROJOULES_PER_MILLIJOULE):
        return None
    return energy_mj


def _value(answer: Any) -> int:
    """Return the number in the union of a field, by the type that the driver reports."""
    kinds = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal")
    if not 0 <= answer.valueType < len(kinds):
        return 0
    value = getattr(answer.value, kinds[answer.valueType])
    return max(0, int(value)) if math.isfinite(value) else 0
