"""Energy of real pods over a made-up driver whose truth is known."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.conftest import GPUS, NAMESPACE, Exporter, Metrics, driver_values
from tests.cluster.node import LONG_SECONDS, SHELL, Node
from tests.nvml.fake import FakeNvml
from tests.real.parts import until

GPU = "nvidia.com/gpu"
INVENTORY = {"resources": {GPU: GPUS[:2]}}


@pytest.fixture(scope="module")
def exporter(node: Node, gpus: FakeNvml, privileged: Any) -> Iterator[Exporter]:
    privileged(NAMESPACE)
    node.offer(INVENTORY)
    made = Exporter(node)
    made.install({"config": {"convert": {"zone": "DE"}}, **driver_values(gpus)})
    yield made
    made.uninstall()


def pod(name: str, **limits: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {"name": "main", "image": SHELL, "resources": {"limits": {GPU: 1}}},
            ],
        },
    }


def run_named(metrics: Metrics, name: str) -> str:
    found = metrics.select("emissions_run_info", run_name=name)
    return found[0][0]["run_id"] if found else ""


def test_the_energy_of_a_gpu_that_a_pod_holds_is_the_pods(node: Node, exporter: Exporter) -> None:
    node.apply(pod("train"))
    until(lambda: run_named(exporter.scrape(), "train"), LONG_SECONDS)
    exporter.pass_ticks(3)
    first = exporter.scrape()
    exporter.pass_ticks(5)
    second = exporter.scrape()
    run = run_named(first, "train")
    held = [
        uuid
        for uuid in GPUS
        if second.total("emissions_run_energy_joules_total", run_id=run, id=uuid, device="gpu")
    ]
    assert len(held) == 1
    for metrics in (first, second):
        metrics.assert_complete()
    gained = [
        metrics.microjoules("emissions_run_energy_joules_total", run_id=run, device="gpu")
        for metrics in (first, second)
    ]
    device = [
        metrics.microjoules("emissions_device_energy_joules_total", id=held[0])
        for metrics in (first, second)
    ]
    assert gained[1] - gained[0] == device[1] - device[0] > 0
    node.kubectl("delete", "pod", "train")
