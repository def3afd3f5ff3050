"""The meters of all devices: where each counter stands, and how its device fares."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from exporter import units
from exporter.model.readings import (
    Device,
    DeviceInfo,
    Event,
    Interval,
    Method,
    Observation,
    Occupancy,
    Position,
    Reading,
)
from exporter.model.snapshot import DeviceState
from exporter.sample.counter import advance, is_plausible_uj, is_plausible_watts

log = logging.getLogger(__name__)

NO_COUNTER = "its counter shows a value that no counter has"
NO_POWER = "its sensor reports {watts:,.0f} W; at most {cap_watts:,.0f} W is plausible for it"
HELD_READINGS = 3
"""After so many readings in a row that were held back, a device is reported as not counting."""
HELD = (
    "its counter runs backwards or faster than {watts:.0f} W, which cannot be true; nothing is "
    "counted until two readings agree"
)
OCCUPANCY_NS = 30 * units.NANOSECONDS_PER_SECOND
"""How long a look at a GPU's processes stands when none comes after it."""


@dataclass(slots=True)
class _Meter:
    info: DeviceInfo
    events: Mapping[Event, int]
    """Replaced, never changed, so that a published state may share it."""
    good_ns: int
    """When a reading was last believed; when the device was first seen, until one is."""
    up: bool = False
    why: str = ""
    held: int = 0
    """Readings in a row that were held back and that no power reading replaced."""


class Meters:
    """Turns observations into intervals, one device at a time."""

    def __init__(self, positions: Iterable[Position]) -> None:
        """Go on from `positions`, which an earlier process left."""
        self._positions = {
            position.device: position._replace(restored=True) for position in positions
        }
        self._meters: dict[Device, _Meter] = {}
        self._occupancies: dict[Device, Occupancy] = {}

    def advance(self, observation: Observation) -> tuple[Interval, ...]:
        """The energy that `observation` settles; a device without news settles nothing."""
        self.learn(observation)
        intervals = []
        for reading in observation.readings:
            interval = self._take(self._meters[reading.device], reading)
            if interval is not None:
                intervals.append(interval)
        return tuple(intervals)

    def learn(self, observation: Observation) -> None:
        """Note which devices there are and who is on them, without their readings."""
        self._learn_devices(observation)
        if observation.occupancies or self._occupancies:
            self._occupancies = _fresh(
                {**self._occupancies, **{look.device: look for look in observation.occupancies}},
                observation.at_ns,
            )

    def positions(self) -> tuple[Position, ...]:
        """What must be kept to go on after a restart, devices not seen lately included."""
        return tuple(self._positions.values())

    def infos(self) -> tuple[DeviceInfo, ...]:
        """Every device seen by this process."""
        return tuple(meter.info for meter in self._meters.values())

    def counted(self) -> tuple[DeviceInfo, ...]:
        """Every device of which energy is known, if only from where on; others have no energy."""
        return tuple(
            meter.info for device, meter in self._meters.items() if device in self._positions
        )

    def occupancies(self) -> Mapping[Device, Occupancy]:
        """The last look at the processes of each GPU, where it is still good."""
        return self._occupancies

    def states(self, at_ns: int, powers: Mapping[Device, float]) -> tuple[DeviceState, ...]:
        """Every device as it is at `at_ns`, with the powers in watts that are known."""
        return tuple(
            DeviceState(
                info=meter.info,
                up=meter.up,
                why=meter.why,
                age_seconds=max(0.0, units.seconds(at_ns - meter.good_ns)),
                power_watts=powers.get(device),
                events=meter.events,
                occupancy=self._occupancies.get(device),
                is_counted=device in self._positions,
            )
            for device, meter in self._meters.items()
        )

    def _learn_devices(self, observation: Observation) -> None:
        for info in observation.infos:
            meter = self._meters.get(info.device)
            if meter is None:
                events = dict.fromkeys(_events_of(info), 0)
                self._meters[info.device] = _Meter(info, events, observation.at_ns)
            else:
                meter.info = info
        if observation.error:
            for meter in self._meters.values():
                if meter.info.source == observation.source:
                    meter.up, meter.why = False, observation.error

    def _take(self, meter: _Meter, reading: Reading) -> Interval | None:
        if reading.counter_uj is not None and not is_plausible_uj(reading.counter_uj):
            reading = reading._replace(counter_uj=None, why=reading.why or NO_COUNTER)
        cap_watts, watts = meter.info.power_cap_watts, reading.power_watts
        if watts is not None and not is_plausible_watts(watts, cap_watts):
            reading = reading._replace(power_watts=None)
            if reading.counter_uj is None and not reading.why:
                reading = reading._replace(why=NO_POWER.format(watts=watts, cap_watts=cap_watts))
        position, interval = advance(self._positions.get(reading.device), reading, meter.info)
        if position is not None:
            self._positions[reading.device] = position
        meter.up = reading.counter_uj is not None or reading.power_watts is not None
        meter.why = reading.why
        if meter.up and position is not None and position.suspect_uj is None:
            meter.good_ns = reading.at_ns
            meter.held = 0
        elif meter.up and reading.power_watts is None:
            self._hold(meter)
        if interval is not None and interval.event is not None:
            count = meter.events.get(interval.event, 0)
            meter.events = {**meter.events, interval.event: count + 1}
        return interval

    def _hold(self, meter: _Meter) -> None:
        """A reading was held back; a device of which that is true for long is not up."""
        meter.held += 1
        if meter.held < HELD_READINGS:
            return
        meter.up, meter.why = False, HELD.format(watts=meter.info.power_cap_watts)
        if meter.held == HELD_READINGS:
            kind, name = meter.info.device
            log.warning("nothing is counted", extra={"device": f"{kind} {name}", "why": meter.why})


def _fresh(looks: dict[Device, Occupancy], at_ns: int) -> dict[Device, Occupancy]:
    return {d: look for d, look in looks.items() if at_ns - look.at_ns <= OCCUPANCY_NS}


def _events_of(info: DeviceInfo) -> tuple[Event, ...]:
    """What can happen to a device of this sort."""
    if info.method is Method.INTEGRATED:
        return (Event.GAP,)
    if info.wrap_uj is None:
        return (Event.RESET, Event.GLITCH, Event.GAP)
    return tuple(Event)
