"""Keras callback: each `fit` is a run, and the logs of its epochs have energy and emissions.

model.fit(x, y, epochs=10, callbacks=[Emissions("mnist")])
"""

from typing import Any

from exporter.client import track
from exporter.integrations import import_optional
from exporter.report import quantities

Callback: Any = import_optional("keras", "keras").callbacks.Callback


class Emissions(Callback):  # type: ignore[misc]  # Keras has no types
    """Add the run's totals to the logs of each epoch, for History and the progress bar.

    Later callbacks receive them too. `run` is the run of the last fit; `options` are those of
    `track`. The run of a fit that raised ends with the program, or at the next fit.
    """

    def __init__(self, name: str = "", **options: Any) -> None:
        super().__init__()
        self._tracker = track(name, **{"progress": False, **options})

    @property
    def run(self) -> Any:
        """Run of the current or last fit."""
        return self._tracker.run

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Start the run, after ending one that was left open."""
        self._tracker.stop()
        self._tracker.start()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Add the run's metrics to the logs, and log the results to the run."""
        self.run.log(**(logs or {}))
        self.run.progress(epoch + 1, self.params.get("epochs") or epoch + 1)
        if logs is not None:
            logs.update(quantities.tracked_or_nan(self.run.refresh()))

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """End the run."""
        self._tracker.stop()
