"""Collector of readings that a thread takes, because a read may block."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from exporter import units
from exporter.clock import Clock
from exporter.errors import Unavailable
from exporter.model.readings import DeviceInfo, Observation, Reading
from exporter.worker import OnDemandWorker, deadline

FIRST_READ_TIMEOUT_SECONDS = 2.0
"""Time to wait for the first values at startup."""
LATE_SECONDS = 2.0
"""Duration of a call that is reported if ticks do not wait for it."""
STOP_SECONDS = 1.0
LATE = "the driver has not answered for {seconds:.1f} s"

Values: TypeAlias = tuple[tuple[DeviceInfo, Reading], ...]


class ThreadedCollector:
    """Requests readings with each tick, and waits for them `timeout_seconds` at most.

    Readings that arrive later are used by the next tick, with the time at which they were taken;
    with a timeout of 0 that are all. `read_values` runs in the thread and must not raise; `close`
    releases what it holds. Raises Unavailable if the first call has no value.
    """

    def __init__(
        self,
        name: str,
        infos: Sequence[DeviceInfo],
        read_values: Callable[[], Values],
        close: Callable[[], None],
        clock: Clock,
        timeout_seconds: float,
    ) -> None:
        self.name = name
        self._infos = tuple(infos)
        self._close = close
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._worker: OnDemandWorker[Values] = OnDemandWorker(name, read_values)
        self._worker.request()
        first = self._worker.result(deadline(FIRST_READ_TIMEOUT_SECONDS))
        if first is None or all(reading.why for _, reading in first):
            why = self._late() if first is None else first[0][1].why
            self.release()
            raise Unavailable(why)

    def read(self) -> Observation:
        """Return the readings that the thread has taken, each with its own time."""
        began_ns, at_ns = self._clock.monotonic_ns(), self._clock.boottime_ns()
        late = self._worker.result(0.0)
        self._worker.request()
        values = self._worker.result(deadline(self._timeout_seconds)) or late or ()
        if values:
            self._infos = tuple(info for info, _ in values)
        elif self._worker.busy_seconds >= (self._timeout_seconds or LATE_SECONDS):
            why = self._late()
            values = tuple((info, Reading(info.device, at_ns, "", why=why)) for info in self._infos)
        readings = tuple(reading for _, reading in values)
        return Observation(
            source=self.name,
            at_ns=at_ns,
            infos=self._infos,
            readings=readings,
            cost_seconds=units.seconds(self._clock.monotonic_ns() - began_ns),
            error=next((reading.why for reading in readings if reading.why), ""),
        )

    def release(self) -> None:
        """End the thread; one that hangs in a driver is abandoned."""
        if self._worker.stop(STOP_SECONDS):
            self._close()

    def _late(self) -> str:
        return LATE.format(seconds=self._worker.busy_seconds)
