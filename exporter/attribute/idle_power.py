"""Idle power of devices, learned from idle intervals, and the idle part of their energy."""

from typing import NamedTuple

from exporter import units

MAX_IDLE_BUSY_RATIO = 0.05
"""Fraction of CPU time in use up to which an interval is idle."""
LEARNING_NS = 60 * units.NANOSECONDS_PER_SECOND
"""Idle time whose mean power becomes the idle power."""


class IdlePower(NamedTuple):
    """The learned idle power of one device. `watts` is None until the first idle minute."""

    watts: float | None = None
    idle_ns: int = 0
    idle_uj: int = 0
    last_idle_at_ns: int = 0
    """Of a GPU: time of the last activity reading without a process."""
    unconfirmed_ns: int = 0
    unconfirmed_uj: int = 0
    """Energy since that reading; learned from only once the next reading shows no process."""


def learn_idle_power(
    idle_power: IdlePower, energy_uj: int, duration_ns: int, busy_ratio: float
) -> IdlePower:
    """Update idle power with one more interval.

    Intervals at most 5 % busy are collected; each full minute of them sets the idle power.
    """
    if busy_ratio > MAX_IDLE_BUSY_RATIO or duration_ns <= 0:
        return idle_power
    idle_ns = idle_power.idle_ns + duration_ns
    idle_uj = idle_power.idle_uj + energy_uj
    if idle_ns < LEARNING_NS:
        return IdlePower(idle_power.watts, idle_ns, idle_uj)
    return IdlePower(units.watts(idle_uj, idle_ns))


def idle_energy_uj(
    idle_power: IdlePower, energy_uj: int, duration_ns: int, busy_ratio: float
) -> int:
    """The part of an interval's energy that the device draws when idle.

    Until idle power has been learned, this is the unused fraction of CPU time. With no idle power
    known yet, charging everything would charge the first sleeping process for the whole package.
    """
    if idle_power.watts is None:
        return round(energy_uj * (1 - min(1.0, max(0.0, busy_ratio))))
    return min(energy_uj, units.energy_uj(idle_power.watts, duration_ns))


def learn_gpu_idle_power(
    idle_power: IdlePower, energy_uj: int, duration_ns: int, idle_at_ns: int | None
) -> IdlePower:
    """Update the idle power of a GPU with one more interval.

    `idle_at_ns` is the time of the activity reading that found no process; None: a process may
    have a context on the GPU. Idle minutes must be contiguous here, and energy drawn after a
    reading counts only when the next reading finds no process either.
    """
    if idle_at_ns is None:
        return IdlePower(idle_power.watts)
    if idle_at_ns != idle_power.last_idle_at_ns:
        learned = learn_idle_power(
            idle_power, idle_power.unconfirmed_uj, idle_power.unconfirmed_ns, busy_ratio=0.0
        )
        idle_power = learned._replace(
            last_idle_at_ns=idle_at_ns, unconfirmed_ns=0, unconfirmed_uj=0
        )
    return idle_power._replace(
        unconfirmed_ns=idle_power.unconfirmed_ns + duration_ns,
        unconfirmed_uj=idle_power.unconfirmed_uj + energy_uj,
    )


def gpu_idle_energy_uj(
    idle_power: IdlePower, energy_uj: int, duration_ns: int, *, is_idle: bool
) -> int | None:
    """The part of an interval's energy that a GPU draws without a process; None: unknown.

    All of it if no process has a context on the GPU.
    """
    if is_idle:
        return energy_uj
    if idle_power.watts is None:
        return None
    return min(energy_uj, units.energy_uj(idle_power.watts, duration_ns))
