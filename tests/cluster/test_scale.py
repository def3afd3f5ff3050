"""Cost of 110 real pods: of a tick, of memory, and of requests to the kubelet and API server."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import GPUS, NAMESPACE, RELEASE, Exporter, driver_values
from tests.cluster.node import NAME, SHELL, Node
from tests.nvml.fake import FakeNvml
from tests.real.parts import until

PODS = 110
START_SECONDS = 300.0
TICKS = 60
SPACE = "crowd"
ACCOUNT = f"{NAMESPACE}:{RELEASE}-emissions-exporter"
KUBELET_REQUESTS = "kubelet_pod_resources_endpoint_requests_total"


@pytest.fixture(scope="module")
def exporter(node: Node, gpus: FakeNvml, privileged: Any) -> Iterator[Exporter]:
    privileged(NAMESPACE)
    privileged(SPACE)
    node.offer({"resources": {"nvidia.com/gpu": GPUS}})
    made = Exporter(node)
    made.install({"config": {"convert": {"zone": "DE"}}, **driver_values(gpus)})
    yield made
    node.kubectl("delete", "namespace", SPACE, "--wait=false")
    made.uninstall()


def crowd() -> dict[str, Any]:
    labels = {"app": "crowd"}
    spec = {"terminationGracePeriodSeconds": 0, "containers": [{"name": "main", "image": SHELL}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "crowd", "namespace": SPACE},
        "spec": {
            "replicas": PODS,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def asked_kubelet(node: Node) -> int:
    """Requests that the kubelet's PodResources API has answered."""
    page = node.kubectl("get", "--raw", f"/api/v1/nodes/{NAME}/proxy/metrics")
    lines = [line for line in page.splitlines() if line.startswith(KUBELET_REQUESTS)]
    return sum(round(float(line.split()[-1])) for line in lines)


def test_every_one_of_110_pods_is_a_run_and_an_idle_minute_asks_little(
    node: Node, exporter: Exporter
) -> None:
    node.apply(crowd())

    def runs() -> set[str]:
        found = exporter.scrape().select("emissions_run_info", workload_namespace=SPACE)
        return {labels["run_name"] for labels, _ in found}

    until(lambda: len(runs()) == PODS, START_SECONDS, "every pod is a named run")
    pods = node.get("pods", f"--namespace={SPACE}")["items"]
    assert runs() == {pod["metadata"]["name"] for pod in pods}
    exporter.pass_ticks(10)
    first, asked_first = exporter.scrape(), (len(node.requests(ACCOUNT)), asked_kubelet(node))
    ticks: dict[int, float] = {}

    def observe() -> bool:
        snapshot = exporter.json("/api/v1/snapshot")
        ticks[snapshot["tick"]] = snapshot["health"]["loop_seconds"]
        return max(ticks) - min(ticks) >= TICKS

    until(observe, 10 * TICKS)
    last, asked_last = exporter.scrape(), (len(node.requests(ACCOUNT)), asked_kubelet(node))
    passed = max(ticks) - min(ticks)
    durations = sorted(ticks.values())
    cpu = [metrics.total("process_cpu_seconds_total") for metrics in (first, last)]
    (exporter_pod,) = exporter.pods()
    figures = {
        "pods": PODS,
        "ticks": passed,
        "loop_milliseconds": {
            name: round(1e3 * durations[round(part * (len(durations) - 1))], 2)
            for name, part in (("min", 0), ("median", 0.5), ("p95", 0.95), ("max", 1))
        },
        "cpu_milliseconds_per_tick": round(1e3 * (cpu[1] - cpu[0]) / passed, 1),
        "resident_megabytes": round(last.total("process_resident_memory_bytes") / 1e6, 1),
        "samples": len(last.samples),
        "requests_to_api_server": asked_last[0] - asked_first[0],
        "requests_to_kubelet": asked_last[1] - asked_first[1],
    }
    sys.stdout.write(json.dumps(figures, indent=2))
    if path := os.environ.get("CLUSTER_FIGURES"):
        Path(path).write_text(json.dumps(figures, indent=2))
    for metrics in (first, last):
        metrics.assert_complete()
        assert metrics.total("emissions_attribution_imbalance_joules") == 0
        assert metrics.total("emissions_series_dropped_total") == 0
    assert len(runs()) == PODS
    # One watch at the API server, renewed every five minutes, each time with the resource slices.
    assert figures["requests_to_api_server"] <= 4
    # A list every five seconds, all devices once a minute, and both for a new pod of the machine.
    assert figures["requests_to_kubelet"] <= 2 * (passed / 5 + passed / 60)
    assert [each["restartCount"] for each in exporter_pod["status"]["containerStatuses"]] == [0]
