"""Runs of MLflow, and the old tracker's methods, without MLflow."""

import logging
import math
import sys
from types import SimpleNamespace

import pytest

from exporter.client import NotMeasured
from exporter.errors import MissingLibrary
from exporter.integrations.mlflow import EmissionsTrackerMlflow, log_record, track

OPTIONS = {"receipts": None, "progress": False, "interval_seconds": 3600}
PARAMS = {"tracking_uri": "sqlite:///x", "experiment_name": "e", "run_name": "r"}


@pytest.fixture
def tracker(mlflow):
    made = EmissionsTrackerMlflow(**OPTIONS)
    made.read_params({**PARAMS, "flavor": "sklearn"})
    return made


def test_the_last_numbers_their_provenance_and_the_record_arrive(mlflow, runs):
    with track("train", **OPTIONS) as run:
        pass
    assert run.run_id == "of train"
    assert mlflow.metrics["energy_kwh"] == pytest.approx(1000 / 3.6e6)
    assert mlflow.metrics["emissions_grams"] == 0.5
    assert mlflow.metrics["intensity_grams_per_kwh"] == 400
    assert mlflow.tags["emissions.methods"] == "cpu counter"
    assert mlflow.tags["emissions.zone"] == "DE"
    assert mlflow.artifacts == [("of train", run.record, "emissions.json")]
    assert (mlflow.active, mlflow.status) == (None, "FINISHED")


def test_a_run_is_begun_where_the_address_says(mlflow, runs):
    with track("train", tracking_uri="sqlite:///y", **OPTIONS):
        assert mlflow.active is not None
    assert mlflow.began_at == ["sqlite:///y"]
    assert mlflow.metrics["emissions_grams"] == 0.5


def test_a_run_that_was_active_is_used_and_left_open(mlflow, runs):
    mine = mlflow.start_run(run_name="mine")
    with track("train", **OPTIONS) as run:
        pass
    assert run.run_id == "of mine"
    assert mlflow.active is mine


def test_a_tracker_that_begins_again_follows_the_run_that_is_active_then(mlflow, runs):
    tracker = track("train", **OPTIONS)
    ids = []
    for name in ("one", "two"):
        mlflow.start_run(run_name=name)
        ids.append(tracker.start().run_id)
        tracker.stop()
    assert ids == ["of one", "of two"]


def joules(mlflow):
    return mlflow.metrics["energy_kwh"] * 3.6e6


def test_two_runs_of_one_run_of_mlflow_are_summed_up(mlflow, runs):
    mlflow.start_run(run_name="mine")
    for run_id in ("one", "two", "one"):
        with track("train", run_id=run_id, **OPTIONS):
            pass
    assert joules(mlflow) == pytest.approx(3000)
    assert mlflow.metrics["emissions_grams"] == pytest.approx(1.5)
    assert mlflow.metrics["energy_cpu_kwh"] == pytest.approx(mlflow.metrics["energy_kwh"])
    assert mlflow.metrics["intensity_grams_per_kwh"] == pytest.approx(400)
    assert mlflow.metrics["duration_seconds"] == 20
    assert mlflow.metrics["mean_power_watts"] == pytest.approx(150)


def test_two_trackers_in_one_run_of_mlflow_are_two_runs_and_it_has_their_sum(mlflow, runs):
    mlflow.start_run(run_name="mine")
    used = {}
    for _ in range(2):
        with track("train", **OPTIONS) as run:
            pass
        used[run.run_id] = run.energy_joules
    assert used == {"of mine": 1000, "of mine.2": 1000}
    assert joules(mlflow) == pytest.approx(2000)


def test_a_tracker_inside_another_in_one_run_of_mlflow_is_another_run(mlflow, runs):
    mlflow.start_run(run_name="mine")
    with track("outer", **OPTIONS) as outer, track("inner", **OPTIONS) as inner:
        pass
    assert (outer.run_id, inner.run_id) == ("of mine", "of mine.2")
    assert joules(mlflow) == pytest.approx(2000)


def test_a_program_that_resumes_a_run_of_mlflow_continues_its_run(mlflow, runs, monkeypatch):
    for _ in range(2):
        mlflow.start_run(run_name="mine")
        monkeypatch.setattr(track, "_ids_found", {})  # another program
        with track("train", **OPTIONS) as run:
            pass
    assert (run.run_id, run.energy_joules) == ("of mine", 2000)
    assert joules(mlflow) == pytest.approx(2000)


def test_a_run_inside_another_is_in_the_sum_of_both(mlflow, runs):
    mlflow.start_run(run_name="mine")
    with track("outer", run_id="o", **OPTIONS), track("inner", run_id="i", **OPTIONS):
        pass
    assert joules(mlflow) == pytest.approx(2000)


def test_a_run_of_mlflow_that_another_job_resumes_keeps_what_the_first_used(
    mlflow, runs, monkeypatch
):
    mlflow.start_run(run_name="mine")
    with track("train", **OPTIONS) as run:
        pass
    later = {**run.record, "job_id": "8", "energy_uj": 500_000_000, "carbon_ng": 250_000_000}
    for _ in range(2):
        assert log_record(later, "of mine")
    assert joules(mlflow) == pytest.approx(1500)
    assert mlflow.metrics["emissions_grams"] == pytest.approx(0.75)


def test_steps_grow_with_the_sum_so_that_the_newest_value_is_the_last(mlflow, runs):
    mlflow.start_run(run_name="mine")
    for run_id in ("one", "two"):
        with track("train", run_id=run_id, **OPTIONS):
            pass
    steps = [m.step for _, metrics, _ in mlflow.batches for m in metrics]
    assert steps == sorted(steps)
    assert steps[-1] == 20


def test_what_a_version_without_parts_logged_is_added_to(mlflow, runs):
    mlflow.start_run(run_name="mine")
    old = {"energy_kwh": 2.0, "energy_cpu_kwh": 2.0, "emissions_grams": 800.0, "loss": 3.0}
    metrics = [
        mlflow.entities.Metric(name, value, 0, 0)
        for name, value in {**old, "duration_seconds": 3600.0}.items()
    ]
    ids = {"emissions.run_id": "before", "emissions.job_id": "", "emissions.node": "n1"}
    tags = [mlflow.entities.RunTag(*tag) for tag in ids.items() if tag[1]]
    mlflow.MlflowClient("").log_batch("of mine", metrics, tags)
    with track("train", run_id="later", **OPTIONS) as run:
        pass
    assert mlflow.metrics["energy_kwh"] == pytest.approx(2.0 + run.energy_kwh)
    assert mlflow.metrics["emissions_grams"] == pytest.approx(800.5)
    assert mlflow.metrics["loss"] == 3.0


def test_an_id_that_was_given_stays(mlflow, runs, monkeypatch):
    monkeypatch.setenv("EMISSIONS_RUN_ID", "pod-7")
    with track("train", **OPTIONS) as run:
        pass
    assert run.run_id == "pod-7"
    assert mlflow.tags["emissions.run_id"] == "pod-7"


def test_without_mlflow_it_is_measured_all_the_same(runs, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with caplog.at_level(logging.WARNING, "emissions"), track("train", **OPTIONS) as run:
        pass
    assert run.is_measured
    assert "pip install 'emissions-exporter[mlflow]'" in caplog.text
    with pytest.raises(MissingLibrary):
        log_record(run.record, "r1")


def test_what_nobody_measured_is_not_logged(mlflow, nobody, tmp_path):
    nowhere = {"socket": str(tmp_path / "nobody.sock"), "private": False}
    with track("train", **OPTIONS, **nowhere):
        pass
    assert mlflow.batches == []
    with pytest.raises(NotMeasured), track("train", strict=True, **OPTIONS, **nowhere):
        pass
    assert (mlflow.active, mlflow.status) == (None, "FAILED")


def test_accuracy_per_emission_is_a_fraction_per_gram_and_percent_apart(mlflow, tracker):
    tracker.emissions, tracker.model_acc = 0.0005, 0.92
    assert tracker.accuracy_per_emission(None) == pytest.approx(1.84)
    assert mlflow.metrics["accuracy_per_emission"] == pytest.approx(1.84)
    assert mlflow.metrics["accuracy_percent_per_gram"] == pytest.approx(184)


def test_accuracy_per_nothing_is_not_known(mlflow, tracker, caplog):
    tracker.model_acc = 0.92
    with caplog.at_level(logging.WARNING, "emissions"):
        for tracker.emissions in (0.0, math.nan):
            assert math.isnan(tracker.accuracy_per_emission(None))
    assert mlflow.metrics == {}


def test_training_is_logged_in_grams_and_kept_in_kilograms(mlflow, tracker, runs):
    tracker.start_training_job()
    tracker.end_training_job()
    assert mlflow.metrics["emissions"] == 0.5
    assert tracker.emissions == 0.0005
    assert mlflow.active is None


def test_a_server_that_refuses_all_stops_no_training(mlflow, runs, monkeypatch, caplog):
    def refuse(*_, **__):
        raise PermissionError("401 from http://me:secret@server")

    tracker = EmissionsTrackerMlflow(**OPTIONS)
    with caplog.at_level(logging.WARNING, "emissions"):
        with monkeypatch.context() as patch:
            patch.setattr(mlflow, "start_run", refuse)
            tracker.read_params({**PARAMS, "flavor": "sklearn"})
        tracker.start_training_job()
        tracker.end_training_job()
        assert tracker.emissions == 0.0005
        tracker.read_params({**PARAMS, "flavor": "sklearn"})
        tracker.start_training_job()
        monkeypatch.setattr(mlflow, "end_run", refuse)
        tracker.end_training_job()
    assert "the MLflow run could not be started: 401 from http://server" in caplog.text
    assert "the MLflow run could not be ended: 401" in caplog.text


def test_ten_rows_of_scikit_learn_are_one_call(mlflow, tracker, runs, monkeypatch):
    monkeypatch.setattr(
        "exporter.integrations.inference._repeat", lambda call, _: (call(), (4, 1.0))[1]
    )
    seen = []
    model = SimpleNamespace(predict=lambda rows: seen.append(len(rows)))
    per_10 = tracker.emission_per_10_inferences(model, list(range(50)))
    assert set(seen) == {10}
    assert per_10 == pytest.approx(10 * 0.5 / 40)
    assert mlflow.metrics["emissions_per_10_predictions"] == pytest.approx(per_10)
    assert mlflow.metrics["grams_per_inference_error"] == pytest.approx(0, abs=1e-12)
    assert mlflow.metrics["inferences_measured"] == 200


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"run_name": ""}, "missing parameters: run_name"),
        ({"flavor": "jax"}, "flavor: expected one of keras, pytorch, sklearn, found 'jax'"),
    ],
)
def test_parameters_that_are_wrong_are_named(mlflow, given, text):
    with pytest.raises(ValueError, match=text):
        EmissionsTrackerMlflow().read_params({**PARAMS, "flavor": "sklearn", **given})


def test_no_framework_is_imported_that_is_not_used(mlflow, tracker, runs):
    tracker.start_training_job()
    tracker.end_training_job()
    assert not {"torch", "keras", "mlflow.keras", "mlflow.pytorch"} & set(sys.modules)


def test_invalid_options_are_an_error_before_the_training():
    with pytest.raises(ValueError, match="budget_grams: expected a number of grams"):
        EmissionsTrackerMlflow(budget_grams="5 kg")
