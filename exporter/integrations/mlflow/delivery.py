"""What is on its way to a tracking server, and waits here while that does not answer."""

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
"""Metrics and tags in one request, as MLflow has it."""
MAX_QUEUED_POINTS = 2_000
"""Points in time; then the oldest go: totals only grow, so the newest says the most."""
RUN_METRICS_TAG_PREFIX = "emissions.part."
"""Tags whose values are the figures of one run of ours each; all are summed up in the metrics."""
PROBE_TIMEOUT_SECONDS = 5.0
SERVER_ERROR = 500
MILLISECONDS = 1_000
ARTIFACT = "emissions.json"


class _Point(NamedTuple):
    """Metrics of one moment; with `part`, those of one of the runs whose sum is logged."""

    values: Mapping[str, float]
    at_ms: int
    step: int
    part: str


class MetricsQueue:
    """For one run of MLflow, at the tracking URI that is in force now. Nothing here raises.

    `send` may block for minutes: MLflow tries again by itself. So another thread than the
    program's is to call it, and one at a time.
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
        self._complained: set[str] = set()

    @property
    def is_empty(self) -> bool:
        """Whether all has arrived."""
        return not self._points and self._tags == self._sent_tags and not self._artifact

    def put(self, values: Mapping[str, float], step: int = 0) -> None:
        """Metrics as they are now."""
        self._put(values, step, "")

    def put_part(self, part: str, values: Mapping[str, float]) -> None:
        """Figures of one of our runs as they are now; logged with those of all others added.

        `part` tells the runs apart that log to this run of MLflow: see `figures.part_of`.
        """
        self._put(values, 0, part)

    def _put(self, values: Mapping[str, float], step: int, part: str) -> None:
        self._points.append(_Point(values, int(time.time() * MILLISECONDS), step, part))

    def tag(self, tags: Mapping[str, str]) -> None:
        """Tags; each replaces the one before with its name."""
        self._tags.update(tags)

    def attach(self, record: Mapping[str, Any]) -> None:
        """The whole record, as an artifact; one that has arrived does not go again."""
        text = json.dumps(record)
        self._artifact = text if text != self._sent_artifact else ""

    def send(self) -> bool:
        """Hand over what waits; whether all has arrived. What has not waits for the next time."""
        if self.is_empty:
            return True
        if is_unreachable(self.tracking_uri):
            self._complain(
                f"MLflow at {self.tracking_uri} does not answer; what is measured is kept for it"
            )
            return False
        try:
            self._send_batches()
            if self._artifact:
                self._client.log_dict(self.run_id, json.loads(self._artifact), ARTIFACT)
                self._sent_artifact, self._artifact = self._artifact, ""
        except Exception as error:  # noqa: BLE001  whatever a server, or its client, comes up with
            self._complain(f"MLflow at {self.tracking_uri} did not take it: {error}")
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
        """Metrics of one request, of how many points; parts in them become tags of it."""
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
        """Figures of runs of ours that log to the same run of MLflow, as last logged, by part."""
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

    def _complain(self, text: str) -> None:
        if text not in self._complained:
            self._complained.add(text)
            warn("%s", without_passwords(text))


def _with_other_runs(point: _Point, others: Mapping[str, Mapping[str, float]]) -> tuple[Any, int]:
    """Metrics and step to be logged for a point: those of a part with all others added."""
    if not point.part:
        return point.values, point.step
    added = [values for part, values in others.items() if part != point.part]
    sums = quantities.sum_metrics([*added, point.values]) if added else dict(point.values)
    if quantities.POWER_METRIC in point.values:
        sums[quantities.POWER_METRIC] = point.values[quantities.POWER_METRIC]
    return sums, int(sums["duration_seconds"])


def _without_power(values: Mapping[str, float]) -> dict[str, float]:
    """What is kept for the sum; the power is that of a moment that has passed."""
    return {name: value for name, value in values.items() if name != quantities.POWER_METRIC}


def _of_older_version(data: Any) -> dict[str, Mapping[str, float]]:
    """The figures of the only run that a version without parts logged there."""
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
    """Whether nobody answers there, or a proxy whose server is gone; found out within seconds.

    MLflow itself would try for minutes. Any answer of a server will do, a refusal too.
    """
    if not tracking_uri.startswith(("http://", "https://")):
        return False
    from requests import exceptions, head

    try:
        return head(tracking_uri, timeout=PROBE_TIMEOUT_SECONDS).status_code >= SERVER_ERROR
    except exceptions.SSLError:  # MLflow may have been told of certificates that are not known here
        return False
    except (exceptions.ConnectionError, exceptions.Timeout):
        return True
    except exceptions.RequestException:
        return False
