"""One GPU: its two threads, their last results, and its availability."""

from collections.abc import Callable
from typing import Any

from exporter.clock import Clock
from exporter.model.readings import DeviceInfo, GpuActivity, Method, Reading
from exporter.sample.counter_arithmetic import (
    COUNTER_TIMEOUT_NS,
    is_plausible_uj,
    is_plausible_watts,
)
from exporter.sample.sources.gpu.driver import (
    ErrorClass,
    GpuDriver,
    GpuError,
    GpuReader,
    ListedGpu,
    gpu_errors,
)
from exporter.sample.sources.gpu.identity import with_previous_info
from exporter.sample.sources.gpu.pci import is_suspended
from exporter.units import NANOSECONDS_PER_SECOND
from exporter.worker import OnDemandWorker, seconds_until

NO_VALUES = "the driver reports neither energy nor power of this GPU"
IMPLAUSIBLE_GPU_POWER = (
    "the driver reports no energy of this GPU, and an implausible power of {watts:,.0f} W"
)
OUTDATED_VALUES = "the values that the driver reports of this GPU are {age_seconds:.0f} s old"
MAX_AGE_NS = 10 * NANOSECONDS_PER_SECOND
"""Age of values above which they are not used, if the driver reports their time."""
POWER_EPOCH = "{epoch}/power/{n}"
"""Epoch of readings whose power is integrated, after `n` suspends of the GPU.

It differs from that of the counter, because continuing with the counter would count integrated
energy twice. It changes with each suspend, because there is no power to integrate over it.
"""
ASLEEP = "asleep to save power; it is not woken for reading"
PASSED_THROUGH = "passed through to a virtual machine, and cannot be read on this host"
BENIGN_ERRORS = (ASLEEP, PASSED_THROUGH)
"""Reasons for a missing reading that are not failures."""


class GpuMeter:
    """Makes readings of the values of one GPU, and detects that it has no counter."""

    def __init__(self, reader: GpuReader, clock: Clock, boot_id: str) -> None:
        self._reader = reader
        self._clock = clock
        self._boot_id = boot_id
        self.lacks_counter = False
        """Whether the GPU has reported power but no counter for COUNTER_TIMEOUT_NS, without error.
        """
        self._has_counted = False
        self._uncounted_ns: int | None = None
        """Start of that time."""

    def read(self, handle: Any, info: DeviceInfo) -> Reading:
        """Read counter and power, without implausible values.

        Raises GpuError if neither could be read because of an error.
        """
        values = self._reader.read_energy(handle, info.power_cap_watts)
        counter_uj, power_watts, why = values.counter_uj, values.power_watts, ""
        if counter_uj is not None and not is_plausible_uj(counter_uj):
            counter_uj = None
        if power_watts is not None and not is_plausible_watts(power_watts, info.power_cap_watts):
            why = IMPLAUSIBLE_GPU_POWER.format(watts=power_watts)
            power_watts = None
        has_failed = values.failure is not None
        if counter_uj is None and power_watts is None:
            if values.failure is not None:
                raise values.failure
            why = why or NO_VALUES
        else:
            why = ""
        now_ns, awake_ns = self._clock.boottime_ns(), self._clock.monotonic_ns()
        age_ns = max(0, now_ns - values.at_ns) if values.at_ns else 0
        if age_ns > MAX_AGE_NS:
            counter_uj = power_watts = None
            why = OUTDATED_VALUES.format(age_seconds=age_ns / NANOSECONDS_PER_SECOND)
        self._note_counter(
            now_ns,
            is_counted=counter_uj is not None,
            has_power_alone=power_watts is not None and not has_failed,
        )
        return Reading(
            info.device,
            now_ns - age_ns,
            f"{self._boot_id}/{values.epoch}" if values.epoch else self._boot_id,
            counter_uj,
            power_watts,
            why=why,
            awake_ns=awake_ns - age_ns,
        )

    def _note_counter(self, now_ns: int, *, is_counted: bool, has_power_alone: bool) -> None:
        self._has_counted = self._has_counted or is_counted
        if self._has_counted or not has_power_alone:
            self._uncounted_ns = None
        elif self._uncounted_ns is None:
            self._uncounted_ns = now_ns
        since_ns = self._uncounted_ns
        self.lacks_counter = since_ns is not None and now_ns - since_ns >= COUNTER_TIMEOUT_NS


class Gpu:
    """A GPU, identified by its id.

    `handle` is that of the driver; it is replaced with each list of the GPUs, and None while the
    GPU is lost.
    """

    def __init__(
        self,
        listed: ListedGpu,
        driver: GpuDriver,
        clock: Clock,
        boot_id: str,
        sysfs: str,
        report_failure: Callable[["Gpu", GpuError], None],
    ) -> None:
        self.info = listed.info
        self.handle: Any = None
        self.layout = listed.layout
        self.covers_host = listed.covers_host
        self.why = ""
        """Why it cannot be read; "": it can."""
        self.failure: GpuError | None = None
        """The error of the last reading, or the error because of which the GPU was lost."""
        self.reader = driver.reader(listed.info)
        self._clock = clock
        self._boot_id = boot_id
        self._sysfs = sysfs
        self._report_failure = report_failure
        self._users_period_ns = round(driver.users_period_seconds * NANOSECONDS_PER_SECOND)
        self._meter = GpuMeter(self.reader, clock, boot_id)
        device = self.info.device
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

    def start_reading(self) -> None:
        """Request a reading, and the processes at their own interval."""
        if self.handle is None:
            return
        # Fetched before the next request, else results of a slow driver would always be discarded.
        self._late = self._reading_worker.result(0.0)
        self._reading_worker.request()
        self._last_activity = self._activity_worker.result(0.0) or self._last_activity
        now_ns = self._clock.boottime_ns()
        if now_ns - self._polled_ns >= self._users_period_ns:
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
            epoch = POWER_EPOCH.format(epoch=reading.epoch, n=self._sleeps)
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

    def mark_lost(self, why: str, failure: GpuError | None = None) -> None:
        """Mark the GPU as lost because of `why`, and of the error `failure` if there is one."""
        self.handle, self.why, self.failure = None, why, failure

    def mark_found(self, listed: ListedGpu) -> None:
        """Mark the GPU as available, and update its handle, description and partitions."""
        if self.handle is None:
            self.reader.forget()
        info = listed.info
        if self._meter.lacks_counter:
            info = info._replace(method=Method.INTEGRATED)
        elif self.info.method is Method.COUNTER:  # the driver may refuse temporarily
            info = info._replace(method=Method.COUNTER)
        self.info, self.layout, self.why = with_previous_info(info, self.info), listed.layout, ""
        self.handle = listed.handle

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
            with gpu_errors("reading"):
                reading = self._meter.read(handle, self.info)
        except GpuError as failure:
            self.failure = failure
            self._report_failure(self, failure)
            if failure.error_class is ErrorClass.DEVICE:
                self.mark_lost(str(failure), failure)
            return self._no_reading(str(failure))
        self.failure = None
        return reading

    def _read_activity(self) -> GpuActivity:
        now_ns, handle = self._clock.boottime_ns(), self.handle
        layout = self.layout
        why = self.why or ASLEEP
        if handle is not None and not self._is_asleep():
            try:
                with gpu_errors("processes"):
                    return self.reader.read_users(handle)
            except GpuError as failure:
                self._report_failure(self, failure)
                why = str(failure)
        # The partitions are known even if the processes are not.
        return GpuActivity(self.info.device, now_ns, (), layout.partitions, layout.slices, why=why)

    def _is_asleep(self) -> bool:
        return is_suspended(self._sysfs, self.info.pci_bus_id)

    def _no_reading(self, why: str) -> Reading:
        return Reading(self.info.device, self._clock.boottime_ns(), self._boot_id, why=why)
