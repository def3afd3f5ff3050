"""Pods of a kubelet and a containerd whose cgroups systemd makes."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.conftest import (
    GPUS,
    NAMESPACE,
    Exporter,
    driver_values,
    make_privileged,
    started,
)
from tests.cluster.node import LONG_SECONDS, Node
from tests.cluster.pods import ATTRIBUTED, GPU, RUN_ENERGY, Energy, container, pod
from tests.cluster.systemd import SystemdNode
from tests.nvml.fake import FakeNvml
from tests.real.parts import until
from tests.real.systemd import SYSTEMD

WORK = "while :; do busybox seq 1 20000 >/dev/null; busybox sleep 0.05; done"
"""Uses processors by processes that end at once."""
SIZE = {"cpu": "200m", "memory": "50Mi"}
RESOURCES: dict[str, dict[str, Any]] = {
    "guaranteed": {"limits": {**SIZE, GPU: 1}},
    "burstable": {"requests": SIZE, "limits": {GPU: 1}},
    "besteffort": {},
}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    if not SYSTEMD.exists():
        pytest.skip("systemd is missing: .ci/setup cluster")
    yield from started(SystemdNode, tmp_path_factory)


@pytest.fixture(scope="module")
def exporter(node: Node, gpus: FakeNvml) -> Exporter:
    make_privileged(node, NAMESPACE)
    node.offer({"resources": {GPU: GPUS}})
    made = Exporter(node)
    made.install({"config": {"convert": {"zone": "DE"}}, **driver_values(gpus)})
    return made


def slice_of(quality: str, uid: str) -> str:
    """The slice of a pod, as the kubelet names it."""
    parents = ["kubepods"] if quality == "guaranteed" else ["kubepods", f"kubepods-{quality}"]
    own = f"{parents[-1]}-pod{uid.replace('-', '_')}"
    return "/".join(f"{name}.slice" for name in (*parents, own))


@pytest.mark.parametrize("quality", RESOURCES)
def test_a_pod_in_a_slice_of_systemd_has_its_energy(
    node: Node, exporter: Exporter, quality: str
) -> None:
    work = {**container("main", WORK), "resources": RESOURCES[quality]}
    node.apply(pod(quality, work))
    energy = Energy(node, exporter)
    has_gpu = "limits" in RESOURCES[quality]
    run = energy.holder(quality) if has_gpu else energy.run(quality)
    in_slice = f"/sys/fs/cgroup/cpu/{slice_of(quality, run)}"
    assert "cri-containerd-" in node.inside("ls", in_slice)
    gained = energy.gains()
    held = gained.held(run)
    assert len(held) == has_gpu
    assert gained.run(run) == gained.gpu(*held)
    assert gained.of(RUN_ENERGY, run_id=run, device="cpu") > 0
    assert gained.of(RUN_ENERGY, device="cpu") == gained.of(ATTRIBUTED, device="cpu")
    found = exporter.json(f"/api/v1/runs/{run}")
    assert (found["scope"], found["name"]) == ("cgroup", quality)
    node.kubectl("delete", "pod", quality)
    until(lambda: exporter.json(f"/api/v1/runs/{run}")["ended"], LONG_SECONDS, "the run ends")
    energy.release(run)
    after = energy.gains()
    assert after.of(RUN_ENERGY, run_id=run) == 0
