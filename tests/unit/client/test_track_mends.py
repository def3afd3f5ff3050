"""What a program may do to its tracker without any harm to the program."""

import contextlib
import gc
import os
import sys
import weakref
from functools import partial
from pathlib import Path

import pytest

from exporter.client import private_daemon
from exporter.client import track as track_as_shipped
from exporter.client.errors import AgentUnreachable
from exporter.client.run import Run
from tests.agents import serving
from tests.unit.client.kept import Runs

NEVER = 3600.0
track = partial(track_as_shipped, receipts=None, progress=False, interval_seconds=NEVER)


def announced():
    return {name: value for name, value in os.environ.items() if name.startswith("EMISSIONS_RUN")}


def test_runs_may_end_in_any_order(runs):
    first, second = track("first"), track("second")
    first.start()
    second.start()
    first.stop()
    assert announced() == {"EMISSIONS_RUN_ID": "made-2"}
    second.stop()
    assert announced() == {}


def test_a_bare_decorator_tracks_too(runs):
    @track_as_shipped
    def train(amount):
        return amount + 1

    assert train(1) == 2
    assert runs.told("runs")[0]["name"] == "train"


def test_an_id_of_a_tracking_server_is_the_outer_runs_alone(runs, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", "ml")
    with track("outer") as outer, track("inner") as inner:
        assert (outer.run_id, inner.run_id) == ("ml", "made-2")


def test_what_is_told_last_reaches_a_daemon_that_forgot_the_run(nobody, tmp_path):
    path = str(tmp_path / "agent.sock")
    tracker = track("bert", run_id="kept", socket=path)
    with serving(path, Runs()):
        run = tracker.start()
    Path(path).unlink()
    with serving(path, Runs()) as second:
        run.count(tokens=5)
        tracker.stop()
    assert second.known["kept"]["units"] == {"tokens": 5}


def test_what_a_busy_daemon_refuses_is_told_again(runs):
    runs.refusals["log"] = [(429, {"error": "too many"})]
    with track("bert") as run:
        run.count(tokens=5)
    assert runs.known["made-1"]["units"] == {"tokens": 5}


class Tensor:
    def __float__(self):
        raise RuntimeError("a Tensor with 2 elements cannot be converted to Scalar")


def test_a_tensor_that_is_no_scalar_is_left_out(caplog):
    run = Run()
    run.log(loss=Tensor())
    assert run.take_pending() == {}
    assert "loss=" in caplog.text


def test_a_function_of_the_user_that_fails_keeps_no_run_open(runs, caplog):
    def fails(_):
        raise ValueError("mine")

    with track("bert", budget_grams=1, on_budget=fails) as run:
        pass
    assert run.record["ended"]
    assert "mine" in caplog.text


def test_a_record_may_be_asked_for(runs):
    with track("bert", budget_grams=5) as run:
        run.count(tokens=1)
        runs.grams = 4.0
        assert run.refresh()["units"] == {"tokens": 1}
        assert run.emissions_grams == 4.0


@pytest.mark.parametrize("stream", [None, "closed"])
def test_a_program_may_have_no_standard_error(runs, monkeypatch, stream):
    if stream is not None:
        stream = open(os.devnull, "w")  # noqa: SIM115
        stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    with track_as_shipped("bert", receipts=None, progress=True) as run:
        pass
    assert run.is_measured


def test_what_cannot_be_sent_is_said_and_the_program_goes_on(runs, caplog):
    with track("bert", socket=object()) as run:
        pass
    assert not run.is_measured
    assert "a bytes-like object is required" in caplog.text


def test_receipts_stay_where_they_were_asked_for(runs, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    with track("bert", receipts="receipts"):
        monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(list((tmp_path / "receipts").iterdir())) == 1


def test_runs_that_are_over_are_kept_nowhere(runs):
    over = []
    for _ in range(3):
        with track("bert") as run:
            over.append(weakref.ref(run))
    del run
    gc.collect()
    assert [each() for each in over] == [None] * 3


def test_only_a_refusal_of_the_scope_changes_it(runs, caplog):
    runs.refusals["runs"] = [(400, {"error": "a label is too long"})]
    with track("bert", scope="machine") as run:
        assert not run.is_measured
    assert len(runs.told("runs")) == 1


def test_where_no_daemon_can_be_started_that_is_tried_and_said_once(nobody, monkeypatch, caplog):
    tried = []

    def fail(_):
        tried.append(1)
        raise AgentUnreachable("no daemon can be had")

    monkeypatch.setattr("exporter.client.agent_client.default_sockets", list)
    monkeypatch.setattr("exporter.client.registration.Registration._no_private", "")
    monkeypatch.setattr(private_daemon, "start_private_daemon", fail)
    monkeypatch.setattr(track_as_shipped, "_warned", set())
    for _ in range(3):
        with track("alone"):
            pass
    assert len(tried) == 1
    assert caplog.text.count("no daemon can be had") == 1


def test_no_daemon_is_started_in_a_directory_of_somebody_else(nobody, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(
        private_daemon, "untrusted_reason", lambda path: f"{path} belongs to user 7"
    )
    with contextlib.suppress(FileExistsError):
        (tmp_path / "emissions-exporter").mkdir()
    with pytest.raises(AgentUnreachable, match="belongs to user 7"):
        private_daemon.start_private_daemon(os.environ)
    assert not list((tmp_path / "emissions-exporter").iterdir())


def test_the_log_of_a_daemon_leads_nowhere_else(nobody, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "emissions-exporter").mkdir()
    (tmp_path / "emissions-exporter" / "daemon.log").symlink_to(tmp_path / "precious")
    with pytest.raises(AgentUnreachable, match="cannot be started"):
        private_daemon.start_private_daemon(os.environ)
    assert not (tmp_path / "precious").exists()
