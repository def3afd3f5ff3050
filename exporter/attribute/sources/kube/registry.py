"""Opening what there is of Kubernetes on this node; what is missing is said with its remedy."""

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from exporter.attribute.sources.kube.kubelet import ABSENT, Kubelet, is_listened_on
from exporter.clock import Clock
from exporter.errors import Unavailable
from exporter.model.workload import CollectorState

if TYPE_CHECKING:
    from exporter.attribute.sources.kube.pod_watch import PodWatch


OUTSIDE = (
    "this is no pod, so the API server is not asked: pods are known by their uid, and by namespace "
    "and name as far as the kubelet and its logs have them"
)


class KubernetesSources(NamedTuple):
    """Those that could be opened; None where one is missing, which `missing` explains."""

    kubelet: Kubelet | None
    watch: "PodWatch | None"
    missing: tuple[CollectorState, ...]


def open_kubernetes(
    *,
    kubelet_socket: str,
    node_name: str,
    environment: Mapping[str, str],
    exported_labels: Iterable[str],
    clock: Clock,
    service_account: str,
) -> KubernetesSources | None:
    """What tells of pods here; None on a node that is none of Kubernetes.

    Without a `service_account`, or outside of a pod, the API server is not asked, which is no
    failure.
    """
    host = environment.get("KUBERNETES_SERVICE_HOST", "")
    if not host and not os.path.isdir(os.path.dirname(kubelet_socket)):
        return None
    # TLS and HTTP take 40 ms and 2 MB that other nodes need not spend.
    from exporter.attribute.sources.kube.api_server import ApiServer
    from exporter.attribute.sources.kube.pod_watch import PodWatch

    missing = []
    kubelet = watch = None
    try:
        kubelet = Kubelet(kubelet_socket, clock, is_expected=bool(host))
    except Unavailable as error:
        is_absent = not host and not is_listened_on(kubelet_socket)
        why = ABSENT if is_absent else str(error)
        missing.append(CollectorState("kubelet", is_absent, 0.0, why))
    if service_account and not host:
        missing.append(CollectorState("pods", True, 0.0, OUTSIDE))
    elif service_account:
        try:
            port = environment.get("KUBERNETES_SERVICE_PORT", "")
            server = ApiServer(host, port, service_account)
            watch = PodWatch(server, node_name, clock, exported_labels)
        except Unavailable as error:
            missing.append(CollectorState("pods", False, 0.0, str(error)))
    return KubernetesSources(kubelet, watch, tuple(missing))
