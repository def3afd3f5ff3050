"""Ranks, Pareto runs, results per gram."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import ConfigError
from exporter.report.leaderboard.entry import make_entries
from exporter.report.leaderboard.ranking import (
    RankingCriteria,
    SortKey,
    choose_criteria,
    pareto_optimal,
    rank_runs,
)
from tests.unit.report.leaderboard.making import USE, logged, record

FREE = {**USE, "grams_per_kwh": 0.0}
POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(-3, 3)), max_size=30)
RESULTS = st.none() | st.floats() | st.sampled_from([0.0, -1.0, 0.5, "0.5"])
RUNS = st.lists(
    st.builds(
        lambda grams, result, ended, units: record(
            grams=grams, logged={"accuracy": result}, ended=ended, units={"tokens": units}
        ),
        st.sampled_from([0.0, 0.001, 1.0, 2.0]),
        RESULTS,
        st.sampled_from([None, 1_100.0]),
        st.sampled_from([0, 5.0]),
    ),
    max_size=12,
)


def beats(one, other):
    """Whether a point (cost, worth) is at least as good in both, and better in one."""
    return one != other and one[0] <= other[0] and one[1] >= other[1]


@given(POINTS)
def test_best_are_those_that_no_other_beats(points):
    assert pareto_optimal(points) == [not any(beats(b, a) for b in points) for a in points]


@given(POINTS)
def test_a_point_that_is_not_best_is_beaten_by_one_that_is(points):
    best = [
        point
        for point, is_pareto_optimal in zip(points, pareto_optimal(points), strict=True)
        if is_pareto_optimal
    ]
    assert all(point in best or any(beats(b, point) for b in best) for point in points)


def named(runs):
    return [{**run, "run_id": f"run-{number}"} for number, run in enumerate(runs)]


def ranked(records, sort=SortKey.GRAMS, metric="accuracy", **more):
    return rank_runs(make_entries(records), RankingCriteria(sort, metric, **more))


@given(RUNS, st.sampled_from(SortKey))
def test_every_run_is_there_once_and_the_unranked_are_last(runs, sort):
    rows = ranked(named(runs), sort)
    assert sorted(row.entry.run_id for row in rows) == sorted(r["run_id"] for r in named(runs))
    ranks = [math.inf if row.rank is None else row.rank for row in rows]
    assert ranks == sorted(ranks)


@given(RUNS, st.sampled_from(SortKey), st.randoms())
def test_the_order_of_records_does_not_matter(runs, sort, order):
    records = named(runs)
    rows = ranked(records, sort)
    order.shuffle(records)
    assert ranked(records, sort) == rows


@given(RUNS, st.sampled_from(SortKey))
def test_nothing_is_infinite_or_no_number(runs, sort):
    for row in ranked(named(runs), sort, unit="tokens"):
        for value in (row.result, row.result_per_gram, row.grams_per_units):
            assert value is None or math.isfinite(value)


@given(RUNS)
def test_open_and_empty_runs_have_no_rank_and_are_not_best(runs):
    for row in ranked(named(runs)):
        if row.entry.ended is None or not row.entry.energy_uj:
            assert (row.rank, row.is_pareto_optimal) == (None, False)


def order(rows):
    return [(row.rank, row.entry.run_id) for row in rows]


def test_equal_runs_share_a_rank():
    rows = ranked([logged(name, grams) for name, grams in (("c", 2), ("b", 1), ("a", 1))])
    assert order(rows) == [(1, "a"), (1, "b"), (3, "c")]


@pytest.mark.parametrize(
    ("sort", "found"),
    [
        (SortKey.GRAMS, ["small", "middle", "large"]),
        (SortKey.ENERGY, ["small", "middle", "large"]),
        (SortKey.IDLE, ["large", "small", "middle"]),
        (SortKey.RESULT, ["middle", "large", "small"]),
        (SortKey.PER_RESULT, ["middle", "small", "large"]),
    ],
)
def test_runs_are_sorted_by_what_is_asked_for(sort, found):
    rows = ranked(
        [
            record("small", 1.0, held=0.2, logged={"accuracy": 0.1}),
            record("middle", 2.0, held=0.3, logged={"accuracy": 0.9}),
            record("large", 4.0, held=0.1, logged={"accuracy": 0.3}),
        ],
        sort,
    )
    assert [row.entry.run_id for row in rows] == found


def test_a_loss_is_best_where_it_is_least():
    rows = ranked(
        [logged("a", 2, loss=0.5), logged("b", 1, loss=0.9)],
        SortKey.RESULT,
        "loss",
        higher_is_better=False,
    )
    assert order(rows) == [(1, "a"), (2, "b")]
    assert all(row.is_pareto_optimal and row.result_per_gram is None for row in rows)


def test_a_run_of_no_grams_is_no_champion_of_results_per_gram():
    free = record("free", 0.5, use=FREE, carbon_ng=0, logged={"accuracy": 0.2})
    rows = ranked([free, logged("paid", 2, accuracy=0.8)], SortKey.PER_RESULT)
    assert order(rows) == [(1, "paid"), (None, "free")]
    assert [row.result_per_gram for row in rows] == [0.4, None]


def test_a_result_below_zero_has_no_ratio_and_zero_has():
    rows = ranked([logged("minus", 1, accuracy=-2.0), logged("zero", 1, accuracy=0.0)])
    assert {row.entry.run_id: row.result_per_gram for row in rows} == {"minus": None, "zero": 0.0}


def test_a_ratio_that_is_too_large_for_a_number_is_none():
    (row,) = ranked([logged("a", 1e-3, accuracy=1e308)])
    assert (row.rank, row.result_per_gram) == (1, None)
    (row,) = ranked([record(grams=1.0, units={"tokens": 5e-324})], unit="tokens")
    assert row.grams_per_units is None


def test_grams_that_are_incomplete_have_no_rank_but_energy_has():
    waiting = record("waiting", 1, use={**USE, "zone": None})
    records = [waiting, logged("known", 2)]
    assert order(ranked(records)) == [(1, "known"), (None, "waiting")]
    assert order(ranked(records, SortKey.ENERGY)) == [(1, "waiting"), (2, "known")]


@pytest.mark.parametrize(("unit", "per"), [("requests", 10_000), ("tokens", 1_000)])
def test_grams_are_given_for_so_many_units(unit, per):
    (row,) = ranked([record(grams=2.0, units={unit: 50.0})], unit=unit)
    assert row.grams_per_units == pytest.approx(2.0 / 50 * per)


def asked(records, **wishes):
    return choose_criteria(make_entries(records), **wishes)


def test_the_result_is_what_most_runs_logged():
    runs = [logged("a", 1, f1=0.5, loss=1.0), logged("b", 1, loss=2.0)]
    found = asked(runs)
    assert (found.metric, found.higher_is_better) == ("loss", False)


def test_among_equals_a_name_that_says_what_is_better_goes_first_and_a_size_is_no_result():
    found = asked([logged("a", 1, epoch=3.0, val_accuracy=0.5, parameters=7e9)])
    assert (found.metric, found.size) == ("val_accuracy", "parameters")


def test_what_is_better_can_be_said():
    assert asked([logged("a", 1, loss=1.0)], higher_is_better=True).higher_is_better


def test_grams_are_given_per_what_most_counted():
    runs = [record(units={"tokens": 5, "zeros": 0}), record("b", units={"tokens": 1, "a": 2})]
    assert asked(runs).unit == "tokens"


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        ({"metric": "bleu"}, "--metric bleu: no run logged this as a number; they logged accuracy"),
        ({"unit": "cats"}, "--per cats: no run counted this unit; they counted tokens"),
        ({"sort": SortKey.PER_RESULT, "higher_is_better": False}, "sort by result or by grams"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_what_can(wishes, said):
    with pytest.raises(ConfigError, match=said):
        asked([record(logged={"accuracy": 0.5}, units={"tokens": 5.0})], **wishes)


def test_results_cannot_be_sorted_where_there_are_none():
    with pytest.raises(ConfigError, match=r"no run logged a number, as run.log\(accuracy=0.93\)"):
        asked([record()], sort=SortKey.RESULT)
