"""The cgroups of pods on this node, whichever runtime and driver made them."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from exporter.attribute.sources.cgroups import V2, mount_points, paths

ROOT = re.compile(r"(?:.+-)?kubepods(?:\.slice)?")
POD = re.compile(
    r"(?:.+-)?pod(?P<uid>[0-9a-f]{8}([-_])[0-9a-f]{4}\2[0-9a-f]{4}\2[0-9a-f]{4}\2[0-9a-f]{12}"
    r"|[0-9a-f]{32})(?:\.slice)?"
)
"""The 32 digits alone are those of static pods."""
QOS = re.compile(r"(?:.+-)?(?:burstable|besteffort)(?:\.slice)?")
HIERARCHIES = (V2, "cpuacct", "memory")
"""Those that have clocks or memory."""
DEPTH = 3
"""How deep below a mount the root of all pods is looked for: a node may itself be a container."""
ROOTS_LOOKS = 30


class PodCgroup(NamedTuple):
    """The cgroup of one pod."""

    uid: str
    mounted: Mapping[str, str]
    """Where its hierarchies are mounted."""
    at: Mapping[str, str]
    """Its path in each."""


def uid_of(path: str) -> str:
    """The uid of the pod whose cgroup this is, or is around it; "" for none."""
    for part in path.split("/"):
        match = POD.fullmatch(part)
        if match is not None:
            return match["uid"].replace("_", "-")
    return ""


class Kubepods:
    """Lists the cgroups of pods. Cheap where there are none."""

    def __init__(self, procfs: str) -> None:
        self._procfs = procfs
        self._roots: Sequence[tuple[str, str, str]] = ()
        """Hierarchy, mount point and path of the root of all pods."""
        self._looks = 0
        self._listed: list[tuple[str, str, tuple[str, str]]] = []
        self._known: dict[str, PodCgroup] = {}

    def look(self) -> Mapping[str, PodCgroup]:
        """The pods that have a cgroup now, by uid."""
        if self._looks % ROOTS_LOOKS == 0:
            self._roots = list(self._find_roots())
        self._looks += 1
        listed = [
            (hierarchy, point, pod)
            for hierarchy, point, root in self._roots
            for pod in _pods(point, root)
        ]
        if listed == self._listed:
            return self._known
        self._listed = listed
        found: dict[str, PodCgroup] = {}
        for hierarchy, point, (name, path) in listed:
            uid = uid_of(name)
            known = found.get(uid) or PodCgroup(uid, {}, {})
            found[uid] = PodCgroup(
                uid, {**known.mounted, hierarchy: point}, {**known.at, hierarchy: path}
            )
        self._known = found
        return self._known

    def uid(self, pid: int) -> str:
        """The pod that a process is in; "" for none."""
        if not self._known:
            return ""
        try:
            found = map(uid_of, paths(self._procfs, pid).values())
        except OSError:
            return ""
        return next(filter(None, found), "")

    def _find_roots(self) -> Iterator[tuple[str, str, str]]:
        """The first mount of each hierarchy that has pods: others may show this container alone."""
        done = set()
        for hierarchy, point in _mounts(self._procfs):
            if hierarchy in done or hierarchy not in HIERARCHIES:
                continue
            for root in _below(point, "", DEPTH):
                done.add(hierarchy)
                yield hierarchy, point, root


def _mounts(procfs: str) -> list[tuple[str, str]]:
    try:
        return list(mount_points(procfs))
    except OSError:
        return []


def _below(point: str, path: str, depth: int) -> Iterator[str]:
    """Paths of the roots of all pods below a directory."""
    names = _names(point + path)
    roots = [name for name in names if ROOT.fullmatch(name)]
    yield from (f"{path}/{name}" for name in roots)
    if not roots and depth > 1:
        for name in names:
            yield from _below(point, f"{path}/{name}", depth - 1)


def _pods(point: str, root: str) -> Iterator[tuple[str, str]]:
    """Name and path of the pods' cgroups: those of guaranteed ones stand beside the classes."""
    for name in _listed(point + root):
        if QOS.fullmatch(name):
            for pod in _listed(f"{point}{root}/{name}"):
                if "pod" in pod and POD.fullmatch(pod):
                    yield pod, f"{root}/{name}/{pod}"
        elif POD.fullmatch(name):
            yield name, f"{root}/{name}"


def _listed(directory: str) -> list[str]:
    """What is there, files among it: they match nothing that is looked for."""
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _names(directory: str) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
