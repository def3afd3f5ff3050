"""Resolving device ids to GPUs, in all forms of plugins, device files and schedulers."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.attribute.sources.gpu_holdings import gpu_aliases, resolve_gpu_id
from exporter.model.readings import Device, DeviceInfo, DeviceKind, GpuActivity, Partition

A, B = (f"GPU-{letter * 8}-0000-1111-2222-{letter * 12}" for letter in "ab")
MIG = "MIG-cccccccc-0000-5111-2222-cccccccccccc"
UNKNOWN = "GPU-dddddddd-0000-1111-2222-dddddddddddd"


def info(uuid, index, minor, kind=DeviceKind.GPU):
    files = () if minor is None else (f"nvidia{minor}",)
    return DeviceInfo(
        Device(kind, uuid), "H200", "NVIDIA", "nvml", 700.0, ordinal=str(index), aliases=files
    )


SWAPPED = (info(A, 0, 1), info(B, 1, 0))
"""A host whose first GPU on the PCI bus has the second device file."""
PARTITION = Partition(MIG, 3, aliases=(f"{A}/4/0", "nvidia1/gi4"))
SPLIT = {SWAPPED[0].device: GpuActivity(SWAPPED[0].device, 1, (), (PARTITION,))}


@pytest.mark.parametrize(
    ("device_id", "uuid"),
    [
        ("0", A),
        ("1", B),
        ("nvidia0", B),
        ("nvidia1", A),
        ("nvidia0/vgpu3", B),
        ("nvidia1/gi4", MIG),
        ("nvidia1/gi4/vgpu0", MIG),
        ("nvidia0/gi4", ""),
        ("nvidia2", ""),
        ("2", ""),
        (f"MIG-{A}/4/0", MIG),
        (f"MIG-{A}/4/0::2", MIG),
        (f"MIG-{A}/4/0-2", MIG),
        (f"MIG-{A}/5/0", ""),
        (A, A),
        (MIG, MIG),
        (f"{A}::3", A),
        (f"{MIG}::3", MIG),
        (f"{A}-0", A),
        (f"{A}_7", A),
        (f"{A}-_-12", A),
        (f"{A}/share-1", A),
        (f"{A}[1-2]", A),
        (f"{A}x3", A),
        (f"vgpu-{A}", A),
        (f"0-{A}-1", A),
        (A.upper().replace("GPU", "gpu"), A),
        (A.removeprefix("GPU-") + "-1", A),
        (UNKNOWN, UNKNOWN),
        (f"{UNKNOWN}-0", UNKNOWN),
        (f"{A},{B}", ""),
        (f"{A}+{UNKNOWN}", A),
        (f"{UNKNOWN}+{UNKNOWN[:-1]}e", ""),
        ("", ""),
        ("nic-0", ""),
        ("dddddddd-0000-1111-2222-dddddddddddd", ""),
    ],
)
def test_a_device_id_resolves_to_its_gpu(device_id, uuid):
    assert resolve_gpu_id(device_id, gpu_aliases(SWAPPED, SPLIT)) == uuid


def test_a_uuid_with_a_suffix_resolves_without_the_driver():
    assert resolve_gpu_id(f"{A}-0", {}) == A


def test_a_name_does_not_match_a_longer_one_with_the_same_prefix():
    names = {"GPU-1": "GPU-1", "GPU-12": "GPU-12"}
    assert resolve_gpu_id("GPU-12-0", names) == "GPU-12"
    assert resolve_gpu_id("GPU-1-0", names) == "GPU-1"


def test_a_device_file_without_known_minor_numbers_resolves_to_no_gpu():
    names = gpu_aliases([info(A, 0, None)], {})
    assert resolve_gpu_id("nvidia0", names) == ""
    assert resolve_gpu_id("0", names) == A


AMD, INTEL = "3d5a8f7c2b1e9046", "0000:4d:00.0"
"""Ids of GPUs whose drivers have no UUID."""
XCP = Partition(f"{AMD}/1", 1, aliases=("amdgpu_xcp_17", "gpu-2-129"))


def of_vendor(vendor, uuid, index, *aliases):
    device = Device(DeviceKind.GPU, uuid)
    return DeviceInfo(device, "", vendor, "", 700.0, ordinal=str(index), aliases=aliases)


MIXED = (
    info(A, 0, 0),
    of_vendor("AMD", AMD, 0, "0000:03:00.0", "card1", "renderD128", "gpu-1-128"),
    of_vendor("Intel", INTEL, 1, INTEL, "card3", "renderD130"),
)
MIXED_PARTS = {MIXED[1].device: GpuActivity(MIXED[1].device, 1, (), (XCP,), 2)}


@pytest.mark.parametrize(
    ("vendor", "device_id", "gpu"),
    [
        ("NVIDIA", "0", A),
        ("NVIDIA", "nvidia0", A),
        ("NVIDIA", "1", ""),
        ("AMD", "0", AMD),
        ("AMD", "0000:03:00.0", AMD),
        ("AMD", "0000:03:00.0-slice-3", AMD),
        ("AMD", "amdgpu_xcp_17", XCP.id),
        ("AMD", "amdgpu_xcp_17-slice-0", XCP.id),
        ("AMD", "amdgpu_xcp_18", ""),
        ("Intel", "card3-0", INTEL),
        ("Intel", "card3-12", INTEL),
        ("Intel", "card30-1", ""),
        ("Intel", "all", ""),
        ("", "0", ""),
        ("", "renderD128", AMD),
        ("", "nvidia0", A),
    ],
)
def test_on_a_mixed_host_a_device_id_is_resolved_for_its_vendor(vendor, device_id, gpu):
    assert resolve_gpu_id(device_id, gpu_aliases(MIXED, MIXED_PARTS), vendor) == gpu


def test_an_index_is_a_name_if_all_gpus_are_of_one_vendor():
    assert resolve_gpu_id("0", gpu_aliases(MIXED[1:2], {})) == AMD


def test_only_gpus_have_names():
    assert gpu_aliases([info("package-0", "", 0, DeviceKind.CPU)], {}) == {}


@given(st.permutations(range(4)), st.permutations(range(4)))
def test_index_and_device_file_are_distinguished_in_every_order(indices, minors):
    uuids = [A, B, MIG, UNKNOWN]
    names = gpu_aliases(map(info, uuids, indices, minors), {})
    for uuid, index, minor in zip(uuids, indices, minors, strict=True):
        assert resolve_gpu_id(str(index), names) == resolve_gpu_id(f"nvidia{minor}", names) == uuid


@given(st.sampled_from([A, B, MIG]), st.text("-_:/.#0123456789", max_size=6))
def test_text_after_a_separator_is_not_part_of_a_uuid(uuid, suffix):
    names = gpu_aliases(SWAPPED, SPLIT)
    for joint in "-_:/.#":
        assert resolve_gpu_id(f"{uuid}{joint}{suffix}", names) == uuid


def test_an_id_with_two_gpus_resolves_to_none():
    for one, other in itertools.permutations((A, B, MIG), 2):
        assert resolve_gpu_id(f"{one}:{other}", gpu_aliases(SWAPPED, SPLIT)) == ""
