"""What is done when a budget is used up, and when it will be."""

import pytest

from exporter.client.errors import BudgetExceeded
from exporter.client.run import Run, RunBudget


def run_of(grams, low=None, high=None):
    """A run that has emitted so much, and is forecast to end between two others."""
    run = Run("bert")
    run.record = {"carbon_grams": grams, "forecast": None}
    if low is not None:
        ends = {"low": {"carbon_grams": low}, "high": {"carbon_grams": high}}
        run.record["forecast"] = {"carbon_grams": (low + high) / 2, **ends}
    return run


def test_a_budget_that_will_be_passed_is_said_once_and_again_when_it_is(caplog):
    budget = RunBudget(5.0, "warn", "warn")
    for _ in range(3):
        budget.check(run_of(1.0, 6.0, 10.0))
    said = "run bert is forecast to emit 8 g CO2eq (6 to 10) in total, of a budget of 5 g"
    assert [record.message for record in caplog.records] == [said]
    for _ in range(3):
        budget.check(run_of(6.0, 6.0, 10.0))
    assert [record.message for record in caplog.records] == [
        said,
        "run bert has emitted 6 g CO2eq of a budget of 5 g",
    ]


@pytest.mark.parametrize("ends", [(4.0, 40.0), (1.0, 2.0), (5.0, 6.0), (None, None)])
def test_a_budget_that_may_be_kept_is_not_mentioned(caplog, ends):
    RunBudget(5.0, "raise", "raise").check(run := run_of(1.0, *ends))
    assert run.pending_budget_error is None
    assert not caplog.text


def test_a_forecast_without_a_range_is_too_early_to_act_on():
    run = run_of(1.0)
    run.record["forecast"] = {"carbon_grams": 9.0, "low": None, "high": None}
    RunBudget(5.0, "raise", "raise").check(run)
    assert run.pending_budget_error is None


def test_each_has_an_action_of_its_own():
    asked = []
    budget = RunBudget(5.0, "raise", asked.append)
    budget.check(soon := run_of(1.0, 6.0, 10.0))
    assert (asked, soon.pending_budget_error) == ([soon], None)
    budget.check(over := run_of(9.0, 9.0, 10.0))
    assert asked == [soon]
    with pytest.raises(BudgetExceeded, match="has emitted 9 g"):
        over.check_budget()


@pytest.mark.parametrize("ends", [(), (9.0, 10.0)])
def test_a_budget_that_is_used_up_before_the_first_forecast_is_what_a_forecast_was_to_tell(ends):
    RunBudget(5.0, "warn", "raise").check(run := run_of(6.0, *ends))
    assert "has emitted 6 g" in str(run.pending_budget_error)
    asked = []
    budget = RunBudget(5.0, "raise", asked.append)
    for _ in range(2):
        budget.check(run := run_of(6.0))
    assert len(asked) == 1


def test_a_budget_that_is_used_up_before_the_first_forecast_is_said_once(caplog):
    RunBudget(5.0, "warn", "warn").check(run_of(6.0))
    assert len(caplog.records) == 1


def test_nothing_is_done_where_there_is_no_budget_or_no_number():
    RunBudget(None, "raise", "raise").check(run := run_of(1e9, 1e9, 1e9))
    RunBudget(5.0, "raise", "raise").check(Run("nothing is known"))
    assert run.pending_budget_error is None


def test_another_run_begins_with_nothing_said(caplog):
    budget = RunBudget(5.0, "warn", "warn")
    budget.check(run_of(6.0))
    budget.fresh_copy().check(run_of(6.0))
    assert len(caplog.records) == 2
