"""What a run will have used when its work is done, from how far it has come."""

from typing import NamedTuple

from exporter.model.runs import Progress


class Forecast(NamedTuple):
    """The end of a run on this node, if it goes on as it did between its two marks."""

    energy_uj: int
    carbon_ng: int
    ends: float
    """Wall clock, seconds."""


def forecast(progress: Progress | None) -> Forecast | None:
    """The forecast; None where nothing was done yet between two marks.

    What each unit of work costs is taken from the marks alone, so neither the start of the run nor
    what it did before it was resumed counts twice.
    """
    if progress is None:
        return None
    total, first, last = progress
    done = last.done - first.done
    if done <= 0:
        return None
    ahead = max(0.0, total - last.done) / done
    return Forecast(
        last.energy_uj + round((last.energy_uj - first.energy_uj) * ahead),
        last.carbon_ng + round((last.carbon_ng - first.carbon_ng) * ahead),
        last.at + (last.at - first.at) * ahead,
    )
