"""The list of GPUs of one driver, and the lifecycle of the driver."""

import logging

from exporter.backoff import Backoff
from exporter.clock import Clock
from exporter.sample.sources.gpu.driver import (
    ErrorClass,
    GpuDriver,
    GpuError,
    GpuListing,
    gpu_errors,
)
from exporter.sample.sources.gpu.gpu import ASLEEP, PASSED_THROUGH, Gpu
from exporter.sample.sources.gpu.identity import duplicate_id_notes, with_unique_ids
from exporter.sample.sources.gpu.pci import PciGpu, pci_address, pci_gpus
from exporter.units import NANOSECONDS_PER_SECOND
from exporter.worker import Worker, deadline, wait_until

log = logging.getLogger(__name__)

MIN_BACKOFF_SECONDS = 1.0
MAX_BACKOFF_SECONDS = 60.0
RELEASE_WAIT_SECONDS = 5.0
"""Time to wait for running calls before the driver is shut down."""
BACKOFF_RESET_NS = 60 * NANOSECONDS_PER_SECOND
"""Time without a request to reinitialize the driver after which the backoff is reset."""
SHUTDOWN_WAIT_SECONDS = 0.5
"""Time to wait for running calls when the exporter stops."""
MAX_REPORTED_ERRORS = 3
"""Maximum number of GPUs whose errors are reported at a time."""
NOT_ON_BUS = "the GPU is no longer on the bus"
RELEASED = "the driver is temporarily released on SIGUSR1"


class GpuSupervisor:
    """Maintains the list of GPUs and the lifecycle of the driver.

    GPUs that were seen once stay in `cards`, also while they are lost.
    """

    def __init__(
        self, driver: GpuDriver, clock: Clock, sysfs: str, boot_id: str, look_seconds: float
    ) -> None:
        self.driver = driver
        self.cards: tuple[Gpu, ...] = ()
        self.why = "the driver has not answered yet"
        """Why the driver is not available or a GPU cannot be described; "": no error."""
        self.notes: tuple[str, ...] = ()
        """Information on GPUs that is not a failure."""
        self.library_mismatch = ""
        """Why this process cannot use the driver again; "": it can."""
        self._mismatched: set[Gpu] = set()
        """GPUs that have reported a mismatch; a single one may be defective."""
        self._clock = clock
        self._sysfs = sysfs
        self._boot_id = boot_id
        self.has_answered_once = False
        """Whether the driver has responded once, successfully or not."""
        self._is_open = False
        self._must_reinitialize = False
        self._backoff = Backoff(MIN_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS)
        self._retry_ns = 0
        """Time of the next attempt to use the driver; 0: it works."""
        self._reinitialize_ns = 0
        """Earliest time to reinitialize the driver while it works for some GPUs."""
        self._requested_ns = -BACKOFF_RESET_NS
        """Time of the last error of a GPU that requires this."""
        self._released_until_ns = 0
        """End of the temporary release of the driver; 0: not released."""
        self._is_stopping = False
        self._passed_through: dict[str, str] = {}
        """Notes on GPUs that are passed through, by address."""
        self._worker = Worker("gpus", self._run, look_seconds)

    def start(self) -> None:
        """Start the worker, without waiting for the driver."""
        self._worker.start()

    def report_failure(self, card: Gpu, failure: GpuError) -> None:
        """Handle an error from the thread of a GPU."""
        if failure.error_class is ErrorClass.PROCESS:
            self._mismatched.add(card)
            if self._mismatched.issuperset(self.cards):
                self.library_mismatch = str(failure)
        elif failure.error_class is ErrorClass.LIBRARY:
            self._must_reinitialize = True
            self._requested_ns = self._clock.boottime_ns()
        else:  # a lost GPU is searched for in the next cycle, with all others
            return
        self._worker.wake()

    def wake_if_due(self) -> None:
        """Wake the worker if a retry is due or the release has ended; its period is longer."""
        due_ns = max(self._retry_ns, self._released_until_ns)
        if due_ns and self._clock.boottime_ns() >= due_ns:
            self._worker.wake()

    def release_for(self, seconds: float) -> None:
        """Release the driver for `seconds`, so that a GPU can be reset."""
        duration_ns = round(seconds * NANOSECONDS_PER_SECOND)
        self._released_until_ns = self._clock.boottime_ns() + duration_ns
        self._worker.wake()

    def stop(self, timeout_seconds: float) -> bool:
        """Stop all threads and release the driver; return False if a thread hangs in it."""
        self._is_stopping = True
        until = deadline(timeout_seconds)
        stopped = [self._worker.stop(timeout_seconds)]
        stopped += [card.stop(until) for card in self.cards]
        return all(stopped)

    def _run(self) -> None:
        self._supervise()
        self.has_answered_once = True

    def _supervise(self) -> None:
        now_ns = self._clock.boottime_ns()
        if self._is_stopping:
            self._release("the exporter is stopping", SHUTDOWN_WAIT_SECONDS)
        elif now_ns < self._released_until_ns:
            self._release(RELEASED, RELEASE_WAIT_SECONDS)
        elif now_ns >= self._retry_ns:
            self._released_until_ns = 0
            self._discover(now_ns, pci_gpus(self._sysfs, self.driver.pci))

    def _discover(self, now_ns: int, on_bus: list[PciGpu]) -> None:
        """List the GPUs, unless all are passed through, or listing would wake a suspended one."""
        passed = [card.address for card in on_bus if card.is_passed_through]
        notes = tuple(f"GPU {address} is {PASSED_THROUGH}" for address in passed)
        self._passed_through = dict(zip(passed, notes, strict=True))
        if passed and len(passed) == len(on_bus):
            self._release(PASSED_THROUGH, RELEASE_WAIT_SECONDS, is_failure=False)
            self.notes = notes
        elif self.driver.wakes_gpus and self._would_wake(
            [card for card in on_bus if not card.is_foreign]
        ):
            self.why, self.notes = "", notes if self.cards else (*notes, ASLEEP)
        else:
            self._list(now_ns, [card for card in on_bus if card.is_foreign])

    def _would_wake(self, on_bus: list[PciGpu]) -> bool:
        """Whether listing would wake a suspended GPU without finding a new one among the others."""
        awake = [card for card in on_bus if not card.is_asleep]
        if len(awake) == len(on_bus):
            return False
        available = [card for card in self.cards if card.handle is not None]
        return not awake or (not self._must_reinitialize and len(available) >= len(on_bus))

    def _list(self, now_ns: int, foreign: list[PciGpu]) -> None:
        if self._must_reinitialize and now_ns >= self._reinitialize_ns:
            self._release("the driver is being reinitialized", RELEASE_WAIT_SECONDS)
            self._must_reinitialize = False
            self._reinitialize_ns = self._clock.boottime_ns() + self._wait_ns()
        try:
            with gpu_errors("list of GPUs"):
                if not self._is_open:
                    self.driver.open()
                    self._is_open = True
                listing = self.driver.list_gpus()
        except GpuError as failure:
            self._fail(failure, foreign)
            return
        self._retry_ns = 0
        if any(failure.error_class is ErrorClass.LIBRARY for failure in listing.failures):
            self._must_reinitialize = True
            self._requested_ns = now_ns
        if not self._must_reinitialize and now_ns - self._requested_ns >= BACKOFF_RESET_NS:
            self._backoff.reset()
        self._update(listing)

    def _fail(self, failure: GpuError, foreign: list[PciGpu]) -> None:
        """Mark all GPUs as lost because of `failure`, and retry with exponential backoff."""
        if failure.error_class is ErrorClass.PROCESS:
            self.library_mismatch = str(failure)
        self._must_reinitialize = failure.error_class is ErrorClass.LIBRARY and self._is_open
        self._retry_ns = self._clock.boottime_ns() + self._wait_ns()
        other = [
            f"GPU {card.address} has the driver {card.driver}"
            for card in foreign
            if failure.is_driver_missing and not card.is_passed_through
        ]
        retry = f"retry in {self._backoff.seconds:.0f} s"
        self.why = "; ".join((str(failure), *other, retry))
        self.notes = tuple(self._passed_through.values())
        for card in self.cards:
            card.mark_lost(str(failure), failure)

    def _wait_ns(self) -> int:
        """Return the next delay, twice the previous one within the limits of the backoff."""
        return round(self._backoff.fail() * NANOSECONDS_PER_SECOND)

    def _update(self, listing: GpuListing) -> None:
        known = {card.info.device: card for card in self.cards}
        unique = with_unique_ids(listing.gpus, [card.info for card in self.cards])
        for listed in unique:
            card = known.pop(listed.info.device, None)
            if card is None:
                card = Gpu(
                    listed,
                    self.driver,
                    self._clock,
                    self._boot_id,
                    self._sysfs,
                    self.report_failure,
                )
                self.cards = (*self.cards, card)
            # A lost GPU is available again when the driver lists its id.
            card.mark_found(listed)
        # In a container the driver counts all GPUs, but may permit access to some of them only.
        failures = listing.failures
        denied = [
            each for each in failures if each.error_class is ErrorClass.DENIED and listing.gpus
        ]
        broken = [str(each) for each in failures if each not in denied]
        self.why = "; ".join(broken[:MAX_REPORTED_ERRORS])
        self.notes = (
            *self._passed_through.values(),
            *map(str, denied),
            *listing.notes,
            *duplicate_id_notes(listing.gpus, unique),
        )
        failure = failures[0] if failures else None
        for card in known.values():
            if pci_address(card.info.pci_bus_id) in self._passed_through:
                card.mark_lost(PASSED_THROUGH)
            else:
                card.mark_lost(str(failure or NOT_ON_BUS), failure)

    def _release(self, why: str, wait_seconds: float, *, is_failure: bool = True) -> None:
        """Mark all GPUs as lost, and close the driver once no thread is inside a call.

        If a call does not return within `wait_seconds`, log the GPU and leave the driver open.
        """
        self.why = why if is_failure else ""
        for card in self.cards:
            card.mark_lost(why)
        if not self._is_open:
            return
        wait_until(lambda: not any(card.is_busy() for card in self.cards), wait_seconds)
        busy = [card for card in self.cards if card.is_busy()]
        if busy:
            names = ", ".join(f"GPU {card.info.ordinal} ({card.info.device.id})" for card in busy)
            self._log("%s driver not released: a GPU does not respond", gpus=names)
            return
        for card in self.cards:
            card.reader.release()
        try:
            self.driver.close()
        except GpuError as failure:
            self._log("%s driver not released", error=str(failure))
            return
        self._is_open = False
        if why == RELEASED:
            self._log("%s driver released; GPUs can be reset")

    def _log(self, event: str, **fields: str) -> None:
        log.warning(event, self.driver.vendor, extra=fields)
