"""What a run will have used when its work is done."""

from exporter.model.forecast import Forecast, forecast
from exporter.model.runs import Mark, Progress

START = Mark(done=0.0, at=100.0, energy_uj=500, carbon_ng=50)
HALF = Mark(done=50.0, at=200.0, energy_uj=1_500, carbon_ng=150)


def test_half_the_work_costs_as_much_again():
    assert forecast(Progress(100.0, START, HALF)) == Forecast(2_500, 250, 300.0)


def test_what_was_used_before_the_first_mark_is_not_multiplied():
    late = START._replace(energy_uj=1_000_500)
    ahead = forecast(Progress(100.0, late, HALF._replace(energy_uj=1_001_500)))
    assert ahead is not None
    assert ahead.energy_uj == 1_002_500


def test_work_that_is_done_costs_no_more():
    done = HALF._replace(done=100.0)
    assert forecast(Progress(100.0, START, done)) == Forecast(1_500, 150, 200.0)


def test_one_mark_tells_nothing():
    assert forecast(Progress(100.0, HALF, HALF)) is None
    assert forecast(None) is None
