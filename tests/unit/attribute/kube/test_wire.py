"""Decoding the kubelet's messages, encoded by the published definition, and invalid ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.attribute.sources.kube.pod_resources import (
    ClaimedDevice,
    ContainerResources,
    parse_allocatable,
    parse_pod_resources,
)
from tests.kube import kubelet as made
from tests.kube.kubelet import claim, container, devices, field, inside, listed, pod, varint

GPU = "nvidia.com/gpu"
A = ContainerResources("ml", "a", "main", ((GPU, "GPU-1"),))
BROKEN = b"\x0a\x05ab"
"""A first field that ends beyond the message."""


def entry(holder, name, *contents):
    """A message with these contents, valid or not, in a repeated field."""
    return b"".join(inside(holder, name, each) for each in contents)


def test_a_pod_is_read_with_its_containers_devices_cpus_and_claims():
    message = listed(
        pod(
            "ml",
            "train-0",
            container("main", {GPU: ["GPU-1", "GPU-2"]}, cpus=[2, 300]),
            container("side", claims=[("gpu.nvidia.com", "node-1", "gpu-0")]),
        ),
    )
    assert parse_pod_resources(message) == [
        ContainerResources("ml", "train-0", "main", ((GPU, "GPU-1"), (GPU, "GPU-2")), (2, 300), ()),
        ContainerResources(
            "ml", "train-0", "side", (), (), (ClaimedDevice("gpu.nvidia.com", "node-1", "gpu-0"),)
        ),
    ]


def test_a_claim_with_a_name_and_a_namespace_has_its_devices_beside_them():
    both = claim(
        ("gpu.nvidia.com", "n", "gpu-1"), ("dra.net", "n", "eth0"), name="c", namespace="ml"
    )
    content = made.ContainerResources(name="main", dynamic_resources=[both]).SerializeToString()
    (found,) = parse_pod_resources(listed(pod("ml", "b", content)))
    assert found.claimed == (
        ClaimedDevice("dra.net", "n", "eth0"),
        ClaimedDevice("gpu.nvidia.com", "n", "gpu-1"),
    )


TEXTS = st.text(max_size=8)
CPUS = st.lists(st.integers(0, 500), max_size=4)
CLAIMS = st.lists(st.tuples(TEXTS, TEXTS, TEXTS), max_size=3)
CONTAINERS = st.tuples(TEXTS, st.dictionaries(TEXTS, st.lists(TEXTS), max_size=3), CPUS, CLAIMS)
PODS = st.tuples(TEXTS, TEXTS, st.lists(CONTAINERS, max_size=3))


@given(st.lists(PODS, max_size=4))
def test_decoding_inverts_encoding_of_the_published_definition(pods):
    message = listed(
        *(pod(space, name, *(container(*each) for each in inner)) for space, name, inner in pods)
    )
    skipped = []
    assert parse_pod_resources(message, skipped) == [
        ContainerResources(
            space,
            name,
            called,
            tuple(sorted((resource, each) for resource, ids in given.items() for each in ids)),
            tuple(sorted(cpus)),
            tuple(sorted(ClaimedDevice(*each) for each in claims)),
        )
        for space, name, inner in pods
        for called, given, cpus, claims in inner
    ]
    assert skipped == []
    assert made.ListPodResourcesResponse.FromString(message)


@given(st.dictionaries(TEXTS, st.lists(TEXTS), max_size=4))
def test_allocatable_devices_are_decoded_by_the_published_definition(given):
    message = made.AllocatableResourcesResponse(
        devices=[devices(resource, ids) for resource, ids in given.items()],
        cpu_ids=[1, 2],
        memory=[{"memory_type": "hugepages-2Mi", "size": 1}],
    ).SerializeToString()
    assert parse_allocatable(message) == [(name, each) for name in given for each in given[name]]


def test_cpus_of_a_pod_as_a_whole_are_counted_once_beside_those_of_its_containers():
    whole = made.PodResources(name="a", namespace="ml", cpu_ids=[2, 3, 4]).SerializeToString()
    whole += inside(made.PodResources, "containers", container("main", cpus=[2]))
    found = parse_pod_resources(listed(whole))
    assert [(each.container, each.cpus) for each in found] == [("main", (2,)), ("", (3, 4))]


def test_names_may_come_after_the_containers():
    content = (
        pod("", "", container("main"))
        + made.PodResources(namespace="ml", name="train-0").SerializeToString()
    )
    assert parse_pod_resources(listed(content)) == [ContainerResources("ml", "train-0", "main")]


def test_cpus_may_be_encoded_unpacked():
    number = made.ContainerResources.DESCRIPTOR.fields_by_name["cpu_ids"].number
    (found,) = parse_pod_resources(listed(pod("ml", "p", field(number, 4) + field(number, 5))))
    assert found.cpus == (4, 5)


def test_an_empty_message_has_no_pods():
    assert parse_pod_resources(b"") == []


@pytest.mark.parametrize(
    ("spoilt", "reason"),
    [
        pytest.param(BROKEN, "a pod: field 1 ends", id="pod"),
        pytest.param(field(1, 7), "a pod: a number where a text", id="name of a pod"),
        pytest.param(pod("ml", "b", BROKEN), "a container of pod ml/b: field 1", id="container"),
        pytest.param(field(3, 7), "a container of pod /: a number where", id="number as container"),
        pytest.param(
            pod("ml", "b", entry(made.ContainerResources, "devices", BROKEN)),
            "devices of container  of pod ml/b: field 1",
            id="devices",
        ),
        pytest.param(
            pod("ml", "b", entry(made.ContainerResources, "dynamic_resources", BROKEN)),
            "a claim of container  of pod ml/b: field 1",
            id="claim",
        ),
        pytest.param(
            pod("ml", "b", entry(made.ContainerResources, "cpu_ids", b"\xff")),
            "CPUs of container  of pod ml/b: a number ends",
            id="cpus",
        ),
        pytest.param(
            pod("ml", "b") + entry(made.PodResources, "cpu_ids", b"\xff"),
            "CPUs of pod ml/b: a number ends",
            id="cpus of a pod",
        ),
    ],
)
def test_an_entry_that_cannot_be_decoded_is_the_only_one_that_is_lost(spoilt, reason):
    good = pod("ml", "a", container("main", {GPU: ["GPU-1"]}))
    skipped = []
    found = parse_pod_resources(listed(spoilt, good), skipped)
    assert A in found
    assert {each.devices for each in found} <= {A.devices, ()}
    assert len(skipped) == 1
    assert skipped[0].startswith(reason)


def test_a_claim_that_cannot_be_decoded_leaves_the_container_its_devices_and_other_claims():
    resource = made.DynamicResource.DESCRIPTOR.fields_by_name["claim_resources"].number
    content = container("main", {GPU: ["GPU-1"]}, claims=[("d", "p", "1")]) + entry(
        made.ContainerResources,
        "dynamic_resources",
        BROKEN,
        field(resource, BROKEN),
        claim(("d", "p", "2")).SerializeToString(),
    )
    skipped = []
    (found,) = parse_pod_resources(listed(pod("ml", "a", content)), skipped)
    assert found.devices == A.devices
    assert found.claimed == (ClaimedDevice("d", "p", "1"), ClaimedDevice("d", "p", "2"))
    assert len(skipped) == 2


@pytest.mark.parametrize("level", ["container", "pod"])
def test_cpus_that_cannot_be_decoded_leave_the_container_its_devices(level):
    content = container("main", {GPU: ["GPU-1"]})
    spoilt = b"\x02\xff"
    if level == "container":
        whole = pod("ml", "a", content + entry(made.ContainerResources, "cpu_ids", spoilt))
    else:
        whole = pod("ml", "a", content) + entry(made.PodResources, "cpu_ids", spoilt)
    skipped = []
    assert parse_pod_resources(listed(whole), skipped) == [A]
    assert len(skipped) == 1


def test_a_list_of_devices_that_cannot_be_decoded_leaves_the_others():
    good = devices(GPU, ["GPU-1"]).SerializeToString()
    skipped = []
    message = entry(made.AllocatableResourcesResponse, "devices", BROKEN, good)
    assert parse_allocatable(message, skipped) == [(GPU, "GPU-1")]
    assert skipped == ["a list of allocatable devices: field 1 ends beyond the message"]


@pytest.mark.parametrize(
    "message",
    [b"\x0a", BROKEN, b"\xff" * 11, varint(1 << 3 | 3), varint(7 << 3 | 1) + b"1234"],
)
def test_an_invalid_message_is_rejected(message):
    with pytest.raises(ValueError, match=r"field|number"):
        parse_pod_resources(message)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_only_value_error(message):
    try:
        parse_pod_resources(message)
        parse_allocatable(message)
    except ValueError:
        pass


@given(st.binary(max_size=100))
def test_arbitrary_bytes_in_one_pod_do_not_affect_another(content):
    good = pod("ml", "a", container("main", {GPU: ["GPU-1"]}))
    assert A in parse_pod_resources(listed(content, good, content))
