"""What the API server says of the chart's objects, and the kubelet of its pods in each profile."""

import base64
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.conftest import CHART, GPUS, IMAGE, Exporter, driver_values
from tests.cluster.node import LONG_SECONDS, Node
from tests.deploy.chart.chart import VARIANTS, render
from tests.deploy.chart.test_docs import example, values_in
from tests.nvml.fake import LIBRARY, FakeNvml
from tests.real.parts import REPOSITORY, until

NAME = "emissions-exporter"
OPERATOR = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
"""The Go module with the CRDs of the Prometheus operator."""
CRDS = ("podmonitors", "servicemonitors", "prometheusrules")
LEVELS = ("restricted", "baseline", "privileged")
LOWEST_LEVEL = {"default": "privileged", "sharing": "privileged", "gpu-only": "restricted"}
"""The Pod Security level of each profile in docs/kubernetes.md."""


@pytest.fixture(scope="module")
def namespace(node: Node) -> Iterator[Callable[[str], str]]:
    """Makes a namespace that enforces a Pod Security level; its name."""
    made = []

    def make(level: str) -> str:
        name = f"chart-{level}"
        if name not in made:
            made.append(name)
            node.kubectl("create", "namespace", name)
            label = f"pod-security.kubernetes.io/enforce={level}"
            node.kubectl("label", "namespace", name, label)
        return name

    yield make
    node.kubectl("delete", "namespace", *made)


@pytest.fixture(scope="module")
def operator_kinds(node: Node) -> Iterator[None]:
    """The kinds of the Prometheus operator."""
    if shutil.which("go") is None:
        pytest.skip("no Go, which downloads the CRDs of the Prometheus operator")
    download = ["go", "mod", "download", "-json", OPERATOR]
    done = subprocess.run(download, cwd="/", capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"the CRDs of the Prometheus operator cannot be downloaded: {done.stdout}")
    directory = Path(json.loads(done.stdout)["Dir"]) / "example/prometheus-operator-crd"
    files = [f"--filename={directory}/monitoring.coreos.com_{kind}.yaml" for kind in CRDS]
    node.kubectl("apply", "--server-side", *files)
    names = [f"crd/{kind}.monitoring.coreos.com" for kind in CRDS]
    node.kubectl("wait", "--for=condition=Established", "--timeout=1m", *names)
    yield
    node.kubectl("delete", *names)


def driver_of_config_map(node: Node, gpus: FakeNvml, namespace: str) -> dict[str, Any]:
    """Values with the made-up driver in a ConfigMap: `gpu-only` mounts nothing of the host."""
    files = [gpus.directory.parent / "library" / LIBRARY]
    files += [gpus.directory / name for name in ("host", "control")]
    node.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "driver", "namespace": namespace},
            "binaryData": {
                path.name: base64.b64encode(path.read_bytes()).decode() for path in files
            },
        }
    )
    values = driver_values(gpus)
    values["extraVolumes"] = [{"name": "driver", "configMap": {"name": "driver"}}]
    values["extraEnv"] = [
        {"name": name, "value": "/driver"} for name in ("LD_LIBRARY_PATH", "FAKE_NVML")
    ]
    return values


def refusals(node: Node, namespace: str) -> str:
    """Why the controller could not create pods of a DaemonSet."""
    selector = "--field-selector=reason=FailedCreate"
    events = node.get("events", f"--namespace={namespace}", selector)["items"]
    return "\n".join(event["message"] for event in events)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("profile", LOWEST_LEVEL)
def test_pods_of_a_profile_run_in_namespaces_of_its_level_or_a_lower_one(
    node: Node,
    gpus: FakeNvml,
    namespace: Callable[[str], str],
    profile: str,
    level: str,
) -> None:
    exporter = Exporter(node, profile, namespace(level))
    if profile == "gpu-only":
        values = driver_of_config_map(node, gpus, exporter.namespace)
    else:
        values = driver_values(gpus)
    values = {"profile": profile, **values}
    if LEVELS.index(level) >= LEVELS.index(LOWEST_LEVEL[profile]):
        exporter.install(values)
        exporter.pass_ticks(2)
        metrics = exporter.scrape()
        measured = metrics.select("emissions_device_energy_joules_total", device="gpu")
        assert {labels["id"] for labels, joules in measured if joules} == set(GPUS)
        metrics.assert_complete()
    else:
        node.helm(*exporter.command(values))
        refused = f'violates PodSecurity "{level}:latest"'
        until(lambda: refused in refusals(node, exporter.namespace), LONG_SECONDS, refused)
        found = refusals(node, exporter.namespace)
        assert "hostPath" in found
        assert ("host namespaces (hostPID=true)" in found) == (profile == "sharing")
        assert exporter.pods() == []
    exporter.uninstall()
    node.kubectl("delete", "events", "--all", f"--namespace={exporter.namespace}")


@pytest.fixture
def kustomized(node: Node, tmp_path: Path) -> Iterator[Callable[[str, str], None]]:
    """Applies the documented kustomization with a profile and settings; deletes it at the end."""
    shutil.copytree(REPOSITORY / "deploy" / "kubernetes", tmp_path / "deploy" / "kubernetes")
    text = example("kubernetes", "# kustomization.yaml").partition("\nkubectl")[0]

    def apply(profile: str, settings: str) -> None:
        kustomization = yaml.safe_load(text)
        kustomization["resources"] = [f"deploy/kubernetes/{profile}"]
        [image] = kustomization["images"]
        image |= {"newName": IMAGE["repository"], "newTag": IMAGE["tag"]}
        patches = kustomization["patches"]
        config_map = yaml.safe_load(patches[0]["patch"])
        config_map["data"]["config.yaml"] = settings
        patches[0]["patch"] = yaml.safe_dump(config_map)
        del patches[1:]  # for older clusters only
        (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        node.kubectl("apply", "--kustomize", str(tmp_path))

    yield apply
    node.kubectl("delete", "--kustomize", str(tmp_path))
    kinds = "namespaces,clusterroles,clusterrolebindings"
    assert NAME not in node.kubectl("get", kinds, "--output=name")


@pytest.mark.parametrize("profile", LOWEST_LEVEL)
def test_the_documented_kustomization_runs_each_profile(
    node: Node, kustomized: Callable[[str, str], None], profile: str
) -> None:
    fixed = "sample: {collectors: {rapl: false}}\n" if profile == "gpu-only" else ""
    kustomized(profile, fixed + "convert: {zone: DE}\n")
    exporter = Exporter(node, NAME, NAME)
    until(exporter.is_ready, LONG_SECONDS, "the exporter's pod is ready")
    intensity = "emissions_grid_intensity_grams_per_kwh"
    assert exporter.scrape().select(intensity, grid_zone="DE")
    if profile == "default":
        kustomized(profile, "convert: {zone: FR}\n")
        node.kubectl("rollout", "restart", exporter.daemonset, f"--namespace={NAME}")
        until(exporter.is_ready, LONG_SECONDS, "the exporter's pod is ready")
        assert exporter.scrape().select(intensity, grid_zone="FR")


def releases(node: Node) -> list[str]:
    """Releases in the cluster, also those that failed."""
    return node.helm("list", "--all", "--all-namespaces", "--short").split()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"zone": "DE"}, "additional properties 'zone' not allowed"),
        ({"config": {"convert": {"zone": "Germany"}}}, "Germany is a name"),
        ({"config": {"convert": {"pue": "1.3"}}}, "'/config/convert/pue': got string"),
        ({"agentSocket": {"enabled": True}}, "agentSocket.enabled needs profile: sharing"),
        ({"updateStrategy": {"rollingUpdate": {"maxSurge": 1}}}, "maxSurge must be 0"),
    ],
)
def test_wrong_values_create_nothing(node: Node, values: dict[str, Any], message: str) -> None:
    exporter = Exporter(node, "wrong", "chart-wrong")
    assert message in node.helm(*exporter.command(values), check=False)
    assert "wrong" not in releases(node)
    assert "chart-wrong" not in node.kubectl("get", "namespaces", "--output=name")


def test_without_the_operator_a_monitor_is_refused_by_name_and_nothing_is_created(
    node: Node,
) -> None:
    exporter = Exporter(node, "monitored", "chart-monitored")
    printed = node.helm(*exporter.command({"podMonitor": {"enabled": True}}), check=False)
    assert 'no matches for kind "PodMonitor" in version "monitoring.coreos.com/v1"' in printed
    assert "monitored" not in releases(node)


def accept(node: Node, objects: list[dict[str, Any]]) -> str:
    """Let the API server check objects strictly, without creating them."""
    items = {"apiVersion": "v1", "kind": "List", "items": objects}
    strict = ("apply", "--dry-run=server", "--validate=strict", "--filename=-")
    return node.kubectl(*strict, text=json.dumps(items))


@pytest.fixture(scope="module")
def target(node: Node) -> Iterator[None]:
    """The namespaces that `render` and the examples name."""
    names = [
        name
        for name in ("emissions", "monitoring", NAME)
        if "created" in node.kubectl("create", "namespace", name, check=False)
    ]
    yield
    node.kubectl("delete", "namespace", *names)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda path: path.name)
def test_the_api_server_accepts_every_variant(
    node: Node, operator_kinds: None, target: None, variant: Path
) -> None:
    values = yaml.safe_load(variant.read_text()) or {}
    accepted = accept(node, render(values))
    for key, kind in (
        ("networkPolicy", "networkpolicy.networking.k8s.io"),
        ("podMonitor", "podmonitor.monitoring.coreos.com"),
        ("serviceMonitor", "servicemonitor.monitoring.coreos.com"),
        ("prometheusRule", "prometheusrule.monitoring.coreos.com"),
    ):
        assert (f"{kind}/" in accepted) == bool(values.get(key, {}).get("enabled"))


def test_the_api_server_accepts_the_examples_of_the_documentation(
    node: Node, operator_kinds: None, target: None, tmp_path: Path
) -> None:
    for values in values_in("kubernetes"):
        if "grafana" not in values:
            accept(node, render(values))
    accept(node, [yaml.safe_load(example("scale", "apiVersion: monitoring.coreos.com/v1"))])
    for start in ("apiVersion: apps/v1", "apiVersion: batch/v1", "apiVersion: v1\nkind: Resou"):
        accept(node, [yaml.safe_load(example("kubernetes", start))])
    shutil.copytree(REPOSITORY / "deploy/prometheus", tmp_path / "deploy/prometheus")
    loop = example("kubernetes", "for file in").partition("\nkubectl")[0]
    subprocess.run(["bash", "-ec", loop], cwd=tmp_path, check=True)
    accept(node, list(yaml.safe_load_all((tmp_path / "prometheusrules.yaml").read_text())))


def test_a_release_with_monitors_rules_dashboards_and_a_network_policy_is_installed(
    node: Node, gpus: FakeNvml, operator_kinds: None, namespace: Callable[[str], str]
) -> None:
    values = yaml.safe_load((CHART / "ci" / "monitoring-values.yaml").read_text())
    exporter = Exporter(node, "whole", namespace("privileged"))
    values["dashboards"]["namespace"] = exporter.namespace
    exporter.install({**values, **driver_values(gpus)})
    where = f"--namespace={exporter.namespace}"
    kinds = "podmonitors,prometheusrules,networkpolicies,configmaps"
    made = node.kubectl("get", kinds, where, "--output=name")
    assert made.count("-dashboard-") == 8
    assert made.count("prometheusrule") == 5
    port = node.get("podmonitors", where)["items"][0]["spec"]["podMetricsEndpoints"][0]["port"]
    [container] = exporter.pods()[0]["spec"]["containers"]
    assert port in {each["name"] for each in container["ports"]}
    # A change from one monitor to the other removes the first.
    other = {"podMonitor": {"enabled": False}, "serviceMonitor": {"enabled": True}}
    node.helm(*exporter.command({**values, **other, **driver_values(gpus)}))
    made = node.kubectl("get", "podmonitors,servicemonitors,services", where, "--output=name")
    assert sorted(name.partition(".")[0].partition("/")[0] for name in made.split()) == [
        "service",
        "servicemonitor",
    ]
    [slices] = node.get("endpointslices", where)["items"]
    [endpoint] = slices["endpoints"]
    assert endpoint["addresses"] == [exporter.pods()[0]["status"]["podIP"]]
    exporter.uninstall()
