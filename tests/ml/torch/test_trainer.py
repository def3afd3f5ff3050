"""The callback in a real Trainer."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
import transformers

from exporter.integrations.transformers import EmissionsCallback
from tests.real.parts import REPOSITORY, Daemon

pytestmark = [pytest.mark.ml, pytest.mark.filterwarnings("default")]
EXAMPLE = REPOSITORY / "examples" / "transformers" / "tiny_trainer.py"


def trainer(directory: Path, *callbacks: Any, **arguments: Any) -> Any:
    config = transformers.BertConfig(
        vocab_size=64,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=32,
    )
    words = torch.randint(0, 64, (256, 32), generator=torch.Generator().manual_seed(1))
    data = [{"input_ids": row, "labels": int(row[0] > 31)} for row in words]
    given = {"max_steps": 60, "logging_steps": 10, "save_strategy": "no", "report_to": "none"}
    return transformers.Trainer(
        model=transformers.BertForSequenceClassification(config),
        args=transformers.TrainingArguments(
            output_dir=str(directory), use_cpu=True, disable_tqdm=True, **{**given, **arguments}
        ),
        train_dataset=data,
        eval_dataset=data[:32],
        callbacks=list(callbacks),
    )


def record(daemon: Daemon, directory: Path) -> dict[str, Any]:
    (receipt,) = (directory / "emissions").glob("*.json")
    run_id = json.loads(receipt.read_text())["run_id"]
    return dict(daemon.json(f"/api/v1/runs/{run_id}"))


def card(directory: Path) -> dict[str, Any]:
    return dict(huggingface_hub.ModelCard.load(directory / "README.md").data.to_dict())


def test_report_to_is_enough(daemon: Daemon, tmp_path: Path) -> None:
    training = trainer(tmp_path, report_to=["emissions"], eval_strategy="steps", eval_steps=30)
    result = training.train()
    found = record(daemon, tmp_path)
    assert result.metrics["energy_joules"] == found["energy_joules"] > 0
    assert result.metrics["emissions_grams"] == found["carbon_grams"]
    history = training.state.log_history
    assert len(history) == 9
    has_figures = ["emissions_grams" in line for line in history]
    assert has_figures == sorted(has_figures)  # absent until the first reading
    assert history[-1]["energy_joules"] == found["energy_joules"]
    assert {"loss", "eval_loss", "train_loss"} <= found["logged"].keys()
    assert found["progress"]["done"] == 60
    assert card(tmp_path)["co2_eq_emissions"]["emissions"] == pytest.approx(
        found["carbon_grams"], rel=1e-5
    )


def test_the_card_that_is_pushed_has_the_emissions_and_what_the_trainer_says(
    daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pushed = []

    def upload_folder(**_: Any) -> None:
        pushed.append((tmp_path / "README.md").read_text())

    library = transformers.trainer
    if hasattr(library, "hf_api"):
        monkeypatch.setattr(library, "hf_api", lambda: SimpleNamespace(upload_folder=upload_folder))
    else:
        monkeypatch.setattr(library, "upload_folder", upload_folder)
    training = trainer(tmp_path, EmissionsCallback(training_type="pre-training"), max_steps=20)
    training.hub_model_id, training.push_in_progress = "us/tiny", None
    training.train()
    training.push_to_hub(tags=["ours"])
    (text,) = pushed
    data = huggingface_hub.ModelCard(text).data.to_dict()
    assert data["co2_eq_emissions"]["training_type"] == "pre-training"
    assert "ours" in data["tags"]
    assert "## Training procedure" in text
    assert text.count("## Environmental Impact") == 1


def test_a_training_that_goes_on_from_a_checkpoint_is_the_same_run(
    daemon: Daemon, tmp_path: Path
) -> None:
    trainer(
        tmp_path, EmissionsCallback(), max_steps=20, save_strategy="steps", save_steps=20
    ).train()
    first = record(daemon, tmp_path)
    again = trainer(
        tmp_path, EmissionsCallback(), max_steps=60, save_strategy="steps", save_steps=20
    )
    again.train(resume_from_checkpoint=True)
    found = record(daemon, tmp_path)
    assert found["run_id"] == first["run_id"]
    assert found["energy_uj"] > first["energy_uj"]


def test_a_budget_ends_the_training_and_its_result_is_there(daemon: Daemon, tmp_path: Path) -> None:
    callback = EmissionsCallback(budget_grams=1e-9, on_budget="raise", interval_seconds=0.1)
    training = trainer(tmp_path, callback, max_steps=100_000)
    assert training.train().global_step < 100_000


def test_without_a_daemon_it_trains_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMISSIONS_EXPORTER_EXPOSE_SOCKET", str(tmp_path / "nobody"))
    assert trainer(tmp_path, report_to=["emissions"], max_steps=10).train().global_step == 10


def test_the_example_says_what_it_emitted(daemon: Daemon, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert " g CO2eq" in done.stdout
    assert "tiny" in card(tmp_path / "tiny")["tags"]
    assert card(tmp_path / "tiny")["co2_eq_emissions"]["emissions"] > 0
