"""From two readings of one device to the energy between them, proof against what counters do.

A raw energy counter wraps, restarts, dips and comes back, or cannot be read for a while. Energy
is booked from the counter only when the power that it implies is plausible; anything else, and
every wrap, is held for one reading and judged by the next. What a counter still knows is never
lost, and nothing is booked that no counter or power reading vouches for. A machine that sleeps
draws no power that any of this could see, so the time between two readings is time awake.
"""

from exporter import units
from exporter.model.readings import DeviceInfo, Event, Interval, Method, Position, Reading

PENDING_NS = 30 * units.NANOSECONDS_PER_SECOND
"""How long a missing counter is waited for before power readings stand in for it."""
INTEGRABLE_NS = 300 * units.NANOSECONDS_PER_SECOND
"""Longest time between two power readings that a straight line may bridge."""
SLEEP_NS = units.NANOSECONDS_PER_SECOND // 10
"""Two clocks read one after the other may differ by less than this without a sleep."""
COUNTERS_END_UJ = 2**63
"""What no counter reaches: the journal keeps 63 bits, and drivers report "unknown" beyond them."""
DEBT_SHARE = 10
"""At most one part in this many of an increment goes to paying debt, so that no run rides free."""


def advance(
    position: Position | None, reading: Reading, info: DeviceInfo
) -> tuple[Position | None, Interval | None]:
    """The position after `reading`, and the energy that it settles, if any.

    `info.method` says what the device has: `integrated` means that it never has a counter and
    its power is integrated; any other is the method of the energy that its counter shows.
    """
    reading = _believed(reading, info)
    if reading.counter_uj is None and reading.power_watts is None:
        return position, None
    if position is None or position.epoch != reading.epoch:
        return _baseline(position, reading, info), None
    position = _without_sleep(position, reading)
    if reading.at_ns <= _booked_until(position):
        return position, None
    if info.method is Method.INTEGRATED:
        return _sum_power(position, reading, info)
    if reading.counter_uj is None:
        return _bridge(position, reading, info)
    return _count(position, reading, reading.counter_uj, info)


def is_plausible_watts(watts: float, cap_watts: float) -> bool:
    """Whether a device with this bound of plausible power can draw so much."""
    return 0 <= watts <= cap_watts  # no NaN is


def is_plausible_uj(counter_uj: int) -> bool:
    """Whether a counter can stand there, whatever it counts."""
    return 0 <= counter_uj < COUNTERS_END_UJ


def _believed(reading: Reading, info: DeviceInfo) -> Reading:
    """The reading without values that no device can have."""
    counter_uj, watts = reading.counter_uj, reading.power_watts
    if counter_uj is not None and not is_plausible_uj(counter_uj):
        reading = reading._replace(counter_uj=None)
    if watts is not None and not is_plausible_watts(watts, info.power_cap_watts):
        reading = reading._replace(power_watts=None)
    return reading


def _baseline(position: Position | None, reading: Reading, info: DeviceInfo) -> Position | None:
    """Where counting begins; a counter that has not been read yet cannot begin."""
    raw_uj = 0 if info.method is Method.INTEGRATED else reading.counter_uj
    if raw_uj is None:
        return position
    return Position(
        device=reading.device,
        raw_uj=raw_uj,
        at_ns=reading.at_ns,
        epoch=reading.epoch,
        power_watts=reading.power_watts or 0.0,
        awake_ns=reading.awake_ns,
    )


def _without_sleep(position: Position, reading: Reading) -> Position:
    """The position with its times moved on by what the machine has slept since."""
    if not position.awake_ns or not reading.awake_ns:
        return position
    slept_ns = (reading.at_ns - reading.awake_ns) - (position.at_ns - position.awake_ns)
    if slept_ns < SLEEP_NS:
        return position
    return position._replace(
        at_ns=position.at_ns + slept_ns,
        suspect_at_ns=position.suspect_at_ns + slept_ns,
        provisional_at_ns=position.provisional_at_ns + slept_ns,
    )


def _count(
    position: Position, reading: Reading, raw_uj: int, info: DeviceInfo
) -> tuple[Position, Interval | None]:
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
    if increment is not None and increment[1] is not Event.WRAP:
        delta_uj, event = increment
        if suspect_uj is not None:
            event = Event.GLITCH
        elif delta_uj == 0:  # it may be stuck; what it then owes is booked when it moves again
            return _bridge(position, reading, info)
        return _book(position, reading, delta_uj, event, info)
    held = position._replace(suspect_uj=raw_uj, suspect_at_ns=reading.at_ns)
    return _bridge(held, reading, info)


def _book_reset(
    position: Position, suspect: Position, reading: Reading, raw_uj: int, info: DeviceInfo
) -> tuple[Position, Interval]:
    """Book what a counter shows that has begun anew: at 0, so all of it, where that can be."""
    elapsed_ns = reading.at_ns - position.at_ns
    if raw_uj <= _cap_uj(info, elapsed_ns) and not position.provisional_uj:
        return _book(position, reading, raw_uj, Event.RESET, info)
    # Power readings may have stood in for a part of it, or it did not begin at 0.
    rebased = suspect._replace(provisional_uj=0)
    return _book(rebased, reading, raw_uj - suspect.raw_uj, Event.RESET, info)


def _increment(
    position: Position, raw_uj: int, at_ns: int, info: DeviceInfo
) -> tuple[int, Event | None] | None:
    """Energy since the last good counter, or None if no plausible power explains the reading."""
    delta_uj = raw_uj - position.raw_uj
    elapsed_ns = at_ns - position.at_ns
    cap_uj = _cap_uj(info, elapsed_ns)
    wrap_uj = info.wrap_uj
    # Firmware may report a range that is too small; a value beyond it disproves the range.
    if wrap_uj is None or max(raw_uj, position.raw_uj) >= wrap_uj:
        return (delta_uj, None) if 0 <= delta_uj <= cap_uj else None
    event = Event.WRAP if delta_uj < 0 else None
    delta_uj %= wrap_uj
    if delta_uj > cap_uj:
        return None
    most = (cap_uj - delta_uj) // wrap_uj
    if most == 0:
        return delta_uj, event
    expected_uj = units.energy_uj(position.power_watts, elapsed_ns)
    wraps = min(max(0, round((expected_uj - delta_uj) / wrap_uj)), most)
    return delta_uj + wraps * wrap_uj, Event.GAP


def _cap_uj(info: DeviceInfo, elapsed_ns: int) -> int:
    """Most energy that is plausible; the slack is for clocks and counters that tick unevenly."""
    slack_ns = units.NANOSECONDS_PER_SECOND // 5
    return units.energy_uj(info.power_cap_watts, elapsed_ns * 3 // 2 + slack_ns)


def _book(
    position: Position, reading: Reading, delta_uj: int, event: Event | None, info: DeviceInfo
) -> tuple[Position, Interval]:
    """Book what the counter shows beyond what power readings had already booked."""
    assert reading.counter_uj is not None
    increment_uj = delta_uj - position.provisional_uj
    debt_uj = position.debt_uj + max(0, -increment_uj)
    increment_uj = max(0, increment_uj)
    paid_uj = min(debt_uj, increment_uj // DEBT_SHARE)
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
    after = Position(
        device=reading.device,
        raw_uj=reading.counter_uj,
        at_ns=reading.at_ns,
        epoch=position.epoch,
        power_watts=min(power_watts, info.power_cap_watts),  # counters tick unevenly
        debt_uj=debt_uj - paid_uj,
        awake_ns=reading.awake_ns,
    )
    return after, interval


def _bridge(
    position: Position, reading: Reading, info: DeviceInfo
) -> tuple[Position, Interval | None]:
    """A trusted counter is missing: wait for it, then let power readings stand in."""
    if reading.power_watts is None or reading.at_ns - position.at_ns <= PENDING_NS:
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


def _sum_power(
    position: Position, reading: Reading, info: DeviceInfo
) -> tuple[Position, Interval | None]:
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
    position: Position, reading: Reading, power_watts: float, info: DeviceInfo
) -> Interval:
    """Trapezoid from the last known power to this one; nothing over a gap that is too long.

    A last power that is not plausible, as a ledger of an earlier version may hold, is not known.
    """
    t0_ns = _booked_until(position)
    elapsed_ns = reading.at_ns - t0_ns
    gap = elapsed_ns > INTEGRABLE_NS
    is_known = is_plausible_watts(position.power_watts, info.power_cap_watts)
    mean_watts = (position.power_watts + power_watts) / 2 if is_known else power_watts
    return Interval(
        device=reading.device,
        t0_ns=t0_ns,
        t1_ns=reading.at_ns,
        energy_uj=0 if gap else units.energy_uj(mean_watts, elapsed_ns),
        method=Method.INTEGRATED,
        event=Event.GAP if gap else None,
        restart=position.restored,
        # What power stands in for after the first interval was used since the counters began.
        uncounted=position.uncounted and position.restored,
    )


def _booked_until(position: Position) -> int:
    return max(position.at_ns, position.provisional_at_ns)
