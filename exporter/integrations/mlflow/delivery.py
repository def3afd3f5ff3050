"""Queue of metrics, tags and artifacts for an MLflow tracking server that may be unreachable."""

import json
import time
from collections import deque
from collections.abc import Mapping
from types import ModuleType
from typing import Any, NamedTuple

from exporter.client.log import warn
from exporter.integrations import import_optional
from exporter.redaction import without_passwords
from exporter.report import quantities

EXTRA = "mlflow"
MAX_BATCH = 1_000
"""MLflow's limit of metrics and tags in one request."""
MAX_QUEUED_POINTS = 2_000
"""Limit of queued points; the oldest are dropped, because the metrics are growing totals."""
RUN_METRICS_TAG_PREFIX = "emissions.part."
"""Prefix of tags with the metrics of one run each; MLflow's metrics are their sum."""
PROBE_TIMEOUT_SECONDS = 5.0
SERVER_ERROR = 500
MILLISECONDS = 1_000
ARTIFACT = "emissions.json"


class _Point(NamedTuple):
    """Metrics at one time; with `part`, those of one of the runs whose sum is logged."""

    values: Mapping[str, float]
    at_ms: int
    step: int
    part: str


class MetricsQueue:
    """Queue for one MLflow run at the current tracking URI. Its methods never raise.

    `send` may block for minutes, because MLflow retries. Call it from one thread at a time that is
    not the program's main thread.
    """

    def __init__(self, mlflow: ModuleType, run_id: str, tracking_uri: str = "") -> None:
        self.run_id = run_id
        self.tracking_uri = tracking_uri or str(mlflow.get_tracking_uri())
        self._client = mlflow.MlflowClient(tracking_uri=self.tracking_uri)
        self._entities = import_optional("mlflow.entities", EXTRA)
        self._points: deque[_Point] = deque(maxlen=MAX_QUEUED_POINTS)
        self._tags: dict[str, str] = {}
        self._sent_tags: dict[str, str] = {}
        self._artifact = ""
        self._sent_artifact = ""
        self._warned: set[str] = set()

    @property
    def is_empty(self) -> bool:
        """Whether everything has been delivered."""
        return not self._points and self._tags == self._sent_tags and not self._artifact

    def put(self, values: Mapping[str, float], step: int = 0) -> None:
        """Queue metrics with the current time."""
        self._put(values, step, "")

    def put_part(self, part: str, values: Mapping[str, float]) -> None:
        """Queue the metrics of one run; they are logged as the sum over all runs.

        `part` identifies the run among those that log to this MLflow run; see
        `quantities.run_fingerprint`.
        """
        self._put(values, 0, part)

    def _put(self, values: Mapping[str, float], step: int, part: str) -> None:
        self._points.append(_Point(values, int(time.time() * MILLISECONDS), step, part))

    def tag(self, tags: Mapping[str, str]) -> None:
        """Queue tags; a tag replaces an earlier one of the same name."""
        self._tags.update(tags)

    def attach(self, record: Mapping[str, Any]) -> None:
        """Queue the record as an artifact, unless the same record was already delivered."""
        text = json.dumps(record)
        self._artifact = text if text != self._sent_artifact else ""

    def send(self) -> bool:
        """Send the queue; return whether everything was delivered. The rest stays queued."""
        if self.is_empty:
            return True
        if is_unreachable(self.tracking_uri):
            self._warn_once(
                f"MLflow at {self.tracking_uri} does not answer; measurements are queued"
            )
            return False
        try:
            self._send_batches()
            if self._artifact:
                self._client.log_dict(self.run_id, json.loads(self._artifact), ARTIFACT)
                self._sent_artifact, self._artifact = self._artifact, ""
        except Exception as error:  # noqa: BLE001  server and client raise various exceptions
            self._warn_once(f"logging to MLflow at {self.tracking_uri} failed: {error}")
        return self.is_empty

    def _send_batches(self) -> None:
        others = self._other_parts()
        while self._points or self._changed_tags():
            metrics, sent = self._next_metrics(others)
            tags = self._changed_tags()
            self._client.log_batch(
                self.run_id,
                metrics=metrics,
                tags=[self._entities.RunTag(*tag) for tag in tags.items()],
            )
            self._sent_tags.update(tags)
            for _ in range(sent):
                self._points.popleft()

    def _changed_tags(self) -> dict[str, str]:
        return {k: v for k, v in self._tags.items() if self._sent_tags.get(k) != v}

    def _next_metrics(self, others: Mapping[str, Mapping[str, float]]) -> tuple[list[Any], int]:
        """Return the metrics of the next request and their number of points; set tags of parts."""
        parts = {point.part for point in self._points if point.part}
        room = MAX_BATCH - len(self._changed_tags()) - len(parts)
        metrics: list[Any] = []
        sent = 0
        for point in self._points:
            values, step = _with_other_runs(point, others)
            if sent and len(metrics) + len(values) > room:
                break
            metrics += [
                self._entities.Metric(name, value, point.at_ms, step)
                for name, value in values.items()
            ]
            if point.part:
                self._tags[RUN_METRICS_TAG_PREFIX + point.part] = json.dumps(
                    _without_power(point.values)
                )
            sent += 1
        return metrics, sent

    def _other_parts(self) -> dict[str, Mapping[str, float]]:
        """Return the last logged metrics of other runs that log to this MLflow run, by part."""
        own = {point.part for point in self._points if point.part}
        if not own:
            return {}
        data = self._client.get_run(self.run_id).data
        parts = {
            tag.removeprefix(RUN_METRICS_TAG_PREFIX): json.loads(text)
            for tag, text in data.tags.items()
            if tag.startswith(RUN_METRICS_TAG_PREFIX)
        }
        if not parts:
            parts = _of_older_version(data)
            self._tags.update(
                {
                    RUN_METRICS_TAG_PREFIX + part: json.dumps(values)
                    for part, values in parts.items()
                }
            )
        return parts

    def _warn_once(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            warn("%s", without_passwords(text))


def _with_other_runs(point: _Point, others: Mapping[str, Mapping[str, float]]) -> tuple[Any, int]:
    """Return metrics and step of a point; a part is logged as the sum with all other parts."""
    if not point.part:
        return point.values, point.step
    added = [values for part, values in others.items() if part != point.part]
    sums = quantities.sum_metrics([*added, point.values]) if added else dict(point.values)
    if quantities.POWER_METRIC in point.values:
        sums[quantities.POWER_METRIC] = point.values[quantities.POWER_METRIC]
    return sums, int(sums["duration_seconds"])


def _without_power(values: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics without the current power, which must not be summed later."""
    return {name: value for name, value in values.items() if name != quantities.POWER_METRIC}


def _of_older_version(data: Any) -> dict[str, Mapping[str, float]]:
    """Return the metrics of the run that an older version, without parts, logged."""
    ids = {name: data.tags.get(f"emissions.{name}") for name in ("run_id", "job_id", "node")}
    is_known = ids["run_id"] and {"energy_kwh", "duration_seconds"} <= data.metrics.keys()
    if not is_known:
        return {}
    names = {"emissions_grams", "duration_seconds", *quantities.NON_ADDITIVE}
    values = {
        name: value
        for name, value in data.metrics.items()
        if name in names or (name.startswith("energy_") and name.endswith("kwh"))
    }
    record = {name: text or "" for name, text in ids.items()}
    return {quantities.run_fingerprint(record): _without_power(values)}


def is_unreachable(tracking_uri: str) -> bool:
    """Check within seconds whether no server answers, or only a proxy without its server.

    MLflow itself would retry for minutes. Any answer of a server counts, also an error below 500.
    """
    if not tracking_uri.startswith(("http://", "https://")):
        return False
    from requests import exceptions, head

    try:
        return head(tracking_uri, timeout=PROBE_TIMEOUT_SECONDS).status_code >= SERVER_ERROR
    except exceptions.SSLError:  # MLflow may be configured with other certificates
        return False
    except (exceptions.ConnectionError, exceptions.Timeout):
        return True
    except exceptions.RequestException:
        return False
