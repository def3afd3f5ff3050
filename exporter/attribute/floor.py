"""The idle floor of a device: the power it draws when nothing runs, learned from quiet minutes."""

from typing import NamedTuple

from exporter import units

QUIET_SHARE = 0.05
QUIET_NS = 60 * units.NANOSECONDS_PER_SECOND


class Floor(NamedTuple):
    """What is known of one device's floor. `watts` is None until the first quiet minute."""

    watts: float | None = None
    quiet_ns: int = 0
    quiet_uj: int = 0
    looked_ns: int = 0
    """Of a GPU: when it was last seen that nobody was on it."""
    unsure_ns: int = 0
    unsure_uj: int = 0
    """Since then, and not known to be quiet until the next look says the same."""


def learn(floor: Floor, energy_uj: int, duration_ns: int, busy_share: float) -> Floor:
    """The floor after one more interval.

    Intervals at 5 % busy or less are gathered; each full minute of them is the new floor.
    """
    if busy_share > QUIET_SHARE or duration_ns <= 0:
        return floor
    quiet_ns = floor.quiet_ns + duration_ns
    quiet_uj = floor.quiet_uj + energy_uj
    if quiet_ns < QUIET_NS:
        return Floor(floor.watts, quiet_ns, quiet_uj)
    return Floor(units.watts(quiet_uj, quiet_ns))


def idle_uj(floor: Floor, energy_uj: int, duration_ns: int, busy_share: float) -> int:
    """The part of an interval's energy that the device would have drawn anyway.

    Until the floor is known: the part of CPU time that nobody used. Otherwise the first sleeping
    process on a quiet machine would be charged the whole package.
    """
    if floor.watts is None:
        return round(energy_uj * (1 - min(1.0, max(0.0, busy_share))))
    return min(energy_uj, units.energy_uj(floor.watts, duration_ns))


def learn_unoccupied(
    floor: Floor, energy_uj: int, duration_ns: int, quiet_at_ns: int | None
) -> Floor:
    """The floor of a GPU after one more interval; None: a process may have a context on it.

    `quiet_at_ns` is when the look was that saw none. Quiet minutes are without a break here, and
    what was drawn after a look counts when the next one has seen nobody either.
    """
    if quiet_at_ns is None:
        return Floor(floor.watts)
    if quiet_at_ns != floor.looked_ns:
        learnt = learn(floor, floor.unsure_uj, floor.unsure_ns, busy_share=0.0)
        floor = learnt._replace(looked_ns=quiet_at_ns, unsure_ns=0, unsure_uj=0)
    return floor._replace(
        unsure_ns=floor.unsure_ns + duration_ns, unsure_uj=floor.unsure_uj + energy_uj
    )


def unoccupied_uj(floor: Floor, energy_uj: int, duration_ns: int, *, is_quiet: bool) -> int | None:
    """The part of an interval's energy that a GPU draws with no process on it; None: not known.

    All of it where there is none.
    """
    if is_quiet:
        return energy_uj
    if floor.watts is None:
        return None
    return min(energy_uj, units.energy_uj(floor.watts, duration_ns))
