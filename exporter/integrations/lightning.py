"""Lightning callback: each fit is a run, and its loggers receive energy and emissions.

Trainer(callbacks=[Emissions("resnet")])
"""

import sys
from typing import Any

from exporter.client import track
from exporter.client.log import warn
from exporter.integrations import import_optional
from exporter.report import quantities

OLD, NEW = "pytorch_lightning", "lightning.pytorch"
"""Two packages with separate classes; the one that the program has imported is used."""
library = OLD if OLD in sys.modules and NEW not in sys.modules else NEW
Callback: Any = import_optional(library, "lightning").Callback


class Emissions(Callback):  # type: ignore[misc]  # Lightning may not be installed
    """Log the run's totals after each training epoch and at the end.

    All ranks are one run; the first rank determines its id and logs. `options` are those of
    `track`.
    """

    def __init__(self, name: str = "", **options: Any) -> None:
        super().__init__()
        self._name = name
        self._options = {"progress": False, **options}
        self._tracker = track(name, **self._options)

    @property
    def run(self) -> Any:
        """Run of the current or last fit."""
        return self._tracker.run

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        """Start the run on the first rank, then on the others."""
        if trainer.is_global_zero:
            self._tracker.start()
        run_id = trainer.strategy.broadcast(self.run.run_id)
        if not trainer.is_global_zero and run_id:
            options = {**self._options, "run_id": run_id, "receipts": None}
            self._tracker = track(self._name, **options)
            self._tracker.start()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        """Log the run's totals and its progress."""
        if not trainer.is_global_zero:
            return
        if trainer.max_epochs and trainer.max_epochs > 0:
            self.run.progress(trainer.current_epoch + 1, trainer.max_epochs)
        self.run.log(**trainer.callback_metrics)
        _log(trainer, self.run.refresh())

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        """End the run."""
        self._end(trainer)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:  # noqa: ARG002
        """End the run of a fit that was interrupted or failed."""
        self._end(trainer)

    def _end(self, trainer: Any) -> None:
        record = self._tracker.stop().record
        if trainer.is_global_zero:
            _log(trainer, record)


def _log(trainer: Any, record: dict[str, Any]) -> None:
    values = quantities.tracker_metrics(record)
    for logger in trainer.loggers if values else ():
        try:
            logger.log_metrics(values, step=trainer.global_step)
        except Exception as error:  # noqa: BLE001  an unreachable server must not stop the program
            warn("not logged with %s: %s", type(logger).__name__, error)
