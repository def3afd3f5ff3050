"""What a run will have used when its work is done, from how far it has come."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from exporter.model.runs import Progress, ProgressMark

MAX_REMAINING_RATIO = 1e9
"""From less than one part in so many of what is left, nothing can be told."""
MAX_END_TIME = 1e11
"""Wall clock, seconds: the year 5138. What would end later than that has no end to speak of."""
MAX_SEGMENTS = 10
"""Between marks; when there are more, each two become one."""
MIN_SEGMENTS = 3
"""From fewer, no range can be told."""
STUDENT_T_QUANTILES = (4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Quantiles of Student's t for 95 of 100 on both sides, from two degrees of freedom on."""


class ForecastOutcome(NamedTuple):
    """What a run will have used on this node at its end."""

    energy_uj: int
    carbon_ng: int
    ends: float
    """Wall clock, seconds."""


class Forecast(NamedTuple):
    """The end of a run on this node, if it goes on as it did between its marks."""

    energy_uj: int
    carbon_ng: int
    ends: float
    """Wall clock, seconds."""
    low: ForecastOutcome | None = None
    """With `high`: what each of the three is between, with 95 of 100 runs that go on as unevenly
    as before; None: the marks are too few to say."""
    high: ForecastOutcome | None = None


def add_mark(progress: Progress | None, total: float, mark: ProgressMark) -> Progress:
    """Progress with one more mark. What falls back, or is another amount of work, begins anew.

    Marks on the way stay few: a stretch of work is closed when it is as long as the first one, and
    when there are too many, each two become one. So the marks of a long run are far apart, and
    what goes up and down within a stretch evens out.
    """
    if progress is None or progress.total != total or progress.last.done > mark.done:
        return Progress(total, mark, mark)
    _, first, last, between = progress
    shortest = (between[0] if between else last).done - first.done
    stretch = last.done - (between[-1] if between else first).done
    if stretch > 0 and stretch >= shortest and mark.done > last.done:
        between = (*between, last)
    if len(between) >= MAX_SEGMENTS:
        between = between[1::2]
    return Progress(total, first, mark, between)


def forecast(progress: Progress | None) -> Forecast | None:
    """The forecast; None where nothing was done yet between two marks, or next to nothing.

    None also as long as no energy was measured between them: marks that are closer together than
    two readings of the meters say nothing of what work costs, and not that it costs nothing. What
    each unit of work costs is taken from the marks alone, so neither the start of the run nor
    what it did before it was resumed counts twice.
    """
    if progress is None:
        return None
    total, first, last, between = progress
    done = last.done - first.done
    if done <= 0 or last.energy_uj <= first.energy_uj:
        return None
    left = max(0.0, total - last.done)
    if left > MAX_REMAINING_RATIO * done:
        return None
    ahead = left / done
    ends = last.at + (last.at - first.at) * ahead
    if ends > MAX_END_TIME:
        return None
    expected = ForecastOutcome(
        last.energy_uj + round((last.energy_uj - first.energy_uj) * ahead),
        last.carbon_ng + round((last.carbon_ng - first.carbon_ng) * ahead),
        ends,
    )
    return Forecast(*expected, *_range(expected, (first, *between, last), left))


def _range(
    expected: ForecastOutcome, marks: Sequence[ProgressMark], left: float
) -> tuple[ForecastOutcome, ForecastOutcome] | tuple[None, None]:
    """What the end is between; it is never less than what was used already."""
    if len(marks) <= MIN_SEGMENTS or any(b.done <= a.done for a, b in pairwise(marks)):
        return None, None
    last = marks[-1]
    energy_uj = _prediction_margin([(mark.done, mark.energy_uj) for mark in marks], left)
    carbon_ng = _prediction_margin([(mark.done, mark.carbon_ng) for mark in marks], left)
    seconds = _prediction_margin([(mark.done, mark.at) for mark in marks], left)
    if not (math.isfinite(energy_uj) and math.isfinite(carbon_ng) and seconds < MAX_END_TIME):
        return None, None
    low = ForecastOutcome(
        max(last.energy_uj, expected.energy_uj - round(energy_uj)),
        max(last.carbon_ng, expected.carbon_ng - round(carbon_ng)),
        max(last.at, expected.ends - seconds),
    )
    high = ForecastOutcome(
        expected.energy_uj + round(energy_uj),
        expected.carbon_ng + round(carbon_ng),
        expected.ends + seconds,
    )
    return low, high


def _prediction_margin(marks: Sequence[tuple[float, float]], left: float) -> float:
    """How far what comes may be from what is expected, from marks (done, used).

    Work costs the same in the mean, and its variance grows with its amount. What comes is as
    uneven as what was, and the mean itself is known as badly as so much work tells it.
    """
    stretches = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(marks)]
    done = marks[-1][0] - marks[0][0]
    mean = (marks[-1][1] - marks[0][1]) / done
    uneven = sum((used - mean * work) / work * (used - mean * work) for work, used in stretches)
    freedom = len(stretches) - 1
    quantile = STUDENT_T_QUANTILES[min(freedom, len(STUDENT_T_QUANTILES) + 1) - 2]
    return quantile * math.sqrt(uneven / freedom * left * (1 + left / done))
