"""`track` whose numbers also stand on a run of MLflow, while it goes on and at its end."""

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
"""How long the end of a run waits for the tracking server."""


class track(measured):  # noqa: N801  reads as the verb it is
    """As `track` of the client: `with mlflow.start_run(), track("bert") as run:`.

    The run of MLflow that is active, or `mlflow_run_id`, gets metrics each `log_every_seconds`,
    and at the end tags, and the record as an artifact. Where none is active, one is begun. Its id
    is that of the run, unless that has one; a later tracker of the program is a run ID.2. Of the
    ranks of a launch the first logs. A server that goes away is waited for without stopping the
    program; `log_record` is for what came too late.
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
        """`options` are those of the client's `track`; `tracking_uri` is MLflow's own if "".

        Where a run is begun here, it becomes MLflow's own.
        """
        super().__init__(name, **options)
        self._wanted = mlflow_run_id, tracking_uri
        self._log_every = log_every_seconds
        self._status = "FINISHED"
        self._log: _MlflowLogger | None = None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """A run of MLflow that was begun here ends as the block did."""
        self._status = "FAILED" if kind else "FINISHED"
        super().__exit__(kind)

    def start(self) -> Run:
        """Begin the run, unless it has begun. Raises NotMeasured if that was asked for."""
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
        """End the run, if it is open, and log how it ended."""
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
        except Exception as error:  # noqa: BLE001  whatever MLflow comes up with, it is measured
            warn("measured, but not logged to MLflow: %s", without_passwords(str(error)))
            return None


class _MlflowLogger:
    """The thread that tells one run of MLflow about one run of ours."""

    def __init__(self, mlflow_run_id: str, tracking_uri: str, *, name: str) -> None:
        """Raises MissingLibrary, ConnectionError, and what MLflow raises."""
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
        """Log what `run` has come to, from now on."""
        self._run = run
        self._worker = Worker("emissions-mlflow", self._look, period_seconds)
        self._worker.start()

    def finish(self, status: str) -> None:
        """Log what it came to in the end; a run of MLflow that was begun here ends with `status`.

        In a forked child nothing happens: the run is its parent's.
        """
        if os.getpid() != self._pid:
            return
        self._is_over = True
        if self._worker is not None:
            self._worker.stop(FLUSH_TIMEOUT_SECONDS)
        if not self._delivery.is_empty:
            warn(
                "MLflow has not all of run %s; later: exporter.integrations.mlflow.log_record(R, "
                "%r), where R is what `emissions-exporter report %s --format json` says",
                *(self._run.run_id, self.mlflow_run_id, self._run.run_id),
            )
        if self._owns_mlflow_run and not is_unreachable(self._delivery.tracking_uri):
            try:
                self._mlflow.end_run(status)
            except Exception as error:  # noqa: BLE001  whatever MLflow comes up with
                text = without_passwords(str(error))
                warn("the run of MLflow could not be ended: %s", text)

    def _look(self) -> None:
        record = self._run.record
        if record is not self._shown:
            self._shown = record
            _queue_record(self._delivery, record)
        if self._is_over:
            self._delivery.attach(record)
        self._delivery.send()


def log_record(record: Mapping[str, Any], mlflow_run_id: str, tracking_uri: str = "") -> bool:
    """Log a record of a run to a run of MLflow, ended or not; whether all of it has arrived.

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
    """How the numbers were got."""
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
    """As that of `exporter.integrations.inference`, meanwhile without autolog.

    Raises MissingLibrary.
    """
    autologging = import_optional("mlflow.utils.autologging_utils", EXTRA)
    with autologging.disable_autologging():
        return inference.inference_cost(call, **options)
