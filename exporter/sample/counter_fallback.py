"""Fallback to estimates for energy counters that do not increase, as in some virtual machines."""

import logging
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from exporter import units
from exporter.errors import ConfigError, Unavailable
from exporter.model.readings import Device, DeviceCollector, DeviceKind, Observation, Reading

log = logging.getLogger(__name__)

STUCK_NS = 20 * units.NANOSECONDS_PER_SECOND
"""Time awake without an increase after which a counter is considered stuck."""
MIN_BUSY_US = units.MICROSECONDS_PER_SECOND
"""CPU time used by the machine in that time, which requires energy."""
RECOVERY_READINGS = 3
"""Consecutive readings with an increase after which a counter is used again."""
STUCK_ERROR = (
    f"the energy counter has not increased for {units.seconds(STUCK_NS):.0f} s although the "
    "machine was busy, as in virtual machines that expose counters without updating them; until it "
    "increases, the energy is {instead}"
)


class _StuckSince(NamedTuple):
    """Start of the time in which a counter has not increased."""

    awake_ns: int
    busy_us: int
    """Busy CPU time of the machine since boot at that time."""


class StuckCounterFallback:
    """Watches the counters of one kind, and replaces them by an estimate while all are stuck.

    No energy is counted twice or lost: the estimate counts from the reading in which all counters
    were first seen unchanged, and the counters count again from the last reading of the estimate.
    If only some counters are stuck, their devices are reported as not up.

    `build` opens the estimate, and is called only when counters are stuck; None: no estimate is
    available. `busy_us` returns the busy CPU time of the machine since boot; it may raise OSError
    or ValueError.
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
        self._unchanged: dict[Device, _StuckSince] = {}
        """The counters that did not increase in their last reading."""
        self._first: tuple[Reading, ...] | None = None
        """Readings of the estimate when the last counter stopped; None: a counter increases."""
        self._is_replaced = False
        self._increases = 0
        """Consecutive readings with an increase."""
        self._held: tuple[Reading, ...] = ()
        """Readings of the counters from which they count again."""

    def apply(self, counted: Observation) -> Observation:
        """Return the observation with stuck counters replaced."""
        own = tuple(
            reading
            for reading in counted.readings
            if reading.device.kind is self._kind and reading.counter_uj is not None
        )
        increased = self._update(own)
        if self._is_replaced:
            return self._continue_estimate(counted, own, increased=increased)
        stuck = self._stuck(own)
        if self._first is not None and len(stuck) == len(self._unchanged):
            self._is_replaced, self._increases = True, 0
            log.warning("energy counters stuck; using estimate", extra={"kind": str(self._kind)})
            return self._replace(counted, self._first)
        held, self._held = self._held, ()
        return _without(counted._replace(readings=(*held, *counted.readings)), stuck, "unknown")

    def release(self) -> None:
        """Release the estimate."""
        if self._estimate is not None:
            self._estimate.release()

    def _update(self, own: Sequence[Reading]) -> bool:
        """Record which counters are unchanged; return whether any has increased."""
        increased = False
        for reading in own:
            last_uj = self._last_uj.get(reading.device)
            assert reading.counter_uj is not None
            self._last_uj[reading.device] = reading.counter_uj
            if last_uj != reading.counter_uj:
                increased = increased or last_uj is not None
                self._unchanged.pop(reading.device, None)
            elif reading.device not in self._unchanged:
                busy_us = self._busy_now_us()
                if busy_us is not None:
                    self._unchanged[reading.device] = _StuckSince(reading.awake_ns, busy_us)
        if not own or len(self._unchanged) < len(self._last_uj):
            self._first = None
        elif self._first is None:
            self._first = self._read_estimate()
        return increased

    def _read_estimate(self) -> tuple[Reading, ...]:
        """Open the estimate if necessary and return its readings; empty if there is none."""
        if self._estimate is None and self._build is not None:
            try:
                self._estimate = self._build()
            except (ConfigError, Unavailable) as error:
                log.warning("estimate not available", extra={"error": str(error)})
                self._build = None
        return self._estimate.read().readings if self._estimate is not None else ()

    def _stuck(self, own: Sequence[Reading]) -> set[Device]:
        """Return the devices whose counters are stuck."""
        candidates = {
            reading.device
            for reading in own
            if reading.device in self._unchanged
            and reading.awake_ns - self._unchanged[reading.device].awake_ns >= STUCK_NS
        }
        busy_us = self._busy_now_us() if candidates else None
        if busy_us is None:
            return set()
        return {
            device
            for device in candidates
            if busy_us - self._unchanged[device].busy_us >= MIN_BUSY_US
        }

    def _busy_now_us(self) -> int | None:
        try:
            return self._busy_us()
        except (OSError, ValueError):
            return None

    def _continue_estimate(
        self, counted: Observation, own: tuple[Reading, ...], *, increased: bool
    ) -> Observation:
        """Return the estimate, for the last time if the counters have recovered."""
        self._increases = self._increases + 1 if increased else 0
        if self._increases == RECOVERY_READINGS:
            log.info("energy counters recovered", extra={"kind": str(self._kind)})
            self._is_replaced, self._held = False, own
        return self._replace(counted, ())

    def _replace(self, counted: Observation, first: Sequence[Reading]) -> Observation:
        """Return the observation with the estimate in place of the counters."""
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


def _without(counted: Observation, stuck: Collection[Device], instead: str) -> Observation:
    """Return the observation without the counters of some devices."""
    if not stuck:
        return counted
    why = STUCK_ERROR.format(instead=instead)
    readings = (
        reading._replace(counter_uj=None, why=reading.why or why)
        if reading.device in stuck
        else reading
        for reading in counted.readings
    )
    return counted._replace(readings=tuple(readings), error=counted.error or why)


class CollectorWithFallback:
    """A collector of counters with a fallback for each kind of device."""

    def __init__(
        self, counters: DeviceCollector, fallbacks: Sequence[StuckCounterFallback]
    ) -> None:
        self.name = counters.name
        self._counters = counters
        self._fallbacks = fallbacks

    def read(self) -> Observation:
        """Read the counters, with estimates in place of stuck ones."""
        observation = self._counters.read()
        for fallback in self._fallbacks:
            observation = fallback.apply(observation)
        return observation

    def release(self) -> None:
        """Close all files."""
        self._counters.release()
        for fallback in self._fallbacks:
            fallback.release()
