"""Estimates that replace counters which exist and do not move, as in some virtual machines."""

import logging
from collections.abc import Callable, Sequence

from exporter import units
from exporter.errors import ConfigError, Unavailable
from exporter.model.readings import Device, Kind, Observation, Reading, Sampler

log = logging.getLogger(__name__)

STILL_NS = 20 * units.NANOSECONDS_PER_SECOND
"""How long the counters of a kind must stand still, the machine being awake."""
BUSY_US = units.MICROSECONDS_PER_SECOND
"""How much CPU time the machine must have used meanwhile: no processor does that for nothing."""
MOVES = 3
"""In how many readings in a row a counter has to move before it is believed again."""
STILL = (
    "the {kind} counters have not moved for {seconds:.0f} s though the machine was busy, as in a "
    "virtual machine that shows them and does not count; its energy is {instead} until they move. "
    "Do without them by --no-collector.rapl"
)


class Standby:
    """Watches the counters of one kind, and puts an estimate in their place while they are still.

    Nothing is counted twice and nothing is lost: the estimate counts from the reading in which the
    counters were first seen to be still, and they count again from the last of its readings.

    `build` opens the estimate, and is called only where counters stand still; None where none is
    wanted. Without an estimate the devices are not up. `busy_us` is the machine's busy CPU time
    since boot; it may raise OSError or ValueError.
    """

    def __init__(
        self, kind: Kind, build: Callable[[], Sampler] | None, busy_us: Callable[[], int]
    ) -> None:
        self._kind = kind
        self._build = build
        self._estimate: Sampler | None = None
        self._busy_us = busy_us
        self._last: dict[Device, int | None] = {}
        self._since_ns: int | None = None
        """When the counters were first seen to be still."""
        self._busy_before_us = 0
        self._at_ns = 0
        self._first: tuple[Reading, ...] = ()
        """What the estimate was then."""
        self._still = False
        self._moves = 0
        self._held: tuple[Reading, ...] = ()
        """Of the counters, from which they count again."""

    def apply(self, counted: Observation) -> Observation:
        """What was observed, counters that stand still replaced."""
        own = tuple(
            reading
            for reading in counted.readings
            if reading.device.kind is self._kind and reading.counter_uj is not None
        )
        moved = self._note(own)
        if self._still:
            return self._while_still(counted, own, moved=moved)
        if own and self._have_stopped(own[-1].awake_ns, moved=moved):
            self._still, self._moves = True, 0
            log.warning("energy counters do not move", extra={"why": self._why()})
            return self._replace(counted, own, self._first)
        held, self._held = self._held, ()
        return counted._replace(readings=(*held, *counted.readings))

    def release(self) -> None:
        """Close what the estimate reads."""
        if self._estimate is not None:
            self._estimate.release()

    def _note(self, own: Sequence[Reading]) -> bool:
        """Remember the readings; whether any counter has moved, or was not seen before."""
        before = dict(self._last)
        self._last.update((reading.device, reading.counter_uj) for reading in own)
        return self._last != before

    def _have_stopped(self, at_ns: int, *, moved: bool) -> bool:
        """Whether the counters stand still for long while the machine works."""
        self._at_ns = at_ns
        if moved:
            self._since_ns = None
        elif self._since_ns is None:
            self._begin(at_ns)
        else:
            return at_ns - self._since_ns >= STILL_NS and self._was_busy()
        return False

    def _begin(self, at_ns: int) -> None:
        """Take down from when the counters may stand still."""
        try:
            self._busy_before_us = self._busy_us()
        except (OSError, ValueError):
            return
        self._since_ns = at_ns
        if self._estimate is None and self._build is not None:
            try:
                self._estimate = self._build()
            except (ConfigError, Unavailable) as error:
                log.warning("no estimate can replace the counters: %s", error)
                self._build = None
        self._first = self._estimate.read().readings if self._estimate is not None else ()

    def _was_busy(self) -> bool:
        try:
            return self._busy_us() - self._busy_before_us >= BUSY_US
        except (OSError, ValueError):
            return False

    def _while_still(
        self, counted: Observation, own: tuple[Reading, ...], *, moved: bool
    ) -> Observation:
        if own:
            self._at_ns = own[-1].awake_ns
        self._moves = self._moves + 1 if moved else 0
        replaced = self._replace(counted, own, ())
        if self._moves == MOVES:
            log.info("energy counters move again", extra={"kind": str(self._kind)})
            self._still, self._since_ns, self._held = False, None, own
        return replaced

    def _replace(
        self, counted: Observation, own: Sequence[Reading], first: Sequence[Reading]
    ) -> Observation:
        """The observation with the estimate's devices in place of those of the counters."""
        estimated = self._estimate.read() if self._estimate is not None else None
        infos, readings = (estimated.infos, estimated.readings) if estimated else ((), ())
        devices = {info.device for info in infos}
        why = self._why()
        kept = [
            # A counter without an estimate of its own is covered by that of another device.
            reading._replace(counter_uj=None, why=why) if reading in own else reading
            for reading in counted.readings
            if reading.device not in devices
        ]
        return counted._replace(
            infos=(*(info for info in counted.infos if info.device not in devices), *infos),
            readings=(*kept, *first, *readings),
            error=counted.error or why,
        )

    def _why(self) -> str:
        assert self._since_ns is not None
        return STILL.format(
            kind=self._kind,
            seconds=units.seconds(self._at_ns - self._since_ns),
            instead="estimated" if self._estimate is not None else "unknown",
        )


class CountersOrEstimates:
    """A source of counters, and an estimate for each kind that stands by."""

    def __init__(self, counters: Sampler, standbys: Sequence[Standby]) -> None:
        self.name = counters.name
        self._counters = counters
        self._standbys = standbys

    def read(self) -> Observation:
        """The counters now, or the estimates in place of those that stand still."""
        observation = self._counters.read()
        for standby in self._standbys:
            observation = standby.apply(observation)
        return observation

    def release(self) -> None:
        """Close every file."""
        self._counters.release()
        for standby in self._standbys:
            standby.release()
