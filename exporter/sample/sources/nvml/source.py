"""The collector `nvml`: energy, power and processes of NVIDIA GPUs."""

import ctypes
import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any

from exporter import units
from exporter.backoff import Backoff
from exporter.clock import Clock
from exporter.errors import RestartRequired, Unavailable
from exporter.model.readings import DriverCallStats, Observation
from exporter.sample.sources.nvml.driver import (
    LIBRARY,
    NO_DRIVER,
    NO_PERMISSION,
    ErrorClass,
    NvmlDriver,
    NvmlError,
    total_call_stats,
)
from exporter.sample.sources.nvml.gpu import ASLEEP, BENIGN_ERRORS, PASSED_THROUGH, Gpu
from exporter.sample.sources.nvml.inventory import (
    NAME,
    ListedGpu,
    PciGpu,
    is_superchip,
    list_gpus,
    pci_address,
    pci_gpus,
    with_unique_ids,
)
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


class NvmlSupervisor:
    """Maintains the list of GPUs and the lifecycle of the driver.

    GPUs that were seen once stay in `cards`, also while they are lost.
    """

    def __init__(
        self, nvml: Any, clock: Clock, sysfs: str, epoch: str, look_seconds: float
    ) -> None:
        self.driver = NvmlDriver(nvml)
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
        self._epoch = epoch
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

    def report_failure(self, card: Gpu, failure: NvmlError) -> None:
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
            self._discover(now_ns, pci_gpus(self._sysfs))

    def _discover(self, now_ns: int, on_bus: list[PciGpu]) -> None:
        """List the GPUs, unless all are passed through, or listing would wake a suspended one."""
        passed = [card.address for card in on_bus if card.is_passed_through]
        notes = tuple(f"GPU {address} is {PASSED_THROUGH}" for address in passed)
        self._passed_through = dict(zip(passed, notes, strict=True))
        if passed and len(passed) == len(on_bus):
            self._release(PASSED_THROUGH, RELEASE_WAIT_SECONDS, is_failure=False)
            self.notes = notes
        elif self._would_wake([card for card in on_bus if not card.is_foreign]):
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
            if not self._is_open:
                self.driver.call("nvmlInit")
                self._is_open = True
            listed, failures = list_gpus(self.driver)
        except NvmlError as failure:
            self._fail(failure, foreign)
            return
        self._retry_ns = 0
        if any(failure.error_class is ErrorClass.LIBRARY for failure in failures):
            self._must_reinitialize = True
            self._requested_ns = now_ns
        if not self._must_reinitialize and now_ns - self._requested_ns >= BACKOFF_RESET_NS:
            self._backoff.reset()
        self._update(listed, failures)

    def _fail(self, failure: NvmlError, foreign: list[PciGpu]) -> None:
        """Mark all GPUs as lost because of `failure`, and retry with exponential backoff."""
        if failure.error_class is ErrorClass.PROCESS:
            self.library_mismatch = str(failure)
        self._must_reinitialize = failure.error_class is ErrorClass.LIBRARY and self._is_open
        self._retry_ns = self._clock.boottime_ns() + self._wait_ns()
        other = [
            f"GPU {card.address} has the driver {card.driver}"
            for card in foreign
            if failure.code in NO_DRIVER and not card.is_passed_through
        ]
        retry = f"retry in {self._backoff.seconds:.0f} s"
        self.why = "; ".join((str(failure), *other, retry))
        self.notes = tuple(self._passed_through.values())
        for card in self.cards:
            card.mark_lost(str(failure), failure)

    def _wait_ns(self) -> int:
        """Return the next delay, twice the previous one within the limits of the backoff."""
        return round(self._backoff.fail() * NANOSECONDS_PER_SECOND)

    def _update(self, listed: list[ListedGpu], failures: list[NvmlError]) -> None:
        known = {card.info.device: card for card in self.cards}
        unique = with_unique_ids(listed, [card.info for card in self.cards])
        for handle, info, layout in unique:
            card = known.pop(info.device, None)
            if card is None:
                card = Gpu(
                    info,
                    self.driver.nvml,
                    self._clock,
                    self._epoch,
                    self._sysfs,
                    self.report_failure,
                )
                self.cards = (*self.cards, card)
            # A lost GPU is available again when the driver lists its UUID.
            card.mark_found(handle, info, layout)
        # In a container the driver counts all GPUs, but may permit access to some of them only.
        denied = [each for each in failures if each.code == NO_PERMISSION and listed]
        broken = [str(each) for each in failures if each not in denied]
        self.why = "; ".join(broken[:MAX_REPORTED_ERRORS])
        self.notes = (
            *self._passed_through.values(),
            *map(str, denied),
            *_duplicate_uuid_notes(listed, unique),
        )
        failure = failures[0] if failures else None
        for card in known.values():
            if pci_address(card.info.pci_bus_id) in self._passed_through:
                card.mark_lost(PASSED_THROUGH)
            else:
                card.mark_lost(str(failure or NOT_ON_BUS), failure)

    def _release(self, why: str, wait_seconds: float, *, is_failure: bool = True) -> None:
        """Mark all GPUs as lost, and shut NVML down once no thread is inside a call.

        If a call does not return within `wait_seconds`, log the GPU and leave NVML initialized.
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
            log.warning("NVIDIA driver not released: a GPU does not respond", extra={"gpus": names})
            return
        for card in self.cards:
            card.release_samples()
        try:
            self.driver.call("nvmlShutdown")
        except NvmlError as failure:
            log.warning("NVIDIA driver not released", extra={"error": str(failure)})
            return
        self._is_open = False
        if why == RELEASED:
            log.warning("NVIDIA driver released; GPUs can be reset")


def _duplicate_uuid_notes(listed: list[ListedGpu], unique: list[ListedGpu]) -> list[str]:
    """Return notes on GPUs that report the same UUID."""
    notes = []
    for uuid, count in Counter(each.info.device.id for each in listed).items():
        if count > 1:
            ids = [each.info.device.id for each in unique]
            others = sorted(each for each in ids if each.startswith(f"{uuid}@"))
            how = f"distinguished as {', '.join(others)}" if others else "read as one GPU"
            notes.append(f"{count} GPUs report the UUID {uuid}: {how}")
    return notes


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


class NvmlCollector:
    """Reads all NVIDIA GPUs of the machine, with a short timeout.

    Raises Unavailable if there is neither a GPU nor the library. A driver that is installed later,
    for example by an operator, is found at runtime. `boot_id` is that of the running kernel.
    """

    name = NAME

    def __init__(
        self, sysfs: str, clock: Clock, boot_id: str, look_seconds: float = DISCOVERY_SECONDS
    ) -> None:
        if not has_gpu_or_library(sysfs):
            raise Unavailable("no NVIDIA GPU found")
        import pynvml  # 20 ms that only machines with GPUs need

        self._clock = clock
        self._supervisor = NvmlSupervisor(pynvml, clock, sysfs, boot_id, look_seconds)
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

    def covers_cpu(self) -> bool:
        """Whether the counter of a GPU includes the energy of the processor and its memory."""
        self._start()
        return any(is_superchip(card.info.model) for card in self._supervisor.cards)

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
        drivers = [driver for card in self._supervisor.cards for driver in card.drivers]
        return total_call_stats([self._supervisor.driver, *drivers])

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


def has_gpu_or_library(sysfs: str) -> bool:
    """Whether there is an NVIDIA GPU on the bus, or the NVML library."""
    return _can_load() or bool(pci_gpus(sysfs))


def _can_load() -> bool:
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return False
    return True
