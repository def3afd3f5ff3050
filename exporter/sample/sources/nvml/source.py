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
"""How long cards are waited for before the driver is shut down under them."""
BACKOFF_RESET_NS = 60 * NANOSECONDS_PER_SECOND
"""How long no card may ask for a new beginning before the next one comes at once again."""
SHUTDOWN_WAIT_SECONDS = 0.5
"""The same when the exporter stops."""
MAX_REPORTED_ERRORS = 3
"""Broken cards whose errors are reported at a time."""
NOT_ON_BUS = "it is not on the bus any more"
RELEASED = "the driver is let go of for a while, as SIGUSR1 asked"


class NvmlSupervisor:
    """Keeps `cards` as the driver shows them; a card that was ever seen stays in the list."""

    def __init__(
        self, nvml: Any, clock: Clock, sysfs: str, epoch: str, look_seconds: float
    ) -> None:
        self.driver = NvmlDriver(nvml)
        self.cards: tuple[Gpu, ...] = ()
        self.why = "the driver has not answered yet"
        """Why there is no driver, or a card that it cannot describe; "": there is neither."""
        self.notes: tuple[str, ...] = ()
        """What a person should know of the cards that is no failure."""
        self.library_mismatch = ""
        """Why this process can never use the driver again."""
        self._mismatched: set[Gpu] = set()
        """The cards that have reported this; one alone may be broken."""
        self._clock = clock
        self._sysfs = sysfs
        self._epoch = epoch
        self.has_answered_once = False
        """Whether the driver has answered once, well or not."""
        self._is_open = False
        self._begin_anew = False
        self._backoff = Backoff(MIN_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS)
        self._retry_ns = 0
        """Not before this is the driver tried again; 0: it works."""
        self._anew_ns = 0
        """Not before this is it begun anew while it works for some cards."""
        self._alarmed_ns = -BACKOFF_RESET_NS
        """When a card last asked for that."""
        self._paused_until_ns = 0
        """0: it is not to be let go of."""
        self._is_ending = False
        self._passed: dict[str, str] = {}
        """The notes of cards that are passed through, by address."""
        self._worker = Worker("gpus", self._turn, look_seconds)

    def start(self) -> None:
        """Begin, without waiting for the driver."""
        self._worker.start()

    def report_failure(self, card: Gpu, failure: NvmlError) -> None:
        """A card's thread met an error; look after it soon."""
        if failure.error_class is ErrorClass.PROCESS:
            self._mismatched.add(card)
            if self._mismatched.issuperset(self.cards):
                self.library_mismatch = str(failure)
        elif failure.error_class is ErrorClass.LIBRARY:
            self._begin_anew = True
            self._alarmed_ns = self._clock.boottime_ns()
        else:  # a card that is lost is looked for at the next turn, with all others
            return
        self._worker.wake()

    def wake_if_due(self) -> None:
        """Take up at once what was to wait until now; the worker itself looks up more rarely."""
        due_ns = max(self._retry_ns, self._paused_until_ns)
        if due_ns and self._clock.boottime_ns() >= due_ns:
            self._worker.wake()

    def release_for(self, seconds: float) -> None:
        """Let go of the driver for so long, so that a card can be reset."""
        pause_ns = round(seconds * NANOSECONDS_PER_SECOND)
        self._paused_until_ns = self._clock.boottime_ns() + pause_ns
        self._worker.wake()

    def stop(self, timeout_seconds: float) -> bool:
        """Let go of the driver; False if something hangs in it."""
        self._is_ending = True
        until = deadline(timeout_seconds)
        ended = [self._worker.stop(timeout_seconds)]
        ended += [card.stop(until) for card in self.cards]
        return all(ended)

    def _turn(self) -> None:
        self._look_after()
        self.has_answered_once = True

    def _look_after(self) -> None:
        now_ns = self._clock.boottime_ns()
        if self._is_ending:
            self._let_go("the exporter stops", SHUTDOWN_WAIT_SECONDS)
        elif now_ns < self._paused_until_ns:
            self._let_go(RELEASED, RELEASE_WAIT_SECONDS)
        elif now_ns >= self._retry_ns:
            self._paused_until_ns = 0
            self._look(now_ns, pci_gpus(self._sysfs))

    def _look(self, now_ns: int, seen: list[PciGpu]) -> None:
        """List the cards, unless there is none that the driver could show, or all are asleep."""
        passed = [card.address for card in seen if card.is_passed_through]
        notes = tuple(f"GPU {address} is {PASSED_THROUGH}" for address in passed)
        self._passed = dict(zip(passed, notes, strict=True))
        if passed and len(passed) == len(seen):
            self._let_go(PASSED_THROUGH, RELEASE_WAIT_SECONDS, is_failure=False)
            self.notes = notes
        elif self._would_wake([card for card in seen if not card.is_foreign]):
            self.why, self.notes = "", notes if self.cards else (*notes, ASLEEP)
        else:
            self._list(now_ns, [card for card in seen if card.is_foreign])

    def _would_wake(self, seen: list[PciGpu]) -> bool:
        """Whether to list the cards would wake one, and bring nothing new of those awake."""
        awake = [card for card in seen if not card.is_asleep]
        if len(awake) == len(seen):
            return False
        here = [card for card in self.cards if card.handle is not None]
        return not awake or (not self._begin_anew and len(here) >= len(seen))

    def _list(self, now_ns: int, foreign: list[PciGpu]) -> None:
        if self._begin_anew and now_ns >= self._anew_ns:
            self._let_go("the driver is begun anew", RELEASE_WAIT_SECONDS)
            self._begin_anew = False
            self._anew_ns = self._clock.boottime_ns() + self._wait_ns()
        try:
            if not self._is_open:
                self.driver.call("nvmlInit")
                self._is_open = True
            found, failures = list_gpus(self.driver)
        except NvmlError as failure:
            self._fail(failure, foreign)
            return
        self._retry_ns = 0
        if any(failure.error_class is ErrorClass.LIBRARY for failure in failures):
            self._begin_anew = True
            self._alarmed_ns = now_ns
        if not self._begin_anew and now_ns - self._alarmed_ns >= BACKOFF_RESET_NS:
            self._backoff.reset()
        self._update(found, failures)

    def _fail(self, failure: NvmlError, foreign: list[PciGpu]) -> None:
        """No card can be reached; the next try is later each time."""
        if failure.error_class is ErrorClass.PROCESS:
            self.library_mismatch = str(failure)
        self._begin_anew = failure.error_class is ErrorClass.LIBRARY and self._is_open
        self._retry_ns = self._clock.boottime_ns() + self._wait_ns()
        other = [
            f"GPU {card.address} has the driver {card.driver}"
            for card in foreign
            if failure.code in NO_DRIVER and not card.is_passed_through
        ]
        again = f"it is tried again in {self._backoff.seconds:.0f} s"
        self.why = "; ".join((str(failure), *other, again))
        self.notes = tuple(self._passed.values())
        for card in self.cards:
            card.mark_lost(str(failure), failure)

    def _wait_ns(self) -> int:
        """How long to wait now, twice as long as the last time."""
        return round(self._backoff.fail() * NANOSECONDS_PER_SECOND)

    def _update(self, found: list[ListedGpu], failures: list[NvmlError]) -> None:
        known = {card.info.device: card for card in self.cards}
        apart = with_unique_ids(found, [card.info for card in self.cards])
        for handle, info, layout in apart:
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
            # One that was lost is given back only when it is shown again, by its UUID.
            card.mark_found(handle, info, layout)
        # A container is shown the number of all cards, and may use some of them.
        barred = [each for each in failures if each.code == NO_PERMISSION and found]
        broken = [str(each) for each in failures if each not in barred]
        self.why = "; ".join(broken[:MAX_REPORTED_ERRORS])
        self.notes = (
            *self._passed.values(),
            *map(str, barred),
            *_duplicate_uuid_notes(found, apart),
        )
        failure = failures[0] if failures else None
        for card in known.values():
            if pci_address(card.info.pci_bus_id) in self._passed:
                card.mark_lost(PASSED_THROUGH)
            else:
                card.mark_lost(str(failure or NOT_ON_BUS), failure)

    def _let_go(self, why: str, wait_seconds: float, *, is_failure: bool = True) -> None:
        """Shut NVML down when no card's thread is inside it; say which one does not let go."""
        self.why = why if is_failure else ""
        for card in self.cards:
            card.mark_lost(why)
        if not self._is_open:
            return
        wait_until(lambda: not any(card.is_busy() for card in self.cards), wait_seconds)
        busy = [card for card in self.cards if card.is_busy()]
        if busy:
            names = ", ".join(f"GPU {card.info.ordinal} ({card.info.device.id})" for card in busy)
            log.warning("not let go of the driver: %s does not answer", names)
            return
        for card in self.cards:
            card.release_samples()
        try:
            self.driver.call("nvmlShutdown")
        except NvmlError as failure:
            log.warning("the driver could not be let go of: %s", failure)
            return
        self._is_open = False
        if why == RELEASED:
            log.warning("the NVIDIA driver is let go of; GPUs can be reset now")


def _duplicate_uuid_notes(found: list[ListedGpu], apart: list[ListedGpu]) -> list[str]:
    """Notes on cards that report one UUID."""
    notes = []
    for uuid, count in Counter(each.info.device.id for each in found).items():
        if count > 1:
            ids = [each.info.device.id for each in apart]
            others = sorted(each for each in ids if each.startswith(f"{uuid}@"))
            how = f"distinguished as {', '.join(others)}" if others else "they are read as one"
            notes.append(f"{count} GPUs report the UUID {uuid}: {how}")
    return notes


DISCOVERY_SECONDS = 10.0
"""How often the list of cards is asked for when nothing has failed."""
READ_TIMEOUT_SECONDS = 0.1
"""How long a tick waits for all cards together; one that hangs is waited for once."""
FIRST_READ_TIMEOUT_SECONDS = 2.0
"""The same for the driver's first answer, so that the first page has the GPUs."""
UNRECOVERABLE_NS = 60 * units.NANOSECONDS_PER_SECOND
STOP_SECONDS = 1.0
UNRECOVERABLE = (
    "{why}, on all GPUs for a minute. In a container the device files are gone, often since "
    "`systemctl daemon-reload` on the node: start the container anew, and hand in the devices by "
    "CDI or by name"
)
LIBRARY_MISMATCH = (
    "{why}; the library that this process has loaded fits no more, a new process is needed"
)


class NvmlCollector:
    """Reads all NVIDIA GPUs of the machine without ever waiting long for any of them.

    Raises Unavailable where there is neither a card nor a library. A library or a driver that
    comes later, as an operator installs them on a node, is found then. `boot_id` is that of the
    running kernel.
    """

    name = NAME

    def __init__(
        self, sysfs: str, clock: Clock, boot_id: str, look_seconds: float = DISCOVERY_SECONDS
    ) -> None:
        if not has_gpu_or_library(sysfs):
            raise Unavailable("there is no NVIDIA GPU here")
        import pynvml  # 20 ms that only machines with GPUs need

        self._clock = clock
        self._supervisor = NvmlSupervisor(pynvml, clock, sysfs, boot_id, look_seconds)
        self._is_started = False
        self._well_ns = clock.boottime_ns()

    def read(self) -> Observation:
        """All GPUs now. Raises Outdated if the driver was replaced under this process."""
        self._start()
        self._supervisor.wake_if_due()
        began_ns = self._clock.monotonic_ns()
        known = self._supervisor.cards
        for card in known:
            card.start_reading()
        until = deadline(READ_TIMEOUT_SECONDS)
        found = [card.reading(until) for card in known]
        readings = tuple(reading for _, reading in found)
        looks = tuple(look for card in known if (look := card.activity()) is not None)
        if self._supervisor.library_mismatch:
            raise RestartRequired(LIBRARY_MISMATCH.format(why=self._supervisor.library_mismatch))
        whys = [reading.why for reading in readings if reading.why]
        failing = next((why for why in whys if why not in BENIGN_ERRORS), "")
        resting = [
            f"GPU {pci_address(card.info.pci_bus_id)} is {reading.why}"
            for card, reading in zip(known, readings, strict=True)
            if reading.why in BENIGN_ERRORS
        ]
        return Observation(
            source=self.name,
            at_ns=self._clock.boottime_ns(),
            infos=tuple(info for info, _ in found),
            readings=readings,
            cost_seconds=units.seconds(self._clock.monotonic_ns() - began_ns),
            error=self._supervisor.why or failing,
            gpu_activity=looks,
            calls=self._calls(),
            sick=self._sick(),
            note="; ".join(dict.fromkeys((*self._supervisor.notes, *resting))),
        )

    def covers_cpu(self) -> bool:
        """Whether a GPU's counter has the energy of the processor and its memory in it."""
        self._start()
        return any(is_superchip(card.info.model) for card in self._supervisor.cards)

    def release_for(self, seconds: float) -> None:
        """Let go of the driver for so long; the log says when, or which GPU does not let go."""
        self._supervisor.release_for(seconds)

    def release(self) -> None:
        """Let go of the driver for good; a thread that hangs in it is left there."""
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

    def _sick(self) -> str:
        """The text of what cannot heal here, once it has lasted on all cards."""
        known = self._supervisor.cards
        failures = [card.failure for card in known if card.failure is not None]
        lasting = [f for f in failures if f.error_class is ErrorClass.ENVIRONMENT]
        now_ns = self._clock.boottime_ns()
        if not known or len(lasting) < len(known):
            self._well_ns = now_ns
        return (
            UNRECOVERABLE.format(why=lasting[0])
            if now_ns - self._well_ns >= UNRECOVERABLE_NS
            else ""
        )


def has_gpu_or_library(sysfs: str) -> bool:
    """Whether there is a card, or a library that would know of one."""
    return _can_load() or bool(pci_gpus(sysfs))


def _can_load() -> bool:
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return False
    return True
