"""What the API server knows of the pods of this node: names, owners, the ids they were given."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from exporter.attribute.sources.kube.api_server import ApiError, ApiServerClient
from exporter.attribute.sources.kube.pod_metadata import (
    ApiServerState,
    PodMetadata,
    claimable_gpus,
    claimable_mig_devices,
    object_at,
    objects_at,
    pod_from_manifest,
    start_time,
)
from exporter.backoff import Backoff
from exporter.clock import Clock
from exporter.errors import Unavailable
from exporter.units import NANOSECONDS_PER_SECOND
from exporter.worker import Worker

PODS = "/api/v1/pods"
RESOURCE_SLICES = tuple(
    f"/apis/resource.k8s.io/{version}/resourceslices" for version in ("v1", "v1beta2", "v1beta1")
)
WATCH_SECONDS = 300
FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS = 1.0, 60.0
HEALTHY_NS = 10 * NANOSECONDS_PER_SECOND
"""A watch that lasted as long was well, though nothing happened; its end is no failed try."""
PAGE = "500"
MAX_PODS = 1_000
"""Pods that are kept; a node runs a few hundred at most."""
GONE, UNAUTHORIZED, FORBIDDEN, NOT_FOUND = 410, 401, 403, 404
REMEDIES = {
    UNAUTHORIZED: "; its token is read anew at the next try",
    FORBIDDEN: "; let the service account list and watch pods, see deploy/kubernetes",
}

SLICES_REMEDY = (
    ", so GPUs of dynamic resource allocation are of nobody; let the service account list "
    "resourceslices: rbac.dynamicResourceAllocation of the chart"
)


class PodWatch:
    """Lists the pods of one node, then follows them, in a thread of its own.

    Raises Unavailable where nobody says which node this is.
    """

    def __init__(
        self,
        server: ApiServerClient,
        node: str,
        clock: Clock,
        exported_labels: Iterable[str],
        worker: Callable[[str, Callable[[], None], float], Worker] = Worker,
    ) -> None:
        if not node:
            raise Unavailable(
                "the name of this node is not known; set attribute.node_name by fieldRef "
                "spec.nodeName in EMISSIONS_EXPORTER_ATTRIBUTE_NODE_NAME of the DaemonSet's "
                "container, see deploy/kubernetes"
            )
        self._server = server
        self._node = node
        self._clock = clock
        self._exported_labels = tuple(exported_labels)
        self.latest = ApiServerState()
        """Replaced as a whole."""
        self._version = ""
        self._backoff = Backoff(FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS)
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
            self._learn_slices()
            self._watch()
        except ApiError as error:
            self._failed(error)

    def _list(self) -> None:
        pods: dict[str, PodMetadata] = {}
        query = {"fieldSelector": f"spec.nodeName={self._node}", "limit": PAGE}
        while True:
            page = self._server.get(PODS, **query)
            for item in objects_at(page, "items"):
                facts = self._facts(item)
                if facts is not None and len(pods) < MAX_PODS:
                    pods[facts.uid] = facts
            meta = object_at(page, "metadata")
            token = meta.get("continue")
            if not token or len(pods) >= MAX_PODS:
                break
            query["continue"] = str(token)
        self._version = str(meta.get("resourceVersion", ""))
        self._learn(pods)

    def _watch(self) -> None:
        query = {
            "fieldSelector": f"spec.nodeName={self._node}",
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
        }
        events = self._server.watch(PODS, WATCH_SECONDS, **query)
        began_ns = self._clock.boottime_ns()
        self._learn(self.latest.pods)
        try:
            for event in events:
                self._take(event)
                self._backoff.reset()
                if self._is_stopping:
                    return
        except ApiError as error:
            if error.status or self._clock.boottime_ns() - began_ns < HEALTHY_NS:
                raise
        self._backoff.reset()

    def _take(self, event: Mapping[str, Any]) -> None:
        """Apply one event of the watch. Raises ApiError for one that ends it."""
        item = object_at(event, "object")
        kind = event.get("type")
        if kind == "ERROR":
            raise _watch_error(item)
        self._version = str(object_at(item, "metadata").get("resourceVersion", self._version))
        pods = dict(self.latest.pods)
        facts = self._facts(item) if kind != "BOOKMARK" else None
        is_new = facts is not None and facts.uid not in pods and kind != "DELETED"
        if facts is not None and kind == "DELETED":
            pods.pop(facts.uid, None)
        elif facts is not None and (facts.uid in pods or len(pods) < MAX_PODS):
            pods[facts.uid] = facts
        self._learn(pods)
        if is_new and _has_claims(item):
            self._learn_slices()

    def _learn(self, pods: Mapping[str, PodMetadata]) -> None:
        self.latest = self.latest._replace(pods=pods, at_ns=self._clock.boottime_ns(), why="")

    def _learn_slices(self) -> None:
        """Devices of dynamic resource allocation; none where the server has no such thing."""
        slices: list[Mapping[str, Any]] = []
        why = ""
        for path in RESOURCE_SLICES:
            try:
                page = self._server.get(path, fieldSelector=f"spec.nodeName={self._node}")
            except ApiError as error:
                if error.status not in (FORBIDDEN, NOT_FOUND):
                    raise
                if error.status == FORBIDDEN:
                    why = f"API server: {error}{SLICES_REMEDY}"
            else:
                slices, why = objects_at(page, "items"), ""
                break
        self.latest = self.latest._replace(
            gpus=dict(claimable_gpus(slices)),
            mig=dict(claimable_mig_devices(slices)),
            gpus_reason=why,
        )

    def _failed(self, error: ApiError) -> None:
        """What is known stays; the next try is later each time."""
        if error.status in (GONE, FORBIDDEN):
            self._version = ""  # it has forgotten where we were, or lets us list and not watch
        if error.status == GONE:
            return
        wait = max(self._backoff.fail(), error.retry_after)
        self._retry_ns = self._clock.boottime_ns() + round(wait * NANOSECONDS_PER_SECOND)
        why = f"API server: {error}{REMEDIES.get(error.status, '')}"
        self.latest = self.latest._replace(why=why)

    def _facts(self, item: Mapping[str, Any]) -> PodMetadata | None:
        """A pod as it was described; None where that is none of this node."""
        facts = pod_from_manifest(item, self._node, self._exported_labels)
        return facts and facts._replace(started_ns=self._boottime_ns(start_time(item)))

    def _boottime_ns(self, wall: float | None) -> int:
        """CLOCK_BOOTTIME of a time by the wall clock; 0 for none, or one before the boot."""
        if wall is None:
            return 0
        ago_ns = round((self._clock.wall() - wall) * NANOSECONDS_PER_SECOND)
        return max(0, self._clock.boottime_ns() - ago_ns)


def _has_claims(item: Mapping[str, Any]) -> bool:
    """Whether a pod has devices by dynamic resource allocation.

    It asks for them by a claim or, as an extended resource, by a limit like `nvidia.com/gpu: 1`.
    """
    by_limit = object_at(object_at(item, "status"), "extendedResourceClaimStatus")
    return bool(objects_at(object_at(item, "spec"), "resourceClaims") or by_limit)


def _watch_error(status: Mapping[str, Any]) -> ApiError:
    """The error that a watch ends with, as the server describes it."""
    code = status.get("code")
    return ApiError(code if isinstance(code, int) else 0, str(status.get("message", "watch ended")))
