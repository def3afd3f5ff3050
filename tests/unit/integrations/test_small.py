"""Loops, callbacks and files that need no library, or one that a test can stand in for."""

import json
import logging
import sys
import types
from types import SimpleNamespace

import pytest

from exporter.client import current_run
from exporter.errors import MissingLibrary
from exporter.integrations import dvc, import_optional
from exporter.integrations.notebook import parsed, usage_line
from exporter.integrations.torch import batches, epochs

OPTIONS = {"receipts": None, "progress": False, "interval_seconds": 3600}


@pytest.fixture
def trainer(monkeypatch):
    """One rank of Lightning's trainer, with a logger."""
    library = types.ModuleType("lightning.pytorch")
    library.Callback = object
    monkeypatch.setitem(sys.modules, "lightning.pytorch", library)
    monkeypatch.delitem(sys.modules, "exporter.integrations.lightning", raising=False)
    lines = []
    logger = SimpleNamespace(log_metrics=lambda values, step: lines.append((values, step)))
    return SimpleNamespace(
        is_global_zero=True,
        strategy=SimpleNamespace(broadcast=lambda run_id: run_id),
        loggers=[logger],
        lines=lines,
        callback_metrics={"val_acc": 0.9},
        current_epoch=0,
        max_epochs=4,
        global_step=7,
    )


def test_epochs_of_lightning_are_logged_and_its_fit_is_a_run(trainer, runs):
    from exporter.integrations.lightning import Emissions

    callback = Emissions("resnet", **OPTIONS)
    callback.on_fit_start(trainer, None)
    callback.on_train_epoch_end(trainer, None)
    callback.on_fit_end(trainer, None)
    ((last, step),) = trainer.lines  # the epoch ended before the first reading
    assert last["emissions_grams"] == 0.5
    assert step == 7
    assert runs.known["made-1"]["logged"] == {"val_acc": 0.9}
    assert runs.told("end") != []


def test_a_logger_that_fails_stops_no_fit(trainer, runs, caplog):
    from exporter.integrations.lightning import Emissions

    trainer.loggers.append(SimpleNamespace(log_metrics=None))
    callback = Emissions("resnet", **OPTIONS)
    callback.on_fit_start(trainer, None)
    with caplog.at_level(logging.WARNING, "emissions"):
        callback.on_fit_end(trainer, None)
    assert "not logged with SimpleNamespace" in caplog.text
    assert len(trainer.lines) == 1


def test_other_ranks_of_lightning_join_the_run_of_the_first_and_log_nothing(trainer, runs):
    from exporter.integrations.lightning import Emissions

    trainer.is_global_zero = False
    trainer.strategy.broadcast = lambda _: "of-rank-0"
    callback = Emissions("resnet", **OPTIONS)
    callback.on_fit_start(trainer, None)
    callback.on_train_epoch_end(trainer, None)
    callback.on_exception(trainer, None, KeyError())
    assert list(runs.known) == ["of-rank-0"]
    assert trainer.lines == []


def test_a_loop_of_pytorch_is_a_run_that_counts_its_samples(runs):
    seen = []
    for _ in epochs(2, "loop", on_epoch=lambda *what: seen.append(what), **OPTIONS):
        for _batch in batches([(bytes(3), bytes(3)), {"x": bytes(1)}, 5]):
            assert current_run().run_id == "made-1"
    assert [number for number, _ in seen] == [0, 1]
    assert "energy_kwh" in seen[1][1]
    assert runs.known["made-1"]["units"] == {"samples": 10}


@pytest.mark.parametrize(
    ("batch", "samples"),
    [
        ([("a long text", "another"), bytes(2)], 2),
        ({"text": ["one", "two", "three"], "label": bytes(3)}, 3),
        (["one", "two"], 2),
        ({"text": "of no batch"}, 1),
        ([], 0),
    ],
)
def test_texts_are_samples_and_not_their_letters(runs, batch, samples):
    for _ in epochs(1, **OPTIONS):
        list(batches([batch]))
    assert runs.known["made-1"]["units"] == {"samples": samples}


def test_a_loop_that_is_left_early_has_ended(runs):
    for _ in epochs(5, **OPTIONS):
        break
    assert len(runs.told("end")) == 1


def test_a_stage_leaves_its_metrics_also_when_it_fails(runs, tmp_path):
    path = tmp_path / "out" / "emissions.json"
    with pytest.raises(KeyError), dvc.stage(str(path), "train", **OPTIONS):
        raise KeyError
    assert json.loads(path.read_text())["emissions_grams"] == 0.5
    assert [found.name for found in path.parent.iterdir()] == ["emissions.json"]


def test_a_stage_that_nobody_measured_leaves_metrics_without_numbers(nobody, tmp_path):
    path = tmp_path / "emissions.json"
    with dvc.stage(str(path), socket=str(tmp_path / "nobody.sock"), private=False):
        pass
    assert json.loads(path.read_text()) == {}


@pytest.mark.parametrize(
    ("line", "name", "group"),
    [
        ("training", "training", ""),
        ("a  longer name ", "a longer name", ""),
        ("", "cell", ""),
        ("--group s training", "training", "s"),
        ("--group=s", "cell", "s"),
        ("--group s", "cell", "s"),
        ("training --group s", "training", "s"),
        ("lr=0.1 --group s 2", "lr=0.1 2", "s"),
    ],
)
def test_a_cell_is_named_and_may_be_of_a_group(line, name, group):
    assert parsed(line) == (name, group)


@pytest.mark.parametrize(
    "line", ["--grop s training", "-g s", "--group", "--group=", "training --grop s"]
)
def test_an_option_of_a_cell_that_is_none_is_refused(line):
    with pytest.raises(ValueError, match="--group NAME"):
        parsed(line)


def test_a_cell_says_when_nobody_measured_it():
    assert usage_line(SimpleNamespace(record={})) == "emissions: not measured"


@pytest.mark.parametrize("extra", ["keras", "lightning", "sklearn"])
def test_a_library_that_is_missing_is_named_with_what_installs_it(extra, monkeypatch):
    monkeypatch.setitem(sys.modules, extra, None)
    with pytest.raises(MissingLibrary, match=rf"pip install 'emissions-exporter\[{extra}\]'"):
        import_optional(extra, extra)
