"""A run on a leaderboard is what all its nodes used."""

import math

import pytest

from exporter.report.leaderboard.entry import make_entries
from tests.unit.report.leaderboard.making import USE, entry, record

WAITING = {**USE, "zone": None}


def one(*records):
    (found,) = make_entries(records)
    return found


def test_records_of_two_nodes_are_one_run():
    found = one(record(grams=1.0, held=0.5), record(grams=3.0, node="n2", ended=1_300.0))
    assert (found.grams, found.held_uj, found.ended) == (4.0, 5_000_000_000, 1_300.0)
    assert found.nodes == {"n1", "n2"}


def test_of_two_records_of_a_node_the_last_counts():
    assert one(record(grams=3.0, at=2_000.0), record(grams=1.0)).grams == 3.0


def test_a_record_of_all_nodes_counts_instead_of_that_of_one():
    assert one(record(grams=1.0, at=9_000.0), record(grams=5.0, node="n1, n2")).grams == 5.0


@pytest.mark.parametrize("key", ["run_id", "job_id", "user"])
def test_runs_with_another_id_job_or_user_are_others(key):
    assert len(make_entries([record(), record(**{key: "other"})])) == 2


def test_it_is_open_while_one_node_is():
    assert one(record(), record(node="n2", ended=None)).ended is None


def test_units_add_up_and_the_last_result_stays():
    early = record(units={"tokens": 2.0}, logged={"loss": 9.0, "seed": 1.0})
    late = record(node="n2", at=2_000.0, units={"tokens": 3.0}, logged={"loss": 4.0})
    found = one(late, early)
    assert found.units == {"tokens": 5.0}
    assert found.logged == {"loss": 4.0, "seed": 1.0}


def test_energy_without_an_intensity_leaves_grams_incomplete():
    found = entry(use=WAITING)
    assert (found.unpriced_uj, found.is_complete, found.grams_per_kwh) == (10**10, False, None)


def test_without_uses_no_grams_are_unknown_grams():
    assert not entry(intensity=[], carbon_ng=0).is_complete
    assert entry(intensity=[]).is_complete


def test_the_mean_intensity_is_grams_over_energy():
    assert entry(grams=7.0).grams_per_kwh == pytest.approx(360.0)


def test_what_is_estimated_is_known_only_where_methods_are():
    assert entry(method="estimated").estimated_uj == 10**10
    assert entry().estimated_uj == 0
    assert entry(method=None).estimated_uj is None


@pytest.mark.parametrize("value", [math.nan, math.inf, "0.9", True, None])
def test_what_is_no_finite_number_is_no_result(value):
    assert entry(logged={"accuracy": value}).number("accuracy") is None


def test_grids_of_a_prometheus_are_those_of_its_boundary():
    boundary = {"grids": [{"grid_zone": "FR", "basis": "direct"}], "nodes_lost": ["n1"]}
    found = entry(intensity=[], boundary=boundary)
    assert {(grid.zone, grid.basis) for grid in found.grids} == {("FR", "direct")}
    assert found.lost
