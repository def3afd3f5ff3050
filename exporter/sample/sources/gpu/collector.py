"""Collector of the energy, power and processes of the GPUs of one driver."""

from collections.abc import Mapping

from exporter import units
from exporter.clock import Clock
from exporter.errors import RestartRequired
from exporter.model.readings import DriverCallStats, Observation
from exporter.sample.sources.gpu.driver import ErrorClass, GpuDriver, total_call_stats
from exporter.sample.sources.gpu.gpu import BENIGN_ERRORS
from exporter.sample.sources.gpu.pci import pci_address
from exporter.sample.sources.gpu.supervisor import GpuSupervisor
from exporter.worker import deadline, wait_until

DISCOVERY_SECONDS = 10.0
"""Interval at which the GPUs are listed if nothing has failed."""
READ_TIMEOUT_SECONDS = 0.1
"""Time that a tick waits for all GPUs together."""
FIRST_READ_TIMEOUT_SECONDS = 2.0
"""Time to wait for the first response of the driver, so that the first page includes the GPUs."""
UNRECOVERABLE_NS = 60 * units.NANOSECONDS_PER_SECOND
STOP_SECONDS = 1.0
UNRECOVERABLE = (
    "{why}, on all GPUs for a minute. In a container this means that the device files are gone, "
    "often after `systemctl daemon-reload` on the node: restart the container, and pass the "
    "devices by CDI or by name"
)
LIBRARY_MISMATCH = (
    "{why}; the loaded library no longer matches the driver, so this process must be restarted"
)


class GpuCollector:
    """Reads all GPUs of one driver, with a short timeout.

    A driver that is installed later, for example by an operator, is found at runtime. `boot_id` is
    that of the running kernel.
    """

    def __init__(
        self,
        driver: GpuDriver,
        sysfs: str,
        clock: Clock,
        boot_id: str,
        look_seconds: float = DISCOVERY_SECONDS,
    ) -> None:
        self.name = driver.name
        self._clock = clock
        self._supervisor = GpuSupervisor(driver, clock, sysfs, boot_id, look_seconds)
        self._is_started = False
        self._recoverable_ns = clock.boottime_ns()
        """The last time at which the state was recoverable within this process."""

    def read(self) -> Observation:
        """Read all GPUs. Raises RestartRequired if the driver was replaced during this process."""
        self._start()
        self._supervisor.wake_if_due()
        began_ns = self._clock.monotonic_ns()
        known = self._supervisor.cards
        for card in known:
            card.start_reading()
        until = deadline(READ_TIMEOUT_SECONDS)
        described = [card.reading(until) for card in known]
        readings = tuple(reading for _, reading in described)
        activities = tuple(each for card in known if (each := card.activity()) is not None)
        if self._supervisor.library_mismatch:
            raise RestartRequired(LIBRARY_MISMATCH.format(why=self._supervisor.library_mismatch))
        reasons = [reading.why for reading in readings if reading.why]
        failure = next((reason for reason in reasons if reason not in BENIGN_ERRORS), "")
        benign = [
            f"GPU {pci_address(card.info.pci_bus_id)} is {reading.why}"
            for card, reading in zip(known, readings, strict=True)
            if reading.why in BENIGN_ERRORS
        ]
        return Observation(
            source=self.name,
            at_ns=self._clock.boottime_ns(),
            infos=tuple(info for info, _ in described),
            readings=readings,
            cost_seconds=units.seconds(self._clock.monotonic_ns() - began_ns),
            error=self._supervisor.why or failure,
            gpu_activity=activities,
            calls=self._calls(),
            unrecoverable=self._unrecoverable(),
            note="; ".join(dict.fromkeys((*self._supervisor.notes, *benign))),
        )

    def covers_host(self) -> bool:
        """Whether the energy of a GPU includes that of the processor and its memory."""
        self._start()
        return any(card.covers_host for card in self._supervisor.cards)

    def release_for(self, seconds: float) -> None:
        """Release the driver for `seconds`; a log message reports success or the blocking GPU."""
        self._supervisor.release_for(seconds)

    def release(self) -> None:
        """Release the driver permanently; a thread that hangs in it is abandoned."""
        if self._is_started:
            self._supervisor.stop(STOP_SECONDS)

    def _start(self) -> None:
        if self._is_started:
            return
        self._is_started = True
        self._supervisor.start()
        wait_until(lambda: self._supervisor.has_answered_once, FIRST_READ_TIMEOUT_SECONDS)

    def _calls(self) -> Mapping[str, DriverCallStats]:
        readers = (card.reader.call_stats() for card in self._supervisor.cards)
        return total_call_stats((self._supervisor.driver.call_stats(), *readers))

    def _unrecoverable(self) -> str:
        """Return the error that requires a restart, once all GPUs have had it for a minute."""
        known = self._supervisor.cards
        failures = [card.failure for card in known if card.failure is not None]
        permanent = [each for each in failures if each.error_class is ErrorClass.ENVIRONMENT]
        now_ns = self._clock.boottime_ns()
        if not known or len(permanent) < len(known):
            self._recoverable_ns = now_ns
        return (
            UNRECOVERABLE.format(why=permanent[0])
            if now_ns - self._recoverable_ns >= UNRECOVERABLE_NS
            else ""
        )
