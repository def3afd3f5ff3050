"""What is known of pods by their metadata."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Any, NamedTuple

from exporter.attribute.identity import sanitize, sanitize_labels


class PodMetadata(NamedTuple):
    """One pod."""

    uid: str
    namespace: str
    name: str
    run_id: str = ""
    job_id: str = ""
    owner_kind: str = ""
    owner_name: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    """Those that the operator lets out."""
    containers: tuple[str, ...] = ()
    created: str = ""
    is_over: bool = False
    started_ns: int = 0
    """CLOCK_BOOTTIME of when the kubelet took it, which was when it was given its devices; 0: that
    is not known."""
    is_partial: bool = False
    """Namespace and name are known, from the node itself; the API server has not described it."""


class ClaimedMigDevice(NamedTuple):
    """A MIG device of dynamic resource allocation that exists only while it is claimed.

    Its driver publishes the GPU and the profile, and no UUID.
    """

    gpu: str
    """UUID of the GPU that it is a part of."""
    slices: int
    slices_of: int
    """Slices of the largest MIG device of that GPU."""


class ApiServerState(NamedTuple):
    """What the server said last."""

    pods: Mapping[str, PodMetadata] = {}
    """By uid."""
    gpus: Mapping[tuple[str, str, str], str] = {}
    """UUIDs of devices by driver, pool and name, for dynamic resource allocation."""
    at_ns: int = 0
    """CLOCK_BOOTTIME of the last word; 0: it has said nothing yet."""
    why: str = "the API server has not answered yet"
    """Why there is nothing newer; "": all is well."""
    gpus_reason: str = ""
    """Why `gpus` may not be read; "": they may, or the server has no such thing."""
    mig: Mapping[tuple[str, str, str], ClaimedMigDevice] = {}
    """MIG devices without a UUID, by driver, pool and name."""


RUN_ID_ANNOTATION, JOB_ID_ANNOTATION = "emissions-exporter/run-id", "emissions-exporter/job-id"
MIRROR_POD_ANNOTATION, STATIC_POD_UID = "kubernetes.io/config.mirror", re.compile("[0-9a-f]{32}")
"""A pod of a file on the node has a uid there that the server knows as this annotation."""
JOB_LABELS = ("batch.kubernetes.io/job-name", "job-name")
TERMINAL_PHASES = ("Succeeded", "Failed")
NVIDIA_DRIVER = "gpu.nvidia.com"
"""NVIDIA's driver of dynamic resource allocation, whose attributes are read here."""
VFIO_DEVICE_TYPE = "vfio"
MIG_PROFILE = re.compile(r"(?:\d+c\.)?(\d+)g\.")
"""Of a MIG device, as in `3g.20gb` or `1c.3g.20gb`; the number is that of its slices."""


def pod_from_manifest(
    item: Mapping[str, Any], node: str, exported_labels: Iterable[str]
) -> PodMetadata | None:
    """A pod as it was described; None where that is none of this node.

    `started_ns` is left to who knows the clocks.
    """
    meta, spec = object_at(item, "metadata"), object_at(item, "spec")
    uid, at = meta.get("uid"), spec.get("nodeName")
    if not isinstance(uid, str) or not uid or at not in (None, node):
        return None
    notes = {**object_at(meta, "labels"), **object_at(meta, "annotations")}
    of_file = str(notes.get(MIRROR_POD_ANNOTATION, ""))
    variables = dict(_variables(spec))
    owners = [each for each in objects_at(meta, "ownerReferences") if each.get("controller")]
    owner = owners[0] if owners else {}
    labels = object_at(meta, "labels")
    job = next((labels[name] for name in JOB_LABELS if labels.get(name)), "")
    return PodMetadata(
        of_file if STATIC_POD_UID.fullmatch(of_file) else uid,
        sanitize(str(meta.get("namespace", ""))),
        sanitize(str(meta.get("name", ""))),
        sanitize(str(notes.get(RUN_ID_ANNOTATION) or variables.get("EMISSIONS_RUN_ID", ""))),
        sanitize(str(notes.get(JOB_ID_ANNOTATION) or variables.get("EMISSIONS_JOB_ID") or job)),
        sanitize(str(owner.get("kind", ""))),
        sanitize(str(owner.get("name", ""))),
        sanitize_labels((name, str(labels[name])) for name in exported_labels if name in labels),
        tuple(sanitize(str(each.get("name", ""))) for each in objects_at(spec, "containers")),
        str(meta.get("creationTimestamp", "")),
        object_at(item, "status").get("phase") in TERMINAL_PHASES,
    )


def start_time(item: Mapping[str, Any]) -> float | None:
    """Wall clock of when the kubelet took a pod; None where that is not said."""
    text = str(object_at(item, "status").get("startTime", ""))
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z").timestamp()
    except ValueError:
        return None


def claimable_gpus(
    slices: Iterable[Mapping[str, Any]],
) -> Iterator[tuple[tuple[str, str, str], str]]:
    """The UUID of each GPU or MIG device of resource slices, by driver, pool and name.

    It is "" for a GPU that is passed through to a virtual machine: this node's driver does not see
    it.
    """
    for key, attributes in _devices(slices):
        is_passed = _attribute(attributes, key[0], "type") == VFIO_DEVICE_TYPE
        if uuid := _attribute(attributes, key[0], "uuid"):
            yield key, "" if is_passed else uuid


def claimable_mig_devices(
    slices: Iterable[Mapping[str, Any]],
) -> Iterator[tuple[tuple[str, str, str], ClaimedMigDevice]]:
    """MIG devices of resource slices that have no UUID, since they exist only while claimed."""
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


def _devices(
    slices: Iterable[Mapping[str, Any]],
) -> Iterator[tuple[tuple[str, str, str], Mapping[str, Any]]]:
    """Driver, pool and name of each device, and its attributes; of a pool, the newest last.

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
    """A text attribute; a name without a domain is of the driver's domain. "": there is none."""
    for domain in (f"{driver}/", f"{NVIDIA_DRIVER}/", ""):
        value = object_at(attributes, domain + name).get("string")
        if isinstance(value, str):
            return value
    return ""


def object_at(holder: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The object under a key; an empty one where there is none."""
    value = holder.get(key)
    return value if isinstance(value, dict) else {}


def objects_at(holder: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """The objects of the list under a key; what else is in it is left out."""
    value = holder.get(key)
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _variables(spec: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Literal variables of the containers; the first that sets one wins."""
    for container in reversed(objects_at(spec, "containers")):
        for variable in objects_at(container, "env"):
            value = variable.get("value")
            if isinstance(value, str) and value:
                yield str(variable.get("name", "")), value


class PodNameInference:
    """Pods by uid, with the name that they must have.

    Cgroups are called by uids, and the kubelet lists names. Where one of either is left that
    nothing else explains, the two are one pod. It stays linked until its cgroup has gone.
    """

    def __init__(self, known: Iterable[PodMetadata]) -> None:
        """`known` are pods of before a restart."""
        self._linked = {facts.uid: facts for facts in known}
        self._gone: AbstractSet[tuple[str, str]] = frozenset()
        """Names of those that have left, which a kubelet before 1.34 may list on."""
        self._unlisted: AbstractSet[str] = frozenset()
        """Pods that a list that is newer than they are does not have, as one that is over."""

    def find(self, nameless: AbstractSet[str]) -> Mapping[str, PodMetadata]:
        """Those of these pods that were linked; what is not among them is forgotten."""
        gone = [facts for uid, facts in self._linked.items() if uid not in nameless]
        self._gone = self._gone | {(facts.namespace, facts.name) for facts in gone}
        self._linked = {uid: facts for uid, facts in self._linked.items() if uid in nameless}
        self._unlisted = self._unlisted & nameless
        return self._linked

    def gone(self, listed: AbstractSet[tuple[str, str]]) -> AbstractSet[tuple[str, str]]:
        """Names in the kubelet's list that may be those of pods that have left."""
        self._gone = self._gone & listed
        return self._gone

    def possibly_listed(self, nameless: AbstractSet[str]) -> AbstractSet[str]:
        """Those of these pods that may be in the kubelet's list."""
        return nameless - self._unlisted

    def link(
        self, nameless: AbstractSet[str], names: AbstractSet[tuple[str, str]]
    ) -> Mapping[str, PodMetadata]:
        """The pod that is left and the name that is left, of a list that has all of them."""
        if not names:
            self._unlisted = self._unlisted | nameless
        if not len(nameless) == len(names) == 1:
            return {}
        (uid,), ((namespace, name),) = nameless, names
        linked = {uid: PodMetadata(uid, namespace, name, is_partial=True)}
        self._linked = {**self._linked, **linked}
        return linked


LOG_DIRECTORY_SEPARATOR = "_"
"""In no name of Kubernetes: they are RFC 1123 labels or subdomains."""


class PodLogDirectories:
    """Reads `<namespace>_<name>_<uid>`, as kuberuntime.BuildPodLogsDirectory makes them.

    They are listed only while pods are looked for that they may name. The directory may be that of
    this file system, or of the host's, which is behind process 1 where we are allowed to see it.
    """

    def __init__(self, procfs: str, directory: str = "/var/log/pods") -> None:
        self._directories = (directory, f"{procfs}/1/root{directory}")
        self._known: dict[str, PodMetadata] = {}
        self.is_readable = False
        """Whether there was such a directory at the last look."""

    def find(self, uids: Iterable[str]) -> Mapping[str, PodMetadata]:
        """What is known of these pods, by uid; those without a directory are left out."""
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
