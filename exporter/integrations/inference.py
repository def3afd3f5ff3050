"""Energy and emissions of one inference, measured over repeated calls, with standard errors."""

import math
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from exporter.client import Run, track
from exporter.client.log import warn


class InferenceCost(NamedTuple):
    """Mean cost per inference; nan if not measured. Errors are nan if there was only one round."""

    grams: float
    grams_error: float
    """Standard error of the mean over the rounds."""
    joules: float
    joules_error: float
    seconds: float
    inferences: int
    rounds: int


class _Round(NamedTuple):
    """Totals of one round."""

    inferences: int
    seconds: float
    joules: float
    grams: float


def inference_cost(
    call: Callable[[], object],
    *,
    inferences_per_call: int = 1,
    rounds: int = 5,
    round_seconds: float = 2.0,
    name: str = "inference",
    **options: Any,
) -> InferenceCost:
    """Call a function repeatedly and return the cost per inference.

    A first call is not counted: it may compile or load something. Each of the `rounds` consists of
    the calls that start within `round_seconds`. All rounds are one run, counted separately from the
    enclosing run. `options` are those of `track`.
    """
    call()
    options = {"receipts": None, "progress": False, **options}
    results: list[_Round] = []
    for _ in range(rounds):
        tracker = track(name, **options)
        before = dict(tracker.start().record)
        calls, seconds = _repeat(call, round_seconds)
        tracker.run.count(inferences=calls * inferences_per_call)
        run = tracker.stop()
        options["run_id"], options["job_id"] = run.run_id, run.job_id
        results.append(_round(calls * inferences_per_call, seconds, before, run))
        if not run.is_measured:
            warn("the cost of an inference is unknown: the run is not measured")
            break
    return _cost(results)


def _repeat(call: Callable[[], object], seconds: float) -> tuple[int, float]:
    """Call for at least `seconds`; return the number of calls, at least one, and their time."""
    began = time.monotonic()
    calls = 0
    while not calls or time.monotonic() - began < seconds:
        call()
        calls += 1
    return calls, time.monotonic() - began


def _round(inferences: int, seconds: float, before: dict[str, Any], run: Run) -> _Round:
    """Return the round's totals; a continued run includes `before`, which is subtracted."""
    if not run.is_measured:
        return _Round(inferences, seconds, math.nan, math.nan)
    joules = run.energy_joules - before["energy_joules"]
    return _Round(inferences, seconds, joules, run.emissions_grams - before["carbon_grams"])


def _cost(rounds: list[_Round]) -> InferenceCost:
    inferences = sum(each.inferences for each in rounds)

    def mean_and_error(amounts: list[float]) -> tuple[float, float]:
        each = [amount / one.inferences for amount, one in zip(amounts, rounds, strict=True)]
        error = statistics.stdev(each) / math.sqrt(len(each)) if len(each) > 1 else math.nan
        return sum(amounts) / inferences, error

    grams, grams_error = mean_and_error([each.grams for each in rounds])
    joules, joules_error = mean_and_error([each.joules for each in rounds])
    seconds = sum(each.seconds for each in rounds) / inferences
    return InferenceCost(grams, grams_error, joules, joules_error, seconds, inferences, len(rounds))
