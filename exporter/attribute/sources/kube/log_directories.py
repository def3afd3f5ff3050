"""Names of pods without the API server: the kubelet keeps one directory of logs per pod."""

import os
from collections.abc import Iterable, Mapping

from exporter.attribute.sources.kube.pod_facts import PodFacts

SEPARATOR = "_"
"""In no name of Kubernetes: they are RFC 1123 labels or subdomains."""


class LogDirectories:
    """Reads `<namespace>_<name>_<uid>`, as kuberuntime.BuildPodLogsDirectory makes them.

    They are listed only while pods are looked for that they may name. The directory may be that of
    this file system, or of the host's, which is behind process 1 where we are allowed to see it.
    """

    def __init__(self, procfs: str, directory: str = "/var/log/pods") -> None:
        self._directories = (directory, f"{procfs}/1/root{directory}")
        self._known: dict[str, PodFacts] = {}
        self.is_readable = False
        """Whether there was such a directory at the last look."""

    def find(self, uids: Iterable[str]) -> Mapping[str, PodFacts]:
        """What is known of these pods, by uid; those without a directory are left out."""
        wanted = set(uids)
        if wanted - self._known.keys():
            self._known = self._listed()
        return {uid: self._known[uid] for uid in wanted & self._known.keys()}

    def _listed(self) -> dict[str, PodFacts]:
        for directory in self._directories:
            try:
                names = os.listdir(directory)
            except OSError:
                continue
            self.is_readable = True
            pods = (name.split(SEPARATOR) for name in names)
            return {
                pod[2]: PodFacts(pod[2], pod[0], pod[1], is_partial=True)
                for pod in pods
                if len(pod) == 3 and all(pod)
            }
        self.is_readable = False
        return {}
