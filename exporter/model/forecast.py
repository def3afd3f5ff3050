"""Forecast of a run's energy, carbon and end time from its progress."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from exporter.model.runs import Progress, ProgressMark

MAX_REMAINING_RATIO = 1e9
"""Maximum ratio of remaining to completed work for which a forecast is made."""
MAX_END_TIME = 1e11
"""Wall clock in seconds, the year 5138; a run that would end later has no forecast."""
MAX_SEGMENTS = 10
"""Maximum number of segments between marks; when there are more, pairs are merged."""
MIN_SEGMENTS = 3
"""Minimum number of segments for a prediction interval."""
STUDENT_T_QUANTILES = (4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Two-sided 95 % quantiles of Student's t distribution, from two degrees of freedom on."""


class ForecastOutcome(NamedTuple):
    """Totals of a run on this node at its end."""

    energy_uj: int
    carbon_ng: int
    ends: float
    """Wall clock, seconds."""


class Forecast(NamedTuple):
    """Expected totals of a run on this node at its end, extrapolated from its marks."""

    energy_uj: int
    carbon_ng: int
    ends: float
    """Wall clock, seconds."""
    low: ForecastOutcome | None = None
    """With `high`: 95 % prediction interval of each of the three values, assuming the same variance
    as before; None: too few marks."""
    high: ForecastOutcome | None = None


def add_mark(progress: Progress | None, total: float, mark: ProgressMark) -> Progress:
    """Add a mark to `progress`; start over if work decreases or `total` changes.

    The number of intermediate marks is bounded: a segment is closed when it is as long as the first
    one, and when there are too many segments, pairs are merged. The marks of a long run are thus
    far apart, and fluctuations within a segment average out.
    """
    if progress is None or progress.total != total or progress.last.done > mark.done:
        return Progress(total, mark, mark)
    _, first, last, between = progress
    shortest = (between[0] if between else last).done - first.done
    segment = last.done - (between[-1] if between else first).done
    if segment > 0 and segment >= shortest and mark.done > last.done:
        between = (*between, last)
    if len(between) >= MAX_SEGMENTS:
        between = between[1::2]
    return Progress(total, first, mark, between)


def forecast(progress: Progress | None) -> Forecast | None:
    """Return the forecast; None if no or too little work was done between two marks.

    Also None if no energy was measured between the marks: marks that are closer together than two
    readings of the counters do not show the energy per unit of work. The energy per unit of work is
    derived from the marks only, so that the startup of the run and work before it was resumed do
    not count.
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
    """Return the prediction interval; its lower end is at least what was used already."""
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
    """Return half the width of the 95 % prediction interval, from marks (done, used).

    Model: constant mean usage per unit of work, with a variance proportional to the amount of work.
    The result includes the variance of the remaining work and that of the estimated mean.
    """
    segments = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(marks)]
    done = marks[-1][0] - marks[0][0]
    mean = (marks[-1][1] - marks[0][1]) / done
    residuals = sum((used - mean * work) / work * (used - mean * work) for work, used in segments)
    freedom = len(segments) - 1
    quantile = STUDENT_T_QUANTILES[min(freedom, len(STUDENT_T_QUANTILES) + 1) - 2]
    return quantile * math.sqrt(residuals / freedom * left * (1 + left / done))
