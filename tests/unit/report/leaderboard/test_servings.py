"""What it costs to use the outcome of a run is told by runs of its own."""

import json

import pytest

from exporter.report.leaderboard.board import make_leaderboard
from exporter.report.leaderboard.entry import attach_serving_runs, make_entries
from exporter.report.leaderboard.formats import text_table, to_csv, to_json
from exporter.report.leaderboard.page import render_page
from exporter.report.leaderboard.plots import make_plots
from exporter.report.leaderboard.ranking import choose_criteria
from tests.unit.report.leaderboard.making import USE, logged, record


def serving(name, of, grams, inferences=100.0, **more):
    labels = {"serves": of}
    return record(name, grams, labels=labels, units={"inferences": inferences}, **more)


TRAINED = logged("knn", 5.0, accuracy=0.9), logged("mlp", 9.0, accuracy=0.8)
SERVED = (
    serving("knn-1", "knn", 1.0),
    serving("knn-2", "knn", 2.0, 300.0),
    serving("mlp-1", "mlp", 0.5),
)


def made(*records):
    found = attach_serving_runs(make_entries(records))
    return make_leaderboard(found, choose_criteria(found))


def rows(*records):
    return {row.entry.run_id: row for row in made(*records).rows}


def test_a_serving_run_is_no_row_and_not_in_the_grams_of_what_it_serves():
    found = rows(*TRAINED, *SERVED)
    assert {name: row.entry.grams for name, row in found.items()} == {"knn": 5.0, "mlp": 9.0}


def test_grams_per_units_are_those_of_all_serving_runs_with_their_spread():
    found = rows(*TRAINED, *SERVED)
    assert found["knn"].grams_per_units == pytest.approx(3.0 / 400 * 10_000)
    assert found["knn"].spread == pytest.approx((2.0 / 300 * 10_000, 100.0))
    assert (found["mlp"].grams_per_units, found["mlp"].spread) == (pytest.approx(50.0), None)


def test_what_the_training_itself_counted_is_told_where_no_serving_run_counted_it():
    trained = record("mlp", 4.0, units={"samples": 2_000.0})
    found = attach_serving_runs(make_entries([trained, serving("s", "mlp", 1.0)]))
    assert (
        make_leaderboard(found, choose_criteria(found, unit="samples")).rows[0].grams_per_units
        == 2.0
    )
    assert (
        make_leaderboard(found, choose_criteria(found, unit="inferences")).rows[0].grams_per_units
        == 100.0
    )


def test_of_two_runs_with_that_id_it_is_the_one_of_the_same_job_else_the_last():
    trained = [record("mlp", 4.0, job_id=job, started=float(job)) for job in ("1", "2", "3")]
    served = serving("s", "mlp", 1.0, job_id="2"), serving("late", "mlp", 1.0, job_id="9")
    found = attach_serving_runs(make_entries([*trained, *served]))
    used = {run.job_id: [each.run_id for each in run.serving_runs] for run in found}
    assert used == {"1": [], "2": ["s"], "3": ["late"]}


def test_what_serves_a_run_that_is_not_there_or_of_somebody_else_stays_by_itself():
    assert set(rows(*TRAINED, serving("s", "gone", 1.0))) == {"knn", "mlp", "s"}
    assert set(rows(*TRAINED, serving("s", "knn", 1.0, user="bob"))) == {"knn", "mlp", "s"}
    assert set(rows(serving("s", "s", 1.0))) == {"s"}


def test_without_all_grams_of_the_serving_runs_nothing_is_told():
    waiting = serving("knn-3", "knn", 1.0, use={**USE, "zone": None})
    assert rows(*TRAINED, *SERVED, waiting)["knn"].grams_per_units is None


def test_every_form_tells_the_spread():
    found = made(*TRAINED, *SERVED)
    assert "75.0 g (66.7 to 100)" in text_table(found)
    assert "75.0 g (66.7 to 100)" in render_page(found, make_plots(found), 0.0, "1")
    assert "3 runs used the result of another" in text_table(found)
    first, second = json.loads(to_json(found))["runs"]
    assert first["grams_per_units_most"] == pytest.approx(100.0)
    assert second["grams_per_units_most"] is None
    assert "grams_per_units_least" in to_csv(found).splitlines()[0]


def test_a_spread_is_in_the_unit_of_its_column():
    found = made(TRAINED[0], serving("a", "knn", 1.0, 10_000.0), serving("b", "knn", 0.0002, 100.0))
    assert "0.990 g (0.02 to 1.00)" in text_table(found)
