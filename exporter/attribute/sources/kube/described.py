"""Pods, and devices of dynamic resource allocation, as the API server describes them. Pure."""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from exporter.attribute.identity import clean, clean_labels
from exporter.attribute.sources.kube.pod_facts import MigDevice, PodFacts

RUN_ID, JOB_ID = "emissions-exporter/run-id", "emissions-exporter/job-id"
MIRROR, STATIC_UID = "kubernetes.io/config.mirror", re.compile("[0-9a-f]{32}")
"""A pod of a file on the node has a uid there that the server knows as this annotation."""
JOB_LABELS = ("batch.kubernetes.io/job-name", "job-name")
OVER = ("Succeeded", "Failed")
NVIDIA_DRIVER = "gpu.nvidia.com"
"""NVIDIA's driver of dynamic resource allocation, whose attributes are read here."""
PASSED_THROUGH = "vfio"
PROFILE = re.compile(r"(?:\d+c\.)?(\d+)g\.")
"""Of a MIG device, as in `3g.20gb` or `1c.3g.20gb`; the number is that of its slices."""


def facts_of(item: Mapping[str, Any], node: str, exported_labels: Iterable[str]) -> PodFacts | None:
    """A pod as it was described; None where that is none of this node.

    `started_ns` is left to who knows the clocks.
    """
    meta, spec = part(item, "metadata"), part(item, "spec")
    uid, at = meta.get("uid"), spec.get("nodeName")
    if not isinstance(uid, str) or not uid or at not in (None, node):
        return None
    notes = {**part(meta, "labels"), **part(meta, "annotations")}
    of_file = str(notes.get(MIRROR, ""))
    variables = dict(_variables(spec))
    owners = [each for each in parts(meta, "ownerReferences") if each.get("controller")]
    owner = owners[0] if owners else {}
    labels = part(meta, "labels")
    job = next((labels[name] for name in JOB_LABELS if labels.get(name)), "")
    return PodFacts(
        of_file if STATIC_UID.fullmatch(of_file) else uid,
        clean(str(meta.get("namespace", ""))),
        clean(str(meta.get("name", ""))),
        clean(str(notes.get(RUN_ID) or variables.get("EMISSIONS_RUN_ID", ""))),
        clean(str(notes.get(JOB_ID) or variables.get("EMISSIONS_JOB_ID") or job)),
        clean(str(owner.get("kind", ""))),
        clean(str(owner.get("name", ""))),
        clean_labels((name, str(labels[name])) for name in exported_labels if name in labels),
        tuple(clean(str(each.get("name", ""))) for each in parts(spec, "containers")),
        str(meta.get("creationTimestamp", "")),
        part(item, "status").get("phase") in OVER,
    )


def started(item: Mapping[str, Any]) -> float | None:
    """Wall clock of when the kubelet took a pod; None where that is not said."""
    text = str(part(item, "status").get("startTime", ""))
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z").timestamp()
    except ValueError:
        return None


def gpus_of(slices: Iterable[Mapping[str, Any]]) -> Iterator[tuple[tuple[str, str, str], str]]:
    """The UUID of each GPU or MIG device of resource slices, by driver, pool and name.

    It is "" for a GPU that is passed through to a virtual machine: this node's driver does not see
    it.
    """
    for key, attributes in _devices(slices):
        is_passed = _attribute(attributes, key[0], "type") == PASSED_THROUGH
        if uuid := _attribute(attributes, key[0], "uuid"):
            yield key, "" if is_passed else uuid


def mig_of(
    slices: Iterable[Mapping[str, Any]],
) -> Iterator[tuple[tuple[str, str, str], MigDevice]]:
    """MIG devices of resource slices that have no UUID, since they exist only while claimed."""
    found = {}
    most: dict[str, int] = {}
    for key, attributes in _devices(slices):
        gpu = _attribute(attributes, key[0], "parentUUID")
        profile = PROFILE.match(_attribute(attributes, key[0], "profile"))
        if gpu and profile and not _attribute(attributes, key[0], "uuid"):
            found[key] = MigDevice(gpu, int(profile[1]), 0)
            most[gpu] = max(most.get(gpu, 0), int(profile[1]))
    for key, device in found.items():
        yield key, device._replace(slices_of=most[device.gpu])


def _devices(
    slices: Iterable[Mapping[str, Any]],
) -> Iterator[tuple[tuple[str, str, str], Mapping[str, Any]]]:
    """Driver, pool and name of each device, and its attributes; of a pool, the newest last.

    v1beta1 has the attributes one level deeper, under `basic`.
    """
    specs = [part(each, "spec") for each in slices]
    for spec in sorted(specs, key=_generation):
        pool = str(part(spec, "pool").get("name", ""))
        for device in parts(spec, "devices"):
            key = str(spec.get("driver", "")), pool, str(device.get("name", ""))
            yield key, part(part(device, "basic") or device, "attributes")


def _generation(spec: Mapping[str, Any]) -> int:
    value = part(spec, "pool").get("generation")
    return value if isinstance(value, int) else 0


def _attribute(attributes: Mapping[str, Any], driver: str, name: str) -> str:
    """A text attribute; a name without a domain is of the driver's domain. "": there is none."""
    for domain in (f"{driver}/", f"{NVIDIA_DRIVER}/", ""):
        value = part(attributes, domain + name).get("string")
        if isinstance(value, str):
            return value
    return ""


def part(holder: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The object under a key; an empty one where there is none."""
    value = holder.get(key)
    return value if isinstance(value, dict) else {}


def parts(holder: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """The objects of the list under a key; what else is in it is left out."""
    value = holder.get(key)
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _variables(spec: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Literal variables of the containers; the first that sets one wins."""
    for container in reversed(parts(spec, "containers")):
        for variable in parts(container, "env"):
            value = variable.get("value")
            if isinstance(value, str) and value:
                yield str(variable.get("name", "")), value
