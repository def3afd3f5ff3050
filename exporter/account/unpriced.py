"""Which minutes without grams have a factor by now. Pure."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, islice

from exporter.model.intensity import Factor, Spell
from exporter.units import SECONDS_PER_MINUTE

MIDDLE_SECONDS = 30
AT_ONCE = 240
"""Minutes that are filled in at one time at most, so that no commit waits long for it."""


def factors_of(
    minutes: Sequence[int], spells: Callable[[float, float], Sequence[Spell]], wall: float
) -> dict[int, Factor]:
    """The factor that holds at the middle of each minute, for those that are over and have one.

    `minutes` rise. `spells` tells what holds when.
    """
    over = [minute for minute in minutes if minute + 1 < wall // SECONDS_PER_MINUTE]
    found: dict[int, Factor] = {}
    for first, last in _stretches(over):
        for t0, t1, factor in spells(first * SECONDS_PER_MINUTE, (last + 1) * SECONDS_PER_MINUTE):
            if factor is not None:
                found.update(dict.fromkeys(range(_first_after(t0), _first_after(t1)), factor))
    return dict(islice(found.items(), AT_ONCE))


def _stretches(minutes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and last of each row of minutes without a gap."""
    for _, group in groupby(enumerate(minutes), lambda pair: pair[1] - pair[0]):
        row = [minute for _, minute in group]
        yield row[0], row[-1]


def _first_after(at: float) -> int:
    """The first minute whose middle is not before `at`."""
    return math.ceil((at - MIDDLE_SECONDS) / SECONDS_PER_MINUTE)
