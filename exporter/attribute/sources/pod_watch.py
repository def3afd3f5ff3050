"""What the API server knows of the pods of this node: names, owners, the ids they were given."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from exporter.attribute.identity import clean, clean_labels
from exporter.attribute.sources.api_server import ApiError, ApiServer
from exporter.attribute.sources.pod_facts import Known, PodFacts
from exporter.clock import Clock
from exporter.errors import Unavailable
from exporter.units import NANOSECONDS_PER_SECOND
from exporter.worker import Worker

PODS = "/api/v1/pods"
SLICES = ("/apis/resource.k8s.io/v1/resourceslices", "/apis/resource.k8s.io/v1beta1/resourceslices")
WATCH_SECONDS = 300
FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS = 1.0, 60.0
PAGE = "500"
MOST = 1_000
"""Pods that are kept; a node runs a few hundred at most."""
RUN_ID, JOB_ID = "emissions-exporter/run-id", "emissions-exporter/job-id"
GONE, UNAUTHORIZED, FORBIDDEN, NOT_FOUND = 410, 401, 403, 404
JOB_LABELS = ("batch.kubernetes.io/job-name", "job-name")
OVER = ("Succeeded", "Failed")
REMEDIES = {
    UNAUTHORIZED: "; its token is read anew at the next try",
    FORBIDDEN: "; let the service account get, list and watch pods, see deploy/kubernetes",
}


class PodWatch:
    """Lists the pods of one node, then follows them, in a thread of its own.

    Raises Unavailable where nobody says which node this is.
    """

    def __init__(
        self,
        server: ApiServer,
        node: str,
        clock: Clock,
        exported_labels: Iterable[str],
        worker: Callable[[str, Callable[[], None], float], Worker] = Worker,
    ) -> None:
        if not node:
            raise Unavailable(
                "the name of this node is not known; set attribute.node_name by fieldRef "
                "spec.nodeName, see deploy/kubernetes"
            )
        self._server = server
        self._node = node
        self._clock = clock
        self._exported_labels = tuple(exported_labels)
        self.known = Known()
        """Replaced as a whole."""
        self._version = ""
        self._backoff = 0.0
        self._retry_ns = 0
        self._is_stopping = False
        self._worker = worker("pods", self._turn, 1.0)

    def start(self) -> None:
        """Begin."""
        self._worker.start()

    def stop(self, timeout_seconds: float) -> bool:
        """Stop; False if it hangs."""
        self._is_stopping = True
        self._server.interrupt()
        return self._worker.stop(timeout_seconds)

    def _turn(self) -> None:
        """One watch, after a list where that is needed."""
        if self._is_stopping or self._clock.boottime_ns() < self._retry_ns:
            return
        try:
            if not self._version:
                self._list()
            self._learn(self.known.pods, self._slices())
            self._watch()
            self._backoff = 0.0
        except ApiError as error:
            self._failed(error)

    def _list(self) -> None:
        pods: dict[str, PodFacts] = {}
        query = {"fieldSelector": f"spec.nodeName={self._node}", "limit": PAGE}
        while True:
            page = self._server.get(PODS, **query)
            for item in _items(page):
                facts = self._facts(item)
                if facts is not None and len(pods) < MOST:
                    pods[facts.uid] = facts
            meta = _object(page, "metadata")
            token = meta.get("continue")
            if not token or len(pods) >= MOST:
                break
            query["continue"] = str(token)
        self._version = str(meta.get("resourceVersion", ""))
        self._learn(pods, self.known.gpus)

    def _watch(self) -> None:
        query = {
            "fieldSelector": f"spec.nodeName={self._node}",
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
        }
        for event in self._server.watch(PODS, WATCH_SECONDS, **query):
            item = _object(event, "object")
            kind = event.get("type")
            if kind == "ERROR":
                raise ApiError(int(item.get("code") or 0), str(item.get("message", "watch ended")))
            self._version = str(_object(item, "metadata").get("resourceVersion", self._version))
            pods = dict(self.known.pods)
            facts = self._facts(item) if kind != "BOOKMARK" else None
            if facts is not None and kind == "DELETED":
                pods.pop(facts.uid, None)
            elif facts is not None and (facts.uid in pods or len(pods) < MOST):
                pods[facts.uid] = facts
            self._learn(pods, self.known.gpus)
            if self._is_stopping:
                return

    def _learn(
        self, pods: Mapping[str, PodFacts], gpus: Mapping[tuple[str, str, str], str]
    ) -> None:
        self.known = Known(pods, gpus, self._clock.boottime_ns(), "")

    def _slices(self) -> Mapping[tuple[str, str, str], str]:
        """Devices of dynamic resource allocation; none where the server has no such thing."""
        for path in SLICES:
            try:
                page = self._server.get(path, fieldSelector=f"spec.nodeName={self._node}")
            except ApiError as error:
                if error.status in (FORBIDDEN, NOT_FOUND):
                    continue
                raise
            return dict(_gpus(_items(page)))
        return {}

    def _failed(self, error: ApiError) -> None:
        """What is known stays; the next try is later each time."""
        if error.status == GONE:
            self._version = ""  # it has forgotten where we were: list again
            return
        self._backoff = min(max(FIRST_BACKOFF_SECONDS, 2 * self._backoff), LONGEST_BACKOFF_SECONDS)
        wait = max(self._backoff, error.retry_after)
        self._retry_ns = self._clock.boottime_ns() + round(wait * NANOSECONDS_PER_SECOND)
        why = f"API server: {error}{REMEDIES.get(error.status, '')}"
        self.known = self.known._replace(why=why)

    def _facts(self, item: Mapping[str, Any]) -> PodFacts | None:
        """A pod as it was described; None where that is none of this node."""
        meta, spec = _object(item, "metadata"), _object(item, "spec")
        uid, node = meta.get("uid"), spec.get("nodeName")
        if not isinstance(uid, str) or not uid or node not in (None, self._node):
            return None
        notes = {**_object(meta, "labels"), **_object(meta, "annotations")}
        variables = dict(_variables(spec))
        owners = [each for each in _list(meta, "ownerReferences") if each.get("controller")]
        owner = owners[0] if owners else {}
        labels = _object(meta, "labels")
        job = next((labels[name] for name in JOB_LABELS if labels.get(name)), "")
        return PodFacts(
            uid,
            clean(str(meta.get("namespace", ""))),
            clean(str(meta.get("name", ""))),
            clean(str(notes.get(RUN_ID) or variables.get("EMISSIONS_RUN_ID", ""))),
            clean(str(notes.get(JOB_ID) or variables.get("EMISSIONS_JOB_ID") or job)),
            clean(str(owner.get("kind", ""))),
            clean(str(owner.get("name", ""))),
            clean_labels(
                (name, str(labels[name])) for name in self._exported_labels if name in labels
            ),
            tuple(clean(str(each.get("name", ""))) for each in _list(spec, "containers")),
            str(meta.get("creationTimestamp", "")),
            _object(item, "status").get("phase") in OVER,
        )


def _variables(spec: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Literal variables of the containers; the first that sets one wins."""
    for container in reversed(_list(spec, "containers")):
        for variable in _list(container, "env"):
            value = variable.get("value")
            if isinstance(value, str) and value:
                yield str(variable.get("name", "")), value


def _gpus(slices: Iterable[Mapping[str, Any]]) -> Iterator[tuple[tuple[str, str, str], str]]:
    """The UUID of each device; `basic` is where v1beta1 has its attributes."""
    for each in slices:
        spec = _object(each, "spec")
        pool = str(_object(spec, "pool").get("name", ""))
        for device in _list(spec, "devices"):
            described = _object(device, "basic") or device
            uuid = _object(_object(described, "attributes"), "uuid").get("string")
            if isinstance(uuid, str):
                yield (str(spec.get("driver", "")), pool, str(device.get("name", ""))), uuid


def _items(page: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return _list(page, "items")


def _object(holder: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = holder.get(key)
    return value if isinstance(value, dict) else {}


def _list(holder: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    value = holder.get(key)
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
