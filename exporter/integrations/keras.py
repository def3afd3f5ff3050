"""A callback of Keras: each `fit` is a run, and its epochs have energy and grams in their logs.

model.fit(x, y, epochs=10, callbacks=[Emissions("mnist")])
"""

from typing import Any

from exporter.client import track
from exporter.integrations import import_optional
from exporter.report import quantities

Callback: Any = import_optional("keras", "keras").callbacks.Callback


class Emissions(Callback):  # type: ignore[misc]  # Keras has no types
    """What the run has come to stands in the logs of each epoch: in History and the progress bar.

    Later callbacks see it too. `run` is the run of the last fit; `options` are those of `track`.
    A fit that raises ends its run with the program, or at the next fit.
    """

    def __init__(self, name: str = "", **options: Any) -> None:
        super().__init__()
        self._tracker = track(name, **{"progress": False, **options})

    @property
    def run(self) -> Any:
        """The run of the fit under way, or of the last."""
        return self._tracker.run

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Begin the run, and end one that was left open."""
        self._tracker.stop()
        self._tracker.start()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Put the run's figures into the logs, and the results into the run."""
        self.run.log(**(logs or {}))
        self.run.progress(epoch + 1, self.params.get("epochs") or epoch + 1)
        if logs is not None:
            logs.update(quantities.tracked_or_nan(self.run.refresh()))

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """End the run."""
        self._tracker.stop()
