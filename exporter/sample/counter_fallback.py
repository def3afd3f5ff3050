"""Estimates that replace counters which exist and do not move, as in some virtual machines."""

import logging
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from exporter import units
from exporter.errors import ConfigError, Unavailable
from exporter.model.readings import Device, DeviceCollector, DeviceKind, Observation, Reading

log = logging.getLogger(__name__)

STUCK_NS = 20 * units.NANOSECONDS_PER_SECOND
"""How long a counter must stand still, the machine being awake."""
MIN_BUSY_US = units.MICROSECONDS_PER_SECOND
"""How much CPU time the machine must have used meanwhile: no processor does that for nothing."""
RECOVERY_READINGS = 3
"""In how many readings in a row a counter has to move before it is believed again."""
STUCK_ERROR = (
    f"its counter has not moved for {units.seconds(STUCK_NS):.0f} s though the machine was busy, "
    "as in a virtual machine that shows counters and does not count; until it moves its energy is "
    "{instead}"
)


class _StuckSince(NamedTuple):
    """Since when a counter has not moved."""

    awake_ns: int
    busy_us: int
    """CPU time of the machine until then."""


class StuckCounterFallback:
    """Watches the counters of one kind, and puts an estimate in their place while all are still.

    Nothing is counted twice and nothing is lost: the estimate counts from the reading in which all
    counters were first seen to be still, and they count again from the last of its readings. A
    counter that stands still beside others that move belongs to a device that is not up.

    `build` opens the estimate, and is called only where counters stand still; None where none is
    wanted. `busy_us` is the machine's busy CPU time since boot; it may raise OSError or ValueError.
    """

    def __init__(
        self,
        kind: DeviceKind,
        build: Callable[[], DeviceCollector] | None,
        busy_us: Callable[[], int],
    ) -> None:
        self._kind = kind
        self._build = build
        self._estimate: DeviceCollector | None = None
        self._busy_us = busy_us
        self._last_uj: dict[Device, int] = {}
        self._rests: dict[Device, _StuckSince] = {}
        """The counters that did not move in their last reading."""
        self._first: tuple[Reading, ...] | None = None
        """What the estimate was when the last of them came to rest; None: one moves."""
        self._is_replaced = False
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
        if self._is_replaced:
            return self._go_on(counted, own, moved=moved)
        still = self._still(own)
        if self._first is not None and len(still) == len(self._rests):
            self._is_replaced, self._moves = True, 0
            log.warning("energy counters do not move", extra={"kind": str(self._kind)})
            return self._replace(counted, self._first)
        held, self._held = self._held, ()
        return _without(counted._replace(readings=(*held, *counted.readings)), still, "unknown")

    def release(self) -> None:
        """Close what the estimate reads."""
        if self._estimate is not None:
            self._estimate.release()

    def _note(self, own: Sequence[Reading]) -> bool:
        """Take down which counters rest; whether any has moved."""
        moved = False
        for reading in own:
            last_uj = self._last_uj.get(reading.device)
            assert reading.counter_uj is not None
            self._last_uj[reading.device] = reading.counter_uj
            if last_uj != reading.counter_uj:
                moved = moved or last_uj is not None
                self._rests.pop(reading.device, None)
            elif reading.device not in self._rests:
                busy_us = self._busy_now_us()
                if busy_us is not None:
                    self._rests[reading.device] = _StuckSince(reading.awake_ns, busy_us)
        if not own or len(self._rests) < len(self._last_uj):
            self._first = None
        elif self._first is None:
            self._first = self._begin()
        return moved

    def _begin(self) -> tuple[Reading, ...]:
        """What the estimate is now, if there is one."""
        if self._estimate is None and self._build is not None:
            try:
                self._estimate = self._build()
            except (ConfigError, Unavailable) as error:
                log.warning("no estimate can replace the counters: %s", error)
                self._build = None
        return self._estimate.read().readings if self._estimate is not None else ()

    def _still(self, own: Sequence[Reading]) -> set[Device]:
        """The counters that rest for too long."""
        long = {
            reading.device
            for reading in own
            if reading.device in self._rests
            and reading.awake_ns - self._rests[reading.device].awake_ns >= STUCK_NS
        }
        busy_us = self._busy_now_us() if long else None
        if busy_us is None:
            return set()
        return {device for device in long if busy_us - self._rests[device].busy_us >= MIN_BUSY_US}

    def _busy_now_us(self) -> int | None:
        try:
            return self._busy_us()
        except (OSError, ValueError):
            return None

    def _go_on(self, counted: Observation, own: tuple[Reading, ...], *, moved: bool) -> Observation:
        """Estimate further, for the last time if the counters move again."""
        self._moves = self._moves + 1 if moved else 0
        if self._moves == RECOVERY_READINGS:
            log.info("energy counters move again", extra={"kind": str(self._kind)})
            self._is_replaced, self._held = False, own
        return self._replace(counted, ())

    def _replace(self, counted: Observation, first: Sequence[Reading]) -> Observation:
        """The observation with the estimate's devices in place of those of the counters."""
        own = {info.device for info in counted.infos if info.device.kind is self._kind}
        if self._estimate is None:
            return _without(counted, own, "unknown")
        estimated = self._estimate.read()
        devices = {info.device for info in estimated.infos}
        kept = _without(counted, own, "estimated")
        return kept._replace(
            infos=(*(info for info in kept.infos if info.device not in devices), *estimated.infos),
            readings=(
                *(reading for reading in kept.readings if reading.device not in devices),
                *first,
                *estimated.readings,
            ),
        )


def _without(counted: Observation, still: Collection[Device], instead: str) -> Observation:
    """The observation without what the counters of some devices show."""
    if not still:
        return counted
    why = STUCK_ERROR.format(instead=instead)
    readings = (
        reading._replace(counter_uj=None, why=reading.why or why)
        if reading.device in still
        else reading
        for reading in counted.readings
    )
    return counted._replace(readings=tuple(readings), error=counted.error or why)


class CollectorWithFallback:
    """A source of counters, with an estimate for each kind of device that can replace them."""

    def __init__(self, counters: DeviceCollector, standbys: Sequence[StuckCounterFallback]) -> None:
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
