"""The cluster of all tests here, and the exporter that its chart installs."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.cluster import node as cluster
from tests.cluster.node import EXPORTER, Node
from tests.nvml.fake import FakeNvml, build
from tests.real.parts import REPOSITORY, until

CHART = REPOSITORY / "deploy" / "helm" / "emissions-exporter"
NAMESPACE = "emissions"
RELEASE = "ee"
IMAGE = {"repository": EXPORTER.partition(":")[0], "tag": "latest", "pullPolicy": "Never"}
DRIVER = "/driver"
"""Where the made-up NVIDIA driver is in the exporter's container."""
WATTS = 300
GPUS = [f"GPU-0000000{number}-0000-4000-8000-000000000000" for number in range(4)]
Labels = dict[str, str]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.cluster)


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """The node with its control plane, or a skip."""
    yield from started(Node, tmp_path_factory)


def started(kind: type[Node], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node until the end of its tests, or a skip."""
    if why := cluster.missing():
        pytest.skip(why)
    made = kind(tmp_path_factory.mktemp("node"))
    try:
        yield made.start()
    finally:
        made.stop()


@pytest.fixture(scope="session")
def gpus(tmp_path_factory: pytest.TempPathFactory) -> FakeNvml:
    """Four made-up GPUs of constant power."""
    directory = tmp_path_factory.mktemp("driver")
    directory.chmod(0o755)
    devices = [
        {
            "kind": "gpu",
            "id": uuid,
            "model": "NVIDIA A100-SXM4-80GB",
            "pci_bus_id": f"00000000:{number + 1:02X}:00.0",
            "power_limit_watts": 400,
            "watts": [[0, WATTS]],
        }
        for number, uuid in enumerate(GPUS)
    ]
    build(directory / "library")
    return FakeNvml(directory / "fake", {"period_seconds": 10, "devices": devices})


def driver_values(gpus: FakeNvml) -> dict[str, Any]:
    """Values of the chart with which the exporter finds the made-up driver."""
    return {
        "extraVolumes": [{"name": "driver", "hostPath": {"path": str(gpus.directory.parent)}}],
        "extraVolumeMounts": [{"name": "driver", "mountPath": DRIVER, "readOnly": True}],
        "extraEnv": [
            {"name": "LD_LIBRARY_PATH", "value": f"{DRIVER}/library"},
            {"name": "FAKE_NVML", "value": f"{DRIVER}/{gpus.directory.name}"},
        ],
    }


class Metrics:
    """One scrape."""

    def __init__(self, text: str) -> None:
        self.samples = [
            sample for family in text_string_to_metric_families(text) for sample in family.samples
        ]

    def select(self, name: str, **labels: str) -> list[tuple[Labels, float]]:
        return [
            (sample.labels, sample.value)
            for sample in self.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]

    def total(self, name: str, **labels: str) -> float:
        return sum(value for _, value in self.select(name, **labels))

    def microjoules(self, name: str, **labels: str) -> int:
        """An exact sum: values are microjoules in decimals."""
        return sum(round(value * 1e6) for _, value in self.select(name, **labels))

    def assert_complete(self) -> None:
        """Each device's energy is the sum of its parts, exactly."""
        devices = self.select("emissions_device_energy_joules_total")
        for device, uuid in {(labels["device"], labels["id"]) for labels, _ in devices}:
            whole, *parts = (
                self.microjoules(f"emissions_{part}_energy_joules_total", device=device, id=uuid)
                for part in ("device", "attributed", "unattributed")
            )
            assert whole == sum(parts), (device, uuid)


class Exporter:
    """The exporter that a release of the chart runs on the node."""

    def __init__(self, node: Node, release: str = RELEASE, namespace: str = NAMESPACE) -> None:
        self.node = node
        self.release = release
        self.namespace = namespace
        name = release if "emissions-exporter" in release else f"{release}-emissions-exporter"
        self.daemonset = f"daemonset/{name}"

    def install(self, values: dict[str, Any], *flags: str) -> None:
        """Install or upgrade the release, and wait until its pod is ready."""
        self.node.helm(*self.command(values), *flags)
        until(self.is_ready, cluster.LONG_SECONDS, "the exporter's pod is ready")

    def command(self, values: dict[str, Any]) -> list[str]:
        path = self.node.directory / f"{self.release}.json"
        path.write_text(json.dumps({"image": IMAGE, **values}))
        return [
            *("upgrade", "--install", self.release, str(CHART), f"--values={path}"),
            *(f"--namespace={self.namespace}", "--create-namespace"),
        ]

    def uninstall(self) -> None:
        self.node.helm("uninstall", self.release, f"--namespace={self.namespace}", "--wait")
        until(lambda: not self.pods(), cluster.LONG_SECONDS, "the exporter's pod is gone")

    def pods(self) -> list[dict[str, Any]]:
        """Pods that measure a node."""
        labels = f"app.kubernetes.io/instance={self.release},app.kubernetes.io/component=node"
        found = self.node.get("pods", f"--namespace={self.namespace}", f"--selector={labels}")
        return list(found["items"])

    def is_ready(self) -> bool:
        """Whether there is one pod, of the newest revision, and it is ready."""
        rollout = self.node.kubectl(
            *("rollout", "status", self.daemonset, f"--namespace={self.namespace}"),
            "--watch=false",
            check=False,
        )
        return "successfully rolled out" in rollout and len(self.pods()) == 1

    @property
    def address(self) -> str:
        (pod,) = self.pods()
        return f"{pod['status']['podIP']}:10680"

    def scrape(self) -> Metrics:
        return Metrics(self.node.fetch(self.address))

    def json(self, path: str) -> Any:
        return json.loads(self.node.fetch(self.address, path))

    def pass_ticks(self, count: int) -> None:
        """Wait for so many more ticks."""
        last = self.json("/api/v1/snapshot")["tick"] + count
        until(lambda: self.json("/api/v1/snapshot")["tick"] >= last, what=f"{count} ticks")

    def log(self) -> str:
        return self.node.kubectl("logs", self.daemonset, f"--namespace={self.namespace}")


@pytest.fixture(scope="session")
def privileged(node: Node) -> Callable[[str], str]:
    """Makes a namespace whose pods may mount directories of the host; its name."""
    return partial(make_privileged, node)


def make_privileged(node: Node, name: str) -> str:
    level = {"pod-security.kubernetes.io/enforce": "privileged"}
    metadata = {"name": name, "labels": level}
    node.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    return name
