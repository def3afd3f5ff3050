"""The callback in the library's own handler, called in the order of its Trainer, without torch."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("transformers")
from transformers.integrations.integration_utils import (
    get_reporting_integration_callbacks,
)
from transformers.trainer_callback import (
    CallbackHandler,
    TrainerCallback,
    TrainerControl,
    TrainerState,
)

from exporter.integrations.transformers import EmissionsCallback
from exporter.report.card.check import check_card
from exporter.report.card.front_matter import parse_metadata, split_card
from tests.real.parts import REPOSITORY, Daemon, until

pytestmark = pytest.mark.ml
NUMBERS = {"energy_joules", "energy_kwh", "emissions_grams", "power_watts"}
STEP_SECONDS = 0.2
HOST_WATTS = 100 * 1.2 * 1.2
"""Of the made-up package and its memory, and what a look at clocks of ticks may be off by."""


class Training:
    """What the Trainer does around a loop that only uses the processor."""

    def __init__(self, directory: Path, *callbacks: Any, steps: int = 4) -> None:
        self.args = SimpleNamespace(
            output_dir=str(directory), run_name="tiny", world_size=1, n_gpu=0
        )
        self.state = TrainerState(max_steps=steps)
        self.state.is_world_process_zero = os.environ.get("RANK", "0") == "0"
        self.control = TrainerControl()
        self.handler = CallbackHandler(list(callbacks), None, None, None, None)
        self.tell("on_init_end")

    def tell(self, event: str, **more: Any) -> None:
        getattr(self.handler, event)(self.args, self.state, self.control, **more)

    def log(self, logs: dict[str, float]) -> dict[str, float]:
        self.state.log_history.append({**logs, "step": self.state.global_step})
        self.tell("on_log", logs=logs)
        return logs

    def steps(self) -> Iterator[int]:
        self.tell("on_train_begin")
        while (
            self.state.global_step < self.state.max_steps and not self.control.should_training_stop
        ):
            until_seconds = time.process_time() + STEP_SECONDS
            while time.process_time() < until_seconds:
                pass
            self.state.global_step += 1
            self.tell("on_step_end")
            yield self.state.global_step

    def run(self) -> dict[str, float]:
        for step in self.steps():
            self.log({"loss": 1 / step, "epoch": step / 2})
        metrics = self.log({"train_runtime": 1.0, "train_loss": 0.5})
        self.tell("on_train_end")
        return metrics


def runs(daemon: Daemon, directory: Path) -> list[dict[str, Any]]:
    """The records of the trainings whose receipts lie there."""
    ids = {json.loads(p.read_text())["run_id"] for p in (directory / "emissions").glob("*.json")}
    return [daemon.json(f"/api/v1/runs/{run_id}") for run_id in ids]


def emissions(directory: Path) -> dict[str, Any]:
    return parse_metadata(split_card((directory / "README.md").read_text())).emissions()


def test_every_line_of_the_log_has_the_numbers_and_the_last_has_those_of_the_record(
    daemon: Daemon, tmp_path: Path
) -> None:
    training = Training(tmp_path, EmissionsCallback(), steps=12)
    metrics = training.run()
    (record,) = runs(daemon, tmp_path)
    assert record["ended"] is not None
    history = training.state.log_history
    measured = [line for line in history if "energy_joules" in line]  # since the first reading
    assert all({*line} >= NUMBERS - {"power_watts"} for line in measured)
    joules = [line["energy_joules"] for line in measured]
    assert min(joules) > 0
    assert joules == sorted(joules)
    assert joules[-1] == metrics["energy_joules"] == record["energy_joules"] > 0
    assert metrics["emissions_grams"] == record["carbon_grams"]
    assert metrics["energy_kwh"] == pytest.approx(record["energy_joules"] / 3.6e6)
    assert metrics["power_watts"] == pytest.approx(joules[-1] / record["duration_seconds"])
    assert 0 < max(line.get("power_watts", 0) for line in history) <= HOST_WATTS
    assert all(math.isfinite(line[name]) for line in history for name in NUMBERS & {*line})


def test_reporters_behind_it_see_the_numbers(daemon: Daemon, tmp_path: Path) -> None:
    seen = []

    class Spy(TrainerCallback):
        def on_log(
            self, _args: Any, _state: Any, _control: Any, logs: Any = None, **_: Any
        ) -> None:
            seen.append(dict(logs))

    (ours,) = get_reporting_integration_callbacks(["emissions"])
    Training(tmp_path, ours, Spy).run()
    assert seen[-1]["energy_joules"] > 0


def test_the_run_knows_results_and_progress(daemon: Daemon, tmp_path: Path) -> None:
    training = Training(tmp_path, EmissionsCallback("mine", labels={"team": "nlp"}))
    for step in training.steps():
        training.log({"loss": 1 / step, "grad_norm": 1.0, "eval_f1": 0.5, "eval_runtime": 2.0})
    training.log({"loss": math.nan, "epoch": 1.0})
    training.tell("on_train_end")
    (record,) = runs(daemon, tmp_path)
    assert record["logged"] == {"loss": 0.25, "eval_f1": 0.5}
    assert (record["name"], record["labels"]) == ("mine", {"team": "nlp"})
    assert record["progress"]["done"] == record["progress"]["total"] == 4


def test_the_card_has_the_grams_of_the_run_and_what_it_was_told(
    daemon: Daemon, tmp_path: Path
) -> None:
    callback = EmissionsCallback(training_type="fine-tuning", location="Quebec, Canada")
    Training(tmp_path, callback).run()
    (record,) = runs(daemon, tmp_path)
    there = emissions(tmp_path)
    assert there["emissions"] == pytest.approx(record["carbon_grams"], rel=1e-5)
    assert record["labels"] == {
        "training_type": "fine-tuning",
        "geographical_location": "Quebec, Canada",
    }
    assert there["training_type"] == "fine-tuning"
    assert there["geographical_location"] == "Quebec, Canada"
    assert "## Environmental Impact" in (tmp_path / "README.md").read_text()
    assert not [
        f for f in check_card((tmp_path / "README.md").read_text(), record) if f.severity == "error"
    ]


def test_a_push_in_the_middle_has_the_card_as_of_then(daemon: Daemon, tmp_path: Path) -> None:
    training = Training(tmp_path, EmissionsCallback(), steps=10)
    halfway = 0.0
    for step in training.steps():
        if step == 8:
            until(lambda: training.handler.callbacks[0]._run.record.get("carbon_ng"))
            training.tell("on_push_begin")
            halfway = emissions(tmp_path)["emissions"]
    training.tell("on_train_end")
    assert 0 < halfway < emissions(tmp_path)["emissions"]


def test_a_card_of_others_keeps_what_is_theirs(daemon: Daemon, tmp_path: Path) -> None:
    card = "---\nlicense: mit  # theirs\ntags:\n- a\n---\n# Theirs\n\nText.\n"
    (tmp_path / "README.md").write_text(card)
    Training(tmp_path, EmissionsCallback()).run()
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("---\nlicense: mit  # theirs\ntags:\n- a\nco2_eq_emissions:\n")
    assert "---\n# Theirs\n\nText.\n" in text


@pytest.mark.parametrize(
    ("card", "says"),
    [
        ("---\nlicense: [mit\n---\n", "README.md: line 2: metadata are not YAML"),
        ("---\nco2_eq_emissions: 3.5\n---\n", "emissions of another source are kept"),
    ],
)
def test_a_card_that_cannot_be_merged_is_left_as_it_was_and_said_once(
    daemon: Daemon, tmp_path: Path, caplog: pytest.LogCaptureFixture, card: str, says: str
) -> None:
    (tmp_path / "README.md").write_text(card)
    training = Training(tmp_path, EmissionsCallback())
    training.run()
    training.tell("on_push_begin")
    assert (tmp_path / "README.md").read_text() == card
    assert caplog.text.count("model card not updated") == 1
    assert says in caplog.text


def test_without_a_daemon_the_training_goes_on_and_nothing_is_made_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("EMISSIONS_EXPORTER_EXPOSE_SOCKET", str(tmp_path / "nobody"))
    training = Training(tmp_path, EmissionsCallback())
    assert training.run() == {"train_runtime": 1.0, "train_loss": 0.5}
    assert training.state.global_step == 4
    assert not NUMBERS & {name for line in training.state.log_history for name in line}
    assert not (tmp_path / "README.md").exists()
    assert caplog.text.count("not measured, the program continues") == 1


def test_what_goes_wrong_in_an_event_never_reaches_the_training(
    daemon: Daemon, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    training = Training(tmp_path, EmissionsCallback())
    training.state.log_history = None  # as no Trainer has it
    training.tell("on_train_begin")
    training.tell("on_log", logs={"loss": 1.0})
    training.tell("on_log", logs={"loss": 0.5})
    training.tell("on_train_end")
    assert caplog.text.count("on_log") <= 1


def test_a_budget_that_is_used_up_ends_the_training_in_good_order(
    daemon: Daemon, tmp_path: Path
) -> None:
    callback = EmissionsCallback(budget_grams=1e-9, on_budget="raise", interval_seconds=0.1)
    training = Training(tmp_path, callback, steps=100)
    training.run()
    assert training.state.global_step < 100
    (record,) = runs(daemon, tmp_path)
    assert record["ended"] is not None


def test_two_trainings_of_one_trainer_are_two_runs_and_one_card(
    daemon: Daemon, tmp_path: Path
) -> None:
    training = Training(tmp_path, EmissionsCallback())
    training.run()
    training.state.global_step = 0
    training.run()
    grams = [record["carbon_grams"] for record in runs(daemon, tmp_path)]
    assert len(grams) == 2
    assert emissions(tmp_path)["emissions"] == pytest.approx(sum(grams), rel=1e-5)


class OutOfMemoryError(RuntimeError):
    """As torch raises it, and `auto_find_batch_size` then begins the training again."""


def break_off(training: Training) -> None:
    """Two steps, and an exception: the Trainer tells its callbacks nothing of it."""
    steps = training.steps()
    assert [next(steps), next(steps)] == [1, 2]
    with pytest.raises(OutOfMemoryError):
        steps.throw(OutOfMemoryError)
    training.state.global_step = 0


def total(daemon: Daemon, *directories: Path) -> float:
    return sum(r["carbon_grams"] for d in directories for r in runs(daemon, d))


@pytest.mark.parametrize("attempts", [1, 2])
def test_attempts_that_ran_out_of_memory_are_in_the_sum_of_the_card(
    daemon: Daemon, tmp_path: Path, attempts: int
) -> None:
    training = Training(tmp_path, EmissionsCallback())
    for _ in range(attempts):
        break_off(training)
    training.run()
    assert len(runs(daemon, tmp_path)) == attempts + 1
    assert all(record["ended"] and record["carbon_grams"] for record in runs(daemon, tmp_path))
    assert emissions(tmp_path)["emissions"] == pytest.approx(total(daemon, tmp_path), rel=1e-5)


def test_a_push_after_an_exception_has_the_emissions_of_the_training_that_raised(
    daemon: Daemon, tmp_path: Path
) -> None:
    callback = EmissionsCallback()
    training = Training(tmp_path, callback)
    break_off(training)
    until(lambda: callback._run.refresh().get("carbon_ng"))
    training.tell("on_push_begin")
    assert emissions(tmp_path)["emissions"] > 0


def test_one_callback_in_two_trainers_makes_two_cards(daemon: Daemon, tmp_path: Path) -> None:
    callback = EmissionsCallback()
    first, second = Training(tmp_path / "a", callback), Training(tmp_path / "b", callback)
    first.run()
    break_off(second)
    second.run()
    first.state.global_step = 0
    first.run()
    second.tell("on_push_begin")
    assert len(runs(daemon, tmp_path / "a")) == len(runs(daemon, tmp_path / "b")) == 2
    for directory in (tmp_path / "a", tmp_path / "b"):
        there = emissions(directory)["emissions"]
        assert there == pytest.approx(total(daemon, directory), rel=1e-5)


def test_two_trainers_of_one_directory_have_one_card_of_the_later(
    daemon: Daemon, tmp_path: Path
) -> None:
    callback = EmissionsCallback()
    break_off(Training(tmp_path, callback))
    Training(tmp_path, callback).run()
    assert len(runs(daemon, tmp_path)) == 2
    assert emissions(tmp_path)["emissions"] == pytest.approx(
        callback._run.emissions_grams, rel=1e-5
    )


def test_what_ran_out_of_memory_is_in_the_card_of_who_resumes_the_next_attempt(
    daemon: Daemon, tmp_path: Path
) -> None:
    training = Training(tmp_path, EmissionsCallback())
    break_off(training)
    for _ in training.steps():
        training.tell("on_save")
    resumed = Training(tmp_path, EmissionsCallback(), steps=6)
    resumed.state.global_step = 4
    resumed.run()
    assert len(runs(daemon, tmp_path)) == 2
    assert emissions(tmp_path)["emissions"] == pytest.approx(total(daemon, tmp_path), rel=1e-5)


def test_a_training_that_nobody_measured_leaves_no_sum_that_lacks_it(
    daemon: Daemon,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    training = Training(tmp_path, EmissionsCallback())
    with monkeypatch.context() as patch:
        patch.setenv("EMISSIONS_EXPORTER_EXPOSE_SOCKET", str(tmp_path / "nobody"))
        break_off(training)
    training.run()
    assert "1 trainings of this Trainer were not measured" in caplog.text
    assert not (tmp_path / "README.md").exists()


PROGRAM = """
import sys
from pathlib import Path
from exporter.integrations.transformers import EmissionsCallback
from tests.ml.transformers.test_callback import Training

training = Training(Path(sys.argv[1]), EmissionsCallback("tiny"), steps=int(sys.argv[2]))
training.state.global_step = int(sys.argv[3])
for step in training.steps():
    if step % 5 == 0:
        training.tell("on_save")
        print("saved", flush=True)
training.log({"train_runtime": 1.0})
training.tell("on_train_end")
"""


def begin(directory: Path, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(directory), *arguments],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: "subprocess.Popen[str]") -> str:
    """What it wrote to its error output, once it has ended well; libraries may load for a while."""
    try:
        _, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    return errors


def test_a_killed_training_that_goes_on_from_its_checkpoint_is_one_run(
    daemon: Daemon, tmp_path: Path
) -> None:
    killed = begin(tmp_path, "1000", "0")
    assert killed.stdout is not None
    assert killed.stdout.readline() == "saved\n"
    assert killed.stdout.readline() == "saved\n"
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    (receipt,) = (tmp_path / "emissions").glob("*.json")
    run_id = json.loads(receipt.read_text())["run_id"]
    before = until(
        lambda: (r := daemon.json(f"/api/v1/runs/{run_id}"))["ended"] and r, what="it ended"
    )
    assert before["energy_uj"] > 0
    ended(begin(tmp_path, "15", "10"))
    (after,) = runs(daemon, tmp_path)
    assert after["run_id"] == run_id
    assert after["started"] == before["started"]
    assert after["energy_uj"] > before["energy_uj"]
    assert emissions(tmp_path)["emissions"] == pytest.approx(after["carbon_grams"], rel=1e-5)


def test_all_ranks_are_one_run_and_the_first_writes_the_card(
    daemon: Daemon, tmp_path: Path
) -> None:
    world = {"WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "3"}
    ranks = [begin(tmp_path, "4", "0", RANK=str(n), LOCAL_RANK=str(n), **world) for n in range(3)]
    for rank in ranks:
        ended(rank)
    (record,) = runs(daemon, tmp_path)
    assert emissions(tmp_path)["emissions"] <= record["carbon_grams"] * 1.00001


def test_nodes_that_are_missing_keep_the_card_from_saying_too_little(
    daemon: Daemon, tmp_path: Path
) -> None:
    world = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}
    world |= {
        "MASTER_ADDR": "here",
        "MASTER_PORT": "1",
        "EMISSIONS_RUN_ID": f"of-two-{os.getpid()}",
    }
    errors = ended(begin(tmp_path, "4", "0", **world))
    assert "records of 1 of 2 nodes found" in errors
    assert not (tmp_path / "README.md").exists()
    (mine,) = (tmp_path / "emissions").glob("*.json")
    other = {**json.loads(mine.read_text()), "node": "the-other"}
    (tmp_path / "emissions" / "other.json").write_text(json.dumps(other))
    ended(begin(tmp_path, "4", "0", **world))
    record = json.loads(mine.read_text())
    both = record["carbon_grams"] + other["carbon_grams"]
    assert emissions(tmp_path)["emissions"] == pytest.approx(both, rel=1e-5)


def test_emissions_csv_is_that_of_codecarbon(daemon: Daemon, tmp_path: Path) -> None:
    Training(tmp_path, EmissionsCallback()).run()
    (record,) = runs(daemon, tmp_path)
    with (tmp_path / "emissions.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["run_id"] == record["run_id"]
    assert float(row["emissions"]) == pytest.approx(record["carbon_grams"] / 1_000, rel=1e-6)
