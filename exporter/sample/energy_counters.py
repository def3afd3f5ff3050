"""The meters of all devices: where each counter stands, and how its device fares."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from exporter import units
from exporter.model.readings import (
    CounterEvent,
    CounterState,
    Device,
    DeviceInfo,
    GpuActivity,
    Interval,
    Method,
    Observation,
    Reading,
)
from exporter.model.snapshot import DeviceState

COUNTER_TIMEOUT_NS = 30 * units.NANOSECONDS_PER_SECOND
"""How long a missing counter is waited for before power readings stand in for it."""
MAX_INTEGRATION_NS = 300 * units.NANOSECONDS_PER_SECOND
"""Longest time between two power readings that a straight line may bridge."""
MIN_SLEEP_NS = units.NANOSECONDS_PER_SECOND // 10
"""Two clocks read one after the other may differ by less than this without a sleep."""
COUNTER_LIMIT_UJ = 2**63
"""What no counter reaches: the journal keeps 63 bits, and drivers report "unknown" beyond them."""
DEBT_REPAYMENT_DIVISOR = 10
"""At most one part in this many of an increment goes to paying debt, so that no run rides free."""


def advance_counter(
    position: CounterState | None, reading: Reading, info: DeviceInfo
) -> tuple[CounterState | None, Interval | None]:
    """The position after `reading`, and the energy that it settles, if any.

    `info.method` says what the device has: `integrated` means that it never has a counter and
    its power is integrated; any other is the method of the energy that its counter shows.
    """
    reading = _without_implausible(reading, info)
    if reading.counter_uj is None and reading.power_watts is None:
        return position, None
    if position is None or position.epoch != reading.epoch:
        return _baseline(position, reading, info), None
    position = _without_sleep(position, reading)
    if reading.at_ns <= _booked_until(position):
        return position, None
    if info.method is Method.INTEGRATED:
        return _integrate_power_only(position, reading, info)
    if reading.counter_uj is None:
        return _substitute_power(position, reading, info)
    return _evaluate_counter(position, reading, reading.counter_uj, info)


def is_plausible_watts(watts: float, cap_watts: float) -> bool:
    """Whether a device with this bound of plausible power can draw so much."""
    return 0 <= watts <= cap_watts  # no NaN is


def is_plausible_uj(counter_uj: int) -> bool:
    """Whether a counter can stand there, whatever it counts."""
    return 0 <= counter_uj < COUNTER_LIMIT_UJ


def _without_implausible(reading: Reading, info: DeviceInfo) -> Reading:
    """The reading without values that no device can have."""
    counter_uj, watts = reading.counter_uj, reading.power_watts
    if counter_uj is not None and not is_plausible_uj(counter_uj):
        reading = reading._replace(counter_uj=None)
    if watts is not None and not is_plausible_watts(watts, info.power_cap_watts):
        reading = reading._replace(power_watts=None)
    return reading


def _baseline(
    position: CounterState | None, reading: Reading, info: DeviceInfo
) -> CounterState | None:
    """Where counting begins; a counter that has not been read yet cannot begin."""
    raw_uj = 0 if info.method is Method.INTEGRATED else reading.counter_uj
    if raw_uj is None:
        return position
    return CounterState(
        device=reading.device,
        raw_uj=raw_uj,
        at_ns=reading.at_ns,
        epoch=reading.epoch,
        power_watts=reading.power_watts or 0.0,
        awake_ns=reading.awake_ns,
    )


def _without_sleep(position: CounterState, reading: Reading) -> CounterState:
    """The position with its times moved on by what the machine has slept since."""
    if not position.awake_ns or not reading.awake_ns:
        return position
    slept_ns = (reading.at_ns - reading.awake_ns) - (position.at_ns - position.awake_ns)
    if slept_ns < MIN_SLEEP_NS:
        return position
    return position._replace(
        at_ns=position.at_ns + slept_ns,
        suspect_at_ns=position.suspect_at_ns + slept_ns,
        provisional_at_ns=position.provisional_at_ns + slept_ns,
    )


def _evaluate_counter(
    position: CounterState, reading: Reading, raw_uj: int, info: DeviceInfo
) -> tuple[CounterState, Interval | None]:
    """Judge a counter reading: on the trend, on a new trend, or not to be trusted yet."""
    suspect_uj = position.suspect_uj
    increment = _increment(position, raw_uj, reading.at_ns, info)
    if suspect_uj is not None:
        suspect = position._replace(raw_uj=suspect_uj, at_ns=position.suspect_at_ns)
        fall = _increment(position, suspect_uj, suspect.at_ns, info)
        since = _increment(suspect, raw_uj, reading.at_ns, info)
        # A value that merely stays the same is no proof: counters also get stuck.
        grown_uj = since[0] if since is not None else 0
        if fall is not None and grown_uj > 0:
            return _book(position, reading, fall[0] + grown_uj, fall[1], info)
        if increment is None and raw_uj > suspect_uj and grown_uj > 0:
            return _book_reset(position, suspect, reading, raw_uj, info)
    if increment is not None and increment[1] is not CounterEvent.WRAP:
        delta_uj, event = increment
        if suspect_uj is not None:
            event = CounterEvent.GLITCH
        elif delta_uj == 0:  # it may be stuck; what it then owes is booked when it moves again
            return _substitute_power(position, reading, info)
        return _book(position, reading, delta_uj, event, info)
    held = position._replace(suspect_uj=raw_uj, suspect_at_ns=reading.at_ns)
    return _substitute_power(held, reading, info)


def _book_reset(
    position: CounterState, suspect: CounterState, reading: Reading, raw_uj: int, info: DeviceInfo
) -> tuple[CounterState, Interval]:
    """Book what a counter shows that has begun anew: at 0, so all of it, where that can be."""
    elapsed_ns = reading.at_ns - position.at_ns
    if raw_uj <= _cap_uj(info, elapsed_ns) and not position.provisional_uj:
        return _book(position, reading, raw_uj, CounterEvent.RESET, info)
    # Power readings may have stood in for a part of it, or it did not begin at 0.
    rebased = suspect._replace(provisional_uj=0)
    return _book(rebased, reading, raw_uj - suspect.raw_uj, CounterEvent.RESET, info)


def _increment(
    position: CounterState, raw_uj: int, at_ns: int, info: DeviceInfo
) -> tuple[int, CounterEvent | None] | None:
    """Energy since the last good counter, or None if no plausible power explains the reading."""
    delta_uj = raw_uj - position.raw_uj
    elapsed_ns = at_ns - position.at_ns
    cap_uj = _cap_uj(info, elapsed_ns)
    wrap_uj = info.wrap_uj
    # Firmware may report a range that is too small; a value beyond it disproves the range.
    if wrap_uj is None or max(raw_uj, position.raw_uj) >= wrap_uj:
        return (delta_uj, None) if 0 <= delta_uj <= cap_uj else None
    event = CounterEvent.WRAP if delta_uj < 0 else None
    delta_uj %= wrap_uj
    if delta_uj > cap_uj:
        return None
    most = (cap_uj - delta_uj) // wrap_uj
    if most == 0:
        return delta_uj, event
    expected_uj = units.energy_uj(position.power_watts, elapsed_ns)
    wraps = min(max(0, round((expected_uj - delta_uj) / wrap_uj)), most)
    return delta_uj + wraps * wrap_uj, CounterEvent.GAP


def _cap_uj(info: DeviceInfo, elapsed_ns: int) -> int:
    """Most energy that is plausible; the slack is for clocks and counters that tick unevenly."""
    slack_ns = units.NANOSECONDS_PER_SECOND // 5
    return units.energy_uj(info.power_cap_watts, elapsed_ns * 3 // 2 + slack_ns)


def _book(
    position: CounterState,
    reading: Reading,
    delta_uj: int,
    event: CounterEvent | None,
    info: DeviceInfo,
) -> tuple[CounterState, Interval]:
    """Book what the counter shows beyond what power readings had already booked."""
    assert reading.counter_uj is not None
    increment_uj = delta_uj - position.provisional_uj
    debt_uj = position.debt_uj + max(0, -increment_uj)
    increment_uj = max(0, increment_uj)
    paid_uj = min(debt_uj, increment_uj // DEBT_REPAYMENT_DIVISOR)
    interval = Interval(
        device=reading.device,
        t0_ns=_booked_until(position),
        t1_ns=reading.at_ns,
        energy_uj=increment_uj - paid_uj,
        method=info.method,
        event=event,
        restart=position.restored,
        uncounted=position.uncounted,
    )
    power_watts = units.watts(delta_uj, reading.at_ns - position.at_ns)
    after = CounterState(
        device=reading.device,
        raw_uj=reading.counter_uj,
        at_ns=reading.at_ns,
        epoch=position.epoch,
        power_watts=min(power_watts, info.power_cap_watts),  # counters tick unevenly
        debt_uj=debt_uj - paid_uj,
        awake_ns=reading.awake_ns,
    )
    return after, interval


def _substitute_power(
    position: CounterState, reading: Reading, info: DeviceInfo
) -> tuple[CounterState, Interval | None]:
    """A trusted counter is missing: wait for it, then let power readings stand in."""
    if reading.power_watts is None or reading.at_ns - position.at_ns <= COUNTER_TIMEOUT_NS:
        return position, None
    interval = _integrate(position, reading, reading.power_watts, info)
    # A suspect from before this reading would count again what has now been integrated.
    fresh = position.suspect_at_ns == reading.at_ns
    after = position._replace(
        power_watts=reading.power_watts,
        provisional_uj=position.provisional_uj + interval.energy_uj,
        provisional_at_ns=reading.at_ns,
        suspect_uj=position.suspect_uj if fresh else None,
        restored=False,
    )
    return after, interval


def _integrate_power_only(
    position: CounterState, reading: Reading, info: DeviceInfo
) -> tuple[CounterState, Interval | None]:
    """A device without a counter: every power reading settles the time since the one before."""
    if reading.power_watts is None:
        return position, None
    interval = _integrate(position, reading, reading.power_watts, info)
    after = position._replace(
        at_ns=reading.at_ns,
        power_watts=reading.power_watts,
        restored=False,
        awake_ns=reading.awake_ns,
        uncounted=False,
    )
    return after, interval


def _integrate(
    position: CounterState, reading: Reading, power_watts: float, info: DeviceInfo
) -> Interval:
    """Trapezoid from the last known power to this one; nothing over a gap that is too long.

    A last power that is not plausible, as a ledger of an earlier version may hold, is not known.
    """
    t0_ns = _booked_until(position)
    elapsed_ns = reading.at_ns - t0_ns
    gap = elapsed_ns > MAX_INTEGRATION_NS
    is_known = is_plausible_watts(position.power_watts, info.power_cap_watts)
    mean_watts = (position.power_watts + power_watts) / 2 if is_known else power_watts
    return Interval(
        device=reading.device,
        t0_ns=t0_ns,
        t1_ns=reading.at_ns,
        energy_uj=0 if gap else units.energy_uj(mean_watts, elapsed_ns),
        method=Method.INTEGRATED,
        event=CounterEvent.GAP if gap else None,
        restart=position.restored,
        # What power stands in for after the first interval was used since the counters began.
        uncounted=position.uncounted and position.restored,
    )


def _booked_until(position: CounterState) -> int:
    return max(position.at_ns, position.provisional_at_ns)


log = logging.getLogger(__name__)

IMPLAUSIBLE_COUNTER = "its counter shows a value that no counter has"
IMPLAUSIBLE_POWER = (
    "its sensor reports {watts:,.0f} W; at most {cap_watts:,.0f} W is plausible for it"
)
HELD_READINGS = 3
"""After so many readings in a row that were held back, a device is reported as not counting."""
HELD_ERROR = (
    "its counter runs backwards or faster than {watts:.0f} W, which cannot be true; nothing is "
    "counted until two readings agree"
)
ACTIVITY_MAX_AGE_NS = 30 * units.NANOSECONDS_PER_SECOND
"""How long a look at a GPU's processes stands when none comes after it."""


@dataclass(slots=True)
class _DeviceStatus:
    info: DeviceInfo
    events: Mapping[CounterEvent, int]
    """Replaced, never changed, so that a published state may share it."""
    good_ns: int
    """When a reading was last believed; when the device was first seen, until one is."""
    up: bool = False
    why: str = ""
    held: int = 0
    """Readings in a row that were held back and that no power reading replaced."""


class EnergyCounters:
    """Turns observations into intervals, one device at a time."""

    def __init__(self, counter_states: Iterable[CounterState]) -> None:
        """Go on from `positions`, which an earlier process left."""
        self._positions = {
            position.device: position._replace(restored=True) for position in counter_states
        }
        self._meters: dict[Device, _DeviceStatus] = {}
        self._occupancies: dict[Device, GpuActivity] = {}

    def advance(self, observation: Observation) -> tuple[Interval, ...]:
        """The energy that `observation` settles; a device without news settles nothing."""
        self.register(observation)
        intervals = []
        for reading in observation.readings:
            interval = self._take(self._meters[reading.device], reading)
            if interval is not None:
                intervals.append(interval)
        return tuple(intervals)

    def register(self, observation: Observation) -> None:
        """Note which devices there are and who is on them, without their readings."""
        self._learn_devices(observation)
        if observation.gpu_activity or self._occupancies:
            self._occupancies = _recent_activity(
                {**self._occupancies, **{look.device: look for look in observation.gpu_activity}},
                observation.at_ns,
            )

    def counter_states(self) -> tuple[CounterState, ...]:
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

    def gpu_activity(self) -> Mapping[Device, GpuActivity]:
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
                activity=self._occupancies.get(device),
                is_counted=device in self._positions,
            )
            for device, meter in self._meters.items()
        )

    def _learn_devices(self, observation: Observation) -> None:
        for info in observation.infos:
            meter = self._meters.get(info.device)
            if meter is None:
                events = dict.fromkeys(_events_of(info), 0)
                self._meters[info.device] = _DeviceStatus(info, events, observation.at_ns)
            else:
                meter.info = info
        if observation.error:
            for meter in self._meters.values():
                if meter.info.source == observation.source:
                    meter.up, meter.why = False, observation.error

    def _take(self, meter: _DeviceStatus, reading: Reading) -> Interval | None:
        if reading.counter_uj is not None and not is_plausible_uj(reading.counter_uj):
            reading = reading._replace(counter_uj=None, why=reading.why or IMPLAUSIBLE_COUNTER)
        cap_watts, watts = meter.info.power_cap_watts, reading.power_watts
        if watts is not None and not is_plausible_watts(watts, cap_watts):
            reading = reading._replace(power_watts=None)
            if reading.counter_uj is None and not reading.why:
                reading = reading._replace(
                    why=IMPLAUSIBLE_POWER.format(watts=watts, cap_watts=cap_watts)
                )
        position, interval = advance_counter(
            self._positions.get(reading.device), reading, meter.info
        )
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

    def _hold(self, meter: _DeviceStatus) -> None:
        """A reading was held back; a device of which that is true for long is not up."""
        meter.held += 1
        if meter.held < HELD_READINGS:
            return
        meter.up, meter.why = False, HELD_ERROR.format(watts=meter.info.power_cap_watts)
        if meter.held == HELD_READINGS:
            kind, name = meter.info.device
            log.warning("nothing is counted", extra={"device": f"{kind} {name}", "why": meter.why})


def _recent_activity(looks: dict[Device, GpuActivity], at_ns: int) -> dict[Device, GpuActivity]:
    return {d: look for d, look in looks.items() if at_ns - look.at_ns <= ACTIVITY_MAX_AGE_NS}


def _events_of(info: DeviceInfo) -> tuple[CounterEvent, ...]:
    """What can happen to a device of this sort."""
    if info.method is Method.INTEGRATED:
        return (CounterEvent.GAP,)
    if info.wrap_uj is None:
        return (CounterEvent.RESET, CounterEvent.GLITCH, CounterEvent.GAP)
    return tuple(CounterEvent)
