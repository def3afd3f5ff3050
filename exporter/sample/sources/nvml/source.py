"""The collector `nvml`: energy, power and processes of NVIDIA GPUs."""

import ctypes
from collections.abc import Mapping

from exporter import units
from exporter.clock import Clock
from exporter.errors import Outdated, Unavailable
from exporter.model.readings import CallCost, Observation
from exporter.sample.sources.nvml.card import NO_FAILURES
from exporter.sample.sources.nvml.codes import Reaction
from exporter.sample.sources.nvml.driver import LIBRARY, total_costs
from exporter.sample.sources.nvml.inventory import NAME, is_module
from exporter.sample.sources.nvml.pci import address_of, cards
from exporter.sample.sources.nvml.supervisor import Supervisor
from exporter.worker import deadline, poll

LOOK_SECONDS = 10.0
"""How often the list of cards is asked for when nothing has failed."""
PATIENCE_SECONDS = 0.1
"""How long a tick waits for all cards together; one that hangs is waited for once."""
FIRST_PATIENCE_SECONDS = 2.0
"""The same for the driver's first answer, so that the first page has the GPUs."""
SICK_NS = 60 * units.NANOSECONDS_PER_SECOND
STOP_SECONDS = 1.0
SICK = (
    "{why}, on all GPUs for a minute. In a container the device files are gone, often since "
    "`systemctl daemon-reload` on the node: start the container anew, and hand in the devices by "
    "CDI or by name"
)
OUTDATED = "{why}; the library that this process has loaded fits no more, a new process is needed"


class Nvml:
    """Reads all NVIDIA GPUs of the machine without ever waiting long for any of them.

    Raises Unavailable where there is neither a card nor a library. A library or a driver that
    comes later, as an operator installs them on a node, is found then. `boot_id` is that of the
    running kernel.
    """

    name = NAME

    def __init__(
        self, sysfs: str, clock: Clock, boot_id: str, look_seconds: float = LOOK_SECONDS
    ) -> None:
        if not is_here(sysfs):
            raise Unavailable("there is no NVIDIA GPU here")
        import pynvml  # 20 ms that only machines with GPUs need

        self._clock = clock
        self._supervisor = Supervisor(pynvml, clock, sysfs, boot_id, look_seconds)
        self._is_started = False
        self._well_ns = clock.boottime_ns()

    def read(self) -> Observation:
        """All GPUs now. Raises Outdated if the driver was replaced under this process."""
        self._start()
        self._supervisor.remind()
        began_ns = self._clock.monotonic_ns()
        known = self._supervisor.cards
        for card in known:
            card.ask()
        until = deadline(PATIENCE_SECONDS)
        found = [card.reading(until) for card in known]
        readings = tuple(reading for _, reading in found)
        looks = tuple(look for card in known if (look := card.occupancy()) is not None)
        if self._supervisor.outdated:
            raise Outdated(OUTDATED.format(why=self._supervisor.outdated))
        whys = [reading.why for reading in readings if reading.why]
        failing = next((why for why in whys if why not in NO_FAILURES), "")
        resting = [
            f"GPU {address_of(card.info.pci_bus_id)} is {reading.why}"
            for card, reading in zip(known, readings, strict=True)
            if reading.why in NO_FAILURES
        ]
        return Observation(
            source=self.name,
            at_ns=self._clock.boottime_ns(),
            infos=tuple(info for info, _ in found),
            readings=readings,
            cost_seconds=units.seconds(self._clock.monotonic_ns() - began_ns),
            error=self._supervisor.why or failing,
            occupancies=looks,
            calls=self._calls(),
            sick=self._sick(),
            note="; ".join(dict.fromkeys((*self._supervisor.notes, *resting))),
        )

    def covers_cpu(self) -> bool:
        """Whether a GPU's counter has the energy of the processor and its memory in it."""
        self._start()
        return any(is_module(card.info.model) for card in self._supervisor.cards)

    def pause(self, seconds: float) -> None:
        """Let go of the driver for so long; the log says when, or which GPU does not let go."""
        self._supervisor.pause(seconds)

    def release(self) -> None:
        """Let go of the driver for good; a thread that hangs in it is left there."""
        if self._is_started:
            self._supervisor.stop(STOP_SECONDS)

    def _start(self) -> None:
        if self._is_started:
            return
        self._is_started = True
        self._supervisor.start()
        poll(lambda: self._supervisor.is_settled, FIRST_PATIENCE_SECONDS)

    def _calls(self) -> Mapping[str, CallCost]:
        drivers = [driver for card in self._supervisor.cards for driver in card.drivers]
        return total_costs([self._supervisor.driver, *drivers])

    def _sick(self) -> str:
        """The text of what cannot heal here, once it has lasted on all cards."""
        known = self._supervisor.cards
        failures = [card.failure for card in known if card.failure is not None]
        lasting = [f for f in failures if f.reaction is Reaction.ENVIRONMENT]
        now_ns = self._clock.boottime_ns()
        if not known or len(lasting) < len(known):
            self._well_ns = now_ns
        return SICK.format(why=lasting[0]) if now_ns - self._well_ns >= SICK_NS else ""


def is_here(sysfs: str) -> bool:
    """Whether there is a card, or a library that would know of one."""
    return _can_load() or bool(cards(sysfs))


def _can_load() -> bool:
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return False
    return True
