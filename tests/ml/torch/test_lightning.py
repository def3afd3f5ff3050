"""Fits of Lightning, and a plain loop of PyTorch."""

import csv
import os
import subprocess
import sys

import lightning.pytorch as lightning
import pytest
import torch

from exporter.integrations.lightning import Emissions
from tests.real.parts import REPOSITORY

pytestmark = [pytest.mark.ml, pytest.mark.filterwarnings("default")]
X = torch.randn(2048, 16)
LOADER = torch.utils.data.DataLoader(
    torch.utils.data.TensorDataset(X, X.sum(dim=1, keepdim=True)), batch_size=64
)
RANKS = """
import lightning.pytorch
from lightning.pytorch.demos.boring_classes import BoringModel
from exporter.integrations.lightning import Emissions

callback = Emissions("ranks", receipts=None)
trainer = lightning.pytorch.Trainer(
    max_epochs=2, accelerator="cpu", devices=2, strategy="ddp", logger=False,
    enable_checkpointing=False, enable_progress_bar=False, callbacks=[callback],
)
trainer.fit(BoringModel())
print("run", trainer.global_rank, callback.run.run_id, flush=True)
"""


class Sums(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(16, 1)

    def training_step(self, batch):
        loss = torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())


class Fails(Sums):
    def on_train_epoch_end(self):
        raise KeyError


def trainer(directory, *callbacks):
    return lightning.Trainer(
        max_epochs=3,
        accelerator="cpu",
        callbacks=list(callbacks),
        logger=lightning.loggers.CSVLogger(directory),
        enable_checkpointing=False,
        enable_progress_bar=False,
    )


def test_the_loggers_get_what_each_epoch_came_to(daemon, tmp_path):
    callback = Emissions("sums", receipts=None)
    made = trainer(tmp_path, callback)
    made.fit(Sums(), LOADER)
    with open(made.logger.experiment.metrics_file_path, newline="") as file:
        grams = [float(row["emissions_grams"]) for row in csv.DictReader(file) if row["energy_kwh"]]
    assert grams == sorted(grams)
    assert grams[-1] == callback.run.emissions_grams > 0
    record = daemon.json(f"/api/v1/runs/{callback.run.run_id}")
    assert record["ended"] is not None
    assert record["progress"]["done"] == 3
    assert "loss" in record["logged"]


def test_a_fit_that_fails_has_ended_its_run(daemon, tmp_path):
    callback = Emissions("fails", receipts=None)
    with pytest.raises(KeyError):
        trainer(tmp_path, callback).fit(Fails(), LOADER)
    assert daemon.json(f"/api/v1/runs/{callback.run.run_id}")["ended"] is not None


def test_ranks_are_one_run(daemon, tmp_path):
    (tmp_path / "ranks.py").write_text(RANKS)
    done = subprocess.run(
        [sys.executable, "ranks.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = [line.split() for line in done.stdout.splitlines() if line.startswith("run ")]
    assert {rank for _, rank, _ in said} == {"0", "1"}
    assert len({run_id for _, _, run_id in said}) == 1


def test_the_examples_say_what_they_used(example):
    assert example("lightning/train.py").rstrip().endswith(" J")
    assert "4 {'energy_kwh': " in example("torch/train.py")
