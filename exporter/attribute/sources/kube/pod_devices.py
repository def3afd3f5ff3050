"""Which pod has which GPU and which hardware threads, as the kubelet says."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from exporter.attribute.sources.grants import Grant
from exporter.attribute.sources.kube.kubelet import Allotted, Kubelet
from exporter.attribute.sources.kube.pod_facts import Known, PodFacts
from exporter.attribute.sources.kube.wire import ContainerResources
from exporter.model.readings import Device, DeviceInfo, Occupancy
from exporter.model.runs import RunKey

if TYPE_CHECKING:
    from exporter.attribute.sources.kube.pod_watch import PodWatch

REPLICA = "::"
OLD_MIG = "MIG-GPU-"
SILENT_KUBELET = Allotted()
SILENT_SERVER = Known()


class _Held(NamedTuple):
    """A device, or a replica of one, that a pod has."""

    gpu: str
    units: int
    """How many of its containers have it."""
    since_ns: int


class PodRun(NamedTuple):
    """A pod that is here, and its run."""

    key: RunKey
    facts: PodFacts | None


class PodDevices:
    """Finds out anew only when something has changed."""

    def __init__(self, kubelet: Kubelet | None, watch: "PodWatch | None") -> None:
        self._kubelet = kubelet
        self._watch = watch
        self._held: dict[tuple[str, str], _Held] = {}
        """By uid of the pod and id of the device."""
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

    def grants(self, pods: Mapping[str, PodRun], names: Mapping[str, str]) -> Sequence[Grant]:
        """GPUs that runs were given; `names` has UUIDs by what else GPUs are called."""
        allotted = self._allotted()
        asked = (allotted.containers, allotted.replicas, self._known(), pods)
        if not _are_same(asked, self._asked[:-1]) or names != self._asked[-1]:
            self._asked = (*asked, names)
            self._grants = tuple(self._find(allotted, pods, names))
        return self._grants

    def has_claims(self) -> bool:
        """Whether a pod has a device by dynamic resource allocation."""
        return any(container.claimed for container in self._allotted().containers)

    def _allotted(self) -> Allotted:
        return self._kubelet.allotted if self._kubelet is not None else SILENT_KUBELET

    def _known(self) -> Known:
        return self._watch.known if self._watch is not None else SILENT_SERVER

    def _find(
        self, allotted: Allotted, pods: Mapping[str, PodRun], names: Mapping[str, str]
    ) -> Iterator[Grant]:
        devices = (gpu_of(device_id, names) for _, device_id in allotted.replicas)
        replicas = Counter(filter(None, devices))
        held: dict[tuple[str, str], _Held] = {}
        for uid, pod, container in self._containers(pods):
            started_ns = pod.facts.started_ns if pod.facts is not None else 0
            since_ns = min(allotted.at_ns, started_ns or allotted.at_ns)
            for gpu, place in self._gpus(container, names):
                known = self._held.get((uid, place), _Held(gpu, 0, since_ns))
                units = held[uid, place].units if (uid, place) in held else 0
                held[uid, place] = known._replace(gpu=gpu, units=units + 1)
        held.update(self._kept(held, pods))
        self._held = held
        units_of: Counter[tuple[RunKey, str]] = Counter()
        first_ns: dict[tuple[RunKey, str], int] = {}
        for (uid, _), each in held.items():
            unit = pods[uid].key, each.gpu
            units_of[unit] += each.units
            first_ns[unit] = min(each.since_ns, first_ns.get(unit, each.since_ns))
        for (key, gpu), count in units_of.items():
            yield Grant(key, gpu, count, max(count, replicas[gpu]), first_ns[key, gpu])

    def _kept(
        self, said: Mapping[tuple[str, str], "_Held"], pods: Mapping[str, PodRun]
    ) -> dict[tuple[str, str], "_Held"]:
        """What the kubelet does not name, as one that has just restarted: a pod that runs has it.

        What pods are given is theirs to their end.
        """
        taken = {place for _, place in said}
        known = self._known().pods
        return {
            (uid, place): held
            for (uid, place), held in self._held.items()
            if uid in pods and place not in taken and not (uid in known and known[uid].is_over)
        }

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
        self, container: ContainerResources, names: Mapping[str, str]
    ) -> Iterator[tuple[str, str]]:
        """UUID of each GPU of a container, and its id as the plugin or the driver calls it."""
        for _, device_id in container.devices:
            if gpu := gpu_of(device_id, names):
                yield gpu, device_id
        for claimed in container.claimed:
            if gpu := self._known().gpus.get(claimed, ""):
                yield gpu, "/".join(claimed)


def gpu_of(device_id: str, names: Mapping[str, str]) -> str:
    """The UUID in the id of a device plugin; "" where it is of something else.

    Known are `GPU-...` and `MIG-...`, `MIG-GPU-.../gi/ci` as drivers before R470 had it, all with
    `::replica` behind them, and GKE's `nvidia0` and `nvidia0/gi1`, with `/vgpu1` behind them.
    """
    base = device_id.partition(REPLICA)[0]
    if base.startswith(OLD_MIG):
        return names.get(base.removeprefix("MIG-"), "")
    if base.startswith(("GPU-", "MIG-")):
        return "" if "/" in base else base
    base = base.removeprefix("nvidia").partition("/vgpu")[0]
    return names.get(base, "")


def names_of(
    infos: Iterable[DeviceInfo], occupancies: Mapping[Device, Occupancy]
) -> dict[str, str]:
    """UUIDs by what else device plugins call GPUs: `0`, `0/gi1`, and `GPU-.../1/0`.

    A GPU instance of several compute instances is the first of them.
    """
    names = {}
    for info in infos:
        if info.ordinal:
            names[info.ordinal] = info.device.id
        look = occupancies.get(info.device)
        for part in look.partitions if look is not None else ():
            if part.instances is not None:
                gpu_instance, compute_instance = part.instances
                names[f"{info.device.id}/{gpu_instance}/{compute_instance}"] = part.id
                names.setdefault(f"{info.ordinal}/gi{gpu_instance}", part.id)
    return names


def _are_same(ones: tuple[object, ...], others: tuple[object, ...]) -> bool:
    """Whether they are the same objects; those that ask replace what changes as a whole."""
    return len(ones) == len(others) and all(a is b for a, b in zip(ones, others, strict=True))
