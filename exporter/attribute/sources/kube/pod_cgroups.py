"""Discovers the cgroups of pods on this node, for any container runtime and cgroup driver.

The kubelet creates a cgroup for each pod, below one named `kubepods`. The container runtime creates
those of the containers inside it, unless the two use different cgroup drivers: containerd with the
driver cgroupfs interprets the kubelet's `slice:prefix:name` as a path relative to its own cgroup,
so that the pod's cgroup stays empty.
"""

import os
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from exporter.attribute.sources.cgroups import V2, cgroup_mount_points, cgroup_paths

KUBEPODS_ROOT = re.compile(r"(?:.+-)?kubepods(?:\.slice)?")
POD_PATTERN = re.compile(
    r"(?:.+-)?pod(?P<uid>[0-9a-f]{8}([-_])[0-9a-f]{4}\2[0-9a-f]{4}\2[0-9a-f]{4}\2[0-9a-f]{12}"
    r"|[0-9a-f]{32})(?:\.slice)?(?P<container>:[^:]*:.*)?"
)
"""A pod, or its container in a cgroup named `slice:prefix:name`. Static pods have 32 digits without
separators."""
QOS_PATTERN = re.compile(r"(?:.+-)?(?:burstable|besteffort)(?:\.slice)?")
CPU_V1 = "cpuacct"
HIERARCHIES = (V2, CPU_V1, "memory")
"""Hierarchies with CPU or memory accounting."""
MAX_DEPTH = 8
"""Depth of the search below a mount: a node may itself be a container, even a rootless one."""
MAX_DIRECTORIES = 500
"""Limit for the directories listed in a walk, breadth first."""
LEAF_LINKS = 2
"""Link count of a directory without subdirectories."""
WALK_INTERVAL_TICKS = 30
"""Calls between walks; the directories found in a walk are listed in each call."""


class PodCgroup(NamedTuple):
    """The cgroups of one pod."""

    uid: str
    mounted: Mapping[str, str]
    """Mount points by hierarchy."""
    at: Mapping[str, Sequence[str]]
    """Its paths by hierarchy; none contains another."""

    def has_processes(self) -> bool:
        """Whether there is a process in it, or was one with version 1, or that cannot be read.

        Version 1 lists only the processes of the reader's process namespace. An exporter in a
        container of its own sees none of other pods, but their CPU time.

        A runtime can leave the cgroup of a removed pod behind: with version 1, it does not remove
        the one that systemd or the runtime itself created in a version 2 hierarchy beside it.
        """
        return any(
            _is_populated(self.mounted[hierarchy] + path)
            for hierarchy, paths in self.at.items()
            for path in paths
        )


class _PodParents(NamedTuple):
    """Directories of one hierarchy that contain pods."""

    point: str
    """Mount point."""
    paths: Sequence[str]


class _Listing(NamedTuple):
    """Content of one of these directories."""

    names: Sequence[str]
    """All entries, including files."""
    pods: Sequence[tuple[str, str]]
    """Uid and path of the pods, or containers of pods."""
    classes: Sequence[str]
    """Paths of QoS classes; guaranteed pods are directly in the directory."""


def split_at_pod(path: str) -> tuple[str, str]:
    """Split a cgroup path at its outermost pod into uid and rest; "" for none."""
    above, separator, rest = "", "", path
    while separator or rest:
        above, separator, rest = rest.partition("/")
        match = POD_PATTERN.fullmatch(above) if "pod" in above else None
        if match is not None:
            return match["uid"].replace("_", "-"), f"{match['container'] or ''}/{rest}"
    return "", ""


def pod_uid(path: str) -> str:
    """The uid of the outermost pod in the path of a cgroup; "" for none."""
    return split_at_pod(path)[0]


class PodCgroups:
    """Lists the cgroups of pods. Cheap on a node without pods."""

    def __init__(self, procfs: str) -> None:
        self._procfs = procfs
        self._pod_parents: dict[str, _PodParents] = {}
        """By hierarchy."""
        self._listings: dict[str, _Listing] = {}
        """By directory."""
        self._ticks = 0
        self._inputs: tuple[object, ...] = ()
        self._known: dict[str, PodCgroup] = {}

    def collect(self) -> Mapping[str, PodCgroup]:
        """The current pods with a cgroup, by uid."""
        if self._ticks % WALK_INTERVAL_TICKS == 0:
            self._pod_parents = self._find_pod_parents()
        self._ticks += 1
        before, self._listings = self._listings, {}
        for parents in self._pod_parents.values():
            for path in parents.paths:
                self._list(parents.point, path, before)
        inputs = self._pod_parents, self._listings
        if inputs == self._inputs:
            return self._known
        self._inputs = inputs
        listed = [
            (hierarchy, parents.point, *pod)
            for hierarchy, parents in self._pod_parents.items()
            for path in parents.paths
            for pod in self._pods_in(parents.point, path)
        ]
        found: dict[str, PodCgroup] = {}
        for hierarchy, point, uid, path in listed:
            known = found.get(uid) or PodCgroup(uid, {}, {})
            found[uid] = PodCgroup(
                uid,
                {**known.mounted, hierarchy: point},
                {**known.at, hierarchy: (*known.at.get(hierarchy, ()), path)},
            )
        self._known = {uid: _single_version(pod) for uid, pod in found.items()}
        return self._known

    @property
    def has_root(self) -> bool:
        """Whether the kubelet's root cgroup exists, so that an empty result means no pods."""
        return bool(self._pod_parents)

    def uid(self, pid: int) -> str:
        """The pod that contains a process; "" for none."""
        try:
            found = map(pod_uid, cgroup_paths(self._procfs, pid).values())
        except OSError:
            return ""
        return next(filter(None, found), "")

    def _find_pod_parents(self) -> dict[str, _PodParents]:
        """Find the parent directories of pods, in the first mount of each hierarchy that has some.

        Other mounts may show only this container. Directories found before are kept, since a pod
        may be created in them at any time.
        """
        found: dict[str, _PodParents] = {}
        for hierarchy, point in _mounts(self._procfs):
            if hierarchy in found or hierarchy not in HIERARCHIES:
                continue
            old = self._pod_parents.get(hierarchy)
            kept = old.paths if old is not None and old.point == point else ()
            parents = dict.fromkeys(
                (*_walk(point), *(path for path in kept if os.path.isdir(point + path)))
            )
            if parents:
                found[hierarchy] = _PodParents(point, tuple(parents))
        return found

    def _list(self, point: str, path: str, before: Mapping[str, _Listing]) -> None:
        """List a directory and its QoS classes; an unchanged listing stays the same object."""
        directory = point + path
        names = _names(directory)
        listing = before.get(directory)
        if listing is None or listing.names != names:
            listing = _listing(path, names)
        self._listings[directory] = listing
        for each in listing.classes:
            self._list(point, each, before)

    def _pods_in(self, point: str, path: str) -> Iterator[tuple[str, str]]:
        """Uid and path of the pods in a listed directory and its QoS classes."""
        listing = self._listings[point + path]
        yield from listing.pods
        for each in listing.classes:
            yield from self._pods_in(point, each)


def _single_version(pod: PodCgroup) -> PodCgroup:
    """Drop version 2 if the runtime uses version 1: systemd creates empty version 2 cgroups."""
    if CPU_V1 not in pod.at:
        return pod
    at = {hierarchy: paths for hierarchy, paths in pod.at.items() if hierarchy != V2}
    return pod._replace(at=at)


def _is_populated(directory: str) -> bool:
    try:
        with open(f"{directory}/cgroup.events", encoding="ascii", errors="replace") as events:
            return "populated 0" not in events.read()
    except OSError:  # version 1 has none
        pass
    try:
        with open(f"{directory}/cpuacct.usage", encoding="ascii", errors="replace") as usage:
            if usage.read().strip() != "0":
                return True
    except OSError:  # of another hierarchy
        pass
    try:
        for below, _, _ in os.walk(directory):
            with open(f"{below}/cgroup.procs", encoding="ascii", errors="replace") as processes:
                if processes.read(1):
                    return True
    except OSError:
        return True
    return False


def _listing(path: str, names: Sequence[str]) -> _Listing:
    pods = [(uid, f"{path}/{name}") for name in names if (uid := pod_uid(name))]
    classes = [f"{path}/{name}" for name in names if QOS_PATTERN.fullmatch(name)]
    return _Listing(names, pods, classes)


def _mounts(procfs: str) -> list[tuple[str, str]]:
    try:
        return list(cgroup_mount_points(procfs))
    except OSError:
        return []


def _walk(point: str) -> Iterator[str]:
    """Paths of directories that contain pods, or will."""
    waiting = deque([("", 0)])
    for _ in range(MAX_DIRECTORIES):
        if not waiting:
            return
        path, depth = waiting.popleft()
        has_pods = False
        for name, is_leaf in _directories(point + path):
            if pod_uid(name):
                has_pods = True
            elif KUBEPODS_ROOT.fullmatch(name):
                yield f"{path}/{name}"
            elif depth + 1 < MAX_DEPTH and not is_leaf:
                waiting.append((f"{path}/{name}", depth + 1))
        if has_pods:
            yield path


def _directories(directory: str) -> list[tuple[str, bool]]:
    """Names of subdirectories, and whether each is a leaf."""
    try:
        with os.scandir(directory) as entries:
            return [
                (entry.name, entry.stat(follow_symlinks=False).st_nlink == LEAF_LINKS)
                for entry in entries
                if entry.is_dir(follow_symlinks=False)
            ]
    except OSError:
        return []


def _names(directory: str) -> list[str]:
    """All entries, including files, whose names never match."""
    try:
        return os.listdir(directory)
    except OSError:
        return []
