"""`track` that also logs to an MLflow run, periodically and at the end."""

import os
from collections.abc import Callable, Mapping
from typing import Any

from exporter.client import NotMeasured, Run
from exporter.client import track as measured
from exporter.client.environment import detect_launch
from exporter.client.log import warn
from exporter.integrations import import_optional, inference
from exporter.integrations.inference import InferenceCost
from exporter.integrations.mlflow.delivery import EXTRA, MetricsQueue, is_unreachable
from exporter.redaction import without_passwords
from exporter.report import quantities
from exporter.worker import Worker

FLUSH_TIMEOUT_SECONDS = 10.0
"""Timeout for the tracking server at the end of a run."""


class track(measured):  # noqa: N801  reads as the verb it is
    """The client's `track` with MLflow: `with mlflow.start_run(), track("bert") as run:`.

    The active MLflow run, or `mlflow_run_id`, receives metrics every `log_every_seconds`, and at
    the end tags and the record as an artifact. If no MLflow run is active, one is started. Its id
    becomes the run id, unless the run has one; a later tracker of the program is a run ID.2. Only
    the first rank of a launch logs. While the server is unreachable, measurements are queued
    without stopping the program; `log_record` logs a record later.
    """

    def __init__(
        self,
        name: str = "",
        *,
        mlflow_run_id: str = "",
        tracking_uri: str = "",
        log_every_seconds: float = 10.0,
        **options: Any,
    ) -> None:
        """Configure the run. `options` are those of the client's `track`.

        `tracking_uri` defaults to MLflow's; if an MLflow run is started here, it is set in MLflow.
        """
        super().__init__(name, **options)
        self._wanted = mlflow_run_id, tracking_uri
        self._log_every = log_every_seconds
        self._status = "FINISHED"
        self._log: _MlflowLogger | None = None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End the run; an MLflow run that was started here gets the status of the block."""
        self._status = "FAILED" if kind else "FINISHED"
        super().__exit__(kind)

    def start(self) -> Run:
        """Start the run unless it is open. Raises NotMeasured if the tracker is strict."""
        if self._pid or self._log is not None:
            return super().start()
        launch = detect_launch(os.environ, str(self._arguments["name"]))
        self._log = self._begun() if launch.rank == 0 else None
        found = self._log.mlflow_run_id if self._log is not None and not launch.run_id else ""
        self._outside_id = found
        try:
            run = super().start()
        except NotMeasured:
            self._finish("FAILED")
            raise
        if self._log is not None and run.is_measured:
            self._log.follow(run, self._log_every)
        return run

    def stop(self) -> Run:
        """End the run if it is open, and log its final record."""
        run = super().stop()
        self._finish(self._status)
        return run

    def _finish(self, status: str) -> None:
        log, self._log = self._log, None
        if log is not None:
            log.finish(status)

    def _begun(self) -> "_MlflowLogger | None":
        try:
            return _MlflowLogger(*self._wanted, name=str(self._arguments["name"]))
        except Exception as error:  # noqa: BLE001  the run is measured whatever MLflow raises
            warn("the run is measured, but not logged to MLflow: %s", without_passwords(str(error)))
            return None


class _MlflowLogger:
    """Thread that logs one run to one MLflow run."""

    def __init__(self, mlflow_run_id: str, tracking_uri: str, *, name: str) -> None:
        """Find or start the MLflow run. Raises MissingLibrary, ConnectionError, MLflow's errors."""
        self._mlflow = import_optional("mlflow", EXTRA)
        self._owns_mlflow_run = False
        active = self._mlflow.active_run()
        if not mlflow_run_id and active is None:
            uri = tracking_uri or str(self._mlflow.get_tracking_uri())
            if is_unreachable(uri):
                raise ConnectionError(f"{uri} does not answer")
            if tracking_uri:
                self._mlflow.set_tracking_uri(tracking_uri)
            active = self._mlflow.start_run(run_name=name or None)
            self._owns_mlflow_run = True
        self.mlflow_run_id = mlflow_run_id or str(active.info.run_id)
        self._delivery = MetricsQueue(self._mlflow, self.mlflow_run_id, tracking_uri)
        self._pid = os.getpid()
        self._run = Run()
        self._shown: Mapping[str, Any] = {}
        self._is_over = False
        self._worker: Worker | None = None

    def follow(self, run: Run, period_seconds: float) -> None:
        """Start logging the record of `run` periodically."""
        self._run = run
        self._worker = Worker("emissions-mlflow", self._look, period_seconds)
        self._worker.start()

    def finish(self, status: str) -> None:
        """Log the final record; end an MLflow run that was started here with `status`.

        Does nothing in a forked child, because the run belongs to its parent.
        """
        if os.getpid() != self._pid:
            return
        self._is_over = True
        if self._worker is not None:
            self._worker.stop(FLUSH_TIMEOUT_SECONDS)
        if not self._delivery.is_empty:
            warn(
                "run %s was not completely logged to MLflow; to log it later, call "
                "exporter.integrations.mlflow.log_record(R, %r) with R, the output of "
                "`emissions-exporter report %s --format json`",
                *(self._run.run_id, self.mlflow_run_id, self._run.run_id),
            )
        if self._owns_mlflow_run and not is_unreachable(self._delivery.tracking_uri):
            try:
                self._mlflow.end_run(status)
            except Exception as error:  # noqa: BLE001  MLflow raises various exceptions
                text = without_passwords(str(error))
                warn("the MLflow run could not be ended: %s", text)

    def _look(self) -> None:
        record = self._run.record
        if record is not self._shown:
            self._shown = record
            _queue_record(self._delivery, record)
        if self._is_over:
            self._delivery.attach(record)
        self._delivery.send()


def log_record(record: Mapping[str, Any], mlflow_run_id: str, tracking_uri: str = "") -> bool:
    """Log a record to an MLflow run, ended or not; return whether it was completely delivered.

    Raises MissingLibrary.
    """
    delivery = MetricsQueue(import_optional("mlflow", EXTRA), mlflow_run_id, tracking_uri)
    _queue_record(delivery, record)
    delivery.attach(record)
    return delivery.send()


def _queue_record(delivery: MetricsQueue, record: Mapping[str, Any]) -> None:
    if not (values := quantities.tracker_metrics(record)):
        return
    delivery.put_part(quantities.run_fingerprint(record), values)
    delivery.tag({f"emissions.{name}": text for name, text in _tags(record).items() if text})


def _tags(record: Mapping[str, Any]) -> dict[str, str]:
    """Return tags with the basis of the numbers."""
    known = [use for use in record["intensity"] if use["zone"] is not None]
    methods = {f"{part['device']} {part['method']}" for part in record["parts"]}
    return {
        "run_id": record["run_id"],
        "job_id": record["job_id"],
        "node": record["node"],
        "scope": record["scope"],
        "methods": ", ".join(sorted(methods)),
        "zone": ", ".join(quantities.zones_by_energy(record)),
        "intensity_source": ", ".join(sorted({use["source"] for use in known})),
        "intensity_basis": ", ".join(sorted({use["basis"] for use in known})),
        "pue": f"{quantities.mean_pue(record):g}",
    }


def inference_cost(call: Callable[[], object], **options: Any) -> InferenceCost:
    """Call `exporter.integrations.inference.inference_cost` with MLflow's autologging disabled.

    Raises MissingLibrary.
    """
    autologging = import_optional("mlflow.utils.autologging_utils", EXTRA)
    with autologging.disable_autologging():
        return inference.inference_cost(call, **options)
