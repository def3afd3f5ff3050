"""What a run is told by its program, until it is sent."""

import math

import pytest

from exporter.client.errors import BudgetExceeded
from exporter.client.run import Run


def test_amounts_add_up_and_results_replace_each_other():
    run = Run()
    run.count(tokens=3)
    run.count(tokens=4, requests=1)
    run.log(loss=0.5)
    run.log(loss=0.25, note="good")
    run.progress(1, 10)
    run.progress(2, 10)
    assert run.take_pending() == {
        "values": {"loss": 0.25, "note": "good"},
        "count": {"tokens": 7, "requests": 1},
        "progress": {"done": 2, "total": 10},
    }
    assert run.take_pending() == {}


def test_what_could_not_be_sent_is_sent_with_what_came_since():
    run = Run()
    run.count(tokens=3)
    run.log(loss=0.5)
    run.progress(1, 10)
    said = run.take_pending()
    run.count(tokens=4)
    run.log(loss=0.25)
    run.restore_pending(said)
    assert run.take_pending() == {
        "values": {"loss": 0.25},
        "count": {"tokens": 7},
        "progress": {"done": 1, "total": 10},
    }


class Tensor:
    def __float__(self):
        return 1.5


@pytest.mark.parametrize("value", [math.nan, math.inf, None, object(), [1]])
def test_what_is_no_number_is_left_out_and_said(value, caplog):
    run = Run()
    run.log(loss=value)
    run.count(tokens=value)
    assert run.take_pending() == {}
    assert "loss=" in caplog.text


def test_what_acts_as_a_number_is_one():
    run = Run()
    run.log(loss=Tensor(), best=True)
    assert run.take_pending() == {"values": {"loss": 1.5, "best": 1.0}}


def test_an_amount_never_falls():
    run = Run()
    run.count(tokens=-1)
    assert run.take_pending() == {}


def test_what_nobody_measured_is_no_zero():
    run = Run()
    assert math.isnan(run.energy_joules)
    assert math.isnan(run.energy_kwh)
    assert math.isnan(run.emissions_grams)


def test_numbers_come_from_the_record():
    run = Run()
    run.record = {"energy_joules": 7.2e6, "carbon_grams": 800.0}
    assert (run.energy_kwh, run.emissions_grams) == (2.0, 800.0)


def test_emissions_without_any_intensity_are_nan():
    run = Run()
    uses = [{"zone": None, "energy_uj": 7, "carbon_ng": 0}]
    run.record = {"energy_uj": 7, "carbon_grams": 0.0, "intensity": uses}
    assert math.isnan(run.emissions_grams)
    run.record["intensity"] = [*uses, {"zone": "SE", "energy_uj": 7, "carbon_ng": 0}]
    assert run.emissions_grams == 0.0


def test_a_budget_that_is_exceeded_stops_the_program_in_its_own_call_once():
    run = Run()
    run.pending_budget_error = BudgetExceeded("too much")
    with pytest.raises(BudgetExceeded, match="too much"):
        run.count(tokens=1)
    run.count(tokens=1)
    assert run.take_pending() == {"count": {"tokens": 2}}
