"""The Pod Security Standards, as far as they say something of the fields of our pods."""

from collections.abc import Iterator
from typing import Any

VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim"),
    *("projected", "secret"),
}
"""Kinds of volumes that `restricted` allows."""
SELINUX_TYPES = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
PROFILES = {"RuntimeDefault", "Localhost"}


def refused(pod: dict[str, Any]) -> list[str]:
    """What in the spec `pod` the level `restricted` refuses, `baseline` included."""
    return [*_pod(pod), *(said for each in _containers(pod) for said in _container(each, pod))]


def _containers(pod: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from pod.get("initContainers", [])
    yield from pod["containers"]


def _pod(pod: dict[str, Any]) -> Iterator[str]:
    for name in ("hostPID", "hostIPC", "hostNetwork"):
        if pod.get(name):
            yield name
    for volume in pod.get("volumes", []):
        [kind] = volume.keys() - {"name"}
        if kind not in VOLUMES:
            yield f"volume {volume['name']}: {kind}"
    if pod.get("securityContext", {}).get("sysctls"):
        yield "sysctls"


def _container(container: dict[str, Any], pod: dict[str, Any]) -> Iterator[str]:
    own = container.get("securityContext", {})
    context = {**pod.get("securityContext", {}), **own}
    capabilities = own.get("capabilities", {})
    selinux = context.get("seLinuxOptions", {})
    breaches = {
        "privileged": own.get("privileged", False),
        "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is not False,
        "capabilities are not dropped": capabilities.get("drop") != ["ALL"],
        "capabilities are added": set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"},
        "runAsNonRoot": context.get("runAsNonRoot") is not True,
        "runAsUser": context.get("runAsUser") == 0,
        "seccompProfile": context.get("seccompProfile", {}).get("type") not in PROFILES,
        "seLinuxOptions": selinux.get("type", "") not in SELINUX_TYPES
        or selinux.keys() & {"user", "role"},
        "procMount": own.get("procMount", "Default") != "Default",
        "hostPort": any(port.get("hostPort") for port in container.get("ports", [])),
    }
    yield from (name for name, is_breached in breaches.items() if is_breached)
