"""Watches the pods of this node at the API server: names, owners, run ids and claimed devices."""

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from exporter.attribute.sources.kube.api_server import ApiError, ApiServerClient
from exporter.attribute.sources.kube.pod_metadata import (
    ApiServerState,
    PodMetadata,
    admin_devices,
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
RESOURCE_APIS = tuple(
    f"/apis/resource.k8s.io/{version}" for version in ("v1", "v1beta2", "v1beta1")
)
WATCH_SECONDS = 300
FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS = 1.0, 60.0
HEALTHY_NS = 10 * NANOSECONDS_PER_SECOND
"""A watch that lasted this long was healthy, even without events; its end is not an error."""
PAGE = "500"
MAX_PODS = 1_000
"""Limit for the pods that are kept; a node runs a few hundred at most."""
GONE, UNAUTHORIZED, FORBIDDEN, NOT_FOUND = 410, 401, 403, 404
REMEDIES = {
    UNAUTHORIZED: "; the token is read again at the next try",
    FORBIDDEN: "; allow the service account to list and watch pods, see deploy/kubernetes",
}

SLICES_REMEDY = (
    ", so GPUs of dynamic resource allocation are attributed to no pod; allow the service account "
    "to list resourceslices: rbac.dynamicResourceAllocation of the chart"
)
CLAIMS_REMEDY = (
    ", so pods with admin access to a GPU of dynamic resource allocation count as its holders; "
    "allow the service account to get resourceclaims: rbac.dynamicResourceAllocation of the chart"
)


class PodWatch:
    """Lists and then watches the pods of one node, in its own thread.

    Raises Unavailable without a node name.
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
                "the name of this node is not known; set attribute.node_name with fieldRef "
                "spec.nodeName in EMISSIONS_EXPORTER_ATTRIBUTE_NODE_NAME of the DaemonSet's "
                "container, see deploy/kubernetes"
            )
        self._server = server
        self._node = node
        self._clock = clock
        self._exported_labels = tuple(exported_labels)
        self.latest = ApiServerState()
        """The last state; replaced as a whole."""
        self._version = ""
        self._backoff = Backoff(FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS)
        self._retry_ns = 0
        self._is_stopping = False
        self._worker = worker("pods", self._list_and_watch, 1.0)

    def start(self) -> None:
        """Start the thread."""
        self._worker.start()

    def stop(self, timeout_seconds: float) -> bool:
        """Stop the thread; False if it hangs."""
        self._is_stopping = True
        self._server.interrupt()
        return self._worker.stop(timeout_seconds)

    def _list_and_watch(self) -> None:
        """Run one watch, after a list if needed."""
        if self._is_stopping or self._clock.boottime_ns() < self._retry_ns:
            return
        try:
            if not self._version:
                self._list()
            self._update_devices(self.latest.pods)
            self._watch()
        except ApiError as error:
            self._record_error(error)

    def _list(self) -> None:
        pods: dict[str, PodMetadata] = {}
        query = {"fieldSelector": f"spec.nodeName={self._node}", "limit": PAGE}
        while True:
            page = self._server.get(PODS, **query)
            for item in objects_at(page, "items"):
                pod = self._parse_pod(item)
                if pod is not None and len(pods) < MAX_PODS:
                    pods[pod.uid] = pod
            meta = object_at(page, "metadata")
            token = meta.get("continue")
            if not token or len(pods) >= MAX_PODS:
                break
            query["continue"] = str(token)
        self._version = str(meta.get("resourceVersion", ""))
        self._set_pods(pods)

    def _watch(self) -> None:
        query = {
            "fieldSelector": f"spec.nodeName={self._node}",
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
        }
        events = self._server.watch(PODS, WATCH_SECONDS, **query)
        began_ns = self._clock.boottime_ns()
        self._set_pods(self.latest.pods)
        try:
            for event in events:
                self._apply(event)
                self._backoff.reset()
                if self._is_stopping:
                    return
        except ApiError as error:
            if error.status or self._clock.boottime_ns() - began_ns < HEALTHY_NS:
                raise
        self._backoff.reset()

    def _apply(self, event: Mapping[str, Any]) -> None:
        """Apply one event of the watch. Raises ApiError for one that ends it."""
        item = object_at(event, "object")
        kind = event.get("type")
        if kind == "ERROR":
            raise _watch_error(item)
        self._version = str(object_at(item, "metadata").get("resourceVersion", self._version))
        pods = dict(self.latest.pods)
        pod = self._parse_pod(item) if kind != "BOOKMARK" else None
        is_new = pod is not None and pod.uid not in pods and kind != "DELETED"
        if pod is not None and kind == "DELETED":
            pods.pop(pod.uid, None)
        elif pod is not None and (pod.uid in pods or len(pods) < MAX_PODS):
            pods[pod.uid] = pod
        try:
            if is_new and _has_claims(item):
                self._update_devices(pods)
        finally:
            self._set_pods(pods)

    def _set_pods(self, pods: Mapping[str, PodMetadata]) -> None:
        self.latest = self.latest._replace(pods=pods, at_ns=self._clock.boottime_ns(), why="")

    def _update_devices(self, pods: Mapping[str, PodMetadata]) -> None:
        """Update devices of dynamic resource allocation; none if the server does not support it."""
        slices: list[Mapping[str, Any]] = []
        why = ""
        admin: Mapping[str, AbstractSet[tuple[str, str, str]]] = {}
        for api in RESOURCE_APIS:
            try:
                page = self._server.get(
                    f"{api}/resourceslices", fieldSelector=f"spec.nodeName={self._node}"
                )
            except ApiError as error:
                if error.status not in (FORBIDDEN, NOT_FOUND):
                    raise
                if error.status == FORBIDDEN:
                    why = f"API server: {error}{SLICES_REMEDY}"
            else:
                slices = objects_at(page, "items")
                admin, why = self._admin_devices(api, pods)
                break
        self.latest = self.latest._replace(
            gpus=dict(claimable_gpus(slices)),
            mig=dict(claimable_mig_devices(slices)),
            gpus_reason=why,
            admin_devices=admin,
        )

    def _admin_devices(
        self, api: str, pods: Mapping[str, PodMetadata]
    ) -> tuple[Mapping[str, AbstractSet[tuple[str, str, str]]], str]:
        """Devices to which pods have only admin access, and why that is unknown.

        Devices of a claim do not change while a pod uses it, so each claim is read once.
        """
        known = self.latest.admin_devices
        found = {uid: known[uid] for uid in pods if uid in known}
        for uid, pod in pods.items():
            if not pod.claims or uid in found:
                continue
            claims = []
            for name in pod.claims:
                path = f"{api}/namespaces/{pod.namespace}/resourceclaims/{name}"
                try:
                    claims.append(self._server.get(path))
                except ApiError as error:
                    if error.status == FORBIDDEN:
                        return found, f"API server: {error}{CLAIMS_REMEDY}"
                    if error.status != NOT_FOUND:
                        raise
            found[uid] = admin_devices(claims)
        return found, ""

    def _record_error(self, error: ApiError) -> None:
        """Record an error and back off exponentially; the last state is kept."""
        if error.status in (GONE, FORBIDDEN):
            self._version = ""  # list again: the version expired, or only listing is allowed
        if error.status == GONE:
            return
        wait = max(self._backoff.fail(), error.retry_after)
        self._retry_ns = self._clock.boottime_ns() + round(wait * NANOSECONDS_PER_SECOND)
        why = f"API server: {error}{REMEDIES.get(error.status, '')}"
        self.latest = self.latest._replace(why=why)

    def _parse_pod(self, item: Mapping[str, Any]) -> PodMetadata | None:
        """Parse a pod; None if it is not of this node."""
        pod = pod_from_manifest(item, self._node, self._exported_labels)
        return pod and pod._replace(started_ns=self._boottime_ns(start_time(item)))

    def _boottime_ns(self, wall: float | None) -> int:
        """Convert wall-clock time to CLOCK_BOOTTIME; 0 for None, or a time before the boot."""
        if wall is None:
            return 0
        ago_ns = round((self._clock.wall() - wall) * NANOSECONDS_PER_SECOND)
        return max(0, self._clock.boottime_ns() - ago_ns)


def _has_claims(item: Mapping[str, Any]) -> bool:
    """Whether a pod has devices by dynamic resource allocation.

    It requests them by a claim or, as an extended resource, by a limit like `nvidia.com/gpu: 1`.
    """
    by_limit = object_at(object_at(item, "status"), "extendedResourceClaimStatus")
    return bool(objects_at(object_at(item, "spec"), "resourceClaims") or by_limit)


def _watch_error(status: Mapping[str, Any]) -> ApiError:
    """The error of an ERROR event, which ends a watch."""
    code = status.get("code")
    return ApiError(code if isinstance(code, int) else 0, str(status.get("message", "watch ended")))
