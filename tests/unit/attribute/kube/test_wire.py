"""The kubelet's messages, as published and as spoilt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.attribute.sources.kube.wire import (
    Claimed,
    ContainerResources,
    parse_allocatable,
    parse_list,
)
from tests.kube.kubelet import container, field, pod, varint

GPU = "nvidia.com/gpu"


def test_a_pod_is_read_with_its_containers_devices_cpus_and_claims():
    message = field(
        1,
        pod(
            "ml",
            "train-0",
            container("main", {GPU: ["GPU-1", "GPU-2"]}, cpus=[2, 300]),
            container("side", claims=[("gpu.nvidia.com", "node-1", "gpu-0")]),
        ),
    )
    assert parse_list(message) == [
        ContainerResources("ml", "train-0", "main", ((GPU, "GPU-1"), (GPU, "GPU-2")), (2, 300), ()),
        ContainerResources(
            "ml", "train-0", "side", (), (), (Claimed("gpu.nvidia.com", "node-1", "gpu-0"),)
        ),
    ]


def test_names_may_come_after_the_containers():
    content = field(3, container("main")) + field(2, "ml") + field(1, "train-0")
    assert parse_list(field(1, content)) == [ContainerResources("ml", "train-0", "main")]


def test_cpus_may_stand_one_by_one():
    content = field(1, "main") + field(3, 4) + field(3, 5)
    (found,) = parse_list(field(1, field(1, "p") + field(3, content)))
    assert found.cpus == (4, 5)


def test_a_node_without_pods_says_nothing():
    assert parse_list(b"") == []


def test_what_can_be_handed_out_is_read():
    listed = field(1, GPU) + field(2, "GPU-1::0") + field(2, "GPU-1::1")
    assert parse_allocatable(field(1, listed)) == [(GPU, "GPU-1::0"), (GPU, "GPU-1::1")]


@pytest.mark.parametrize(
    "message",
    [
        b"\x0a",
        b"\x0a\x05ab",
        b"\xff" * 11,
        varint(1 << 3 | 3),
        varint(1 << 3 | 1) + b"1234",
        field(1, field(1, 7)),
        field(1, field(3, 7)),
    ],
)
def test_a_message_that_makes_no_sense_is_refused(message):
    with pytest.raises(ValueError, match=r"field|number"):
        parse_list(message)


@given(st.binary(max_size=200))
def test_no_bytes_at_all_do_more_than_be_refused(message):
    try:
        parse_list(message)
        parse_allocatable(message)
    except ValueError:
        pass
