"""Several records as one."""

from exporter.report.records import combine_records

PART = {"device": "cpu", "id": "p0", "method": "counter", "split": "cpu_time"}
USE = {"zone": "DE", "source": "a table", "grams_per_kwh": 344.0, "pue": 1.0}


def record(name, energy_uj, started, ended, **more):
    amounts = {"energy_uj": energy_uj, "held_uj": 0, "carbon_ng": 2 * energy_uj}
    uses = {"energy_uj": energy_uj, "carbon_ng": 2 * energy_uj}
    return {
        "version": 1,
        "run_id": name,
        "job_id": "7",
        "node": "n1",
        "started": started,
        "ended": ended,
        "at": 500.0,
        **amounts,
        "parts": [{**PART, **amounts}],
        "intensity": [{**USE, **uses}],
        "units": {"tokens": 5.0},
        **more,
    }


def test_amounts_parts_intensities_and_units_add_up():
    whole = combine_records(
        [record("a", 1_000_000, 100.0, 200.0), record("b", 500_000, 150.0, 300.0)], "all"
    )
    assert whole["energy_uj"] == 1_500_000
    assert whole["energy_joules"] == 1.5
    assert whole["carbon_ng"] == 3_000_000
    assert whole["parts"] == [
        {**PART, "energy_uj": 1_500_000, "held_uj": 0, "carbon_ng": 3_000_000}
    ]
    assert whole["intensity"] == [{**USE, "energy_uj": 1_500_000, "carbon_ng": 3_000_000}]
    assert whole["units"] == {"tokens": 10.0}


def test_times_are_those_of_the_first_start_and_the_last_end():
    whole = combine_records([record("a", 1, 100.0, 200.0), record("b", 1, 150.0, 300.0)], "all")
    assert (whole["started"], whole["ended"], whole["duration_seconds"]) == (100.0, 300.0, 200.0)


def test_the_seconds_of_runs_add_up_without_those_inside_another():
    """A sweep of two runs a day apart, the first with a run inside it."""
    first, second = record("a", 1, 100.0, 200.0), record("b", 1, 86_400.0, 86_450.0)
    inner = record("lr-1", 1, 120.0, 180.0, inside="a")
    whole = combine_records([first, second, inner], "all")
    assert (whole["run_seconds"], whole["duration_seconds"]) == (150.0, 86_350.0)
    assert combine_records([whole, record("c", 1, 0.0, 7.0)], "both")["run_seconds"] == 157.0


def test_one_that_is_open_leaves_the_whole_open():
    whole = combine_records([record("a", 1, 100.0, 200.0), record("b", 1, 150.0, None)], "all")
    assert (whole["ended"], whole["duration_seconds"]) == (None, 400.0)


def test_nodes_are_named_once_each():
    three = [record("a", 1, 1.0, 2.0, node=node) for node in ("n2", "n1", "n2")]
    assert combine_records(three, "all")["node"] == "n1, n2"


def test_a_replay_among_them_makes_the_whole_one():
    measured, replayed = record("a", 1, 1.0, 2.0, origin="registered"), record("b", 1, 1.0, 2.0)
    assert combine_records([measured, measured], "all")["origin"] == "registered"
    assert combine_records([measured, replayed], "all")["origin"] == ""
    assert (
        combine_records([measured, {**replayed, "origin": "replay"}], "all")["origin"] == "replay"
    )
