"""One GPU: its two threads, their last results, and its availability."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from exporter.clock import Clock
from exporter.model.readings import Device, DeviceInfo, GpuActivity, Method, Partition, Reading
from exporter.sample.counter_arithmetic import (
    COUNTER_TIMEOUT_NS,
    is_plausible_uj,
    is_plausible_watts,
)
from exporter.sample.sources.nvml.driver import (
    SUCCESS,
    Capabilities,
    ErrorClass,
    NvmlDriver,
    NvmlError,
    nvml_errors,
)
from exporter.sample.sources.nvml.inventory import is_superchip, is_suspended, with_previous_info
from exporter.sample.sources.nvml.processes import GpuProcessReader, MigLayout
from exporter.units import MICROJOULES_PER_JOULE, NANOSECONDS_PER_SECOND
from exporter.worker import OnDemandWorker, seconds_until

MILLI = 1000
MICROJOULES_PER_MILLIJOULE = MICROJOULES_PER_JOULE // MILLI
ENERGY, AVERAGE, INSTANT = 83, 185, 186
"""NVML fields: energy since the driver was loaded in mJ; power averaged over 1 s, and
instantaneous, in mW."""
CARD, MODULE = 0, 1
"""Scopes of the power fields: the GPU, or the superchip module that it is part of."""
ENERGY_CALL, POWER_CALL = "nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetPowerUsage"


NO_VALUES = "the driver reports neither energy nor power of this GPU"
IMPLAUSIBLE_GPU_POWER = (
    "the driver reports no energy of this GPU, and an implausible power of {watts:,.0f} W"
)


class GpuValues(NamedTuple):
    """Energy and power of a GPU; None: not reported."""

    energy_mj: int | None
    power_mw: int | None
    implausible_mw: int | None = None
    """A reported power that is implausible."""


class GpuMeter:
    """Reads energy and power of one GPU, all fields in one call, else with a call for each value.

    A field that a GPU does not support may be returned with success and the value 0, so 0 is not
    accepted, nor is an implausible value. Errors are raised only if no value could be read.
    """

    def __init__(
        self,
        driver: NvmlDriver,
        clock: Clock,
        device: Device,
        epoch: str,
        *,
        is_module: bool = False,
    ) -> None:
        """Create a meter.

        `is_module`: the energy counter covers the whole module, so power is read for the module.
        """
        scopes = (MODULE, CARD) if is_module else (CARD,)
        self._powers = tuple((field, scope) for scope in scopes for field in (AVERAGE, INSTANT))
        self.driver = driver
        self._clock = clock
        self._device = device
        self._epoch = epoch
        self._can = Capabilities()
        self._failure: NvmlError | None = None
        """The first error of the current reading other than a missing capability."""
        self.lacks_counter = False
        """Whether the GPU has reported power but no counter for COUNTER_TIMEOUT_NS, without error.
        """
        self._has_counted = False
        self._uncounted_ns: int | None = None
        """Start of that time."""

    def forget(self) -> None:
        """Retry functions and fields that the GPU has refused."""
        self._can.forget()

    def read(self, handle: Any, cap_watts: float) -> Reading:
        """Read counter and power; power above `cap_watts` is ignored.

        Raises NvmlError if neither could be read because of an error.
        """
        energy_mj, power_mw, implausible_mw = self._values(handle, cap_watts)
        why = ""
        if energy_mj is None and power_mw is None:
            why = (
                IMPLAUSIBLE_GPU_POWER.format(watts=implausible_mw / MILLI)
                if implausible_mw
                else NO_VALUES
            )
        return Reading(
            self._device,
            self._clock.boottime_ns(),
            self._epoch,
            counter_uj=None if energy_mj is None else energy_mj * MICROJOULES_PER_MILLIJOULE,
            power_watts=None if power_mw is None else power_mw / MILLI,
            why=why,
            awake_ns=self._clock.monotonic_ns(),
        )

    def _values(self, handle: Any, cap_watts: float) -> GpuValues:
        now_ns = self._clock.boottime_ns()
        self._failure = None
        fields = self._fields(handle, now_ns)
        energy_mj = _plausible_mj(fields.get((ENERGY, CARD))) or _plausible_mj(
            self._single(ENERGY_CALL, handle, now_ns)
        )
        power_mw = implausible_mw = None
        for mw in self._powers_mw(fields, handle, now_ns):
            if is_plausible_watts(mw / MILLI, cap_watts):
                power_mw = mw
                break
            implausible_mw = mw
        if self._failure is not None and energy_mj is None and power_mw is None:
            raise self._failure
        self._note_counter(energy_mj, power_mw, now_ns)
        return GpuValues(energy_mj, power_mw, implausible_mw)

    def _powers_mw(
        self, fields: Mapping[tuple[int, int], int], handle: Any, now_ns: int
    ) -> Iterator[int]:
        """Yield the reported powers, the best first; the last one requires a call of its own."""
        yield from (fields[power] for power in self._powers if power in fields)
        single = self._single(POWER_CALL, handle, now_ns)
        if single is not None:
            yield single

    def _note_counter(self, energy_mj: int | None, power_mw: int | None, now_ns: int) -> None:
        self._has_counted = self._has_counted or energy_mj is not None
        if self._has_counted or power_mw is None or self._failure is not None:
            self._uncounted_ns = None
        elif self._uncounted_ns is None:
            self._uncounted_ns = now_ns
        since_ns = self._uncounted_ns
        self.lacks_counter = since_ns is not None and now_ns - since_ns >= COUNTER_TIMEOUT_NS

    def _fields(self, handle: Any, now_ns: int) -> dict[tuple[int, int], int]:
        """Return values above 0 by field and scope."""
        fields = ((ENERGY, CARD), *self._powers)
        wanted = [field for field in fields if self._can.has(field, now_ns)]
        name = "nvmlDeviceGetFieldValues"
        if not wanted or not self._can.has(name, now_ns):
            return {}
        try:
            answers = self.driver.call(name, handle, wanted)
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
            value = int(self.driver.call(name, handle))
        except NvmlError as failure:
            self._failed(failure, name, now_ns)
            return None
        self._can.works(name)
        return value or None

    def _failed(self, failure: NvmlError, what: object, now_ns: int) -> None:
        """Record a failure of `what`. Raises it if it affects the whole GPU or the driver."""
        if failure.error_class is ErrorClass.CAPABILITY or failure.code == SUCCESS:
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


POWER_EPOCH = "{epoch}/power/{n}"
"""Epoch of readings whose power is integrated, after `n` suspends of the GPU.

It differs from that of the counter, because continuing with the counter would count integrated
energy twice. It changes with each suspend, because there is no power to integrate over it.
"""
PROCESS_POLL_NS = 5 * NANOSECONDS_PER_SECOND
"""Interval at which processes are polled, which may hold the lock of the driver for milliseconds.
"""
ASLEEP = "asleep to save power; it is not woken for reading"
PASSED_THROUGH = "passed through to a virtual machine, and cannot be read on this host"
BENIGN_ERRORS = (ASLEEP, PASSED_THROUGH)
"""Reasons for a missing reading that are not failures."""


class Gpu:
    """A GPU, identified by its UUID.

    `handle` is that of the driver; it is replaced when the driver is reinitialized, and None while
    the GPU is lost.
    """

    def __init__(
        self,
        info: DeviceInfo,
        nvml: Any,
        clock: Clock,
        epoch: str,
        sysfs: str,
        report_failure: Callable[["Gpu", NvmlError], None],
    ) -> None:
        self.info = info
        self.handle: Any = None
        self.layout = MigLayout()
        self.why = ""
        """Why it cannot be read; "": it can."""
        self.failure: NvmlError | None = None
        """The error of the last reading, or the error because of which the GPU was lost."""
        self._clock = clock
        self._epoch = epoch
        self._sysfs = sysfs
        self._report_failure = report_failure
        device = info.device
        self._meter = GpuMeter(
            NvmlDriver(nvml), clock, device, epoch, is_module=is_superchip(info.model)
        )
        self._process_reader = GpuProcessReader(NvmlDriver(nvml), clock, device)
        self._reading_worker: OnDemandWorker[Reading] = OnDemandWorker(
            f"gpu {device.id}", self._read
        )
        self._activity_worker: OnDemandWorker[GpuActivity] = OnDemandWorker(
            f"gpu {device.id} processes", self._read_activity
        )
        self._late: Reading | None = None
        """A reading that arrived after the tick that requested it."""
        self._has_slept = False
        """Whether the GPU was suspended since its last reading."""
        self._sleeps = 0
        self._polled_ns = 0
        self._last_activity: GpuActivity | None = None

    @property
    def drivers(self) -> tuple[NvmlDriver, NvmlDriver]:
        """The drivers of its two threads."""
        return self._meter.driver, self._process_reader.driver

    def start_reading(self) -> None:
        """Request a reading, and the processes at their own interval."""
        if self.handle is None:
            return
        # Fetched before the next request, else results of a slow driver would always be discarded.
        self._late = self._reading_worker.result(0.0)
        self._reading_worker.request()
        self._last_activity = self._activity_worker.result(0.0) or self._last_activity
        now_ns = self._clock.boottime_ns()
        if now_ns - self._polled_ns >= PROCESS_POLL_NS:
            self._polled_ns = now_ns
            self._activity_worker.request()

    def reading(self, until: float) -> tuple[DeviceInfo, Reading]:
        """Return the reading by time.monotonic() `until`, else the late one of the previous tick.

        The description is returned with it, because another thread may change the method in
        between, and a counter must not continue from integrated power.
        """
        late, self._late = self._late, None
        reading = (self._reading_worker.result(until) or late) if self.handle is not None else None
        info = self.info
        if reading is not None and info.method is Method.INTEGRATED:
            epoch = POWER_EPOCH.format(epoch=self._epoch, n=self._sleeps)
            return info, reading._replace(epoch=epoch)
        if reading is not None:
            return info, reading
        why = self.why
        if busy := self._reading_worker.busy_seconds:
            why = f"the driver has not answered for {busy:.1f} s"
        return info, self._no_reading(why or "not read yet")

    def activity(self) -> GpuActivity | None:
        """Return the last activity, once."""
        activity = self._activity_worker.result(0.0) or self._last_activity
        self._last_activity = None
        return activity

    def mark_lost(self, why: str, failure: NvmlError | None = None) -> None:
        """Mark the GPU as lost because of `why`, and of the error `failure` if there is one."""
        self.handle, self.why, self.failure = None, why, failure

    def mark_found(self, handle: Any, info: DeviceInfo, layout: MigLayout) -> None:
        """Mark the GPU as available, and update its handle, description and MIG layout."""
        if self.handle is None:
            self._meter.forget()
            self._process_reader.forget()
        if self._meter.lacks_counter:
            info = info._replace(method=Method.INTEGRATED)
        elif self.info.method is Method.COUNTER:  # the driver may refuse temporarily
            info = info._replace(method=Method.COUNTER)
        self.info, self.layout, self.why = with_previous_info(info, self.info), layout, ""
        self.handle = handle

    def release_samples(self) -> None:
        """Release the samples of the driver; requires that no call is running."""
        self._process_reader.release_samples()

    def is_busy(self) -> bool:
        """Whether a call into the driver is running."""
        return bool(self._reading_worker.busy_seconds or self._activity_worker.busy_seconds)

    def stop(self, until: float) -> bool:
        """End both threads by time.monotonic() `until`; return False if one hangs in the driver."""
        workers = (self._reading_worker, self._activity_worker)
        stopped = [worker.stop(seconds_until(until)) for worker in workers]
        return all(stopped)

    def _read(self) -> Reading:
        handle = self.handle
        if handle is None:
            return self._no_reading(self.why)
        if self._is_asleep():
            self._has_slept = True
            return self._no_reading(ASLEEP)
        if self._has_slept:
            self._has_slept, self._sleeps = False, self._sleeps + 1
        try:
            with nvml_errors("reading"):
                reading = self._meter.read(handle, self.info.power_cap_watts)
        except NvmlError as failure:
            self.failure = failure
            self._report_failure(self, failure)
            if failure.error_class is ErrorClass.DEVICE:
                self.mark_lost(str(failure), failure)
            return self._no_reading(str(failure))
        self.failure = None
        return reading

    def _read_activity(self) -> GpuActivity:
        device, now_ns = self.info.device, self._clock.boottime_ns()
        handle = self.handle
        layout = self.layout
        why = self.why or ASLEEP
        if handle is not None and not self._is_asleep():
            try:
                with nvml_errors("processes"):
                    return self._process_reader.read(handle, layout)
            except NvmlError as failure:
                self._report_failure(self, failure)
                why = str(failure)
        # The MIG layout is known even if the processes are not.
        partitions = tuple(
            Partition(each.uuid, each.slices, None, each.numbers) for each in layout.instances
        )
        return GpuActivity(device, now_ns, (), partitions, layout.slices, why=why)

    def _is_asleep(self) -> bool:
        return is_suspended(self._sysfs, self.info.pci_bus_id)

    def _no_reading(self, why: str) -> Reading:
        return Reading(self.info.device, self._clock.boottime_ns(), self._epoch, why=why)
