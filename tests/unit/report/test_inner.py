"""Runs inside a run: their sums beside its own amounts."""

from exporter.report import inner


def run(run_id, inside=None, energy_uj=1_000_000):
    return {
        "uid": 1000,
        "run_id": run_id,
        "job_id": "",
        "inside": inside,
        "energy_uj": energy_uj,
        "carbon_ng": energy_uj * 100,
    }


def inside_of(*runs):
    return lambda outer: [each for each in runs if each["inside"] == outer["run_id"]]


OUTER = run("outer", energy_uj=5_000_000)


def test_runs_inside_at_any_depth_are_added_up():
    runs = [run("a", "outer"), run("b", "a", 2_000_000), run("c", "other")]
    record = inner.with_inner(OUTER, inside_of(*runs))
    assert record["inner"] == {"runs": 2, "energy_uj": 3_000_000, "carbon_ng": 300_000_000}
    assert record["energy_uj"] == OUTER["energy_uj"]
    ((name, text),) = inner.rows(record)
    assert (name, text) == (
        "with inner",
        "8.00 J, 0.800 g CO2eq; 2 runs inside it, counted separately",
    )


def test_a_run_with_nothing_inside_is_as_it_was():
    assert inner.with_inner(OUTER, inside_of()) == OUTER
    assert inner.rows(OUTER) == []


def test_an_older_daemon_that_lists_all_runs_changes_nothing():
    runs = [run("a"), run("b")]
    for each in runs:
        del each["inside"]
    assert inner.with_inner(OUTER, lambda _: runs) == OUTER


def test_runs_that_are_inside_each_other_are_counted_once():
    runs = [run("a", "outer"), run("outer", "a"), run("a", "outer")]
    assert inner.with_inner(OUTER, inside_of(*runs))["inner"]["runs"] == 1
