"""Arithmetic of one energy counter: wraps, resets, suspect readings, suspends, integration."""

from typing import NamedTuple

from exporter import units
from exporter.model.readings import (
    CounterEvent,
    CounterState,
    DeviceInfo,
    Interval,
    Method,
    Reading,
)

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
IMPLAUSIBLE_COUNTER = "the energy counter has an implausible value"
IMPLAUSIBLE_POWER = (
    "the power sensor reports {watts:,.0f} W; the plausible maximum is {cap_watts:,.0f} W"
)


class Increment(NamedTuple):
    """Energy between two counter values, and the irregularity by which it was derived, if any."""

    energy_uj: int
    event: CounterEvent | None = None


def advance_counter(
    state: CounterState | None, reading: Reading, info: DeviceInfo
) -> tuple[CounterState | None, Interval | None]:
    """Apply a reading to a counter state; return the new state and the energy interval, if any.

    The reading must be plausible, as returned by `without_implausible`.
    `info.method` is `integrated` for a device that has no counter, whose power is integrated; any
    other value is the method of the energy from its counter.
    """
    if reading.counter_uj is None and reading.power_watts is None:
        return state, None
    if state is None or state.epoch != reading.epoch:
        return _baseline(state, reading, info), None
    state = _without_sleep(state, reading)
    if reading.at_ns <= _booked_until(state):
        return state, None
    if info.method is Method.INTEGRATED:
        return _integrate_without_counter(state, reading, info)
    if reading.counter_uj is None:
        return _integrate_while_counter_is_missing(state, reading, info)
    return _evaluate_counter(state, reading, reading.counter_uj, info)


def is_plausible_watts(watts: float, cap_watts: float) -> bool:
    """Whether a power is within the bound of plausible power of a device."""
    return 0 <= watts <= cap_watts  # False for NaN


def is_plausible_uj(counter_uj: int) -> bool:
    """Whether a counter value is within the range of any counter."""
    return 0 <= counter_uj < COUNTER_LIMIT_UJ


def without_implausible(reading: Reading, info: DeviceInfo) -> Reading:
    """Return the reading without implausible values; without any value, it has a reason."""
    if reading.counter_uj is not None and not is_plausible_uj(reading.counter_uj):
        reading = reading._replace(counter_uj=None, why=reading.why or IMPLAUSIBLE_COUNTER)
    cap_watts, watts = info.power_cap_watts, reading.power_watts
    if watts is not None and not is_plausible_watts(watts, cap_watts):
        reading = reading._replace(power_watts=None)
        if reading.counter_uj is None and not reading.why:
            reading = reading._replace(
                why=IMPLAUSIBLE_POWER.format(watts=watts, cap_watts=cap_watts)
            )
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
    """Evaluate a counter reading: accept it, detect a reset or wrap, or keep it as suspect."""
    suspect_uj = state.suspect_uj
    increment = _increment(state, raw_uj, reading.at_ns, info)
    if suspect_uj is not None:
        suspect = state._replace(raw_uj=suspect_uj, at_ns=state.suspect_at_ns)
        to_suspect = _increment(state, suspect_uj, suspect.at_ns, info)
        from_suspect = _increment(suspect, raw_uj, reading.at_ns, info)
        # An unchanged value does not confirm the suspect: counters also get stuck.
        grown_uj = from_suspect.energy_uj if from_suspect is not None else 0
        if to_suspect is not None and grown_uj > 0:
            delta_uj = to_suspect.energy_uj + grown_uj
            return _book(state, reading, Increment(delta_uj, to_suspect.event), info)
        if increment is None and raw_uj > suspect_uj and grown_uj > 0:
            return _book_reset(state, suspect, reading, raw_uj, info)
    if increment is not None and increment.event is not CounterEvent.WRAP:
        if suspect_uj is not None:
            increment = increment._replace(event=CounterEvent.GLITCH)
        elif (
            increment.energy_uj == 0
        ):  # possibly stuck; the difference is booked when it increases again
            return _integrate_while_counter_is_missing(state, reading, info)
        return _book(state, reading, increment, info)
    suspected = state._replace(suspect_uj=raw_uj, suspect_at_ns=reading.at_ns)
    return _integrate_while_counter_is_missing(suspected, reading, info)


def _book_reset(
    state: CounterState, suspect: CounterState, reading: Reading, raw_uj: int, info: DeviceInfo
) -> tuple[CounterState, Interval]:
    """Book the value of a reset counter: all of it if plausible, since it restarted at 0."""
    elapsed_ns = reading.at_ns - state.at_ns
    if raw_uj <= _cap_uj(info, elapsed_ns) and not state.provisional_uj:
        return _book(state, reading, Increment(raw_uj, CounterEvent.RESET), info)
    # Part of it may have been booked from power readings, or the counter did not restart at 0.
    rebased = suspect._replace(provisional_uj=0)
    return _book(rebased, reading, Increment(raw_uj - suspect.raw_uj, CounterEvent.RESET), info)


def _increment(state: CounterState, raw_uj: int, at_ns: int, info: DeviceInfo) -> Increment | None:
    """Return the energy since the last accepted value; None if it implies an implausible power.

    If the counter may have wrapped several times, the number of wraps is the one whose energy is
    the nearest to that at the power before.
    """
    delta_uj = raw_uj - state.raw_uj
    elapsed_ns = at_ns - state.at_ns
    cap_uj = _cap_uj(info, elapsed_ns)
    wrap_uj, event = info.unread_wrap_uj, None
    # Firmware may report too small a range; a value above the range disproves it.
    if info.wrap_uj is not None and max(raw_uj, state.raw_uj) < info.wrap_uj:
        wrap_uj, event = info.wrap_uj, CounterEvent.WRAP if delta_uj < 0 else None
        delta_uj %= wrap_uj
    if not 0 <= delta_uj <= cap_uj:
        return None
    # An increase above the range proves that another program has read the register in between.
    if wrap_uj is None or delta_uj >= wrap_uj or (most := (cap_uj - delta_uj) // wrap_uj) == 0:
        return Increment(delta_uj, event)
    expected_uj = units.energy_uj(state.power_watts, elapsed_ns)
    wraps = min(max(0, round((expected_uj - delta_uj) / wrap_uj)), most)
    return Increment(delta_uj + wraps * wrap_uj, CounterEvent.GAP)


def _cap_uj(info: DeviceInfo, elapsed_ns: int) -> int:
    """Return the maximum plausible energy; the slack allows for irregular updates of counters."""
    slack_ns = units.NANOSECONDS_PER_SECOND // 5
    return units.energy_uj(info.power_cap_watts, elapsed_ns * 3 // 2 + slack_ns)


def _book(
    state: CounterState, reading: Reading, increment: Increment, info: DeviceInfo
) -> tuple[CounterState, Interval]:
    """Book the increment of the counter, minus the energy already booked from power readings."""
    assert reading.counter_uj is not None
    increment_uj = increment.energy_uj - state.provisional_uj
    debt_uj = state.debt_uj + max(0, -increment_uj)
    increment_uj = max(0, increment_uj)
    paid_uj = min(debt_uj, increment_uj // DEBT_REPAYMENT_DIVISOR)
    interval = Interval(
        device=reading.device,
        t0_ns=_booked_until(state),
        t1_ns=reading.at_ns,
        energy_uj=increment_uj - paid_uj,
        method=info.method,
        event=increment.event,
        restart=state.restored,
        uncounted=state.uncounted,
    )
    power_watts = units.watts(increment.energy_uj, reading.at_ns - state.at_ns)
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


def _integrate_while_counter_is_missing(
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


def _integrate_without_counter(
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
