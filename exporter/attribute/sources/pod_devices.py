"""Which pod has which GPU and which hardware threads, as the kubelet says."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from exporter.attribute.sources.grants import Grant
from exporter.attribute.sources.kubelet import Allotted, Kubelet
from exporter.attribute.sources.pod_facts import PodFacts
from exporter.attribute.sources.wire import ContainerResources
from exporter.model.runs import RunKey

if TYPE_CHECKING:
    from exporter.attribute.sources.pod_watch import PodWatch

REPLICA = "::"
NOTHING = Allotted()


class PodRun(NamedTuple):
    """A pod that is here, and its run."""

    key: RunKey
    facts: PodFacts | None


class PodDevices:
    """Finds out anew only when something has changed."""

    def __init__(self, kubelet: Kubelet | None, watch: "PodWatch | None") -> None:
        self._kubelet = kubelet
        self._watch = watch
        self._since_ns: dict[tuple[str, str], int] = {}
        """Since when a pod has a device, by uid and id."""
        self._asked: tuple[object, ...] = ()
        self._grants: tuple[Grant, ...] = ()
        self._counted: tuple[object, ...] = ()
        self._threads: Mapping[RunKey, int] = {}

    def threads(self, pods: Mapping[str, PodRun]) -> Mapping[RunKey, int]:
        """Hardware threads that runs have alone; `pods` is the same object while unchanged."""
        asked = (self._allotted().containers, pods)
        if not _are_same(asked, self._counted):
            self._counted = asked
            threads: Counter[RunKey] = Counter()
            for _, pod, container in self._containers(pods):
                threads[pod.key] += len(container.cpus)
            self._threads = threads
        return self._threads

    def grants(self, pods: Mapping[str, PodRun], ordinals: Mapping[str, str]) -> Sequence[Grant]:
        """GPUs that runs were given; `ordinals` has the UUID of each GPU by its index."""
        allotted = self._allotted()
        asked = (allotted.containers, allotted.replicas, self._claims(), pods)
        if not _are_same(asked, self._asked[:-1]) or ordinals != self._asked[-1]:
            self._asked = (*asked, ordinals)
            self._grants = tuple(self._find(allotted, pods, ordinals))
        return self._grants

    def _allotted(self) -> Allotted:
        return self._kubelet.allotted if self._kubelet is not None else NOTHING

    def _claims(self) -> Mapping[tuple[str, str, str], str]:
        return self._watch.known.gpus if self._watch is not None else {}

    def _find(
        self, allotted: Allotted, pods: Mapping[str, PodRun], ordinals: Mapping[str, str]
    ) -> Iterator[Grant]:
        devices = (gpu_of(device_id, ordinals) for _, device_id in allotted.replicas)
        replicas = Counter(filter(None, devices))
        held: dict[tuple[str, str], int] = {}
        units: Counter[tuple[RunKey, str]] = Counter()
        since_ns: dict[tuple[RunKey, str], int] = {}
        for uid, pod, container in self._containers(pods):
            for gpu, place in self._gpus(container, ordinals):
                held[uid, place] = self._since_ns.get((uid, place), allotted.at_ns)
                unit = pod.key, gpu
                units[unit] += 1
                since_ns[unit] = min(held[uid, place], since_ns.get(unit, held[uid, place]))
        self._since_ns = held
        for (key, gpu), count in units.items():
            yield Grant(key, gpu, count, max(count, replicas[gpu]), since_ns[key, gpu])

    def _containers(
        self, pods: Mapping[str, PodRun]
    ) -> Iterator[tuple[str, PodRun, ContainerResources]]:
        """Every container that the kubelet knows, with the uid of its pod."""
        by_name: dict[tuple[str, str], tuple[str, str]] = {}
        for uid, pod in pods.items():
            if pod.facts is not None:
                name = pod.facts.namespace, pod.facts.name
                # Of two pods of one name, as a StatefulSet makes them, the later one is running.
                by_name[name] = max(by_name.get(name, ("", "")), (pod.facts.created, uid))
        for container in self._allotted().containers:
            _, uid = by_name.get((container.namespace, container.pod), ("", ""))
            if uid:
                yield uid, pods[uid], container

    def _gpus(
        self, container: ContainerResources, ordinals: Mapping[str, str]
    ) -> Iterator[tuple[str, str]]:
        """UUID of each GPU of a container, and its id as the plugin or the driver calls it."""
        for _, device_id in container.devices:
            if gpu := gpu_of(device_id, ordinals):
                yield gpu, device_id
        for claimed in container.claimed:
            if gpu := self._claims().get(claimed, ""):
                yield gpu, "/".join(claimed)


def gpu_of(device_id: str, ordinals: Mapping[str, str]) -> str:
    """The UUID in the id of a device plugin; "" where it is of something else.

    Known are `GPU-...` and `MIG-...`, with `::replica` behind them, and GKE's `nvidia0` with
    `/vgpu1` behind it. What GKE writes of MIG instances names no UUID.
    """
    base = device_id.partition(REPLICA)[0]
    if base.startswith(("GPU-", "MIG-")) and "/" not in base:
        return base
    name, _, rest = base.partition("/")
    if name.startswith("nvidia") and not rest.startswith("gi"):
        return ordinals.get(name.removeprefix("nvidia"), "")
    return ordinals.get(base, "")


def _are_same(ones: tuple[object, ...], others: tuple[object, ...]) -> bool:
    """Whether they are the same objects; those that ask replace what changes as a whole."""
    return len(ones) == len(others) and all(a is b for a, b in zip(ones, others, strict=True))
