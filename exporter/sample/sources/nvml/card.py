"""One card: its two threads, what they said last, and whether it is there."""

from collections.abc import Callable
from typing import Any

from exporter.clock import Clock
from exporter.model.readings import DeviceInfo, Occupancy, Reading
from exporter.sample.sources.nvml.codes import Reaction
from exporter.sample.sources.nvml.driver import Driver, Failure
from exporter.sample.sources.nvml.meter import Meter
from exporter.sample.sources.nvml.pci import is_asleep
from exporter.sample.sources.nvml.tenants import Layout, Tenants
from exporter.units import NANOSECONDS_PER_SECOND
from exporter.worker import Asker

LOOK_NS = 5 * NANOSECONDS_PER_SECOND
"""How often processes are looked at: that may cost milliseconds of the driver's lock."""
ASLEEP = "asleep to save power; it is not woken to be asked"


class Card:
    """A GPU by its UUID. Its handle is replaced when the driver was, and None while it is lost."""

    def __init__(
        self,
        info: DeviceInfo,
        nvml: Any,
        clock: Clock,
        epoch: str,
        sysfs: str,
        alarm: Callable[[Failure], None],
    ) -> None:
        self.info = info
        self.handle: Any = None
        self.layout = Layout()
        self.why = ""
        """Why it cannot be read; "": it can."""
        self.failure: Failure | None = None
        """Of its last reading."""
        self._clock = clock
        self._epoch = epoch
        self._sysfs = sysfs
        self._alarm = alarm
        device = info.device
        self._meter = Meter(Driver(nvml), clock, device, epoch)
        self._tenants = Tenants(Driver(nvml), clock, device)
        self._reading: Asker[Reading] = Asker(f"gpu {device.id}", self._read)
        self._look: Asker[Occupancy] = Asker(f"gpu {device.id} processes", self._look_around)
        self._looked_ns = 0

    @property
    def drivers(self) -> tuple[Driver, Driver]:
        """What its threads call."""
        return self._meter.driver, self._tenants.driver

    def ask(self) -> None:
        """Begin to read; and now and then, beside it, to look at its processes."""
        if self.handle is None:
            return
        self._reading.ask()
        now_ns = self._clock.boottime_ns()
        if now_ns - self._looked_ns >= LOOK_NS:
            self._looked_ns = now_ns
            self._look.ask()

    def reading(self, until: float) -> Reading:
        """What it says, if it does by time.monotonic() `until`."""
        reading = self._reading.wait(until) if self.handle is not None else None
        if reading is not None:
            return reading
        why = self.why
        if busy := self._reading.busy_seconds:
            why = f"the driver has not answered for {busy:.1f} s"
        return self._none(why or "not read yet")

    def occupancy(self) -> Occupancy | None:
        """The last look at its processes, once."""
        return self._look.wait(0.0)

    def lose(self, why: str) -> None:
        """It is not there any more."""
        self.handle, self.why = None, why

    def found(self, handle: Any, info: DeviceInfo, layout: Layout) -> None:
        """It is there, or there again."""
        self.info, self.layout, self.why = info, layout, ""
        self.handle = handle

    def is_busy(self) -> bool:
        """Whether a call into the driver is under way."""
        return bool(self._reading.busy_seconds or self._look.busy_seconds)

    def stop(self, timeout_seconds: float) -> bool:
        """End both threads; False if one of them hangs in the driver."""
        stopped = [thread.stop(timeout_seconds) for thread in (self._reading, self._look)]
        return all(stopped)

    def _read(self) -> Reading:
        handle = self.handle
        if handle is None:
            return self._none(self.why)
        if self._is_asleep():
            return self._none(ASLEEP)
        try:
            reading = self._meter.read(handle)
        except Failure as failure:
            self.failure = failure
            self._alarm(failure)
            if failure.reaction is Reaction.DEVICE:
                self.lose(str(failure))
            return self._none(str(failure))
        self.failure = None
        return reading

    def _look_around(self) -> Occupancy:
        device, now_ns = self.info.device, self._clock.boottime_ns()
        handle = self.handle
        if handle is None or self._is_asleep():
            return Occupancy(device, now_ns, why=self.why or ASLEEP)
        try:
            return self._tenants.look(handle, self.layout)
        except Failure as failure:
            self._alarm(failure)
            return Occupancy(device, now_ns, why=str(failure))

    def _is_asleep(self) -> bool:
        return is_asleep(self._sysfs, self.info.pci_bus_id)

    def _none(self, why: str) -> Reading:
        return Reading(self.info.device, self._clock.boottime_ns(), self._epoch, why=why)
