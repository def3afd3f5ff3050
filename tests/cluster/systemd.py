"""A node whose kubelet and containerd have their cgroups made by systemd."""

from tests.cluster.node import Node
from tests.real.systemd import SystemdNamespaces


class SystemdNode(SystemdNamespaces, Node):
    """A node with a cgroup namespace, in whose root cgroup systemd is the first process."""

    cgroup_driver = "systemd"
    namespaces = ("mount", "net", "pid", "cgroup", "uts")

    def cgroup_root(self) -> str:
        return "/"
