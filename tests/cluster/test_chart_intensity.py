"""The pod that queries carbon intensity for all nodes, `intensity.enabled`."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster import service_names
from tests.cluster.conftest import Exporter, Metrics, driver_values
from tests.cluster.node import KUBERNETES_SERVICE, LONG_SECONDS, Node
from tests.nvml.fake import FakeNvml
from tests.real.parts import until

NAMESPACE = "chart-intensity"
NAME = "metered-emissions-exporter"
GRAMS = 123
INTENSITY = "emissions_grid_intensity_grams_per_kwh"


def intensity_pods(node: Node) -> list[dict[str, Any]]:
    label = "--selector=app.kubernetes.io/component=intensity"
    found = node.get("pods", f"--namespace={NAMESPACE}", label)["items"]
    return [pod for pod in found if pod["status"].get("podIP")]


@pytest.fixture(scope="module")
def exporter(node: Node, gpus: FakeNvml) -> Iterator[Exporter]:
    """A release with an intensity pod whose Service is reachable under its name.

    The rules are those of kube-proxy for one Service with one pod.
    """
    node.kubectl("create", "namespace", NAMESPACE)
    made = Exporter(node, "metered", NAMESPACE)
    values = {
        "intensity": {"enabled": True},
        "networkPolicy": {"enabled": True},
        "config": {"convert": {"zone": "DE", "sources": [{"static": {"grams_per_kwh": GRAMS}}]}},
        **driver_values(gpus),
    }
    node.helm(*made.command(values))
    service = node.get("service", f"{NAME}-intensity", f"--namespace={NAMESPACE}")["spec"]
    [port] = service["ports"]
    name = f"{NAME}-intensity.{NAMESPACE}={service['clusterIP']}"
    server = subprocess.Popen(
        node.enter(sys.executable, service_names.__file__, KUBERNETES_SERVICE, name)
    )
    until(lambda: intensity_pods(node), LONG_SECONDS, "the intensity pod has an address")
    address = intensity_pods(node)[0]["status"]["podIP"]
    to_service = ("--destination", service["clusterIP"], "--protocol", "tcp")
    to_pod = ("--destination", address, "--protocol", "tcp")
    nat = ("iptables", "--table", "nat", "--append")
    target = ("--jump", "DNAT", "--to-destination", f"{address}:10680")
    node.inside(*nat, "PREROUTING", *to_service, "--dport", str(port["port"]), *target)
    node.inside(*nat, "POSTROUTING", *to_pod, "--dport", "10680", "--jump", "MASQUERADE")
    until(made.is_ready, LONG_SECONDS, "the exporter's pod is ready")
    yield made
    server.terminate()
    server.wait()
    made.uninstall()
    node.kubectl("delete", "namespace", NAMESPACE)


def intensity_of(exporter: Exporter) -> list[float]:
    return [value for _, value in exporter.scrape().select(INTENSITY, grid_zone="DE")]


def test_nodes_use_the_intensity_of_that_pod_by_the_name_of_its_service(
    exporter: Exporter,
) -> None:
    until(lambda: GRAMS in intensity_of(exporter), LONG_SECONDS, "the value of the intensity pod")


def test_the_intensity_pod_measures_nothing(exporter: Exporter) -> None:
    [pod] = intensity_pods(exporter.node)
    metrics = Metrics(exporter.node.fetch(f"{pod['status']['podIP']}:10680"))
    assert metrics.select(INTENSITY, grid_zone="DE")
    assert not metrics.select("emissions_device_energy_joules_total")


def test_nodes_use_the_last_intensity_while_that_pod_is_away(exporter: Exporter) -> None:
    node = exporter.node
    where = f"--namespace={NAMESPACE}"
    until(lambda: GRAMS in intensity_of(exporter), LONG_SECONDS, "the value of the intensity pod")
    node.kubectl("scale", f"deployment/{NAME}-intensity", "--replicas=0", where)
    until(lambda: not intensity_pods(node), LONG_SECONDS, "the intensity pod is gone")
    exporter.pass_ticks(5)
    assert GRAMS in intensity_of(exporter)
    exporter.scrape().assert_complete()
