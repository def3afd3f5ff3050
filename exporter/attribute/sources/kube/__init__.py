"""Kubernetes: pods, from cgroups, the kubelet and the API server."""

import os
from collections.abc import Mapping


def is_kubernetes_node(kubelet_socket: str, environment: Mapping[str, str]) -> bool:
    """Whether the daemon runs in a pod, or beside a kubelet."""
    in_pod = bool(environment.get("KUBERNETES_SERVICE_HOST"))
    return in_pod or os.path.isdir(os.path.dirname(kubelet_socket))
