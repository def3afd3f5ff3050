"""What a sweep cost, what a run of it costs, and the final one."""

import json

import jsonschema
import pytest

from exporter.report.forms.text import receipt
from exporter.report.group import group_facts, group_record
from tests.unit.report.forms.making import KWH_UJ, record
from tests.unit.report.test_schema import SCHEMA


def run(name, kwh, **more):
    return record(name, **{"energy_uj": kwh * KWH_UJ, "carbon_ng": kwh * 400 * 10**9, **more})


RUNS = [run("a", 1), run("b", 2, started=1_795_000_001.0), run("c", 6)]


def test_the_cost_of_tuning_is_that_of_all_runs():
    whole = group_record(RUNS, "sweep")
    assert (whole["energy_uj"], whole["carbon_ng"]) == (9 * KWH_UJ, 3_600 * 10**9)
    assert whole["runs"] == whole["group"]["runs"] == 3


def test_the_mean_has_the_standard_error_of_the_sample():
    group = group_record(RUNS, "sweep")["group"]
    assert group["mean_energy_joules"] == 3 * 3.6e6
    assert group["energy_standard_error_joules"] == pytest.approx((7 / 3) ** 0.5 * 3.6e6)
    assert group["mean_carbon_grams"] == 1_200
    assert group["carbon_standard_error_grams"] == pytest.approx((7 / 3) ** 0.5 * 400)


def test_mean_error_and_final_run_have_one_unit():
    watt_hours = KWH_UJ // 1_000
    runs = [
        record(name, energy_uj=amount * watt_hours, carbon_ng=amount * 10**9)
        for name, amount in (("a", 990), ("b", 1_010), ("c", 1_300))
    ]
    lines = dict(group_facts(group_record(runs, "sweep", "a")))
    assert lines["mean run"].startswith("1.10 kWh \u00b1 0.100 kWh, 1.10 kg \u00b1 0.100 kg CO2eq")
    assert "0.990 kWh, 0.990 kg CO2eq" in lines["final run"]


def test_the_unit_of_single_runs_is_not_that_of_their_sum():
    lines = dict(
        group_facts(group_record([run(str(number), 0.01) for number in range(200)], "sweep"))
    )
    assert lines["mean run"].startswith("10.0 Wh \u00b1 0 Wh, 4.00 g \u00b1 0 g CO2eq")


def test_one_run_has_no_standard_error():
    whole = group_record(RUNS[:1], "sweep")
    assert whole["group"]["energy_standard_error_joules"] is None
    assert "one run has no standard error" in receipt(whole)


def test_runs_that_go_on_are_in_the_sum_and_not_in_the_mean():
    whole = group_record([*RUNS, run("d", 100, ended=None)], "sweep")
    assert whole["energy_uj"] == 109 * KWH_UJ
    assert whole["group"]["mean_energy_joules"] == 3 * 3.6e6
    assert "1 of 4 runs; included in the sum, not in the mean" in receipt(whole)


def test_a_group_of_which_none_has_ended_has_no_mean():
    whole = group_record([run("d", 1, ended=None)], "sweep")
    assert whole["group"]["mean_energy_joules"] is None
    assert "no run has ended" in receipt(whole)


@pytest.mark.parametrize(
    ("runs", "final_id", "name", "why"),
    [
        (RUNS, "", "b", "the last that was begun"),
        (RUNS, "c", "c", "as it was named"),
        (
            [*RUNS, run("d", 1, labels={"final": "True"}, started=5.0)],
            "",
            "d",
            "by its label final",
        ),
    ],
)
def test_the_final_run_is_named_or_labelled_or_the_last(runs, final_id, name, why):
    final = group_record(runs, "sweep", final_id)["group"]["final"]
    assert (final["run_id"], final["chosen_by"]) == (name, why)


def test_the_final_run_is_called_by_its_name():
    named = run("b", 2) | {"name": "warm up"}
    whole = group_record([run("a", 1), named], "sweep", "b")
    assert whole["group"]["final"]["name"] == "warm up"
    assert dict(group_facts(whole))["final run"].startswith("warm up, b (as it was named)")


def test_a_final_run_that_is_not_there_is_an_error():
    with pytest.raises(KeyError):
        group_record(RUNS, "sweep", "nobody")


def test_labels_are_those_that_all_runs_share():
    runs = [run("a", 1, labels={"x": "1", "y": "1"}), run("b", 1, labels={"x": "1", "y": "2"})]
    assert group_record(runs, "sweep")["labels"] == {"x": "1"}


def test_a_group_with_more_runs_than_were_read_says_so():
    assert "the group has more runs" in receipt(group_record(RUNS, "sweep", complete=False))


def test_a_record_of_no_group_says_nothing_of_one():
    assert group_facts(RUNS[0]) == []


def test_the_schema_of_a_record_holds_for_a_group():
    document = json.loads(json.dumps(group_record(RUNS, "sweep"), allow_nan=False))
    jsonschema.validate(document, SCHEMA, jsonschema.Draft202012Validator)


UNKNOWN = {"carbon_ng": 0, "intensity": [{"zone": None, "energy_uj": KWH_UJ, "carbon_ng": 0}]}


def test_the_mean_of_grams_is_that_of_runs_with_grams():
    whole = group_record([run("a", 1), run("b", 1, **UNKNOWN)], "sweep")
    group = whole["group"]
    assert (group["ended"], group["with_grams"]) == (2, 1)
    assert (group["mean_carbon_grams"], group["carbon_standard_error_grams"]) == (400.0, None)
    assert group["mean_energy_joules"] == 3.6e6
    lines = dict(group_facts(whole))
    assert lines["mean run"].startswith("1.00 kWh \u00b1 0 kWh, 400 g CO2eq (standard error of 2")
    assert "the grams are the mean of 1 of 2 runs" in lines["mean run"]
    assert "\u2013 CO2eq" in lines["final run"]
    jsonschema.validate(json.loads(json.dumps(whole)), SCHEMA)


def test_a_group_without_grams_has_no_mean_of_them():
    whole = group_record([run("b", 1, **UNKNOWN)], "sweep")
    assert whole["group"]["mean_carbon_grams"] is None
    assert dict(group_facts(whole))["mean run"].startswith("1.00 kWh, \u2013 CO2eq; one run")


TASK_LABELS = {"group": "sweep", "task": "fit"}


def task_of(name, kwh, inside, started, **labels):
    """A task of a tracker of the project `sweep`."""
    made = run(name, kwh, labels={**TASK_LABELS, **labels}, started=started)
    return {**made, "name": "sweep: fit", "inside": inside, "uid": 1}


def tracker(name="t", kwh=1, started=1_795_000_000.0):
    made = run(name, kwh, labels={"group": "sweep"}, started=started)
    return {**made, "name": "sweep", "inside": None, "uid": 1}


def test_a_task_is_not_chosen_as_the_final_run():
    task = {**task_of("t-1", 1, None, 1_795_000_009.0), "name": "sweep: fit"}
    del task["inside"]  # as in records of an older daemon
    own = {**run("u", 1, labels=TASK_LABELS, started=1_795_000_001.0), "name": "u"}
    final = group_record([tracker(), task], "sweep")["group"]["final"]
    assert (final["run_id"], final["chosen_by"]) == ("t", "the last that is not a task")
    assert group_record([task], "sweep")["group"]["final"]["run_id"] == "t-1"
    final = group_record([tracker(), own], "sweep")["group"]["final"]
    assert (final["run_id"], final["chosen_by"]) == ("u", "the last that was begun")


def test_a_tracker_with_its_tasks_is_one_run_of_the_group():
    second = tracker("u", 2, 1_795_000_010.0)
    members = [
        {**task_of("u-1", 5, "u", 1_795_000_020.0), "units": {"tokens": 4}},
        second,
        task_of("t-2", 3, "t", 1_795_000_002.0),
        task_of("t-1", 2, "t", 1_795_000_001.0),
        tracker("t", 1),
    ]
    whole = group_record(members, "sweep")
    group = whole["group"]
    assert whole["run_id"] == "all 2 of group sweep"
    assert (whole["runs"], group["runs"], group["ended"], group["with_grams"]) == (2, 2, 2, 2)
    assert (whole["energy_uj"], whole["units"]) == (13 * KWH_UJ, {"tokens": 4})
    assert group["mean_energy_joules"] == 6.5 * 3.6e6
    assert group["mean_carbon_grams"] == 6.5 * 400
    final = group["final"]
    assert (final["run_id"], final["energy_uj"]) == ("u", 7 * KWH_UJ)
    assert final["chosen_by"] == "the last that is not a task"
    assert "54 % of the energy" in dict(group_facts(whole))["final run"]
    assert group_record(members, "sweep", "t-2")["group"]["final"]["energy_uj"] == 3 * KWH_UJ
    assert group_record(members, "sweep", "t")["group"]["final"]["energy_uj"] == 6 * KWH_UJ


def test_a_tracker_with_an_open_task_has_not_ended():
    task = {**task_of("t-1", 2, "t", 1_795_000_001.0), "ended": None}
    group = group_record([task, tracker()], "sweep")["group"]
    assert (group["runs"], group["ended"], group["mean_energy_joules"]) == (1, 0, None)


def test_a_tracker_that_was_not_started_is_one_run_with_all_its_tasks():
    first = task_of("t-1", 2, None, 1_795_000_001.0)
    later = task_of("t-2", 3, None, 1_795_000_004.0, first_task="t-1")
    whole = group_record([later, first, tracker("u", 1)], "sweep")
    assert (whole["group"]["runs"], whole["group"]["mean_energy_joules"]) == (2, 3 * 3.6e6)
    final = whole["group"]["final"]
    assert (final["run_id"], final["name"], final["energy_uj"]) == ("t-1", "sweep", 5 * KWH_UJ)
    assert final["chosen_by"] == "the last that was begun"
    assert whole["run_seconds"] == 3 * 3_600.0


def test_the_duration_of_a_group_is_the_sum_of_its_runs():
    day_later = {"started": 1_795_086_400.0, "ended": 1_795_090_000.0}
    text = receipt(group_record([run("a", 1), run("b", 1, **day_later)], "sweep"))
    assert "took       2 h 0 min in total, within 1 d 1 h from the first start to" in text
