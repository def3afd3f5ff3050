"""Which container a process is in, as its cgroup path says."""

import re

from exporter.attribute.sources.cgroups import paths
from exporter.attribute.sources.kube.kubepods import split_at_pod

UNKNOWN = "unknown"
CONTAINER = re.compile(
    r"(?P<id>[0-9a-f]{64})|/lxc(?:\.payload)?[./](?P<lxc>[^/]+)|/machine-(?P<nspawn>[^/]+)\.scope"
)
"""docker, containerd, CRI-O and podman name a cgroup by the 64 digits of the container's id, with
and without systemd; LXC and systemd-nspawn by its name."""


class Containers:
    """The containers of callers. What is in the daemon's own one counts as outside."""

    def __init__(self, procfs: str) -> None:
        self._procfs = procfs
        self._own = self._read("self")

    def of(self, pid: int) -> str:
        """The container that confines a process: its id, "" for none."""
        found = self._read(str(pid))
        return "" if found == self._own else found

    def _read(self, pid: str) -> str:
        try:
            found = [_container(path) for path in paths(self._procfs, pid).values()]
        except OSError:
            return UNKNOWN
        return next((match[match.lastgroup or 0] for match in found if match), "")


def _container(path: str) -> "re.Match[str] | None":
    """The outermost container of the pod, whose node may be a container too; else of the path."""
    return CONTAINER.search(split_at_pod(path)[1]) or CONTAINER.search(path)
