"""The cgroups of pods on this node, whichever runtime and driver made them.

The kubelet makes a cgroup for each pod, below one called `kubepods`. The container runtime makes
those of the containers inside it, unless the two use different cgroup drivers: containerd whose
driver is cgroupfs takes the kubelet's `slice:prefix:name` for a path relative to its own cgroup,
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
"""A pod, or a container of one in a cgroup that is called `slice:prefix:name`. The 32 digits alone
are those of static pods."""
QOS_PATTERN = re.compile(r"(?:.+-)?(?:burstable|besteffort)(?:\.slice)?")
CPU_V1 = "cpuacct"
HIERARCHIES = (V2, CPU_V1, "memory")
"""Those that have clocks or memory."""
MAX_DEPTH = 8
"""How deep below a mount pods are looked for: a node may itself be a container, and that one of a
user without rights."""
MAX_DIRECTORIES = 500
"""How many of them are listed, those near the mount first."""
LEAF_LINKS = 2
"""Links to a directory without directories in it."""
WALK_INTERVAL_TICKS = 30
"""A walk every so many calls; the directories that it finds are listed at each call."""


class PodCgroup(NamedTuple):
    """The cgroups of one pod."""

    uid: str
    mounted: Mapping[str, str]
    """Where its hierarchies are mounted."""
    at: Mapping[str, Sequence[str]]
    """Its paths in each; none is inside another."""


class _PodParents(NamedTuple):
    """Directories of one hierarchy in which pods may be."""

    point: str
    """Where it is mounted."""
    paths: Sequence[str]


class _Listing(NamedTuple):
    """What is in one of these directories."""

    names: Sequence[str]
    """All that is there, files among it."""
    pods: Sequence[tuple[str, str]]
    """Uid and path of those that are pods, or containers of pods."""
    classes: Sequence[str]
    """Paths of the classes of pods: those of guaranteed ones stand beside them."""


def split_at_pod(path: str) -> tuple[str, str]:
    """The uid of the outermost pod in the path of a cgroup, and what follows it; "" for none."""
    above, separator, rest = "", "", path
    while separator or rest:
        above, separator, rest = rest.partition("/")
        match = POD_PATTERN.fullmatch(above) if "pod" in above else None
        if match is not None:
            return match["uid"].replace("_", "-"), f"{match['container'] or ''}/{rest}"
    return "", ""


def pod_uid(path: str) -> str:
    """The uid of the pod whose cgroup this is, or is around it; "" for none."""
    return split_at_pod(path)[0]


class PodCgroups:
    """Lists the cgroups of pods. Cheap where there are none."""

    def __init__(self, procfs: str) -> None:
        self._procfs = procfs
        self._homes: dict[str, _PodParents] = {}
        """By hierarchy."""
        self._listings: dict[str, _Listing] = {}
        """By directory."""
        self._looks = 0
        self._listed: list[tuple[str, str, tuple[str, str]]] = []
        self._known: dict[str, PodCgroup] = {}

    def collect(self) -> Mapping[str, PodCgroup]:
        """The pods that have a cgroup now, by uid."""
        if self._looks % WALK_INTERVAL_TICKS == 0:
            self._homes = self._find_homes()
        self._looks += 1
        before, self._listings = self._listings, {}
        listed = [
            (hierarchy, homes.point, pod)
            for hierarchy, homes in self._homes.items()
            for path in homes.paths
            for pod in self._list(homes.point, path, before)
        ]
        if listed == self._listed:
            return self._known
        self._listed = listed
        found: dict[str, PodCgroup] = {}
        for hierarchy, point, (uid, path) in listed:
            known = found.get(uid) or PodCgroup(uid, {}, {})
            found[uid] = PodCgroup(
                uid,
                {**known.mounted, hierarchy: point},
                {**known.at, hierarchy: (*known.at.get(hierarchy, ()), path)},
            )
        self._known = {uid: _of_one_version(pod) for uid, pod in found.items()}
        return self._known

    @property
    def has_root(self) -> bool:
        """Whether there is a cgroup of the kubelet, so that no pod below it means that none is."""
        return bool(self._homes)

    def uid(self, pid: int) -> str:
        """The pod that a process is in; "" for none."""
        try:
            found = map(pod_uid, cgroup_paths(self._procfs, pid).values())
        except OSError:
            return ""
        return next(filter(None, found), "")

    def _find_homes(self) -> dict[str, _PodParents]:
        """Of the first mount of each hierarchy that has some: others may show this container alone.

        One that was found before stays, since its next pod may come at any time.
        """
        found: dict[str, _PodParents] = {}
        for hierarchy, point in _mounts(self._procfs):
            if hierarchy in found or hierarchy not in HIERARCHIES:
                continue
            old = self._homes.get(hierarchy)
            kept = old.paths if old is not None and old.point == point else ()
            homes = dict.fromkeys(
                (*_walk(point), *(path for path in kept if os.path.isdir(point + path)))
            )
            if homes:
                found[hierarchy] = _PodParents(point, tuple(homes))
        return found

    def _list(
        self, point: str, path: str, before: Mapping[str, _Listing]
    ) -> Iterator[tuple[str, str]]:
        """Uid and path of the pods in a directory, and in the classes of pods in it."""
        directory = point + path
        names = _names(directory)
        listing = before.get(directory)
        if listing is None or listing.names != names:
            listing = _listing(path, names)
        self._listings[directory] = listing
        yield from listing.pods
        for each in listing.classes:
            yield from self._list(point, each, before)


def _of_one_version(pod: PodCgroup) -> PodCgroup:
    """Without version 2 where the runtime uses version 1: systemd makes empty cgroups there."""
    if CPU_V1 not in pod.at:
        return pod
    at = {hierarchy: paths for hierarchy, paths in pod.at.items() if hierarchy != V2}
    return pod._replace(at=at)


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
    """Paths of directories in which pods are, or will be."""
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
    """Names of what is there, and whether nothing is in it."""
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
    """What is there, files among it: they match nothing that is looked for."""
    try:
        return os.listdir(directory)
    except OSError:
        return []
