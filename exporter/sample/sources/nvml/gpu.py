"""One card: its two threads, what they said last, and whether it is there."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from exporter.clock import Clock
from exporter.model.readings import Device, DeviceInfo, GpuActivity, Method, Partition, Reading
from exporter.sample.energy_counters import COUNTER_TIMEOUT_NS, is_plausible_uj, is_plausible_watts
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
"""Fields of NVML: energy since the driver was loaded in mJ, power over 1 s and of now in mW."""
CARD, MODULE = 0, 1
"""Scopes of the power fields: the card, or the superchip module that it is a part of."""
ENERGY_CALL, POWER_CALL = "nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetPowerUsage"


NO_VALUES = "the driver gives neither energy nor power of this GPU"
IMPLAUSIBLE_GPU_POWER = (
    "the driver gives no energy of this GPU, and {watts:,.0f} W, which it cannot draw"
)


class GpuValues(NamedTuple):
    """What a card says; None: it does not."""

    energy_mj: int | None
    power_mw: int | None
    implausible_mw: int | None = None
    """A power that is not believed."""


class GpuMeter:
    """Reads one card: all fields in one call, and single calls for what fields do not give.

    A field that a card does not know may come with success and the value 0, so 0 is no answer, and
    neither is a value that no card can have. An error of one field, or of the call for all, counts
    only if nothing else gives a value.
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
        """`is_module`: the energy counter is of a whole module, so the power is to be as well."""
        scopes = (MODULE, CARD) if is_module else (CARD,)
        self._powers = tuple((field, scope) for scope in scopes for field in (AVERAGE, INSTANT))
        self.driver = driver
        self._clock = clock
        self._device = device
        self._epoch = epoch
        self._can = Capabilities()
        self._failure: NvmlError | None = None
        """The first error of the reading under way that is more than a refusal."""
        self.lacks_counter = False
        """Whether the card has shown power for long and never a counter, without any error."""
        self._has_counted = False
        self._uncounted_ns: int | None = None
        """Since when that is so."""

    def forget(self) -> None:
        """Ask again for what the card has refused."""
        self._can.forget()

    def read(self, handle: Any, cap_watts: float) -> Reading:
        """Counter and power now, power up to a bound. Raises Failure if there is no answer."""
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
        """Every power that the card gives, the best first; the last is asked for only then."""
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
        """Values above 0 by field and scope."""
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
        """Go on without `what`. Raises what the rest of the reading cannot go on without."""
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
    """The number in a field's union, by the type that the driver names."""
    kinds = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal")
    if not 0 <= answer.valueType < len(kinds):
        return 0
    value = getattr(answer.value, kinds[answer.valueType])
    return max(0, int(value)) if math.isfinite(value) else 0


POWER_EPOCH = "{epoch}/power/{n}"
"""Of readings whose power is integrated: to go on with a counter would count that energy twice,
and over a sleep, of which there are `n`, there is no power to integrate."""
PROCESS_POLL_NS = 5 * NANOSECONDS_PER_SECOND
"""How often processes are looked at: that may cost milliseconds of the driver's lock."""
ASLEEP = "asleep to save power; it is not woken to be asked"
PASSED_THROUGH = "passed through to a virtual machine, and cannot be read from here"
BENIGN_ERRORS = (ASLEEP, PASSED_THROUGH)
"""Reasons for having no reading that need no repair."""


class Gpu:
    """A GPU by its UUID. Its handle is replaced when the driver was, and None while it is lost."""

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
        """Why its last reading failed, or why it was lost without one."""
        self._clock = clock
        self._epoch = epoch
        self._sysfs = sysfs
        self._alarm = report_failure
        device = info.device
        self._meter = GpuMeter(
            NvmlDriver(nvml), clock, device, epoch, is_module=is_superchip(info.model)
        )
        self._tenants = GpuProcessReader(NvmlDriver(nvml), clock, device)
        self._reading: OnDemandWorker[Reading] = OnDemandWorker(f"gpu {device.id}", self._read)
        self._look: OnDemandWorker[GpuActivity] = OnDemandWorker(
            f"gpu {device.id} processes", self._look_around
        )
        self._late: Reading | None = None
        """What came after the tick that asked for it had gone on."""
        self._has_slept = False
        """Since its last reading."""
        self._sleeps = 0
        self._looked_ns = 0
        self._last_look: GpuActivity | None = None

    @property
    def drivers(self) -> tuple[NvmlDriver, NvmlDriver]:
        """What its threads call."""
        return self._meter.driver, self._tenants.driver

    def start_reading(self) -> None:
        """Begin to read; and now and then, beside it, to look at its processes."""
        if self.handle is None:
            return
        # Taken before the next is asked for, or a driver that is always slow would never be heard.
        self._late = self._reading.result(0.0)
        self._reading.request()
        self._last_look = self._look.result(0.0) or self._last_look
        now_ns = self._clock.boottime_ns()
        if now_ns - self._looked_ns >= PROCESS_POLL_NS:
            self._looked_ns = now_ns
            self._look.request()

    def reading(self, until: float) -> tuple[DeviceInfo, Reading]:
        """Its reading by time.monotonic() `until`, else one that came too late before.

        The description is the one that the reading is to be counted by: another thread may change
        the method in between, and a counter must not go on from integrated power.
        """
        late, self._late = self._late, None
        reading = (self._reading.result(until) or late) if self.handle is not None else None
        info = self.info
        if reading is not None and info.method is Method.INTEGRATED:
            epoch = POWER_EPOCH.format(epoch=self._epoch, n=self._sleeps)
            return info, reading._replace(epoch=epoch)
        if reading is not None:
            return info, reading
        why = self.why
        if busy := self._reading.busy_seconds:
            why = f"the driver has not answered for {busy:.1f} s"
        return info, self._none(why or "not read yet")

    def activity(self) -> GpuActivity | None:
        """The last look at its processes, once."""
        look, self._last_look = self._look.result(0.0) or self._last_look, None
        return look

    def mark_lost(self, why: str, failure: NvmlError | None = None) -> None:
        """It is not there any more; `failure` says so, unless that is nobody's failure."""
        self.handle, self.why, self.failure = None, why, failure

    def mark_found(self, handle: Any, info: DeviceInfo, layout: MigLayout) -> None:
        """It is there, or there again."""
        if self.handle is None:
            self._meter.forget()
            self._tenants.forget()
        if self._meter.lacks_counter:
            info = info._replace(method=Method.INTEGRATED)
        elif self.info.method is Method.COUNTER:  # refused now and then
            info = info._replace(method=Method.COUNTER)
        self.info, self.layout, self.why = with_previous_info(info, self.info), layout, ""
        self.handle = handle

    def release_samples(self) -> None:
        """Give back what the driver has lent; for when no call into it is under way."""
        self._tenants.let_go()

    def is_busy(self) -> bool:
        """Whether a call into the driver is under way."""
        return bool(self._reading.busy_seconds or self._look.busy_seconds)

    def stop(self, until: float) -> bool:
        """End both threads by time.monotonic() `until`; False if one hangs in the driver."""
        stopped = [thread.stop(seconds_until(until)) for thread in (self._reading, self._look)]
        return all(stopped)

    def _read(self) -> Reading:
        handle = self.handle
        if handle is None:
            return self._none(self.why)
        if self._is_asleep():
            self._has_slept = True
            return self._none(ASLEEP)
        if self._has_slept:
            self._has_slept, self._sleeps = False, self._sleeps + 1
        try:
            with nvml_errors("reading"):
                reading = self._meter.read(handle, self.info.power_cap_watts)
        except NvmlError as failure:
            self.failure = failure
            self._alarm(self, failure)
            if failure.error_class is ErrorClass.DEVICE:
                self.mark_lost(str(failure), failure)
            return self._none(str(failure))
        self.failure = None
        return reading

    def _look_around(self) -> GpuActivity:
        device, now_ns = self.info.device, self._clock.boottime_ns()
        handle = self.handle
        layout = self.layout
        why = self.why or ASLEEP
        if handle is not None and not self._is_asleep():
            try:
                with nvml_errors("processes"):
                    return self._tenants.look(handle, layout)
            except NvmlError as failure:
                self._alarm(self, failure)
                why = str(failure)
        # How it is divided is known all the same.
        partitions = tuple(
            Partition(each.uuid, each.slices, None, each.numbers) for each in layout.instances
        )
        return GpuActivity(device, now_ns, (), partitions, layout.slices, why=why)

    def _is_asleep(self) -> bool:
        return is_suspended(self._sysfs, self.info.pci_bus_id)

    def _none(self, why: str) -> Reading:
        return Reading(self.info.device, self._clock.boottime_ns(), self._epoch, why=why)
