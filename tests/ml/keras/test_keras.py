"""Fits of a small model with Keras, on JAX."""

import os

import pytest

os.environ["KERAS_BACKEND"] = "jax"

keras = pytest.importorskip("keras")

import numpy as np  # noqa: E402

from exporter.integrations.keras import Emissions  # noqa: E402

pytestmark = [pytest.mark.ml, pytest.mark.filterwarnings("default")]


@pytest.fixture
def model():
    made = keras.Sequential([keras.layers.Dense(16), keras.layers.Dense(1)])
    made.compile(loss="mse")
    return made


@pytest.fixture
def data():
    x = np.random.default_rng(0).normal(size=(4096, 8))
    return x, x.sum(axis=1)


def test_each_epoch_has_energy_and_grams_in_its_logs(daemon, model, data):
    seen = []
    after = keras.callbacks.LambdaCallback(on_epoch_end=lambda _, logs: seen.append(dict(logs)))
    callback = Emissions("keras", receipts=None)
    history = model.fit(*data, epochs=6, verbose=0, callbacks=[callback, after]).history
    np.testing.assert_equal(seen[-1]["energy_kwh"], history["energy_kwh"][-1])
    assert len(history["loss"]) == len(history["emissions_grams"]) == 6
    known = [grams for grams in history["emissions_grams"] if not np.isnan(grams)]
    assert known == sorted(known)
    assert 0 not in known  # before the first reading they are nan
    record = daemon.json(f"/api/v1/runs/{callback.run.run_id}")
    assert record["ended"] is not None
    assert record["progress"]["done"] == 6
    assert record["logged"]["loss"] == pytest.approx(history["loss"][-1])
    assert record["energy_uj"] > 0


def test_the_next_fit_is_another_run_also_after_one_that_failed(daemon, model, data):
    class Fails(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyError

    callback = Emissions("again", receipts=None)
    with pytest.raises(KeyError):
        model.fit(*data, verbose=0, callbacks=[callback, Fails()])
    first = callback.run.run_id
    model.fit(*data, verbose=0, callbacks=[callback])
    assert callback.run.run_id != first
    for run_id in (first, callback.run.run_id):
        assert daemon.json(f"/api/v1/runs/{run_id}")["ended"] is not None


def test_a_loss_that_is_no_number_stops_nothing(daemon, model, data):
    callback = Emissions("nan", receipts=None)
    history = model.fit(data[0], data[1] * np.nan, verbose=0, callbacks=[callback]).history
    assert np.isnan(history["loss"][0])
    assert daemon.json(f"/api/v1/runs/{callback.run.run_id}")["logged"] == {}


def test_a_fit_that_nobody_measures_logs_nothing_of_ours(model, data, tmp_path):
    callback = Emissions("alone", socket=str(tmp_path / "nobody.sock"), private=False)
    history = model.fit(*data, verbose=0, callbacks=[callback]).history
    assert set(history) == {"loss"}


def test_the_example_says_what_each_epoch_came_to(example):
    said = example("keras/train.py").splitlines()
    assert len(said) == 6
    assert said[4].startswith("epoch 5: loss ")
    assert said[5].endswith(" J")
