"""What is on its way to a tracking server, and waits here while that does not answer."""

import json
import time
from collections import deque
from collections.abc import Mapping
from types import ModuleType
from typing import Any, NamedTuple

from exporter.client.words import warn
from exporter.integrations import optional
from exporter.redaction import without_passwords

EXTRA = "mlflow"
LARGEST_BATCH = 1_000
"""Metrics in one request, as MLflow has it."""
MOST_WAITING = 20_000
"""Then the oldest go: totals only grow, so the newest says the most."""
ANSWER_SECONDS = 5.0
SERVER_ERROR = 500
MILLISECONDS = 1_000
ARTIFACT = "emissions.json"


class _Point(NamedTuple):
    name: str
    value: float
    at_ms: int
    step: int


class Delivery:
    """For one run of MLflow, at the tracking URI that is in force now. Nothing here raises.

    `send` may block for minutes: MLflow tries again by itself. So another thread than the
    program's is to call it, and one at a time.
    """

    def __init__(self, mlflow: ModuleType, run_id: str, tracking_uri: str = "") -> None:
        self.run_id = run_id
        self.tracking_uri = tracking_uri or str(mlflow.get_tracking_uri())
        self._client = mlflow.MlflowClient(tracking_uri=self.tracking_uri)
        self._entities = optional("mlflow.entities", EXTRA)
        self._points: deque[_Point] = deque(maxlen=MOST_WAITING)
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
        at_ms = int(time.time() * MILLISECONDS)
        self._points.extend(_Point(name, value, at_ms, step) for name, value in values.items())

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
        if is_away(self.tracking_uri):
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
        tags = {k: v for k, v in self._tags.items() if self._sent_tags.get(k) != v}
        while self._points or tags:
            points = [self._points[n] for n in range(min(LARGEST_BATCH, len(self._points)))]
            self._client.log_batch(
                self.run_id,
                metrics=[self._entities.Metric(*point) for point in points],
                tags=[self._entities.RunTag(*tag) for tag in tags.items()],
            )
            self._sent_tags.update(tags)
            tags = {}
            for _ in points:
                self._points.popleft()

    def _complain(self, text: str) -> None:
        if text not in self._complained:
            self._complained.add(text)
            warn("%s", without_passwords(text))


def is_away(tracking_uri: str) -> bool:
    """Whether nobody answers there, or a proxy whose server is gone; found out within seconds.

    MLflow itself would try for minutes. Any answer of a server will do, a refusal too.
    """
    if not tracking_uri.startswith(("http://", "https://")):
        return False
    from requests import exceptions, head

    try:
        return head(tracking_uri, timeout=ANSWER_SECONDS).status_code >= SERVER_ERROR
    except exceptions.SSLError:  # MLflow may have been told of certificates that are not known here
        return False
    except (exceptions.ConnectionError, exceptions.Timeout):
        return True
    except exceptions.RequestException:
        return False
