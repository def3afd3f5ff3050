"""`track` against a socket that keeps runs as a daemon does."""

import asyncio
import json
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from exporter.client import BudgetExceeded, NotMeasured, Run, current_run
from exporter.client import track as track_as_shipped
from tests.agents import serving
from tests.unit.client.kept import Runs

REPOSITORY = Path(__file__).parents[3]
NEVER = 3600.0
track = partial(track_as_shipped, receipts=None, progress=False, interval_seconds=NEVER)
"""Its thread looks never: what is sent is sent at the end."""


def test_a_block_is_a_run(runs):
    with track("bert", labels={"team": "nlp"}, group="sweep", budget_grams=500) as run:
        run.log(accuracy=0.93)
        run.count(tokens=3)
        run.count(tokens=4)
        run.progress(1, 2)
    assert runs.told("runs") == [
        {
            "name": "bert",
            "labels": {"team": "nlp", "group": "sweep"},
            "scope": "tree",
            "budget_grams": 500,
            "nodes": 1,
        }
    ]
    assert runs.told("log") == [
        {
            "job_id": "",
            "values": {"accuracy": 0.93},
            "count": {"tokens": 7},
            "progress": {"done": 1, "total": 2},
        }
    ]
    assert run.record["ended"]
    assert (run.energy_kwh, run.emissions_grams, run.is_measured) == (0.001, 2.0, True)


def test_a_block_that_fails_is_ended_and_its_error_goes_on(runs):
    with pytest.raises(ZeroDivisionError), track("bert"):
        1 / 0  # noqa: B018
    assert len(runs.told("end")) == 1


def test_each_call_of_a_decorated_function_is_a_run_named_for_it(runs):
    @track()
    def train(amount):
        return amount, current_run().run_id

    assert [train(1), train(2)] == [(1, "made-1"), (2, "made-2")]
    assert [run["name"] for run in runs.told("runs")] == ["train", "train"]


def test_a_decorated_coroutine_is_a_run_to_its_end(runs):
    @track("async")
    async def train():
        await asyncio.sleep(0)
        return len(runs.told("end"))

    assert asyncio.run(train()) == 0
    assert len(runs.told("end")) == 1


METHODS = {"start", "stop", "log", "count", "progress", "refresh"}
FACTS = {
    *("run_id", "job_id", "record", "is_measured"),
    *("energy_joules", "energy_kwh", "emissions_grams"),
}


@pytest.mark.parametrize("which", ["tracker", "run"])
def test_the_tracker_and_the_run_that_it_starts_have_the_same_methods(runs, which):
    tracker = track("bert", run_id="bert")
    run = tracker.start()
    one = {"tracker": tracker, "run": run}[which]
    one.log(loss=0.5)
    one.count(tokens=3)
    one.progress(1, 2)
    assert one.refresh() == run.record
    assert one.start() is run
    assert one.stop() is run
    assert len(runs.told("end")) == 1
    assert run.record["logged"] == {"loss": 0.5}
    assert run.record["units"] == {"tokens": 3}
    assert (one.energy_joules, one.energy_kwh, one.emissions_grams) == (3600.0, 0.001, 2.0)
    assert {name: getattr(tracker, name) for name in FACTS} == {
        name: getattr(run, name) for name in FACTS
    }
    assert one.stop() is run
    assert len(runs.told("end")) == 1


def test_what_a_user_can_call_of_one_is_there_in_the_other():
    def public(kind):
        return {name for name in vars(kind) if not name.startswith("_")}

    of_tracker, of_run = public(track_as_shipped), public(Run)
    assert of_tracker & of_run >= METHODS
    assert of_run - of_tracker == {
        "take_pending",
        "restore_pending",
        "check_budget",
        "reset_after_fork",
    }


def test_a_run_begins_again_by_either_and_the_one_before_stays_ended(runs):
    tracker = track("bert")
    first = tracker.start()
    first.stop()
    second = first.start()
    assert second is not first
    assert second is tracker.run
    assert first.stop() is first
    assert len(runs.told("end")) == 1
    assert second.stop() is tracker.stop()
    assert len(runs.told("end")) == 2


def test_a_run_that_nobody_measures_has_them_too(nobody, tmp_path):
    run = track("alone", socket=str(tmp_path / "nothing")).start()
    assert run.stop() is run
    assert not run.is_measured


def test_a_run_without_a_tracker_is_started_and_stopped_without_effect(nobody):
    run = current_run()
    assert run.start() is run.stop() is run


def test_a_joined_run_is_not_ended_by_who_joined_it(runs, monkeypatch):
    with track("outer") as outer:
        code = "current_run().count(tokens=2)\ncurrent_run().stop()\ncurrent_run().stop()"
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        text = f"from exporter.client import current_run\n{code}"
        subprocess.run([sys.executable, "-c", text], env=environment, check=True)
        assert runs.told("end") == []
        assert runs.known[outer.run_id]["units"] == {"tokens": 2}


def test_starting_and_stopping_twice_is_once(runs):
    tracker = track("notebook")
    assert tracker.start() is tracker.start()
    tracker.stop()
    tracker.stop()
    assert (len(runs.told("runs")), len(runs.told("end"))) == (1, 1)


def test_an_inner_run_has_an_id_of_its_own(runs):
    with track("outer", job_id="7") as outer:
        assert os.environ["EMISSIONS_RUN_ID"] == outer.run_id
        with track("inner") as inner:
            assert os.environ["EMISSIONS_RUN_ID"] == inner.run_id
            assert current_run() is inner
        assert current_run() is outer
    assert not {"EMISSIONS_RUN_ID", "EMISSIONS_JOB_ID", "EMISSIONS_TRACKED"} & os.environ.keys()
    assert (outer.run_id, inner.run_id) == ("made-1", "made-2")
    assert (outer.job_id, inner.job_id) == ("7", "7")


@pytest.mark.usefixtures("runs")
def test_each_asyncio_task_has_its_own_current_run():
    first_continues, second_started = asyncio.Event(), asyncio.Event()

    @track("first")
    async def first():
        await second_started.wait()
        before, _ = current_run(), current_run().log(accuracy=0.5)
        first_continues.set()
        return before.run_id

    @track("second")
    async def second():
        second_started.set()
        await first_continues.wait()
        return current_run().run_id, await asyncio.to_thread(lambda: current_run().run_id)

    async def both():
        return await asyncio.gather(first(), second())

    with track("outer") as outer:
        assert asyncio.run(both()) == ["made-2", ("made-3", "made-3")]
        assert current_run() is outer


@pytest.mark.usefixtures("runs")
def test_a_thread_without_a_run_has_the_innermost_one_of_the_program():
    def of_thread():
        with ThreadPoolExecutor(1) as threads:
            return threads.submit(current_run).result()

    with track("outer") as outer:
        assert of_thread() is outer
        with track("inner") as inner:
            assert of_thread() is inner
        assert of_thread() is outer


@pytest.mark.usefixtures("runs")
def test_a_run_that_ends_before_one_that_began_later_causes_a_warning(caplog, monkeypatch):
    monkeypatch.setattr(track_as_shipped, "_warned", set())
    first, second = track("first"), track("second")
    for _ in range(2):
        first.start(), second.start()
        first.stop(), second.stop()
    (warning,) = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert warning.startswith("run made-1 ended while run made-2, which began later, is open:")
    with track("outer"), track("inner"):
        pass
    assert sum(each.levelname == "WARNING" for each in caplog.records) == 1


def test_an_id_from_outside_is_the_runs(runs, monkeypatch):
    monkeypatch.setenv("EMISSIONS_RUN_ID", "given")
    with track() as run, track() as inner:
        assert (run.run_id, inner.run_id) == ("given", "made-2")


@pytest.mark.parametrize("name", ["EMISSIONS_RUN_ID", "MLFLOW_RUN_ID", "TORCHELASTIC_RUN_ID"])
def test_a_later_tracker_of_a_program_does_not_go_on_with_the_id_from_outside(
    runs, monkeypatch, name
):
    monkeypatch.setenv(name, "given")
    ids = []
    for each in ("lr-1", "lr-2", "lr-2"):
        with track(each) as run:
            ids.append(run.run_id)
    assert ids == ["given", "given.2", "given.3"]


def test_a_decorated_function_is_another_run_at_each_call_though_the_id_is_given(runs, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", "given")

    @track()
    def train():
        return current_run().run_id

    assert [train(), train()] == ["given", "given.2"]


def test_an_id_that_the_program_gives_itself_is_kept_at_each_start(runs, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", "given")
    ids = []
    for _ in range(2):
        with track("bert", run_id="mine") as run:
            ids.append(run.run_id)
    assert ids == ["mine", "mine"]


def test_runs_inside_a_run_of_mlflow_are_never_that_run(runs, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", "m")
    with track() as outer, track() as inner, track() as innermost:
        assert os.environ["EMISSIONS_TRACKED"] == "made-3,made-2,m"
        assert (outer.run_id, inner.run_id, innermost.run_id) == ("m", "made-2", "made-3")


def test_later_trackers_of_all_ranks_have_ids_in_common(runs, monkeypatch):
    ids = {}
    for rank in range(2):
        for name, value in {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2}.items():
            monkeypatch.setenv(name, str(value))
        for number, name in enumerate(("fit", "fit", "test")):
            with track(name) as run:
                ids.setdefault(number, set()).add(run.run_id)
    (fit,), (again,), (test,) = ids.values()
    assert again == f"{fit}.2"
    assert test.startswith("test-")


def test_trackers_of_ranks_with_an_id_from_outside_have_ids_in_common(runs, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "elastic")
    ids = []
    for rank in range(2):
        for name, value in {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2}.items():
            monkeypatch.setenv(name, str(value))
        for name in ("fit", "test"):
            with track(name) as run:
                ids.append(run.run_id)
    assert ids == ["elastic", "elastic.2"] * 2


class TestInsideOfACommandThatIsARun:
    @pytest.fixture(autouse=True)
    def _command(self, runs, monkeypatch):
        known = {"run_id": "sweep", "job_id": "", "node": "n1", "ended": None}
        runs.known["sweep"] = {**known, "units": {}, "logged": {}}
        monkeypatch.setenv("EMISSIONS_RUN_ID", "sweep")
        monkeypatch.setenv("EMISSIONS_TRACKED", "sweep")

    def test_each_tracker_is_a_run_of_its_own(self, runs):
        ids = []
        for each in ("lr-1", "lr-2"):
            with track(each, job_id="") as run:
                ids.append(run.run_id)
        assert "sweep" not in ids
        assert len(set(ids)) == 2
        assert runs.known["sweep"]["ended"] is None

    def test_ranks_are_one_run(self, runs, monkeypatch):
        ids = set()
        for rank in range(2):
            for name, value in {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2}.items():
                monkeypatch.setenv(name, str(value))
            with track("ddp") as run:
                ids.add(run.run_id)
        assert len(ids) == 1
        assert "sweep" not in ids

    def test_a_program_without_a_tracker_may_log_to_the_run_of_the_command(self, runs):
        current_run().log(accuracy=0.9)
        current_run().refresh()
        track_as_shipped._open.clear()
        assert runs.known["sweep"]["logged"] == {"accuracy": 0.9}


def test_outside_of_any_run_nothing_is_said_to_nobody(nobody):
    run = current_run()
    run.count(tokens=1)
    run.log(loss=1)
    assert (run.run_id, run.is_measured, math.isnan(run.energy_kwh)) == ("", False, True)


def test_ranks_have_one_id_and_one_budget(runs, monkeypatch):
    runs.grams = 9.0
    over, ids = [], set()
    for rank in range(2):
        for name, value in {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2}.items():
            monkeypatch.setenv(name, str(value))
        with track("ddp", budget_grams=1, on_budget=over.append, receipts="receipts") as run:
            ids.add(run.run_id)
        assert len(list(Path("receipts").iterdir())) == 1
    assert len(ids) == 1
    assert len(over) == 1


def launch_ids(runs, monkeypatch, ranks, **environment):
    """Ids of the runs of a launch on two nodes, of which this one has these ranks."""
    launch = {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "MASTER_PORT": "29500", **environment}
    for name, value in {"SLURM_JOB_ID": "17", "TORCHELASTIC_RUN_ID": "none", **launch}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(track_as_shipped, "_ids_found", {})  # other processes
    begun = []
    for rank in ranks:
        monkeypatch.setenv("RANK", str(rank))
        each = track("bert")
        begun.append((each, each.start().run_id))
    for each, _ in begun:
        each.stop()
    return {run_id for _, run_id in begun}


def test_a_launch_on_many_nodes_that_has_ended_is_not_begun_again_by_the_next(runs, monkeypatch):
    first = launch_ids(runs, monkeypatch, [0, 1])
    second = launch_ids(runs, monkeypatch, [0, 1])
    third = launch_ids(runs, monkeypatch, [1, 0])
    (name,) = first
    assert (second, third) == ({f"{name}-2"}, {f"{name}-3"})


def test_a_launch_that_torchrun_begins_again_goes_on(runs, monkeypatch):
    launch_ids(runs, monkeypatch, [0, 1])
    second = launch_ids(runs, monkeypatch, [0, 1])
    again = launch_ids(runs, monkeypatch, [0, 1], TORCHELASTIC_RESTART_COUNT="1")
    assert again == second


def test_a_run_that_was_named_from_outside_is_begun_again_though_it_ended(runs, monkeypatch):
    for _ in range(2):
        ids = launch_ids(runs, monkeypatch, [0], TORCHELASTIC_RUN_ID="mine")
        assert ids == {"mine"}


def test_a_budget_that_is_exceeded_is_said_once(runs, caplog):
    runs.grams = 9.0
    with track("bert", budget_grams=1) as run:
        run.count(tokens=1)
    assert caplog.text.count("has emitted 9 g CO2eq of a budget of 1 g") == 1


def test_a_budget_that_is_kept_is_not_mentioned(runs, caplog):
    with track("bert", budget_grams=2.0):
        pass
    assert not caplog.text


def test_a_budget_raises_where_the_program_calls_its_run(runs):
    runs.grams = 9.0
    done = []

    def train():
        with track("bert", budget_grams=1, on_budget="raise") as run:
            for step in range(3):
                done.append(step)
                run.refresh()

    with pytest.raises(BudgetExceeded, match="has emitted 9 g CO2eq of a budget of 1 g"):
        train()
    assert done == [0]
    assert len(runs.told("end")) == 1


@pytest.mark.parametrize("actions", [{"on_budget": "raise"}, {"on_forecast": "raise"}])
def test_a_block_that_has_ended_over_its_budget_is_not_failed(runs, caplog, actions):
    runs.grams = 9.0
    with track("bert", budget_grams=1, **actions) as run:
        pass
    run.log(accuracy=0.5)
    assert "has emitted 9 g CO2eq of a budget of 1 g; BudgetExceeded is not raised" in caplog.text
    assert len(runs.told("end")) == 1


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"on_budget": "stop"}, ValueError, "on_budget: expected 'warn', 'raise' or a function"),
        ({"on_forecast": "error"}, ValueError, "on_forecast: .* found 'error'"),
        ({"on_budget": None}, ValueError, "on_budget: .* found None"),
        ({"scope": "node"}, ValueError, "scope: expected 'tree', 'cgroup' or 'machine'"),
        ({"receipts": 5}, TypeError, "receipts: expected a path, found 5"),
        ({"receipts": b"emissions"}, TypeError, "receipts: expected a path, found b'emissions'"),
        ({"codecarbon_csv": 5}, TypeError, "codecarbon_csv: expected a path, found 5"),
        *(
            ({"interval_seconds": value}, ValueError, "interval_seconds: .* above 0, such as 5")
            for value in ("x", "5", 0, -1, True, None, math.nan, math.inf)
        ),
        ({"labels": "team=nlp"}, TypeError, "labels: expected names with values"),
        ({"labels": ["team"]}, TypeError, r"labels: .* found \['team'\]"),
    ],
)
def test_an_argument_that_means_nothing_is_refused_at_once(nobody, arguments, error, said):
    with pytest.raises(error, match=said):
        track("bert", **arguments)


@pytest.mark.parametrize(("budget", "asked"), [("500", 500.0), (0, 0.0), (None, None)])
def test_a_budget_may_be_a_text_that_is_a_number(runs, budget, asked):
    with track("bert", budget_grams=budget):
        pass
    assert runs.told("runs")[0].get("budget_grams") == asked


@pytest.mark.parametrize("budget", ["much", "5 kg", -1, math.nan, math.inf, [5], True])
def test_a_budget_that_is_no_amount_is_an_error_when_the_tracker_is_created(budget):
    with pytest.raises(ValueError, match="budget_grams: expected a number of grams, such as 500"):
        track("bert", budget_grams=budget)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"on_budget": "raise"}, "on_budget"),
        ({"on_forecast": print}, "on_forecast"),
        ({"on_budget": "raise", "on_forecast": "raise"}, "on_budget, on_forecast"),
    ],
)
def test_an_action_without_a_budget_causes_one_warning(monkeypatch, caplog, arguments, named):
    monkeypatch.setattr(track_as_shipped, "_warned", set())
    for _ in range(2):
        track("bert", **arguments)
    assert [each.message for each in caplog.records] == [
        f"{named} without budget_grams has no effect"
    ]


def test_an_action_with_a_budget_and_the_defaults_cause_no_warning(monkeypatch, caplog):
    monkeypatch.setattr(track_as_shipped, "_warned", set())
    track("bert", budget_grams=0, on_budget="raise", on_forecast="raise")
    track("bert")
    assert not caplog.records


def test_receipts_and_rows_may_be_paths(runs, tmp_path):
    paths = {"receipts": tmp_path / "r", "codecarbon_csv": tmp_path / "emissions.csv"}
    with track("bert", **paths):
        pass
    assert (tmp_path / "emissions.csv").exists()
    assert list((tmp_path / "r").iterdir())


def test_labels_of_any_kind_are_told_as_texts(runs):
    with track("bert", labels={"path": Path("a/b"), "none": None, 1: True}, run_id=7):
        pass
    (asked,) = runs.told("runs")
    assert (asked["labels"], asked["run_id"]) == ({"path": "a/b", "1": "True"}, "7")


class TestWhatTheNumbersRestOn:
    @pytest.fixture(autouse=True)
    def _nothing_was_said(self, monkeypatch):
        monkeypatch.setattr(track_as_shipped, "_warned", set())

    def said(self, runs, caplog, zone="WORLD"):
        runs.uses = [{"zone": zone, "grams_per_kwh": 473.0, "pue": 1.0}]
        for _ in range(2):
            with track("bert"):
                pass
        return caplog.text

    def test_the_world_average_is_said_once(self, runs, caplog):
        said = self.said(runs, caplog)
        assert said.count("cpu counter; 473 g/kWh (WORLD)") == 1
        assert said.count("set convert.zone") == 1

    def test_a_zone_that_was_chosen_is_not_worth_a_warning(self, runs, caplog):
        assert self.said(runs, caplog, zone="DE") == ""

    def test_a_caller_with_its_own_intensity_gets_no_warning(self, runs, caplog, monkeypatch):
        monkeypatch.setattr(track_as_shipped, "has_own_intensity", True)
        assert self.said(runs, caplog) == ""

    def test_each_run_is_said_to_who_reads_such_a_log(self, runs, caplog):
        caplog.set_level("INFO", "emissions")
        said = self.said(runs, caplog, zone="DE")
        assert said.count("3600 J, 2 g CO2eq; cpu counter; 473 g/kWh (DE)") == 2

    @pytest.mark.parametrize(
        ("name", "value"), [("ZONE", "FR"), ("GRAMS_PER_KWH", "400"), ("PUE", "1.2")]
    )
    def test_a_setting_that_the_daemon_does_not_have_is_said(
        self, runs, caplog, monkeypatch, name, value
    ):
        monkeypatch.setenv(f"EMISSIONS_EXPORTER_CONVERT_{name}", value)
        said = self.said(runs, caplog)
        assert said.count(f"EMISSIONS_EXPORTER_CONVERT_{name}={value} has no effect") == 1

    def test_a_setting_that_it_has_is_not(self, runs, caplog, monkeypatch):
        monkeypatch.setenv("EMISSIONS_EXPORTER_CONVERT_ZONE", "DE")
        assert self.said(runs, caplog, zone="DE") == ""


def test_a_budget_never_hides_the_programs_own_error(runs):
    runs.grams = 9.0
    tracked = track("bert", budget_grams=1, on_budget="raise")
    with pytest.raises(ZeroDivisionError), tracked:
        1 / 0  # noqa: B018


class TestWhereNobodyMeasures:
    def test_the_program_goes_on(self, nobody, tmp_path, caplog):
        with track("alone", socket=str(tmp_path / "nothing")) as run:
            run.count(tokens=1)
        assert not run.is_measured
        assert caplog.text.count("not measured, the program continues") == 1

    def test_a_strict_one_does_not(self, nobody, tmp_path):
        with pytest.raises(NotMeasured, match="nothing"):
            track("alone", socket=str(tmp_path / "nothing"), strict=True).start()

    def test_a_run_that_is_counted_with_others_is_not_ended(self, runs, caplog):
        runs.refusals["runs"] = [(201, {"run_id": "other", "job_id": ""})]
        with track("one too many") as run:
            pass
        assert not run.is_measured
        assert not runs.told("end")
        assert "attribute.max_runs" in caplog.text


def test_a_daemon_that_has_too_much_to_do_is_asked_again(runs):
    busy = (429, {"error": "too many"})
    runs.refusals = {"runs": [busy], "end": [busy]}
    with track("bert") as run:
        pass
    assert run.record["ended"]


def test_where_the_machine_is_refused_the_tree_is_measured(runs, caplog):
    runs.refusals["runs"] = [(403, {"error": "only root may; use scope tree"})]
    with track("bert", scope="machine") as run:
        assert run.is_measured
    assert [each["scope"] for each in runs.told("runs")] == ["machine", "tree"]
    assert "this tracker measures only its own processes (scope tree): only root may" in caplog.text
    assert "use scope tree" not in caplog.text


def test_the_run_goes_on_with_a_daemon_that_knows_it_no_more(nobody, tmp_path):
    path = str(tmp_path / "agent.sock")
    tracker = track("bert", run_id="kept", job_id="7", socket=path)
    with serving(path, Runs()):
        run = tracker.start()
    Path(path).unlink()
    with serving(path, Runs()) as second:
        run.count(tokens=5)
        tracker.stop()
    assert [(each["run_id"], each["job_id"]) for each in second.told("runs")] == [("kept", "7")]
    assert second.known["kept"]["ended"]


def test_the_receipt_is_the_last_record(runs):
    with track("bert", run_id="bert", job_id="7", receipts="receipts") as run:
        pass
    (path,) = Path("receipts").iterdir()
    assert path.name == "bert-7-n1.json"
    assert json.loads(path.read_text()) == run.record


def test_ids_that_are_no_names_of_files_have_receipts_of_their_own(runs):
    for run_id in ("a/b", "a_b", ".."):
        with track("bert", run_id=run_id, job_id="7", receipts="receipts"):
            pass
    kept = [json.loads(path.read_text())["run_id"] for path in Path("receipts").iterdir()]
    assert sorted(kept) == ["..", "a/b", "a_b"]
    assert Path("receipts", "a_b-7-n1.json").exists()


def test_a_receipt_that_cannot_be_written_breaks_nothing(runs, caplog):
    Path("receipts").write_text("a file")
    with track("bert", receipts="receipts"):
        pass
    assert caplog.text.count("receipt in ") == 1


def test_a_forked_child_counts_for_the_run_and_does_not_end_it(runs, program):
    program("""
        import os
        with track("bert", receipts=None, interval_seconds=3600) as run:
            run.count(samples=1)
            if (child := os.fork()) == 0:
                run.count(samples=10)
                raise SystemExit(0)
            assert os.waitpid(child, 0)[1] == 0
    """)
    assert runs.known["made-1"]["units"] == {"samples": 11}
    assert len(runs.told("end")) == 1


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_multiprocessing_count_for_the_run(runs, program, method):
    program(
        """
        import multiprocessing, sys

        def work():
            current_run().count(samples=10)

        if __name__ == "__main__":
            with track("bert", receipts=None, interval_seconds=3600) as run:
                run.count(samples=1)
                context = multiprocessing.get_context(sys.argv[1])
                children = [context.Process(target=work) for _ in range(2)]
                for child in children: child.start()
                for child in children: child.join()
        """,
        method,
    )
    assert runs.known["made-1"]["units"] == {"samples": 21}
    assert (len(runs.told("runs")), len(runs.told("end"))) == (1, 1)


def test_a_run_of_a_child_is_another(runs, program):
    said = program("""
        import subprocess, sys
        if sys.argv[1:]:
            with track("inner", receipts=None) as run: print(run.run_id)
        else:
            with track("outer", receipts=None):
                subprocess.run([sys.executable, __file__, "inner"], check=True)
    """)
    assert said.split() == ["made-2"]


def test_a_program_that_forgets_to_stop_is_ended_with_it(runs, program):
    program("track('bert', receipts=None, interval_seconds=3600).start().count(tokens=1)")
    assert runs.known["made-1"]["units"] == {"tokens": 1}
    assert runs.known["made-1"]["ended"]


def test_importing_the_client_imports_nothing_that_takes_long(program):
    heavy = {"json", "http.client", "logging", "subprocess", "tempfile", "inspect", "hashlib"}
    said = program(f"import sys; print(*({heavy!r} & set(sys.modules)))")
    assert said.split() == []


def test_labels_that_are_numbers_are_told_as_texts(runs):
    with track("bert", labels={"seed": 1, "rate": 1e-5, "warm": True}, receipts=None):
        pass
    (asked,) = runs.told("runs")
    assert asked["labels"] == {"seed": "1", "rate": "1e-05", "warm": "True"}


def test_a_generator_is_one_run_until_it_is_exhausted(runs):
    told = []

    @track("numbers")
    def numbers(count):
        for each in range(count):
            told.append(len(runs.told("end")))
            sent = yield each
            assert sent in (None, "more")
        return "last"

    made = numbers(3)
    assert not runs.told("runs")
    assert (next(made), made.send("more"), next(made)) == (0, 1, 2)
    with pytest.raises(StopIteration, match="last"):
        next(made)
    assert told == [0, 0, 0]
    assert (len(runs.told("runs")), len(runs.told("end"))) == (1, 1)


def test_a_generator_that_is_closed_or_fails_ends_its_run(runs):
    @track("numbers")
    def numbers():
        try:
            yield 1
        except KeyError:
            yield 2

    made = numbers()
    next(made)
    assert made.throw(KeyError()) == 2
    made.close()
    assert len(runs.told("end")) == 1


def test_an_async_generator_is_one_run_until_it_is_exhausted(runs):
    cleaned = []

    @track("numbers")
    async def numbers():
        try:
            while True:
                try:
                    sent = yield len(runs.told("end"))
                except KeyError:
                    yield "caught"
                    return
                assert sent == "more"
        finally:
            cleaned.append(len(runs.told("end")))

    async def use():
        made = numbers()
        assert not runs.told("runs")
        assert (await made.__anext__(), await made.asend("more")) == (0, 0)
        assert await made.athrow(KeyError()) == "caught"
        with pytest.raises(StopAsyncIteration):
            await made.__anext__()
        other = numbers()
        await other.__anext__()
        await other.aclose()

    asyncio.run(use())
    assert cleaned == [0, 1]
    assert (len(runs.told("runs")), len(runs.told("end"))) == (2, 2)


def test_partial_functions_and_objects_are_measured_by_the_kind_of_their_body(runs):
    class Called:
        def __call__(self):
            yield len(runs.told("end"))

    def twice(value):
        yield value
        yield len(runs.told("end"))

    assert list(track()(partial(twice, 5))()) == [5, 0]
    assert list(track()(Called())()) == [1]
    assert len(runs.told("end")) == 2
