"""Energy counters of all devices: counter states, energy intervals and device states."""

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
"""Time without a counter value after which power readings are integrated instead."""
MAX_INTEGRATION_NS = 300 * units.NANOSECONDS_PER_SECOND
"""Maximum time between two power readings for linear interpolation."""
MIN_SLEEP_NS = units.NANOSECONDS_PER_SECOND // 10
"""Minimum difference of the clocks that indicates a suspend; they are read one after the other."""
COUNTER_LIMIT_UJ = 2**63
"""Upper bound of counters: the journal stores 63 bits, and drivers report "unknown" above it."""
DEBT_REPAYMENT_DIVISOR = 10
"""At most 1/10 of an increment repays debt, so that a running workload is still charged."""


def advance_counter(
    state: CounterState | None, reading: Reading, info: DeviceInfo
) -> tuple[CounterState | None, Interval | None]:
    """Apply a reading to a counter state; return the new state and the energy interval, if any.

    `info.method` is `integrated` for a device that has no counter, whose power is integrated; any
    other value is the method of the energy from its counter.
    """
    reading = _without_implausible(reading, info)
    if reading.counter_uj is None and reading.power_watts is None:
        return state, None
    if state is None or state.epoch != reading.epoch:
        return _baseline(state, reading, info), None
    state = _without_sleep(state, reading)
    if reading.at_ns <= _booked_until(state):
        return state, None
    if info.method is Method.INTEGRATED:
        return _integrate_power_only(state, reading, info)
    if reading.counter_uj is None:
        return _substitute_power(state, reading, info)
    return _evaluate_counter(state, reading, reading.counter_uj, info)


def is_plausible_watts(watts: float, cap_watts: float) -> bool:
    """Whether a power is within the bound of plausible power of a device."""
    return 0 <= watts <= cap_watts  # False for NaN


def is_plausible_uj(counter_uj: int) -> bool:
    """Whether a counter value is within the range of any counter."""
    return 0 <= counter_uj < COUNTER_LIMIT_UJ


def _without_implausible(reading: Reading, info: DeviceInfo) -> Reading:
    """Return the reading without implausible values."""
    counter_uj, watts = reading.counter_uj, reading.power_watts
    if counter_uj is not None and not is_plausible_uj(counter_uj):
        reading = reading._replace(counter_uj=None)
    if watts is not None and not is_plausible_watts(watts, info.power_cap_watts):
        reading = reading._replace(power_watts=None)
    return reading


def _baseline(
    state: CounterState | None, reading: Reading, info: DeviceInfo
) -> CounterState | None:
    """Return the state from which counting begins; unchanged if the counter was not read."""
    raw_uj = 0 if info.method is Method.INTEGRATED else reading.counter_uj
    if raw_uj is None:
        return state
    return CounterState(
        device=reading.device,
        raw_uj=raw_uj,
        at_ns=reading.at_ns,
        epoch=reading.epoch,
        power_watts=reading.power_watts or 0.0,
        awake_ns=reading.awake_ns,
    )


def _without_sleep(state: CounterState, reading: Reading) -> CounterState:
    """Return the state with its times shifted by the time suspended since."""
    if not state.awake_ns or not reading.awake_ns:
        return state
    slept_ns = (reading.at_ns - reading.awake_ns) - (state.at_ns - state.awake_ns)
    if slept_ns < MIN_SLEEP_NS:
        return state
    return state._replace(
        at_ns=state.at_ns + slept_ns,
        suspect_at_ns=state.suspect_at_ns + slept_ns,
        provisional_at_ns=state.provisional_at_ns + slept_ns,
    )


def _evaluate_counter(
    state: CounterState, reading: Reading, raw_uj: int, info: DeviceInfo
) -> tuple[CounterState, Interval | None]:
    """Evaluate a counter reading: accept it, detect a reset or wrap, or hold it as suspect."""
    suspect_uj = state.suspect_uj
    increment = _increment(state, raw_uj, reading.at_ns, info)
    if suspect_uj is not None:
        suspect = state._replace(raw_uj=suspect_uj, at_ns=state.suspect_at_ns)
        fall = _increment(state, suspect_uj, suspect.at_ns, info)
        since = _increment(suspect, raw_uj, reading.at_ns, info)
        # An unchanged value does not confirm the suspect: counters also get stuck.
        grown_uj = since[0] if since is not None else 0
        if fall is not None and grown_uj > 0:
            return _book(state, reading, fall[0] + grown_uj, fall[1], info)
        if increment is None and raw_uj > suspect_uj and grown_uj > 0:
            return _book_reset(state, suspect, reading, raw_uj, info)
    if increment is not None and increment[1] is not CounterEvent.WRAP:
        delta_uj, event = increment
        if suspect_uj is not None:
            event = CounterEvent.GLITCH
        elif delta_uj == 0:  # possibly stuck; the difference is booked when it increases again
            return _substitute_power(state, reading, info)
        return _book(state, reading, delta_uj, event, info)
    held = state._replace(suspect_uj=raw_uj, suspect_at_ns=reading.at_ns)
    return _substitute_power(held, reading, info)


def _book_reset(
    state: CounterState, suspect: CounterState, reading: Reading, raw_uj: int, info: DeviceInfo
) -> tuple[CounterState, Interval]:
    """Book the value of a reset counter: all of it if plausible, since it restarted at 0."""
    elapsed_ns = reading.at_ns - state.at_ns
    if raw_uj <= _cap_uj(info, elapsed_ns) and not state.provisional_uj:
        return _book(state, reading, raw_uj, CounterEvent.RESET, info)
    # Part of it may have been booked from power readings, or the counter did not restart at 0.
    rebased = suspect._replace(provisional_uj=0)
    return _book(rebased, reading, raw_uj - suspect.raw_uj, CounterEvent.RESET, info)


def _increment(
    state: CounterState, raw_uj: int, at_ns: int, info: DeviceInfo
) -> tuple[int, CounterEvent | None] | None:
    """Return the energy since the last accepted value; None if it implies an implausible power."""
    delta_uj = raw_uj - state.raw_uj
    elapsed_ns = at_ns - state.at_ns
    cap_uj = _cap_uj(info, elapsed_ns)
    wrap_uj = info.wrap_uj
    # Firmware may report too small a range; a value above the range disproves it.
    if wrap_uj is None or max(raw_uj, state.raw_uj) >= wrap_uj:
        return (delta_uj, None) if 0 <= delta_uj <= cap_uj else None
    event = CounterEvent.WRAP if delta_uj < 0 else None
    delta_uj %= wrap_uj
    if delta_uj > cap_uj:
        return None
    most = (cap_uj - delta_uj) // wrap_uj
    if most == 0:
        return delta_uj, event
    expected_uj = units.energy_uj(state.power_watts, elapsed_ns)
    wraps = min(max(0, round((expected_uj - delta_uj) / wrap_uj)), most)
    return delta_uj + wraps * wrap_uj, CounterEvent.GAP


def _cap_uj(info: DeviceInfo, elapsed_ns: int) -> int:
    """Return the maximum plausible energy; the slack allows for irregular updates of counters."""
    slack_ns = units.NANOSECONDS_PER_SECOND // 5
    return units.energy_uj(info.power_cap_watts, elapsed_ns * 3 // 2 + slack_ns)


def _book(
    state: CounterState,
    reading: Reading,
    delta_uj: int,
    event: CounterEvent | None,
    info: DeviceInfo,
) -> tuple[CounterState, Interval]:
    """Book the increment of the counter, minus the energy already booked from power readings."""
    assert reading.counter_uj is not None
    increment_uj = delta_uj - state.provisional_uj
    debt_uj = state.debt_uj + max(0, -increment_uj)
    increment_uj = max(0, increment_uj)
    paid_uj = min(debt_uj, increment_uj // DEBT_REPAYMENT_DIVISOR)
    interval = Interval(
        device=reading.device,
        t0_ns=_booked_until(state),
        t1_ns=reading.at_ns,
        energy_uj=increment_uj - paid_uj,
        method=info.method,
        event=event,
        restart=state.restored,
        uncounted=state.uncounted,
    )
    power_watts = units.watts(delta_uj, reading.at_ns - state.at_ns)
    after = CounterState(
        device=reading.device,
        raw_uj=reading.counter_uj,
        at_ns=reading.at_ns,
        epoch=state.epoch,
        power_watts=min(power_watts, info.power_cap_watts),  # counters are updated irregularly
        debt_uj=debt_uj - paid_uj,
        awake_ns=reading.awake_ns,
    )
    return after, interval


def _substitute_power(
    state: CounterState, reading: Reading, info: DeviceInfo
) -> tuple[CounterState, Interval | None]:
    """Integrate power readings if the counter has been missing for COUNTER_TIMEOUT_NS."""
    if reading.power_watts is None or reading.at_ns - state.at_ns <= COUNTER_TIMEOUT_NS:
        return state, None
    interval = _integrate(state, reading, reading.power_watts, info)
    # An earlier suspect value would count the integrated energy again.
    fresh = state.suspect_at_ns == reading.at_ns
    after = state._replace(
        power_watts=reading.power_watts,
        provisional_uj=state.provisional_uj + interval.energy_uj,
        provisional_at_ns=reading.at_ns,
        suspect_uj=state.suspect_uj if fresh else None,
        restored=False,
    )
    return after, interval


def _integrate_power_only(
    state: CounterState, reading: Reading, info: DeviceInfo
) -> tuple[CounterState, Interval | None]:
    """Integrate the power of a device without a counter since the previous reading."""
    if reading.power_watts is None:
        return state, None
    interval = _integrate(state, reading, reading.power_watts, info)
    after = state._replace(
        at_ns=reading.at_ns,
        power_watts=reading.power_watts,
        restored=False,
        awake_ns=reading.awake_ns,
        uncounted=False,
    )
    return after, interval


def _integrate(
    state: CounterState, reading: Reading, power_watts: float, info: DeviceInfo
) -> Interval:
    """Integrate power by the trapezoidal rule; 0 over a gap above MAX_INTEGRATION_NS.

    An implausible last power, which a ledger of an earlier version may contain, is ignored.
    """
    t0_ns = _booked_until(state)
    elapsed_ns = reading.at_ns - t0_ns
    gap = elapsed_ns > MAX_INTEGRATION_NS
    is_known = is_plausible_watts(state.power_watts, info.power_cap_watts)
    mean_watts = (state.power_watts + power_watts) / 2 if is_known else power_watts
    return Interval(
        device=reading.device,
        t0_ns=t0_ns,
        t1_ns=reading.at_ns,
        energy_uj=0 if gap else units.energy_uj(mean_watts, elapsed_ns),
        method=Method.INTEGRATED,
        event=CounterEvent.GAP if gap else None,
        restart=state.restored,
        # Only the first integrated interval can include energy from before the counter reset.
        uncounted=state.uncounted and state.restored,
    )


def _booked_until(state: CounterState) -> int:
    return max(state.at_ns, state.provisional_at_ns)


log = logging.getLogger(__name__)

IMPLAUSIBLE_COUNTER = "the energy counter has an implausible value"
IMPLAUSIBLE_POWER = (
    "the power sensor reports {watts:,.0f} W; the plausible maximum is {cap_watts:,.0f} W"
)
HELD_READINGS = 3
"""Consecutive suspect readings after which a device is reported as not up."""
HELD_ERROR = (
    "the energy counter decreases, or increases faster than {watts:.0f} W, which is implausible; "
    "no energy is counted until two readings agree"
)
ACTIVITY_MAX_AGE_NS = 30 * units.NANOSECONDS_PER_SECOND
"""Time after which the last activity of a GPU expires."""


@dataclass(slots=True)
class _DeviceStatus:
    info: DeviceInfo
    events: Mapping[CounterEvent, int]
    """Replaced, never mutated, because published states share it."""
    good_ns: int
    """Time of the last accepted reading, or of the discovery of the device if there was none."""
    up: bool = False
    why: str = ""
    held: int = 0
    """Consecutive suspect readings without a power reading as a replacement."""


class EnergyCounters:
    """Computes energy intervals from observations, separately for each device."""

    def __init__(self, counter_states: Iterable[CounterState]) -> None:
        """Continue from the counter states of a previous process."""
        self._states = {state.device: state._replace(restored=True) for state in counter_states}
        self._statuses: dict[Device, _DeviceStatus] = {}
        self._gpu_activity: dict[Device, GpuActivity] = {}

    def advance(self, observation: Observation) -> tuple[Interval, ...]:
        """Apply an observation; return the energy intervals that it completes."""
        self._learn_devices(observation)
        if observation.gpu_activity or self._gpu_activity:
            self._gpu_activity = _recent_activity(
                {**self._gpu_activity, **{each.device: each for each in observation.gpu_activity}},
                observation.at_ns,
            )
        intervals = []
        for reading in observation.readings:
            interval = self._apply(self._statuses[reading.device], reading)
            if interval is not None:
                intervals.append(interval)
        return tuple(intervals)

    def counter_states(self) -> tuple[CounterState, ...]:
        """Return all counter states, including those of devices not seen recently."""
        return tuple(self._states.values())

    def infos(self) -> tuple[DeviceInfo, ...]:
        """Return all devices seen by this process."""
        return tuple(status.info for status in self._statuses.values())

    def counted(self) -> tuple[DeviceInfo, ...]:
        """Return all devices for which counting has begun."""
        return tuple(
            status.info for device, status in self._statuses.items() if device in self._states
        )

    def gpu_activity(self) -> Mapping[Device, GpuActivity]:
        """Return the last activity of each GPU, unless it has expired."""
        return self._gpu_activity

    def states(self, at_ns: int, powers: Mapping[Device, float]) -> tuple[DeviceState, ...]:
        """Return the state of every device at `at_ns`; `powers` are in watts."""
        return tuple(
            DeviceState(
                info=status.info,
                up=status.up,
                why=status.why,
                age_seconds=max(0.0, units.seconds(at_ns - status.good_ns)),
                power_watts=powers.get(device),
                events=status.events,
                activity=self._gpu_activity.get(device),
                is_counted=device in self._states,
            )
            for device, status in self._statuses.items()
        )

    def _learn_devices(self, observation: Observation) -> None:
        for info in observation.infos:
            status = self._statuses.get(info.device)
            if status is None:
                events = dict.fromkeys(_events_of(info), 0)
                self._statuses[info.device] = _DeviceStatus(info, events, observation.at_ns)
            else:
                status.info = info
        if observation.error:
            for status in self._statuses.values():
                if status.info.source == observation.source:
                    status.up, status.why = False, observation.error

    def _apply(self, status: _DeviceStatus, reading: Reading) -> Interval | None:
        if reading.counter_uj is not None and not is_plausible_uj(reading.counter_uj):
            reading = reading._replace(counter_uj=None, why=reading.why or IMPLAUSIBLE_COUNTER)
        cap_watts, watts = status.info.power_cap_watts, reading.power_watts
        if watts is not None and not is_plausible_watts(watts, cap_watts):
            reading = reading._replace(power_watts=None)
            if reading.counter_uj is None and not reading.why:
                reading = reading._replace(
                    why=IMPLAUSIBLE_POWER.format(watts=watts, cap_watts=cap_watts)
                )
        state, interval = advance_counter(self._states.get(reading.device), reading, status.info)
        if state is not None:
            self._states[reading.device] = state
        status.up = reading.counter_uj is not None or reading.power_watts is not None
        status.why = reading.why
        if status.up and state is not None and state.suspect_uj is None:
            status.good_ns = reading.at_ns
            status.held = 0
        elif status.up and reading.power_watts is None:
            self._hold_reading(status)
        if interval is not None and interval.event is not None:
            count = status.events.get(interval.event, 0)
            status.events = {**status.events, interval.event: count + 1}
        return interval

    def _hold_reading(self, status: _DeviceStatus) -> None:
        """Count a suspect reading; after HELD_READINGS in a row, report the device as not up."""
        status.held += 1
        if status.held < HELD_READINGS:
            return
        status.up, status.why = False, HELD_ERROR.format(watts=status.info.power_cap_watts)
        if status.held == HELD_READINGS:
            kind, name = status.info.device
            extra = {"device": f"{kind} {name}", "error": status.why}
            log.warning("device not counted", extra=extra)


def _recent_activity(
    activities: dict[Device, GpuActivity], at_ns: int
) -> dict[Device, GpuActivity]:
    return {
        device: activity
        for device, activity in activities.items()
        if at_ns - activity.at_ns <= ACTIVITY_MAX_AGE_NS
    }


def _events_of(info: DeviceInfo) -> tuple[CounterEvent, ...]:
    """Return the counter events that can occur on a device."""
    if info.method is Method.INTEGRATED:
        return (CounterEvent.GAP,)
    if info.wrap_uj is None:
        return (CounterEvent.RESET, CounterEvent.GLITCH, CounterEvent.GAP)
    return tuple(CounterEvent)
