"""Runs of a real tracking server, with a real model, on a host of known power."""

import logging
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest
from mlflow.utils import autologging_utils
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

from exporter.integrations.mlflow import (
    EmissionsTrackerMlflow,
    delivery,
    inference_cost,
    log_record,
    track,
)
from tests.real.parts import REPOSITORY, until

pytestmark = [pytest.mark.ml, pytest.mark.filterwarnings("default")]
WATTS, THREADS = 100.0, os.cpu_count() or 1
JOULES_PER_KWH = 3.6e6


def spin(cpu_seconds):
    end = time.process_time() + cpu_seconds
    while time.process_time() < end:
        pass


@pytest.fixture(scope="module")
def digits():
    return train_test_split(*load_digits(return_X_y=True), random_state=0)


def test_metrics_and_tags_stand_beside_those_of_autolog(daemon, server, digits):
    x_train, _, y_train, _ = digits
    mlflow.sklearn.autolog()
    with mlflow.start_run() as active, track("digits", log_every_seconds=0.5) as run:
        RandomForestClassifier(n_estimators=100, random_state=0).fit(x_train, y_train)
        spin(2)
        until(lambda: "energy_kwh" in server.metrics(active.info.run_id))
    mlflow.sklearn.autolog(disable=True)
    told = server.metrics(active.info.run_id)
    assert told["training_accuracy_score"] == 1.0
    assert told["emissions_grams"] == run.emissions_grams > 0
    assert told["energy_kwh"] == pytest.approx(run.energy_kwh)
    assert told["energy_kwh"] == pytest.approx(told["energy_cpu_kwh"] + told["energy_dram_kwh"])
    assert told["energy_cpu_kwh"] * JOULES_PER_KWH >= 0.8 * WATTS * 2 / THREADS
    points = server.client().get_metric_history(active.info.run_id, "energy_kwh")
    assert len(points) >= 2  # one before the end, and the last one
    assert [p.value for p in points] == sorted(p.value for p in points)
    tags = server.tags(active.info.run_id)
    assert tags["emissions.run_id"] == run.run_id == active.info.run_id
    assert tags["emissions.methods"] == "cpu counter, dram counter"
    assert tags["emissions.zone"]
    record = mlflow.artifacts.load_dict(f"runs:/{active.info.run_id}/emissions.json")
    assert record["energy_uj"] == run.record["energy_uj"]
    assert daemon.json(f"/api/v1/runs/{run.run_id}")["ended"] is not None


def test_two_runs_of_one_run_of_mlflow_are_summed_up(daemon, server):
    with mlflow.start_run() as active:
        with track("one", run_id=f"one-{os.getpid()}", log_every_seconds=0.3) as first:
            spin(1.5)
        with track("two", run_id=f"two-{os.getpid()}", log_every_seconds=0.3) as second:
            spin(0.5)
    assert first.run_id != second.run_id
    told = server.metrics(active.info.run_id)
    energy_kwh = first.energy_kwh + second.energy_kwh
    assert told["energy_kwh"] == pytest.approx(energy_kwh)
    assert told["energy_kwh"] == pytest.approx(told["energy_cpu_kwh"] + told["energy_dram_kwh"])
    assert told["emissions_grams"] == pytest.approx(first.emissions_grams + second.emissions_grams)
    assert told["mean_power_watts"] == pytest.approx(
        energy_kwh * JOULES_PER_KWH / told["duration_seconds"]
    )
    points = server.client().get_metric_history(active.info.run_id, "energy_kwh")
    values = [p.value for p in sorted(points, key=lambda p: (p.step, p.timestamp))]
    assert values == sorted(values)


def test_a_run_inside_another_is_in_the_sum_of_both(daemon, server):
    with (
        mlflow.start_run() as active,
        track("outer", run_id=f"outer-{os.getpid()}", log_every_seconds=0.3) as outer,
    ):
        spin(0.5)
        with track("inner", run_id=f"inner-{os.getpid()}", log_every_seconds=0.3) as inner:
            spin(0.5)
    told = server.metrics(active.info.run_id)
    assert told["energy_kwh"] == pytest.approx(outer.energy_kwh + inner.energy_kwh)


def test_trackers_of_one_run_one_after_the_other_are_runs_of_their_own(daemon, server):
    used = {}
    with mlflow.start_run() as active:
        for _ in range(2):
            with track("again") as run:
                spin(0.5)
            used[run.run_id] = run.energy_joules
    first, second = used
    assert (first, second) == (active.info.run_id, f"{active.info.run_id}.2")
    joules = server.metrics(first)["energy_kwh"] * JOULES_PER_KWH
    assert joules == pytest.approx(sum(used.values()))
    for run_id, known in used.items():
        assert daemon.json(f"/api/v1/runs/{run_id}")["energy_joules"] == known > 0


def test_a_run_that_another_job_resumes_keeps_what_the_first_used(daemon, server):
    with mlflow.start_run() as active, track("job", job_id="7") as first:
        spin(0.5)
    with mlflow.start_run(run_id=active.info.run_id), track("job", job_id="8") as second:
        spin(0.5)
    assert (first.run_id, first.job_id) != (second.run_id, second.job_id)
    told = server.metrics(active.info.run_id)
    assert told["energy_kwh"] == pytest.approx(first.energy_kwh + second.energy_kwh)


def test_where_no_run_is_active_one_is_begun_and_ends_as_the_block_does(daemon, server):
    with pytest.raises(KeyError), track("broken") as run:
        raise KeyError
    assert mlflow.active_run() is None
    ended = server.client().get_run(run.run_id)
    assert (ended.info.status, ended.info.run_name) == ("FAILED", "broken")


def test_another_run_on_another_server_can_be_named(daemon, server):
    named = server.client().create_run("0")
    mlflow.set_tracking_uri("sqlite:///not-this.db")
    with track("named", mlflow_run_id=named.info.run_id, tracking_uri=server.uri) as run:
        spin(0.3)
    assert server.metrics(named.info.run_id)["energy_kwh"] == pytest.approx(run.energy_kwh)


def test_only_the_first_rank_logs(daemon, server, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with mlflow.start_run() as active, track("ranks"):
        spin(0.1)
    assert "energy_kwh" not in server.metrics(active.info.run_id)


def test_what_was_measured_while_the_server_was_away_arrives_when_it_is_back(
    daemon, server, caplog, monkeypatch
):
    monkeypatch.setattr(delivery, "PROBE_TIMEOUT_SECONDS", 2.0)
    # MLflow's own defaults: a request that is under way when the server stops ends after minutes.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    with mlflow.start_run() as active:
        tracker = track("away", log_every_seconds=0.5)
        run = tracker.start()
        until(lambda: "energy_kwh" in server.metrics(active.info.run_id))
        server.signal(signal.SIGSTOP)
        with caplog.at_level(logging.WARNING, "emissions"):
            until(lambda: "does not answer" in caplog.text, 120)
        waiting = tracker._log._delivery
        until(lambda: len({point.at_ms for point in tuple(waiting._points)}) >= 2)
        queued = {point.at_ms for point in tuple(waiting._points)}
        server.signal(signal.SIGCONT)
        until(lambda: waiting.is_empty, 60)
        tracker.stop()
    assert caplog.text.count("does not answer") == 1
    points = server.client().get_metric_history(active.info.run_id, "duration_seconds")
    assert queued <= {point.timestamp for point in points}
    assert server.metrics(active.info.run_id)["energy_kwh"] == pytest.approx(run.energy_kwh)


def test_a_server_that_stays_away_stops_no_training_and_the_record_can_follow(
    daemon, server, caplog
):
    active = mlflow.start_run()
    tracker = track("gone", log_every_seconds=0.5)
    run = tracker.start()
    until(lambda: "energy_kwh" in server.metrics(active.info.run_id))
    server.stop()
    began = time.monotonic()
    with caplog.at_level(logging.WARNING, "emissions"):
        spin(0.5)
        tracker.stop()
    assert time.monotonic() - began < 30
    assert f"run {run.run_id} was not completely logged to MLflow" in caplog.text
    assert not log_record(run.record, active.info.run_id)
    server.start()
    assert log_record(run.record, active.info.run_id)
    assert server.metrics(active.info.run_id)["energy_kwh"] == pytest.approx(run.energy_kwh)


def test_a_killed_trainer_leaves_what_it_had_logged(daemon, server):
    program = """
from exporter.integrations.mlflow import track
with track("killed", log_every_seconds=0.2, interval_seconds=0.2) as run:
    print(run.run_id, flush=True)
    while True: pass
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "MLFLOW_TRACKING_URI": server.uri, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        run_id = process.stdout.readline().strip()
        until(lambda: server.metrics(run_id).get("energy_kwh"), 30)
    finally:
        process.kill()
        process.communicate()
    ended = until(lambda: (r := daemon.json(f"/api/v1/runs/{run_id}"))["ended"] and r)
    logged_uj = round(server.metrics(run_id)["energy_kwh"] * JOULES_PER_KWH * 1e6)
    assert 0 < logged_uj <= ended["energy_uj"]


def test_the_old_methods_log_the_old_names_in_the_old_units(daemon, server, digits):
    x_train, x_test, y_train, y_test = digits
    model = RandomForestClassifier(n_estimators=20, random_state=0)
    tracker = EmissionsTrackerMlflow()
    tracker.read_params(
        {
            "tracking_uri": server.uri,
            "experiment_name": "digits",
            "run_name": "forest",
            "flavor": "sklearn",
        }
    )
    tracker.start_training_job()
    model.fit(x_train, y_train)
    spin(1)
    tracker.end_training_job()
    mlflow.sklearn.autolog(disable=True)
    assert mlflow.active_run() is None
    told = server.metrics(tracker.run_id)
    assert told["emissions"] == told["emissions_grams"] == tracker.emissions * 1000 > 0

    ratio = tracker.accuracy_per_emission(model, x_test, y_test)
    assert tracker.model_acc == pytest.approx(model.score(x_test, y_test))
    before = time.process_time()
    per_10 = tracker.emission_per_10_inferences(model, x_test)
    cpu_seconds = time.process_time() - before
    told = server.metrics(tracker.run_id)
    assert told["accuracy_on_test_data"] == tracker.model_acc
    assert told["accuracy_per_emission"] == ratio == tracker.model_acc / told["emissions"]
    assert told["accuracy_percent_per_gram"] == pytest.approx(100 * ratio)
    assert told["emissions_per_10_predictions"] == told["emissions_per_10_inferences"] == per_10
    assert told["grams_per_inference"] == pytest.approx(per_10 / 10)
    assert 0 < told["grams_per_inference_error"] < 0.5 * told["grams_per_inference"]
    assert told["inferences_measured"] >= 1000
    # Its clocks have a part of the machine, and it is never more than the machine.
    least = WATTS / THREADS * cpu_seconds / told["inferences_measured"]
    most = WATTS * told["seconds_per_inference"]
    assert 0.5 * least < told["joules_per_inference"] < 1.05 * most


def test_autolog_is_no_part_of_what_an_inference_costs(daemon):
    seen = set()
    inference_cost(
        lambda: seen.add(autologging_utils._AUTOLOGGING_GLOBALLY_DISABLED),
        rounds=1,
        round_seconds=0.1,
    )
    assert seen == {True}


def test_a_server_that_is_not_there_from_the_first_stops_no_training(
    daemon, tmp_path, monkeypatch, caplog
):
    monkeypatch.chdir(tmp_path)
    tracker = EmissionsTrackerMlflow()
    with caplog.at_level(logging.WARNING, "emissions"):
        tracker.read_params(
            {
                "tracking_uri": "http://127.0.0.1:9",
                "experiment_name": "e",
                "run_name": "r",
                "flavor": "sklearn",
            }
        )
        tracker.start_training_job()
        spin(0.3)
        tracker.end_training_job()
    assert math.isfinite(tracker.emissions)
    assert "http://127.0.0.1:9 does not answer" in caplog.text
    assert list(Path().iterdir()) == [Path("emissions")]


def test_the_examples_log_what_they_say(server, example):
    said = example("mlflow/train.py", MLFLOW_TRACKING_URI=server.uri).splitlines()
    (line,) = (line for line in said if line.endswith(" g CO2eq"))
    told = server.metrics(line.partition(":")[0])
    assert f"{told['emissions_grams']:.6f} g CO2eq" in line
    assert told["grams_per_inference_error"] < told["grams_per_inference"]
    said = example("mlflow/old_methods.py", MLFLOW_TRACKING_URI=server.uri)
    assert "accuracy per gram: " in said
