"""Runs inside a run: their sums beside its own amounts."""

from exporter.report import inner

PART = {"device": "cpu", "id": "package-0", "method": "counter", "split": "cpu_time"}
USE = {"zone": "DE", "source": "a table", "grams_per_kwh": 360.0, "pue": 1.0, "basis": "lifecycle"}


def run(run_id, inside=None, energy_uj=1_000_000, **more):
    return {
        "uid": 1000,
        "run_id": run_id,
        "job_id": "",
        "inside": inside,
        "energy_uj": energy_uj,
        "held_uj": 0,
        "carbon_ng": energy_uj * 100,
        "parts": [{**PART, "energy_uj": energy_uj, "held_uj": 0, "carbon_ng": energy_uj * 100}],
        "intensity": [{**USE, "energy_uj": energy_uj, "carbon_ng": energy_uj * 100}],
        **more,
    }


def inside_of(*runs):
    return lambda outer: [each for each in runs if each["inside"] == outer["run_id"]]


OUTER = run("outer", energy_uj=5_000_000)


def test_runs_inside_at_any_depth_are_added_up():
    runs = [run("a", "outer"), run("b", "a", 2_000_000), run("c", "other")]
    record = inner.with_inner(OUTER, inside_of(*runs))
    assert record["inner"] == {
        "runs": 2,
        "energy_uj": 3_000_000,
        "held_uj": 0,
        "carbon_ng": 300_000_000,
        "parts": [{**PART, "energy_uj": 3_000_000, "held_uj": 0, "carbon_ng": 300_000_000}],
        "intensity": [{**USE, "energy_uj": 3_000_000, "carbon_ng": 300_000_000}],
    }
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


def test_a_run_with_its_inner_runs_has_their_sums_and_its_own_duration():
    record = inner.with_inner({**OUTER, "duration_seconds": 60.0}, inside_of(run("a", "outer")))
    whole = inner.include_inner(record)
    assert (whole["energy_uj"], whole["carbon_ng"]) == (6_000_000, 600_000_000)
    assert (whole["energy_joules"], whole["carbon_grams"]) == (6.0, 0.6)
    assert [part["energy_uj"] for part in whole["parts"]] == [6_000_000]
    assert [use["energy_uj"] for use in whole["intensity"]] == [6_000_000]
    assert (whole["inner_runs"], whole["duration_seconds"]) == (1, 60.0)
    assert "inner" not in whole
    assert inner.include_inner(whole) == whole


def test_inner_runs_of_older_records_have_no_parts():
    older = {"runs": 2, "energy_uj": 3_000_000, "carbon_ng": 300_000_000}
    whole = inner.include_inner({**OUTER, "inner": older})
    assert whole["energy_uj"] == 8_000_000
    assert whole["parts"] == OUTER["parts"]


TRACKER = run("t", energy_uj=5_000_000, name="bert", labels={"group": "bert"})
TASK = run("t-1", "t", name="bert: fit", labels={"group": "bert", "task": "fit"})


def test_the_tasks_of_a_tracker_are_the_runs_with_its_group_and_their_label():
    others = [
        run("own", "t", name="x"),
        run("labeled", "t", name="x", labels={"task": "classification"}),
        run("t-1-1", "t-1", name="bert: fit", labels={"group": "bert", "task": "fit"}),
    ]
    record = inner.with_inner(TRACKER, inside_of(TASK, *others))
    assert (record["inner"]["runs"], record["inner"]["tasks"]["runs"]) == (4, 1)
    assert inner.include_tasks(record)["energy_uj"] == 6_000_000
    assert inner.include_tasks(inner.with_inner(TRACKER, inside_of(*others)))["energy_uj"] == (
        5_000_000
    )


def test_unknown_grams_of_inner_runs_are_a_lower_bound():
    unknown = run("a", "outer", carbon_ng=0, intensity=[{"zone": None, "energy_uj": 1_000_000}])
    unknown["intensity"][0]["carbon_ng"] = 0
    ((_, text),) = inner.rows(inner.with_inner(OUTER, inside_of(unknown)))
    assert text.startswith("6.00 J, > 0.500 g CO2eq; 1 run ")


def test_the_later_tasks_of_a_tracker_that_was_not_started_are_added_to_the_first():
    labels = {"group": "bert", "task": "fit"}
    first = run("1", name="bert: fit", labels=labels, duration_seconds=60.0)
    later = run(
        "2",
        energy_uj=2_000_000,
        name="bert: eval",
        labels={**labels, "task": "eval", "first_task": "1"},
        duration_seconds=30.0,
        ended=9_999_999_999.0,
    )
    of_others = [run("3", name="x", labels={"group": "bert"}), first]
    whole = inner.with_other_tasks(first, lambda group: [later, *of_others])
    assert inner.include_tasks(whole)["energy_uj"] == 3_000_000
    assert inner.include_tasks(whole)["duration_seconds"] == 90.0
    assert inner.include_inner(whole)["more_tasks"] == 1
    assert inner.include_tasks(whole)["ended"] == later["ended"]
    assert inner.rows(whole) == [
        ("with tasks", "3.00 J, 0.300 g CO2eq; 1 other task of its tracker, counted separately")
    ]
    assert inner.with_other_tasks(later, lambda group: [later, first]) == later
    assert inner.with_other_tasks(TRACKER, lambda group: [later]) == TRACKER
