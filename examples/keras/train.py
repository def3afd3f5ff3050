"""Train a small Keras model, with energy and grams in the logs of its epochs.

pip install '/path/to/clone[keras]' jax
KERAS_BACKEND=jax python train.py
"""

import keras
import numpy as np

from exporter.integrations.keras import Emissions

x = np.random.default_rng(0).normal(size=(2048, 16))
model = keras.Sequential([keras.layers.Dense(32, activation="relu"), keras.layers.Dense(1)])
model.compile(loss="mse")

emissions = Emissions("sums")
history = model.fit(x, x.sum(axis=1), epochs=5, verbose=0, callbacks=[emissions]).history

for number, (loss, grams) in enumerate(
    zip(history["loss"], history["emissions_grams"], strict=True), 1
):
    print(f"epoch {number}: loss {loss:.3f}, {grams:.6f} g CO2eq so far")
print(f"{emissions.run.run_id}: {emissions.run.energy_joules:.1f} J")
