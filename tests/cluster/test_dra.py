"""GPUs that pods claim by dynamic resource allocation.

Attributes of devices as in `deviceinfo.go` of NVIDIA's driver (NVIDIA/k8s-dra-driver-gpu,
`cmd/gpu-kubelet-plugin`, 03af824).
"""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.conftest import GPUS, NAMESPACE, Exporter, driver_values
from tests.cluster.node import LONG_SECONDS, Node
from tests.cluster.pods import Energy, container, pod
from tests.nvml.fake import FakeNvml
from tests.real.parts import until

DRIVER, NETWORK = "gpu.nvidia.com", "net.example.com"
CLAIMABLE = GPUS[:2]
API = "resource.k8s.io/v1"
ADMIN = "monitoring"
"""A namespace whose claims may have access to devices that other pods hold."""


def gpu(number: int) -> dict[str, Any]:
    return {
        "name": f"gpu-{number}",
        "attributes": {
            "type": {"string": "gpu"},
            "uuid": {"string": CLAIMABLE[number]},
            "productName": {"string": "NVIDIA A100-SXM4-80GB"},
            "brand": {"string": "Nvidia"},
            "architecture": {"string": "Ampere"},
            "cudaComputeCapability": {"version": "8.0.0"},
            "driverVersion": {"version": "580.95.5"},
            "cudaDriverVersion": {"version": "13.0.0"},
            "pcieBusID": {"string": f"0000:{number + 1:02x}:00.0"},
            "addressingMode": {"string": "HMM"},
            "resource.kubernetes.io/pcieRoot": {"string": "pci0000:00"},
        },
        "capacity": {"memory": {"value": "80Gi"}},
    }


INTERFACES = [
    # The number of a port is not that of a GPU.
    {"name": f"gpu-{number}", "attributes": {"uuid": {"string": str(number)}}}
    for number in range(2)
]


def device_class(driver: str, condition: str) -> dict[str, Any]:
    return {
        "apiVersion": API,
        "kind": "DeviceClass",
        "metadata": {"name": driver},
        "spec": {"selectors": [{"cel": {"expression": condition}}]},
    }


def request(driver: str, **more: Any) -> dict[str, Any]:
    """A request of a claim for devices of a driver."""
    exactly = {"deviceClassName": driver, **more}
    return {"devices": {"requests": [{"name": "device", "exactly": exactly}]}}


def claim(name: str, driver: str = DRIVER, **more: Any) -> dict[str, Any]:
    return {
        "apiVersion": API,
        "kind": "ResourceClaim",
        "metadata": {"name": name},
        "spec": request(driver, **more),
    }


def template(name: str, driver: str = DRIVER) -> dict[str, Any]:
    return {
        "apiVersion": API,
        "kind": "ResourceClaimTemplate",
        "metadata": {"name": name},
        "spec": {"spec": request(driver)},
    }


def claiming(name: str, **claims: str) -> dict[str, Any]:
    """A pod with claims by name, each of a claim, or of a template that begins with "each"."""
    entries = [
        {
            "name": claim,
            "resourceClaimTemplateName"
            if source.startswith("each")
            else "resourceClaimName": source,
        }
        for claim, source in claims.items()
    ]
    main = container("main")
    main["resources"] = {"claims": [{"name": claim} for claim in claims]}
    return pod(name, main, resourceClaims=entries)


@pytest.fixture(scope="module")
def exporter(node: Node, gpus: FakeNvml, privileged: Any) -> Iterator[Exporter]:
    privileged(NAMESPACE)
    node.offer({"drivers": {DRIVER: [gpu(0), gpu(1)], NETWORK: INTERFACES}})
    condition = f"device.driver == '{DRIVER}' && device.attributes['{DRIVER}'].type == 'gpu'"
    node.apply(
        device_class(DRIVER, condition),
        device_class(NETWORK, f"device.driver == '{NETWORK}'"),
        template("each-gpu"),
        template("each-port", NETWORK),
    )
    until(lambda: len(node.get("resourceslices")["items"]) == 2, LONG_SECONDS)
    made = Exporter(node)
    values = {"config": {"convert": {"zone": "DE"}}, "rbac": {"dynamicResourceAllocation": True}}
    made.install({**values, **driver_values(gpus)})
    yield made
    made.uninstall()
    node.kubectl("delete", "deviceclasses,resourceclaimtemplates", "--all")


@pytest.fixture
def energy(node: Node, exporter: Exporter) -> Iterator[Energy]:
    made = Energy(node, exporter)
    yield made
    node.kubectl("delete", "pods,resourceclaims", "--all")
    made.release()


def claimed(node: Node, name: str) -> str:
    """UUID of the GPU that a claim was given."""
    found = node.get("resourceclaim", name)["status"]["allocation"]["devices"]["results"]
    (device,) = [each["device"] for each in found if each["driver"] == DRIVER]
    return CLAIMABLE[int(device.removeprefix("gpu-"))]


def test_the_pod_of_a_claim_has_the_energy_of_the_claimed_gpu(energy: Energy) -> None:
    energy.node.apply(claim("whole"), claiming("train", gpu="whole"))
    run = energy.holder("train")
    gained = energy.gains()
    held = claimed(energy.node, "whole")
    assert gained.held(run) == [held]
    assert gained.run(run) == gained.gpu(held) > 0
    (free,) = set(CLAIMABLE) - {held}
    assert gained.unattributed(free) == gained.gpu(free) > 0


def test_each_pod_has_the_gpu_of_the_claim_that_a_template_made_for_it(energy: Energy) -> None:
    energy.node.apply(claiming("left", gpu="each-gpu"), claiming("right", gpu="each-gpu"))
    left, right = energy.holder("left"), energy.holder("right")
    gained = energy.gains()
    assert sorted(gained.held(left) + gained.held(right)) == CLAIMABLE
    for run in (left, right):
        assert gained.run(run) == gained.gpu(*gained.held(run)) > 0


def test_pods_of_one_claim_share_the_energy_of_its_gpu(energy: Energy) -> None:
    energy.node.apply(claim("common"), *(claiming(name, gpu="common") for name in ("one", "two")))
    one, two = energy.holder("one"), energy.holder("two")
    gained = energy.gains()
    held = claimed(energy.node, "common")
    parts = [gained.run(one), gained.run(two)]
    assert sum(parts) == gained.gpu(held) > 0
    assert parts == pytest.approx([sum(parts) / 2] * 2, abs=20)  # rounded every tick


def test_a_claimed_network_device_is_no_gpu(energy: Energy) -> None:
    energy.node.apply(
        claiming("both", gpu="each-gpu", port="each-port"), claiming("sender", port="each-port")
    )
    both, sender = energy.holder("both"), energy.run("sender")
    gained = energy.gains()
    (held,) = gained.held(both)
    assert gained.run(both) == gained.gpu(held) > 0
    assert gained.held(sender) == []


def test_a_claim_with_admin_access_takes_no_energy_from_the_pod_that_holds_the_gpu(
    energy: Energy, node: Node
) -> None:
    node.apply(
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": ADMIN,
                "labels": {"resource.kubernetes.io/admin-access": "true"},
            },
        }
    )
    every = claim("every", allocationMode="All", adminAccess=True)
    monitor = claiming("monitor", gpus="every")
    for each in (every, monitor):
        each["metadata"]["namespace"] = ADMIN
    until(lambda: "default" in node.kubectl("get", "serviceaccounts", f"--namespace={ADMIN}"))
    node.apply(every, monitor)
    observer = energy.run("monitor", ADMIN)
    alone = energy.gains()
    assert alone.held(observer) == []
    node.apply(claim("whole"), claiming("watched", gpu="whole"))
    run = energy.holder("watched")
    gained = energy.gains()
    held = claimed(node, "whole")
    assert gained.held(run) == [held]
    assert gained.run(run) == gained.gpu(held) > 0
    assert gained.held(observer) == []
    node.kubectl("delete", "namespace", ADMIN)
