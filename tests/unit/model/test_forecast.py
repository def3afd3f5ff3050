"""Forecast of a run's totals from its progress."""

import random
from itertools import pairwise

import pytest

from exporter import units
from exporter.model.forecast import MAX_SEGMENTS, Forecast, add_mark, forecast
from exporter.model.runs import Progress, ProgressMark

START = ProgressMark(done=0.0, at=100.0, energy_uj=500, carbon_ng=50)
HALF = ProgressMark(done=50.0, at=200.0, energy_uj=1_500, carbon_ng=150)


def test_at_half_the_work_the_forecast_is_double():
    assert forecast(Progress(100.0, START, HALF)) == Forecast(2_500, 250, 300.0)


def test_usage_before_the_first_mark_is_not_extrapolated():
    late = START._replace(energy_uj=1_000_500)
    ahead = forecast(Progress(100.0, late, HALF._replace(energy_uj=1_001_500)))
    assert ahead is not None
    assert ahead.energy_uj == 1_002_500


def test_completed_work_has_no_remaining_cost():
    done = HALF._replace(done=100.0)
    assert forecast(Progress(100.0, START, done)) == Forecast(1_500, 150, 200.0)


@pytest.mark.parametrize("done", [5e-324, 1e-300, 1e-9])
def test_very_little_work_gives_no_forecast(done):
    least = START._replace(done=done, at=101.0)
    assert forecast(Progress(2.0**53, START, least)) is None
    assert forecast(Progress(2.0**53, START, least._replace(energy_uj=501))) is None


@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 50])
def test_no_forecast_before_energy_was_measured(epochs):
    assert forecast(steps(100.0, [0] * epochs, seconds=0.1)) is None
    ahead = forecast(steps(100.0, [*[0] * epochs, 1_000_000], seconds=0.1))
    assert ahead is not None
    assert ahead.energy_uj == round(1_000_000 * 100 / (epochs + 1))
    if ahead.low is not None:
        assert ahead.low.energy_uj < ahead.energy_uj < ahead.high.energy_uj


def test_a_stall_after_measured_work_keeps_the_forecast():
    ahead = forecast(steps(8.0, [500, 500, 0, 0]))
    assert ahead is not None
    assert ahead.energy_uj == 2_000


def test_an_end_beyond_the_maximum_time_gives_no_forecast():
    slow = START._replace(done=1.0, at=1e8)
    assert forecast(Progress(1e6, START, slow)) is None


def test_one_mark_gives_no_forecast():
    assert forecast(Progress(100.0, HALF, HALF)) is None
    assert forecast(None) is None


JOULES_PER_EPOCH = round(0.000038 * units.JOULES_PER_KWH * units.MICROJOULES_PER_JOULE)


def steps(total, costs, seconds=10.0):
    """Progress of a run that logged each of its steps, by the usage of each step."""
    used = 0
    progress = add_mark(None, total, ProgressMark(0.0, 0.0, 0, 0))
    for done, cost in enumerate(costs, 1):
        used += round(cost)
        progress = add_mark(
            progress, total, ProgressMark(float(done), seconds * done, used, 100 * used)
        )
    return progress


def test_a_thousand_epochs_cost_a_thousand_times_the_first():
    ahead = forecast(steps(1000.0, [JOULES_PER_EPOCH]))
    assert ahead is not None
    assert units.kwh(ahead.energy_uj) == pytest.approx(0.038, abs=1e-12)
    assert ahead.low is None


def test_constant_usage_has_a_range_of_zero_width():
    ahead = forecast(steps(100.0, [500] * 40))
    assert ahead is not None
    assert ahead.low == ahead.high == (50_000, 5_000_000, 1000.0)


def test_a_range_requires_three_segments():
    assert forecast(steps(9.0, [1, 2])).low is None
    assert forecast(steps(9.0, [1, 2, 3])).low is not None


def test_the_range_grows_with_variance_and_remaining_work():
    def width(total, *costs):
        ahead = forecast(steps(total, costs * 20))
        return ahead.high.energy_uj - ahead.low.energy_uj

    assert width(400.0, 1000, 3000, 2000) > width(400.0, 1900, 2100, 2000)
    assert width(400.0, 1000, 3000, 2000) > width(100.0, 1000, 3000, 2000)


def test_the_low_end_is_never_less_than_what_was_used():
    progress = steps(5.0, [10, 10_000, 10, 10])
    ahead = forecast(progress)
    assert ahead.low.energy_uj == progress.last.energy_uj


def test_ranges_cover_95_percent_of_outcomes():
    dice = random.Random(7)
    held = 0
    for _ in range(300):
        costs = [dice.gammavariate(4, 250_000) for _ in range(120)]
        ahead = forecast(steps(120.0, costs[:40]))
        held += ahead.low.energy_uj <= sum(map(round, costs)) <= ahead.high.energy_uj
    assert held / 300 == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize("stride", [1, 7, 1000])
def test_marks_are_bounded_ordered_and_evenly_spaced(stride):
    progress = None
    for done in range(0, 5000, stride):
        progress = add_mark(progress, 1e4, ProgressMark(float(done), done, done, done))
        marks = [mark.done for mark in (progress.first, *progress.between, progress.last)]
        assert len(progress.between) < MAX_SEGMENTS
        assert all(b > a for a, b in pairwise(marks)) or done == 0
    stretches = [b - a for a, b in pairwise(marks)][:-1]
    assert max(stretches) <= 2 * min(stretches)


def test_idle_time_belongs_to_its_segment():
    progress = None
    for at, done in enumerate([0, 0, 1, 1, 2, 3, 3, 3]):
        progress = add_mark(progress, 9.0, ProgressMark(float(done), float(at), at, at))
    marks = (progress.first, *progress.between, progress.last)
    assert [mark.done for mark in marks] == [0.0, 1.0, 2.0, 3.0]
    assert forecast(progress).low is not None


@pytest.mark.parametrize("least", [5e-324, 1e-300, 1e-9])
def test_a_very_short_segment_does_not_break_the_range(least):
    progress = None
    for at, done in enumerate([0.0, least, 2 * least, 1.0, 2.0]):
        progress = add_mark(progress, 9.0, ProgressMark(done, float(at), at * 10**12, at * 10**15))
    assert forecast(progress) is not None
