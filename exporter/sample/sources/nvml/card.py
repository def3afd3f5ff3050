"""One card: its two threads, what they said last, and whether it is there."""

from collections.abc import Callable
from typing import Any

from exporter.clock import Clock
from exporter.model.readings import DeviceInfo, Method, Occupancy, Partition, Reading
from exporter.sample.sources.nvml.codes import Reaction
from exporter.sample.sources.nvml.driver import Driver, Failure, usable
from exporter.sample.sources.nvml.inventory import is_module, with_known
from exporter.sample.sources.nvml.meter import Meter
from exporter.sample.sources.nvml.pci import is_asleep
from exporter.sample.sources.nvml.tenants import Layout, Tenants
from exporter.units import NANOSECONDS_PER_SECOND
from exporter.worker import Asker, remaining

POWER_EPOCH = "{epoch}/power/{n}"
"""Of readings whose power is integrated: to go on with a counter would count that energy twice,
and over a sleep, of which there are `n`, there is no power to integrate."""
LOOK_NS = 5 * NANOSECONDS_PER_SECOND
"""How often processes are looked at: that may cost milliseconds of the driver's lock."""
ASLEEP = "asleep to save power; it is not woken to be asked"
PASSED_THROUGH = "passed through to a virtual machine, and cannot be read from here"
NO_FAILURES = (ASLEEP, PASSED_THROUGH)
"""Reasons for having no reading that need no repair."""


class Card:
    """A GPU by its UUID. Its handle is replaced when the driver was, and None while it is lost."""

    def __init__(
        self,
        info: DeviceInfo,
        nvml: Any,
        clock: Clock,
        epoch: str,
        sysfs: str,
        alarm: Callable[["Card", Failure], None],
    ) -> None:
        self.info = info
        self.handle: Any = None
        self.layout = Layout()
        self.why = ""
        """Why it cannot be read; "": it can."""
        self.failure: Failure | None = None
        """Why its last reading failed, or why it was lost without one."""
        self._clock = clock
        self._epoch = epoch
        self._sysfs = sysfs
        self._alarm = alarm
        device = info.device
        self._meter = Meter(Driver(nvml), clock, device, epoch, is_module=is_module(info.model))
        self._tenants = Tenants(Driver(nvml), clock, device)
        self._reading: Asker[Reading] = Asker(f"gpu {device.id}", self._read)
        self._look: Asker[Occupancy] = Asker(f"gpu {device.id} processes", self._look_around)
        self._late: Reading | None = None
        """What came after the tick that asked for it had gone on."""
        self._has_slept = False
        """Since its last reading."""
        self._sleeps = 0
        self._looked_ns = 0
        self._last_look: Occupancy | None = None

    @property
    def drivers(self) -> tuple[Driver, Driver]:
        """What its threads call."""
        return self._meter.driver, self._tenants.driver

    def ask(self) -> None:
        """Begin to read; and now and then, beside it, to look at its processes."""
        if self.handle is None:
            return
        # Taken before the next is asked for, or a driver that is always slow would never be heard.
        self._late = self._reading.wait(0.0)
        self._reading.ask()
        self._last_look = self._look.wait(0.0) or self._last_look
        now_ns = self._clock.boottime_ns()
        if now_ns - self._looked_ns >= LOOK_NS:
            self._looked_ns = now_ns
            self._look.ask()

    def reading(self, until: float) -> tuple[DeviceInfo, Reading]:
        """Its reading by time.monotonic() `until`, else one that came too late before.

        The description is the one that the reading is to be counted by: another thread may change
        the method in between, and a counter must not go on from integrated power.
        """
        late, self._late = self._late, None
        reading = (self._reading.wait(until) or late) if self.handle is not None else None
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

    def occupancy(self) -> Occupancy | None:
        """The last look at its processes, once."""
        look, self._last_look = self._look.wait(0.0) or self._last_look, None
        return look

    def lose(self, why: str, failure: Failure | None = None) -> None:
        """It is not there any more; `failure` says so, unless that is nobody's failure."""
        self.handle, self.why, self.failure = None, why, failure

    def found(self, handle: Any, info: DeviceInfo, layout: Layout) -> None:
        """It is there, or there again."""
        if self.handle is None:
            self._meter.forget()
            self._tenants.forget()
        if self._meter.lacks_counter:
            info = info._replace(method=Method.INTEGRATED)
        elif self.info.method is Method.COUNTER:  # refused now and then
            info = info._replace(method=Method.COUNTER)
        self.info, self.layout, self.why = with_known(info, self.info), layout, ""
        self.handle = handle

    def let_go(self) -> None:
        """Give back what the driver has lent; for when no call into it is under way."""
        self._tenants.let_go()

    def is_busy(self) -> bool:
        """Whether a call into the driver is under way."""
        return bool(self._reading.busy_seconds or self._look.busy_seconds)

    def stop(self, until: float) -> bool:
        """End both threads by time.monotonic() `until`; False if one hangs in the driver."""
        stopped = [thread.stop(remaining(until)) for thread in (self._reading, self._look)]
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
            with usable("reading"):
                reading = self._meter.read(handle, self.info.power_cap_watts)
        except Failure as failure:
            self.failure = failure
            self._alarm(self, failure)
            if failure.reaction is Reaction.DEVICE:
                self.lose(str(failure), failure)
            return self._none(str(failure))
        self.failure = None
        return reading

    def _look_around(self) -> Occupancy:
        device, now_ns = self.info.device, self._clock.boottime_ns()
        handle = self.handle
        layout = self.layout
        why = self.why or ASLEEP
        if handle is not None and not self._is_asleep():
            try:
                with usable("processes"):
                    return self._tenants.look(handle, layout)
            except Failure as failure:
                self._alarm(self, failure)
                why = str(failure)
        # How it is divided is known all the same.
        partitions = tuple(
            Partition(each.uuid, each.slices, None, each.numbers) for each in layout.instances
        )
        return Occupancy(device, now_ns, (), partitions, layout.slices, why=why)

    def _is_asleep(self) -> bool:
        return is_asleep(self._sysfs, self.info.pci_bus_id)

    def _none(self, why: str) -> Reading:
        return Reading(self.info.device, self._clock.boottime_ns(), self._epoch, why=why)
