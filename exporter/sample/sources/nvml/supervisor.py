"""Begins and ends NVML, and keeps the list of cards: one thread, since all of that may hang."""

import logging
from collections import Counter
from typing import Any

from exporter.clock import Clock
from exporter.sample.sources.nvml.card import ASLEEP, PASSED_THROUGH, Card
from exporter.sample.sources.nvml.codes import NO_DRIVER, NO_PERMISSION, Reaction
from exporter.sample.sources.nvml.driver import Driver, Failure
from exporter.sample.sources.nvml.inventory import Found, inventory, with_unique_ids
from exporter.sample.sources.nvml.pci import PciCard, address_of, cards
from exporter.units import NANOSECONDS_PER_SECOND
from exporter.worker import Worker, deadline, poll

log = logging.getLogger(__name__)

FIRST_BACKOFF_SECONDS = 1.0
LONGEST_BACKOFF_SECONDS = 60.0
IDLE_SECONDS = 5.0
"""How long cards are waited for before the driver is shut down under them."""
QUIET_NS = 60 * NANOSECONDS_PER_SECOND
"""How long no card may ask for a new beginning before the next one comes at once again."""
LAST_SECONDS = 0.5
"""The same when the exporter stops."""
REPORTED_AT_MOST = 3
"""Broken cards whose errors are reported at a time."""
GONE = "it is not on the bus any more"
PAUSED = "the driver is let go of for a while, as SIGUSR1 asked"


class Supervisor:
    """Keeps `cards` as the driver shows them; a card that was ever seen stays in the list."""

    def __init__(
        self, nvml: Any, clock: Clock, sysfs: str, epoch: str, look_seconds: float
    ) -> None:
        self.driver = Driver(nvml)
        self.cards: tuple[Card, ...] = ()
        self.why = "the driver has not answered yet"
        """Why there is no driver, or a card that it cannot describe; "": there is neither."""
        self.notes: tuple[str, ...] = ()
        """What a person should know of the cards that is no failure."""
        self.outdated = ""
        """Why this process can never use the driver again."""
        self._mismatched: set[Card] = set()
        """The cards that have reported this; one alone may be broken."""
        self._clock = clock
        self._sysfs = sysfs
        self._epoch = epoch
        self.is_settled = False
        """Whether the driver has answered once, well or not."""
        self._is_open = False
        self._begin_anew = False
        self._backoff = 0.0
        self._retry_ns = 0
        """Not before this is the driver tried again; 0: it works."""
        self._anew_ns = 0
        """Not before this is it begun anew while it works for some cards."""
        self._alarmed_ns = -QUIET_NS
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

    def alarm(self, card: Card, failure: Failure) -> None:
        """A card's thread met an error; look after it soon."""
        if failure.reaction is Reaction.PROCESS:
            self._mismatched.add(card)
            if self._mismatched.issuperset(self.cards):
                self.outdated = str(failure)
        elif failure.reaction is Reaction.LIBRARY:
            self._begin_anew = True
            self._alarmed_ns = self._clock.boottime_ns()
        else:  # a card that is lost is looked for at the next turn, with all others
            return
        self._worker.poke()

    def remind(self) -> None:
        """Take up at once what was to wait until now; the worker itself looks up more rarely."""
        due_ns = max(self._retry_ns, self._paused_until_ns)
        if due_ns and self._clock.boottime_ns() >= due_ns:
            self._worker.poke()

    def pause(self, seconds: float) -> None:
        """Let go of the driver for so long, so that a card can be reset."""
        pause_ns = round(seconds * NANOSECONDS_PER_SECOND)
        self._paused_until_ns = self._clock.boottime_ns() + pause_ns
        self._worker.poke()

    def stop(self, timeout_seconds: float) -> bool:
        """Let go of the driver; False if something hangs in it."""
        self._is_ending = True
        until = deadline(timeout_seconds)
        ended = [self._worker.stop(timeout_seconds)]
        ended += [card.stop(until) for card in self.cards]
        return all(ended)

    def _turn(self) -> None:
        self._look_after()
        self.is_settled = True

    def _look_after(self) -> None:
        now_ns = self._clock.boottime_ns()
        if self._is_ending:
            self._let_go("the exporter stops", LAST_SECONDS)
        elif now_ns < self._paused_until_ns:
            self._let_go(PAUSED, IDLE_SECONDS)
        elif now_ns >= self._retry_ns:
            self._paused_until_ns = 0
            self._look(now_ns, cards(self._sysfs))

    def _look(self, now_ns: int, seen: list[PciCard]) -> None:
        """List the cards, unless there is none that the driver could show, or all are asleep."""
        passed = [card.address for card in seen if card.is_passed_through]
        notes = tuple(f"GPU {address} is {PASSED_THROUGH}" for address in passed)
        self._passed = dict(zip(passed, notes, strict=True))
        if passed and len(passed) == len(seen):
            self._let_go(PASSED_THROUGH, IDLE_SECONDS, is_failure=False)
            self.notes = notes
        elif self._would_wake([card for card in seen if not card.is_foreign]):
            self.why, self.notes = "", notes if self.cards else (*notes, ASLEEP)
        else:
            self._list(now_ns, [card for card in seen if card.is_foreign])

    def _would_wake(self, seen: list[PciCard]) -> bool:
        """Whether to list the cards would wake one, and bring nothing new of those awake."""
        awake = [card for card in seen if not card.is_asleep]
        if len(awake) == len(seen):
            return False
        here = [card for card in self.cards if card.handle is not None]
        return not awake or (not self._begin_anew and len(here) >= len(seen))

    def _list(self, now_ns: int, foreign: list[PciCard]) -> None:
        if self._begin_anew and now_ns >= self._anew_ns:
            self._let_go("the driver is begun anew", IDLE_SECONDS)
            self._begin_anew = False
            self._anew_ns = self._clock.boottime_ns() + self._wait_ns()
        try:
            if not self._is_open:
                self.driver.call("nvmlInit")
                self._is_open = True
            found, failures = inventory(self.driver)
        except Failure as failure:
            self._fail(failure, foreign)
            return
        self._retry_ns = 0
        if any(failure.reaction is Reaction.LIBRARY for failure in failures):
            self._begin_anew = True
            self._alarmed_ns = now_ns
        if not self._begin_anew and now_ns - self._alarmed_ns >= QUIET_NS:
            self._backoff = 0.0
        self._update(found, failures)

    def _fail(self, failure: Failure, foreign: list[PciCard]) -> None:
        """No card can be reached; the next try is later each time."""
        if failure.reaction is Reaction.PROCESS:
            self.outdated = str(failure)
        self._begin_anew = failure.reaction is Reaction.LIBRARY and self._is_open
        self._retry_ns = self._clock.boottime_ns() + self._wait_ns()
        other = [
            f"GPU {card.address} has the driver {card.driver}"
            for card in foreign
            if failure.code in NO_DRIVER and not card.is_passed_through
        ]
        again = f"it is tried again in {self._backoff:.0f} s"
        self.why = "; ".join((str(failure), *other, again))
        self.notes = tuple(self._passed.values())
        for card in self.cards:
            card.lose(str(failure), failure)

    def _wait_ns(self) -> int:
        """How long to wait now, twice as long as the last time."""
        self._backoff = min(max(FIRST_BACKOFF_SECONDS, 2 * self._backoff), LONGEST_BACKOFF_SECONDS)
        return round(self._backoff * NANOSECONDS_PER_SECOND)

    def _update(self, found: list[Found], failures: list[Failure]) -> None:
        known = {card.info.device: card for card in self.cards}
        apart = with_unique_ids(found, [card.info for card in self.cards])
        for handle, info, layout in apart:
            card = known.pop(info.device, None)
            if card is None:
                card = Card(
                    info, self.driver.nvml, self._clock, self._epoch, self._sysfs, self.alarm
                )
                self.cards = (*self.cards, card)
            # One that was lost is given back only when it is shown again, by its UUID.
            card.found(handle, info, layout)
        # A container is shown the number of all cards, and may use some of them.
        barred = [each for each in failures if each.code == NO_PERMISSION and found]
        broken = [str(each) for each in failures if each not in barred]
        self.why = "; ".join(broken[:REPORTED_AT_MOST])
        self.notes = (*self._passed.values(), *map(str, barred), *_shared(found, apart))
        failure = failures[0] if failures else None
        for card in known.values():
            if address_of(card.info.pci_bus_id) in self._passed:
                card.lose(PASSED_THROUGH)
            else:
                card.lose(str(failure or GONE), failure)

    def _let_go(self, why: str, wait_seconds: float, *, is_failure: bool = True) -> None:
        """Shut NVML down when no card's thread is inside it; say which one does not let go."""
        self.why = why if is_failure else ""
        for card in self.cards:
            card.lose(why)
        if not self._is_open:
            return
        poll(lambda: not any(card.is_busy() for card in self.cards), wait_seconds)
        busy = [card for card in self.cards if card.is_busy()]
        if busy:
            names = ", ".join(f"GPU {card.info.ordinal} ({card.info.device.id})" for card in busy)
            log.warning("not let go of the driver: %s does not answer", names)
            return
        for card in self.cards:
            card.let_go()
        try:
            self.driver.call("nvmlShutdown")
        except Failure as failure:
            log.warning("the driver could not be let go of: %s", failure)
            return
        self._is_open = False
        if why == PAUSED:
            log.warning("the NVIDIA driver is let go of; GPUs can be reset now")


def _shared(found: list[Found], apart: list[Found]) -> list[str]:
    """Notes on cards that report one UUID."""
    notes = []
    for uuid, count in Counter(each.info.device.id for each in found).items():
        if count > 1:
            ids = [each.info.device.id for each in apart]
            others = sorted(each for each in ids if each.startswith(f"{uuid}@"))
            how = f"distinguished as {', '.join(others)}" if others else "they are read as one"
            notes.append(f"{count} GPUs report the UUID {uuid}: {how}")
    return notes
