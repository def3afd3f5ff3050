"""What receipts say of a budget, and what the record itself has."""

import pytest

from exporter.model.ledger import Amount, FactorUse
from exporter.model.record import RunRecord
from exporter.model.record_document import record_to_json
from exporter.report import budget
from exporter.report.forms.registry import FORMS
from tests.unit.report.test_text import FACTOR, PARTS, RUN

GRAM_NG = 10**9


def record(carbon_grams, budget_grams, *, waits_uj=0, **changes):
    """Of a run that emitted so much."""
    run = RUN._replace(budget_grams=budget_grams, **changes)
    amount = Amount(3_000_000 + waits_uj, 0, round(carbon_grams * GRAM_NG))
    uses = [FactorUse(FACTOR, 3_000_000, amount.carbon_ng), FactorUse(None, waits_uj, 0)]
    parts = (PARTS[0]._replace(amount=amount),)
    return record_to_json(RunRecord(run, parts, tuple(uses), at=200.0, node="n1"))


@pytest.mark.parametrize(
    ("found", "text", "is_exceeded"),
    [
        (record(12.3, 10.0), "exceeded by 2.30 g: 12.3 g of 10.0 g emitted", True),
        (record(12.3, 500.0), "not exceeded: 12.3 g of 500 g used", False),
        (record(10.0, 10.0), "not exceeded: 10.0 g of 10.0 g used", False),
        (record(10.000001, 10.0), "exceeded by 0.001 mg: 10.0 g of 10.0 g emitted", True),
        (record(0.001, 0.0), "exceeded by 1.00 mg: 1.00 mg of 0 g emitted", True),
        (record(0.0, 0.0), "not exceeded: 0 g of 0 g used", False),
        (record(2500.0, 2000.0), "exceeded by 500 g: 2.50 kg of 2.00 kg emitted", True),
        (record(3.0, 10.0, ended=None), "3.00 g of 10.0 g used so far", False),
        (record(12.0, 10.0, ended=None), "exceeded by 2.00 g: 12.0 g of 10.0 g emitted", True),
        (record(3.0, 10.0, nodes=1), "not exceeded: 3.00 g of 10.0 g used", False),
        (
            record(3.0, 10.0, nodes=4),
            "3.00 g of 10.0 g used on 1 of the 4 nodes that the budget covers",
            None,
        ),
        (record(11.0, 10.0, nodes=4), "exceeded by 1.00 g: 11.0 g of 10.0 g emitted", True),
        (
            record(3.0, 10.0, waits_uj=5),
            "3.00 g of 10.0 g used so far; some energy has no intensity yet",
            None,
        ),
        (
            record(11.0, 10.0, waits_uj=5),
            "exceeded by 1.00 g: 11.0 g of 10.0 g emitted",
            True,
        ),
    ],
)
def test_a_receipt_says_whether_the_budget_was_exceeded(found, text, is_exceeded):
    assert budget.rows(found) == [("budget", text)]
    assert found["budget_exceeded"] is is_exceeded
    (line,) = [each for each in FORMS["text"].write(found).splitlines() if "budget" in each]
    assert line.split(maxsplit=1) == ["budget", text]


def test_without_a_budget_nothing_is_said():
    found = record(3.0, None)
    assert budget.rows(found) == []
    assert found["budget_exceeded"] is None
    assert "budget" not in FORMS["text"].write(found)


@pytest.mark.parametrize("form", ["text", "markdown", "latex", "html"])
def test_each_form_for_people_has_it(form):
    assert "exceeded by 2.30 g" in FORMS[form].write(record(12.3, 10.0))


def test_a_record_of_an_older_daemon_is_read():
    found = {k: v for k, v in record(12.3, 10.0).items() if k != "budget_exceeded"}
    assert budget.rows(found)[0][1].startswith("exceeded by 2.30 g")
    older = {k: v for k, v in found.items() if k != "budget_grams"}
    assert budget.rows(older) == []


def test_of_a_record_over_many_nodes_only_an_excess_is_sure():
    within = {**record(3.0, 10.0), "boundary": {}, "nodes": None}
    assert budget.rows(within) == [("budget", "at least 3.00 g of 10.0 g used")]
    over = {**within, "carbon_ng": 11 * GRAM_NG}
    assert budget.rows(over)[0][1].startswith("exceeded by 1.00 g")


def test_of_several_runs_those_over_their_budgets_are_named():
    runs = [
        {**record(grams, limit), "run_id": f"run-{number}"}
        for number, (grams, limit) in enumerate([(3.0, None), (12.0, 10.0), (3.0, 10.0)])
    ]
    assert budget.exceeding(runs) == ["run-1"]
    assert budget.exceeding(runs[:1]) is None
    assert budget.rows({"over_budget": ["run-1"], "runs": 3}) == [
        ("budget", "exceeded by 1 of 3 runs: run-1")
    ]
    assert budget.rows({"over_budget": [], "runs": 3}) == [("budget", "exceeded by no run")]
    ids = [f"r{number}" for number in range(7)]
    assert budget.rows({"over_budget": ids, "runs": 9})[0][1].endswith("r3, r4, ...")
