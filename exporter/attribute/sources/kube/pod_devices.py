"""GPUs and exclusive hardware threads of pods, by the kubelet's PodResources API."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from exporter.attribute.sources.gpu_holdings import (
    UUID_PREFIXES,
    GpuGrant,
    contains_gpu_uuid,
    resolve_gpu_id,
)
from exporter.attribute.sources.kube.pod_metadata import ApiServerState, PodMetadata
from exporter.attribute.sources.kube.pod_resources import (
    ClaimedDevice,
    ContainerResources,
    KubeletClient,
    PodResources,
)
from exporter.model.runs import RunKey

if TYPE_CHECKING:
    from exporter.attribute.sources.kube.pod_watch import PodWatch

GPU_RESOURCES = MappingProxyType(
    {
        "nvidia.com/gpu": "NVIDIA",
        "nvidia.com/mig-*": "NVIDIA",
        "nvidia.com/*.shared": "NVIDIA",
        "amd.com/gpu": "AMD",
        "amd.com/*_nps*": "AMD",
        "gpu.intel.com/i915": "Intel",
        "gpu.intel.com/xe": "Intel",
    }
)
"""Vendors by resource with GPUs as devices, of the device plugins of NVIDIA, GKE, AMD and Intel.
Device ids are unique only within a resource, so "0" of another resource is not a GPU."""
GPU_DRIVERS = ("gpu.nvidia.com", "gpu.amd.com", "gpu.intel.com")
"""Drivers of GPUs for dynamic resource allocation."""
PCI_ADDRESS = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
CLAIMED_RESOURCE = ""
"""Used as the resource of devices of dynamic resource allocation."""
NO_POD_RESOURCES = PodResources()
NO_API_SERVER_STATE = ApiServerState()


class _DeviceKey(NamedTuple):
    """A device allocated to a pod."""

    uid: str
    resource: str
    device_id: str


class _HeldGpu(NamedTuple):
    """The GPU of a device or of a replica."""

    gpu: str
    since_ns: int = 0
    slices: int = 0
    """Slices of a MIG instance of `gpu` with an unknown UUID; 0: `gpu` is the device."""
    slices_of: int = 0


class _NamedPod(NamedTuple):
    """The pod that has a name now."""

    uid: str
    since_ns: int = 0
    """The kubelet's lists requested until then, CLOCK_BOOTTIME, may be of the pod before."""


class PodRun(NamedTuple):
    """A pod on this node, with its run."""

    key: RunKey
    metadata: PodMetadata | None


class PodDevices:
    """Finds the GPUs and threads of pods; results are recomputed only after a change.

    `resources` are further names of resources with GPUs as devices; `*` matches any text.
    """

    def __init__(
        self,
        kubelet: KubeletClient | None,
        watch: "PodWatch | None",
        resources: Sequence[str] = (),
    ) -> None:
        self._kubelet = kubelet
        self._watch = watch
        self._resources = {**GPU_RESOURCES, **dict.fromkeys(resources, "")}
        self._vendors: dict[str, str | None] = {}
        """Vendors of GPUs by resource, "" for any; None: its devices are not GPUs."""
        self._held: dict[_DeviceKey, _HeldGpu] = {}
        self.note = ""
        """A possible problem with the grants, and the remedy; "": none."""
        self._grants_inputs: tuple[object, ...] = ()
        self._grants: tuple[GpuGrant, ...] = ()
        self._cpus: dict[str, frozenset[int]] = {}
        """Exclusive CPUs by pod."""
        self._threads_inputs: tuple[object, ...] = ()
        self._threads: Mapping[RunKey, int] = {}
        self._names_inputs: tuple[object, ...] = ()
        self._names: dict[tuple[str, str], _NamedPod] = {}
        self._outdated: frozenset[tuple[str, str]] = frozenset()
        """Names under which the kubelet may list a pod that had the name before."""
        self._unlisted_inputs: tuple[object, ...] = ()
        self._unlisted: tuple[str, ...] = ()

    def threads(self, pods: Mapping[str, PodRun]) -> Mapping[RunKey, int]:
        """Exclusive hardware threads by run; `pods` must be the same object while unchanged."""
        inputs = (self._pod_resources().containers, pods, self._outdated_names(pods))
        if not _same_objects(inputs, self._threads_inputs):
            self._threads_inputs = inputs
            self._cpus = self._find_cpus(pods)
            threads: Counter[RunKey] = Counter()
            for uid, cpus in self._cpus.items():
                threads[pods[uid].key] += len(cpus)
            self._threads = threads
        return self._threads

    def _find_cpus(self, pods: Mapping[str, PodRun]) -> dict[str, frozenset[int]]:
        """Exclusive CPUs by pod. As with GPUs, a running pod that is not listed keeps its own."""
        found: dict[str, frozenset[int]] = {}
        for uid, _, container in self._containers(pods):
            found[uid] = found.get(uid, frozenset()).union(container.cpus)
        listed = frozenset[int]().union(*found.values())
        known = self._api_server_state().pods
        for uid, cpus in self._cpus.items():
            is_over = uid in known and known[uid].is_over
            if uid in pods and uid not in found and not is_over and not cpus & listed:
                found[uid] = cpus
        return found

    def grants(self, pods: Mapping[str, PodRun], names: Mapping[str, str]) -> Sequence[GpuGrant]:
        """GPUs allocated to runs; `names` maps other names of GPUs to UUIDs."""
        latest = self._pod_resources()
        outdated = self._outdated_names(pods)
        inputs = (latest.containers, latest.replicas, self._api_server_state(), pods, outdated)
        if not _same_objects(inputs, self._grants_inputs[:-1]) or names != self._grants_inputs[-1]:
            self._grants_inputs = (*inputs, names)
            self._grants = tuple(self._find(latest, pods, names))
        return self._grants

    def has_claims(self) -> bool:
        """Whether a pod has a device of dynamic resource allocation."""
        return any(container.claimed for container in self._pod_resources().containers)

    def unlisted_claims(self, pods: Mapping[str, PodRun]) -> Collection[str]:
        """Pods with a claim of which the kubelet lists no device (yet)."""
        containers = self._pod_resources().containers
        inputs = (containers, pods)
        if not _same_objects(inputs, self._unlisted_inputs):
            self._unlisted_inputs = inputs
            listed = {(each.namespace, each.pod) for each in containers if each.claimed}
            self._unlisted = tuple(
                uid
                for uid, pod in pods.items()
                if pod.metadata is not None
                and pod.metadata.claims
                and (pod.metadata.namespace, pod.metadata.name) not in listed
            )
        return self._unlisted

    def _pod_resources(self) -> PodResources:
        return self._kubelet.latest if self._kubelet is not None else NO_POD_RESOURCES

    def _api_server_state(self) -> ApiServerState:
        return self._watch.latest if self._watch is not None else NO_API_SERVER_STATE

    def _find(
        self, latest: PodResources, pods: Mapping[str, PodRun], names: Mapping[str, str]
    ) -> Iterator[GpuGrant]:
        replicas = Counter(
            (resource, self._gpu(resource, device_id, names))
            for resource, device_id in latest.replicas
            if self._vendor(resource) is not None
        )
        held: dict[_DeviceKey, _HeldGpu] = {}
        for uid, pod, container in self._containers(pods):
            started_ns = pod.metadata.started_ns if pod.metadata is not None else 0
            since_ns = min(latest.at_ns, started_ns or latest.at_ns)
            for resource, device_id, found in self._gpus(uid, container, names):
                at = _DeviceKey(uid, resource, device_id)
                known = self._held.get(at, found._replace(since_ns=since_ns))
                # Containers of a pod may share a device, which counts once.
                held[at] = found._replace(since_ns=known.since_ns)
        held.update(self._kept(held, pods))
        self._held = held
        self.note = self._describe_problems(latest, names)
        return _grants(held, pods, replicas)

    def _kept(
        self, listed: Mapping[_DeviceKey, _HeldGpu], pods: Mapping[str, PodRun]
    ) -> dict[_DeviceKey, _HeldGpu]:
        """Devices that the kubelet does not list at present, for example after its restart.

        A running pod keeps its devices until it ends.
        """
        listed_devices = {(at.resource, at.device_id) for at in listed}
        state = self._api_server_state()
        known = state.pods
        admin = {
            _DeviceKey(uid, CLAIMED_RESOURCE, "/".join(device))
            for uid, devices in state.admin_devices.items()
            for device in devices
        }
        return {
            at: held
            for at, held in self._held.items()
            if at.uid in pods
            and at not in admin
            and (at.resource, at.device_id) not in listed_devices
            and not (at.uid in known and known[at.uid].is_over)
        }

    def _containers(
        self, pods: Mapping[str, PodRun]
    ) -> Iterator[tuple[str, PodRun, ContainerResources]]:
        """Every container in the kubelet's list, with the uid of its pod."""
        outdated = self._outdated_names(pods)
        for container in self._pod_resources().containers:
            name = container.namespace, container.pod
            if name in self._names and name not in outdated:
                uid = self._names[name].uid
                yield uid, pods[uid], container

    def _outdated_names(self, pods: Mapping[str, PodRun]) -> frozenset[tuple[str, str]]:
        """Find the pod of each name; the same object while the result is unchanged."""
        latest = self._pod_resources()
        if not _same_objects((latest, pods), self._names_inputs):
            self._names_inputs = latest, pods
            by_name: dict[tuple[str, str], tuple[str, str]] = {}
            for uid, pod in pods.items():
                if pod.metadata is not None:
                    name = pod.metadata.namespace, pod.metadata.name
                    # Of two pods with the same name, as of a StatefulSet, the later one is running.
                    by_name[name] = max(by_name.get(name, ("", "")), (pod.metadata.created, uid))
            self._names = {
                name: self._named_pod(name, uid, latest) for name, (_, uid) in by_name.items()
            }
            outdated = frozenset(
                name
                for name, each in self._names.items()
                if 0 < latest.requested_ns <= each.since_ns
            )
            self._outdated = self._outdated if outdated == self._outdated else outdated
        return self._outdated

    def _named_pod(self, name: tuple[str, str], uid: str, latest: PodResources) -> _NamedPod:
        known = self._names.get(name) or _NamedPod(uid)
        if known.uid in (uid, "/".join(name)):  # the latter: known by the kubelet's list alone
            return known._replace(uid=uid)
        return _NamedPod(uid, latest.requested_ns)

    def _gpus(
        self, uid: str, container: ContainerResources, names: Mapping[str, str]
    ) -> Iterator[tuple[str, str, _HeldGpu]]:
        """Resource, device id and GPU of each GPU device of a container of a pod.

        A pod with admin access to a GPU does not hold it.
        """
        for resource, device_id in container.devices:
            if gpu := self._gpu(resource, device_id, names):
                yield resource, device_id, _HeldGpu(gpu)
        known = self._api_server_state()
        admin = known.admin_devices.get(uid, frozenset())
        for claimed in container.claimed:
            if claimed in admin:
                continue
            if gpu := _claimed_gpu(claimed, known.gpus.get(claimed, ""), names):
                yield CLAIMED_RESOURCE, "/".join(claimed), _HeldGpu(gpu)
            elif mig := known.mig.get(claimed):
                yield (
                    CLAIMED_RESOURCE,
                    "/".join(claimed),
                    _HeldGpu(mig.gpu, 0, mig.slices, mig.slices_of),
                )

    def _gpu(self, resource: str, device_id: str, names: Mapping[str, str]) -> str:
        """The GPU or partition that is a device of a resource; "": none."""
        vendor = self._vendor(resource)
        return resolve_gpu_id(device_id, names, vendor) if vendor is not None else ""

    def _vendor(self, resource: str) -> str | None:
        """The vendor of the GPUs that a resource has as devices, "" for any; None: it has none."""
        if resource not in self._vendors:
            matches = (
                vendor
                for pattern, vendor in self._resources.items()
                if fnmatchcase(resource, pattern)
            )
            self._vendors[resource] = next(matches, None)
        return self._vendors[resource]

    def _describe_problems(self, latest: PodResources, names: Mapping[str, str]) -> str:
        known = self._api_server_state()
        devices = {device for container in latest.containers for device in container.devices}
        others = {
            resource
            for resource, device_id in devices
            if contains_gpu_uuid(device_id) and self._vendor(resource) is None
        }
        gpus = set(names.values())
        unresolved = {
            f"{device_id} of {resource}"
            for resource, device_id in devices
            # Before the driver has listed its GPUs, no id can be resolved.
            if gpus
            and self._vendor(resource) is not None
            and self._gpu(resource, device_id, names) not in gpus
        }
        claimed = {each for container in latest.containers for each in container.claimed}
        unnamed = sum(each in known.mig for each in claimed)
        return "; ".join(
            (
                *_other_resources(others),
                *_unresolved(unresolved),
                *_without_slice(claimed, known),
                *_mig_without_uuid(unnamed),
            )
        )


def _claimed_gpu(claimed: ClaimedDevice, published: str, names: Mapping[str, str]) -> str:
    """The GPU or partition that is a device of dynamic resource allocation; "": none.

    `published` is the UUID or PCI address in its resource slice. Drivers of other devices may
    publish numbers, which are not indices of GPUs.
    """
    if published.startswith(UUID_PREFIXES):
        return resolve_gpu_id(published, names)
    # AMD's driver publishes the address of the GPU also for a partition, whose name differs.
    if claimed.driver in GPU_DRIVERS and claimed.device in names:
        return names[claimed.device]
    return names.get(published, "") if PCI_ADDRESS.fullmatch(published) else ""


def _grants(
    held: Mapping[_DeviceKey, _HeldGpu],
    pods: Mapping[str, PodRun],
    replicas: Mapping[tuple[str, str], int],
) -> Iterator[GpuGrant]:
    """One grant for each run and GPU. `replicas` has all replicas by resource and GPU."""
    found: dict[tuple[RunKey, str, int], dict[str, GpuGrant]] = {}
    for (uid, resource, _), each in held.items():
        by_resource = found.setdefault((pods[uid].key, each.gpu, each.slices), {})
        before = by_resource.get(resource)
        units = 1 + (before.units if before is not None else 0)
        by_resource[resource] = GpuGrant(
            pods[uid].key,
            each.gpu,
            units,
            max(units, replicas.get((resource, each.gpu), 0)),
            min(each.since_ns, before.since_ns if before is not None else each.since_ns),
            each.slices,
            each.slices_of,
        )
    for by_resource in found.values():
        # Two resources of a container may refer to the same GPU, such as its cores and its memory;
        # they do not add up.
        yield max(by_resource.values(), key=lambda grant: grant.units / grant.units_of)


def _other_resources(names: Iterable[str]) -> Iterator[str]:
    if found := ", ".join(sorted(names)):
        yield (
            f"devices of {found} have ids of GPUs and are attributed to no pod; if the plugin "
            "mounts the GPU that an id names, add its resource to attribute.gpu_resources in the "
            "settings file (in the chart: config.attribute.gpu_resources); otherwise "
            'see "NVIDIA GPUs" in docs/kubernetes.md'
        )


def _unresolved(ids: Collection[str]) -> Iterator[str]:
    if ids:
        yield (
            f"device ids that name no GPU of this node: {len(ids)}, the first {min(ids)}; the pods "
            "with these devices hold no GPU; compare with the GPUs in `emissions_device_info`: in "
            "a container, all GPUs of the node must be visible"
        )


def _without_slice(claimed: Iterable[ClaimedDevice], known: ApiServerState) -> Iterator[str]:
    """A note on claimed GPUs without a resource slice, unless slices cannot be read."""
    unknown = [
        "/".join(each)
        for each in sorted(claimed)
        if each.driver in GPU_DRIVERS and each not in known.gpus and each not in known.mig
    ]
    if unknown and known.at_ns and not known.gpus_reason:
        yield (
            "no resource slice has a UUID, a PCI address or a MIG profile for "
            f"{', '.join(unknown)}, so the pod that claims it holds no GPU; check "
            "`kubectl get resourceslices`"
        )


def _mig_without_uuid(count: int) -> Iterator[str]:
    if count:
        yield (
            f"claimed MIG devices without a UUID: {count}; each pod is charged for as many "
            "instances of that size on the same GPU as it claims"
        )


def _same_objects(ones: tuple[object, ...], others: tuple[object, ...]) -> bool:
    """Whether all objects are identical; sources replace changed objects as a whole."""
    return len(ones) == len(others) and all(a is b for a, b in zip(ones, others, strict=True))
