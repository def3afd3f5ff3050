"""Metadata of pods: manifests, names from log directories, inferred names, claimable devices."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Any, NamedTuple

from exporter.attribute.identity import sanitize, sanitize_labels


class PodMetadata(NamedTuple):
    """Metadata of one pod."""

    uid: str
    namespace: str
    name: str
    run_id: str = ""
    job_id: str = ""
    owner_kind: str = ""
    owner_name: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    """Exported labels, as configured."""
    containers: tuple[str, ...] = ()
    created: str = ""
    is_over: bool = False
    started_ns: int = 0
    """CLOCK_BOOTTIME at which the kubelet accepted it and allocated its devices; 0: unknown."""
    is_partial: bool = False
    """Only namespace and name are known, from the node; the API server has not described it."""
    claims: tuple[str, ...] = ()
    """Names of its claims of dynamic resource allocation."""


class ClaimedMigDevice(NamedTuple):
    """A MIG device of dynamic resource allocation that exists only while claimed.

    Its driver publishes the GPU and the profile, but no UUID.
    """

    gpu: str
    """UUID of the parent GPU."""
    slices: int
    slices_of: int
    """Slices of the largest MIG device of the GPU."""


class ApiServerState(NamedTuple):
    """The last state from the API server."""

    pods: Mapping[str, PodMetadata] = {}
    """By uid."""
    gpus: Mapping[tuple[str, str, str], str] = {}
    """UUIDs or PCI addresses of devices by driver, pool and name, for dynamic resource allocation.
    """
    at_ns: int = 0
    """Time of the last response or event, CLOCK_BOOTTIME; 0: none yet."""
    why: str = "the API server has not answered yet"
    """Why there is no newer state; "": no error."""
    gpus_reason: str = ""
    """Why `gpus` cannot be read; "": no error, or not supported by the server."""
    mig: Mapping[tuple[str, str, str], ClaimedMigDevice] = {}
    """MIG devices without a UUID, by driver, pool and name."""
    admin_devices: Mapping[str, AbstractSet[tuple[str, str, str]]] = {}
    """Devices to which a pod has only admin access, by the uid of the pod."""


RUN_ID_ANNOTATION, JOB_ID_ANNOTATION = "emissions-exporter/run-id", "emissions-exporter/job-id"
MIRROR_POD_ANNOTATION, STATIC_POD_UID = "kubernetes.io/config.mirror", re.compile("[0-9a-f]{32}")
"""The API server has the uid of a static pod, as used on the node, in this annotation."""
JOB_LABELS = ("batch.kubernetes.io/job-name", "job-name")
TERMINAL_PHASES = ("Succeeded", "Failed")
NVIDIA_DRIVER = "gpu.nvidia.com"
"""NVIDIA's driver for dynamic resource allocation, whose attributes are read here."""
PCI_ADDRESS_ATTRIBUTE = "resource.kubernetes.io/pciBusID"
"""Standard attribute of PCI devices (k8s.io/dynamic-resource-allocation/deviceattribute)."""
VFIO_DEVICE_TYPE = "vfio"
MIG_PROFILE = re.compile(r"(?:\d+c\.)?([0-9]{1,3})g\.")
"""Profile of a MIG device, such as `3g.20gb` or `1c.3g.20gb`, with its number of slices."""


def pod_from_manifest(
    item: Mapping[str, Any], node: str, exported_labels: Iterable[str]
) -> PodMetadata | None:
    """Parse the manifest of a pod; None if it is not of this node.

    `started_ns` is not set; the caller converts `start_time`.
    """
    meta, spec = object_at(item, "metadata"), object_at(item, "spec")
    uid, at = meta.get("uid"), spec.get("nodeName")
    if not isinstance(uid, str) or not uid or at not in (None, node):
        return None
    annotations = {**object_at(meta, "labels"), **object_at(meta, "annotations")}
    static_uid = str(annotations.get(MIRROR_POD_ANNOTATION, ""))
    variables = dict(_variables(spec))
    owners = [each for each in objects_at(meta, "ownerReferences") if each.get("controller")]
    owner = owners[0] if owners else {}
    labels = object_at(meta, "labels")
    job = next((labels[name] for name in JOB_LABELS if labels.get(name)), "")
    return PodMetadata(
        static_uid if STATIC_POD_UID.fullmatch(static_uid) else uid,
        sanitize(str(meta.get("namespace", ""))),
        sanitize(str(meta.get("name", ""))),
        sanitize(str(annotations.get(RUN_ID_ANNOTATION) or variables.get("EMISSIONS_RUN_ID", ""))),
        sanitize(
            str(annotations.get(JOB_ID_ANNOTATION) or variables.get("EMISSIONS_JOB_ID") or job)
        ),
        sanitize(str(owner.get("kind", ""))),
        sanitize(str(owner.get("name", ""))),
        sanitize_labels((name, str(labels[name])) for name in exported_labels if name in labels),
        tuple(sanitize(str(each.get("name", ""))) for each in objects_at(spec, "containers")),
        str(meta.get("creationTimestamp", "")),
        object_at(item, "status").get("phase") in TERMINAL_PHASES,
        claims=tuple(sorted(_claims(item))),
    )


def _claims(item: Mapping[str, Any]) -> Iterator[str]:
    """Names of the claims of a pod: those it names, and those made from a template."""
    named = objects_at(object_at(item, "spec"), "resourceClaims")
    made = objects_at(object_at(item, "status"), "resourceClaimStatuses")
    for entry in (*named, *made):
        if name := entry.get("resourceClaimName"):
            yield str(name)


def start_time(item: Mapping[str, Any]) -> float | None:
    """Wall-clock time at which the kubelet accepted a pod; None if missing."""
    text = str(object_at(item, "status").get("startTime", ""))
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z").timestamp()
    except ValueError:
        return None


def claimable_gpus(
    slices: Iterable[Mapping[str, Any]],
) -> Iterator[tuple[tuple[str, str, str], str]]:
    """UUIDs of GPUs and MIG devices in resource slices, by driver, pool and name.

    If its driver publishes no UUID, as those of AMD and Intel, the PCI address of a device. "" for
    a GPU passed through to a virtual machine, which this node's driver does not list.
    """
    for key, attributes in _devices(slices):
        is_passed = _attribute(attributes, key[0], "type") == VFIO_DEVICE_TYPE
        published = _attribute(attributes, key[0], "uuid")
        if not published and key[0] != NVIDIA_DRIVER:
            published = _attribute(attributes, key[0], PCI_ADDRESS_ATTRIBUTE)
        if published:
            yield key, "" if is_passed else published


def claimable_mig_devices(
    slices: Iterable[Mapping[str, Any]],
) -> Iterator[tuple[tuple[str, str, str], ClaimedMigDevice]]:
    """MIG devices in resource slices without a UUID, since they exist only while claimed."""
    found = {}
    most: dict[str, int] = {}
    for key, attributes in _devices(slices):
        gpu = _attribute(attributes, key[0], "parentUUID")
        profile = MIG_PROFILE.match(_attribute(attributes, key[0], "profile"))
        if gpu and profile and not _attribute(attributes, key[0], "uuid"):
            found[key] = ClaimedMigDevice(gpu, int(profile[1]), 0)
            most[gpu] = max(most.get(gpu, 0), int(profile[1]))
    for key, device in found.items():
        yield key, device._replace(slices_of=most[device.gpu])


def admin_devices(claims: Iterable[Mapping[str, Any]]) -> frozenset[tuple[str, str, str]]:
    """Driver, pool and name of the devices to which these claims have only admin access.

    Such a claim, of a monitoring agent, is allocated devices whether or not another claim has them.
    """
    found: dict[bool, set[tuple[str, str, str]]] = {True: set(), False: set()}
    for claim in claims:
        allocation = object_at(object_at(claim, "status"), "allocation")
        for device in objects_at(object_at(allocation, "devices"), "results"):
            driver, pool, name = (str(device.get(key, "")) for key in ("driver", "pool", "device"))
            found[device.get("adminAccess") is True].add((driver, pool, name))
    return frozenset(found[True] - found[False])


def _devices(
    slices: Iterable[Mapping[str, Any]],
) -> Iterator[tuple[tuple[str, str, str], Mapping[str, Any]]]:
    """Driver, pool and name of each device, with its attributes; the newest generation last.

    v1beta1 has the attributes one level deeper, under `basic`.
    """
    specs = [object_at(each, "spec") for each in slices]
    for spec in sorted(specs, key=_generation):
        pool = str(object_at(spec, "pool").get("name", ""))
        for device in objects_at(spec, "devices"):
            key = str(spec.get("driver", "")), pool, str(device.get("name", ""))
            yield key, object_at(object_at(device, "basic") or device, "attributes")


def _generation(spec: Mapping[str, Any]) -> int:
    value = object_at(spec, "pool").get("generation")
    return value if isinstance(value, int) else 0


def _attribute(attributes: Mapping[str, Any], driver: str, name: str) -> str:
    """A text attribute, "" if missing; a name without a domain has the driver's domain."""
    for domain in (f"{driver}/", f"{NVIDIA_DRIVER}/", ""):
        value = object_at(attributes, domain + name).get("string")
        if isinstance(value, str):
            return value
    return ""


def object_at(holder: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The object under a key; empty if missing."""
    value = holder.get(key)
    return value if isinstance(value, dict) else {}


def objects_at(holder: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """The objects in the list under a key; other elements are ignored."""
    value = holder.get(key)
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _variables(spec: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Literal environment variables of the containers; the first container takes precedence."""
    for container in reversed(objects_at(spec, "containers")):
        for variable in objects_at(container, "env"):
            value = variable.get("value")
            if isinstance(value, str) and value:
                yield str(variable.get("name", "")), value


class PodNameInference:
    """Infers names of pods from the kubelet's list.

    Cgroups have uids, and the kubelet lists names. If exactly one uid and one name remain
    unmatched, they are the same pod. The link is kept until the cgroup is removed.
    """

    def __init__(self, known: Iterable[PodMetadata]) -> None:
        """`known` are pods from before a restart."""
        self._linked = {pod.uid: pod for pod in known}
        self._gone: AbstractSet[tuple[str, str]] = frozenset()
        """Names of removed pods, which kubelets before 1.34 may still list."""
        self._unlisted: AbstractSet[str] = frozenset()
        """Uids that are missing in a newer list, such as those of ended pods."""

    def find(self, unnamed: AbstractSet[str]) -> Mapping[str, PodMetadata]:
        """The linked pods among these uids; links of all other uids are removed."""
        gone = [pod for uid, pod in self._linked.items() if uid not in unnamed]
        self._gone = self._gone | {(pod.namespace, pod.name) for pod in gone}
        self._linked = {uid: pod for uid, pod in self._linked.items() if uid in unnamed}
        self._unlisted = self._unlisted & unnamed
        return self._linked

    def gone(self, listed: AbstractSet[tuple[str, str]]) -> AbstractSet[tuple[str, str]]:
        """Names in the kubelet's list that may belong to removed pods."""
        self._gone = self._gone & listed
        return self._gone

    def possibly_listed(self, unnamed: AbstractSet[str]) -> AbstractSet[str]:
        """The uids among these that may be in the kubelet's list."""
        return unnamed - self._unlisted

    def link(
        self, unnamed: AbstractSet[str], names: AbstractSet[tuple[str, str]]
    ) -> Mapping[str, PodMetadata]:
        """Link the only remaining uid and name, given a complete list."""
        if not names:
            self._unlisted = self._unlisted | unnamed
        if not len(unnamed) == len(names) == 1:
            return {}
        (uid,), ((namespace, name),) = unnamed, names
        linked = {uid: PodMetadata(uid, namespace, name, is_partial=True)}
        self._linked = {**self._linked, **linked}
        return linked


LOG_DIRECTORY_SEPARATOR = "_"
"""Not in Kubernetes names, which are RFC 1123 labels or subdomains."""


class PodLogDirectories:
    """Names of pods from log directories `<namespace>_<name>_<uid>`.

    kuberuntime.BuildPodLogsDirectory makes these names. They are listed only while a pod is without
    a name, in this file system, or in the host's through /proc/1/root if permitted.
    """

    def __init__(self, procfs: str, root: str = "", directory: str = "/var/log/pods") -> None:
        self._directories = (f"{root}{directory}", f"{procfs}/1/root{directory}")
        self._known: dict[str, PodMetadata] = {}
        self.is_readable = False
        """Whether the directory could be listed the last time."""

    def find(self, uids: Iterable[str]) -> Mapping[str, PodMetadata]:
        """Partial metadata of these pods, by uid; pods without a log directory are omitted."""
        wanted = set(uids)
        if wanted - self._known.keys():
            self._known = self._listed()
        return {uid: self._known[uid] for uid in wanted & self._known.keys()}

    def _listed(self) -> dict[str, PodMetadata]:
        for directory in self._directories:
            try:
                names = os.listdir(directory)
            except OSError:
                continue
            self.is_readable = True
            pods = (name.split(LOG_DIRECTORY_SEPARATOR) for name in names)
            return {
                pod[2]: PodMetadata(pod[2], pod[0], pod[1], is_partial=True)
                for pod in pods
                if len(pod) == 3 and all(pod)
            }
        self.is_readable = False
        return {}
