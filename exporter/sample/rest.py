"""The rest of a node: the energy that its meter measures beyond its devices. Pure.

Three sums of integer microjoules are related exactly, at every moment:

    rest + devices (until `settled_ns`) = node + debt

`settled_ns` follows the node's meter at the distance of its lag. The debt is what the devices have
used more than the meter has shown, for example because its lag is not constant; it is subtracted
from the rest that follows, so no counter decreases. Rounding moves no energy out of the sums: a
piece of a device's interval is what remains of it.
"""

from collections.abc import Iterable
from typing import NamedTuple

from exporter.model.readings import CounterEvent, Interval
from exporter.units import NANOSECONDS_PER_SECOND

CLOSE_NS = NANOSECONDS_PER_SECOND
"""Distance below which intervals are added; a meter of the node is no more exact than that."""


class PartEnergy(NamedTuple):
    """Energy of the devices between two times."""

    t0_ns: int
    t1_ns: int
    energy_uj: int


class RestState(NamedTuple):
    """State after the last interval of the meter."""

    settled_ns: int
    """The energy of the devices until this time has been subtracted."""
    debt_uj: int = 0
    """Energy of the devices until `settled_ns` that the meter has not shown yet."""
    pending: tuple[PartEnergy, ...] = ()
    """Energy of the devices after `settled_ns`."""
    short_since_ns: int = 0
    """Time since which there has been a debt; 0: there is none."""
    begin_ns: int = 0
    """Beginning of the three sums; what the devices used before it is not counted."""


def add_parts(state: RestState, parts: Iterable[PartEnergy]) -> RestState:
    """Add intervals of the devices. What is before `settled_ns` is late, and becomes debt."""
    late_uj, pending = 0, list(state.pending)
    for part in parts:
        _, counted = _split(part, state.begin_ns)
        if counted is None:
            continue
        before_uj, after = _split(counted, state.settled_ns)
        late_uj += before_uj
        if after is not None and pending and _are_close(pending[-1], after):
            pending[-1] = _sum(pending[-1], after)
        elif after is not None:
            pending.append(after)
    return state._replace(debt_uj=state.debt_uj + late_uj, pending=tuple(pending))


def settle(state: RestState, node: Interval, lag_ns: int) -> tuple[RestState, int | None]:
    """Apply an interval of the meter; return the new state and the energy of the rest in it.

    The meter's interval describes what the devices used `lag_ns` earlier. The part of it before
    `settled_ns`, of which the devices are not known, is not counted. The energy is None if that is
    all of it, and over a gap, in which the meter has no value; a gap leaves no debt.
    """
    until_ns = node.t1_ns - lag_ns
    if until_ns <= state.settled_ns:
        return state, None
    begin_ns = node.t0_ns - lag_ns
    energy_uj = node.energy_uj
    if begin_ns < state.settled_ns:
        energy_uj = energy_uj * (until_ns - state.settled_ns) // (until_ns - begin_ns)
    used_uj, pending = 0, []
    for part in state.pending:
        before_uj, after = _split(part, until_ns)
        used_uj += before_uj
        if after is not None:
            pending.append(after)
    if node.event is CounterEvent.GAP and not energy_uj:
        return state._replace(
            settled_ns=until_ns, debt_uj=0, pending=tuple(pending), short_since_ns=0
        ), None
    owed_uj = state.debt_uj + used_uj
    debt_uj = max(0, owed_uj - energy_uj)
    short_since_ns = (state.short_since_ns or node.t1_ns) if debt_uj else 0
    after_interval = state._replace(
        settled_ns=until_ns,
        debt_uj=debt_uj,
        pending=tuple(pending),
        short_since_ns=short_since_ns,
    )
    return after_interval, max(0, energy_uj - owed_uj)


def _are_close(first: PartEnergy, second: PartEnergy) -> bool:
    """Whether two intervals begin and end at about the same time, as those of one tick."""
    return max(abs(first.t0_ns - second.t0_ns), abs(first.t1_ns - second.t1_ns)) < CLOSE_NS


def _sum(first: PartEnergy, second: PartEnergy) -> PartEnergy:
    """Return one interval for two that are close, so that there is not one per device and tick."""
    return PartEnergy(
        min(first.t0_ns, second.t0_ns),
        max(first.t1_ns, second.t1_ns),
        first.energy_uj + second.energy_uj,
    )


def _split(part: PartEnergy, at_ns: int) -> tuple[int, PartEnergy | None]:
    """Return the energy before `at_ns`, and what is after it, if anything."""
    if part.t1_ns <= at_ns:
        return part.energy_uj, None
    if part.t0_ns >= at_ns:
        return 0, part
    before_uj = part.energy_uj * (at_ns - part.t0_ns) // (part.t1_ns - part.t0_ns)
    return before_uj, PartEnergy(at_ns, part.t1_ns, part.energy_uj - before_uj)
