"""The agent socket of the profile `sharing`, on which pods register runs."""

from collections.abc import Iterator

import pytest

from tests.cluster.conftest import Exporter, driver_values
from tests.cluster.node import EXPORTER, LONG_SECONDS, Node
from tests.nvml.fake import FakeNvml
from tests.real.parts import until

NAMESPACE = "chart-socket"
SOCKET = "/run/emissions-exporter"
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "registering", "namespace": NAMESPACE},
    "spec": {
        "restartPolicy": "Never",
        "volumes": [{"name": "socket", "hostPath": {"path": SOCKET}}],
        "containers": [
            {
                "name": "main",
                "image": EXPORTER,
                "imagePullPolicy": "Never",
                "command": ["emissions-exporter", "run", "--name", "registered", "--"],
                "args": ["python3", "-c", "import time; time.sleep(10)"],
                "volumeMounts": [{"name": "socket", "mountPath": SOCKET, "readOnly": True}],
            }
        ],
    },
}


@pytest.fixture(scope="module")
def exporter(node: Node, gpus: FakeNvml) -> Iterator[Exporter]:
    node.kubectl("create", "namespace", NAMESPACE)
    made = Exporter(node, "sharing", NAMESPACE)
    socket = {"profile": "sharing", "agentSocket": {"enabled": True}}
    made.install({**socket, **driver_values(gpus)})
    yield made
    made.uninstall()
    node.kubectl("delete", "namespace", NAMESPACE)


def test_a_run_that_a_pod_registers_is_inside_the_run_of_the_pod(
    node: Node, exporter: Exporter
) -> None:
    node.apply(POD)
    where = f"--namespace={NAMESPACE}"

    def phase() -> str:
        return str(node.get("pod", "registering", where)["status"]["phase"])

    until(lambda: phase() in ("Succeeded", "Failed"), LONG_SECONDS, "the pod has ended")
    printed = node.kubectl("logs", "registering", where)
    assert phase() == "Succeeded", printed
    [[labels, _]] = exporter.scrape().select("emissions_run_info", run_name="registered")
    assert labels["workload_namespace"] == NAMESPACE
    record = exporter.json(f"/api/v1/runs/{labels['run_id']}")
    uid = node.get("pod", "registering", where)["metadata"]["uid"]
    assert record["inside"] == uid
    assert record["energy_joules"] > 0
    exporter.scrape().assert_complete()
