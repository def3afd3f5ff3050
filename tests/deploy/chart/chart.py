"""The chart, rendered by the real helm."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
CHART = ROOT / "deploy/helm/emissions-exporter"
KUBERNETES = "1.33.0"
VARIANTS = sorted((CHART / "ci").glob("*-values.yaml"))
NAMESPACE = "emissions"

needs_helm = [
    pytest.mark.real,
    pytest.mark.beside,
    pytest.mark.skipif(shutil.which("helm") is None, reason="no helm, nor Go to build it"),
]
each_variant = pytest.mark.parametrize(
    "variant", VARIANTS, ids=lambda path: path.name.removesuffix("-values.yaml")
)

Object = dict[str, Any]


def helm(
    *arguments: str, values: Any = None, kubernetes: str = KUBERNETES, chart: Path = CHART
) -> "subprocess.CompletedProcess[str]":
    """What helm says of the chart with these values, or those of a file."""
    given = values.read_text() if isinstance(values, Path) else json.dumps(values or {})
    return subprocess.run(
        ["helm", *arguments, str(chart), "--kube-version", kubernetes, "--values", "-"],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def render(values: Any = None, kubernetes: str = KUBERNETES, chart: Path = CHART) -> list[Object]:
    """The objects that the chart makes of these values, or of those of a file."""
    where = ("--namespace", NAMESPACE)
    done = helm("template", "x", *where, values=values, kubernetes=kubernetes, chart=chart)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    """Those of one kind."""
    return [each for each in objects if each["kind"] == kind]


def named(objects: list[Object], kind: str, name: str = "x-emissions-exporter") -> Object:
    """The one of that kind and name."""
    [found] = [each for each in of_kind(objects, kind) if each["metadata"]["name"] == name]
    return found


def workloads(objects: list[Object]) -> list[Object]:
    """Those that make pods."""
    return [each for each in objects if each["kind"] in ("DaemonSet", "Deployment")]


def pod_of(workload: Object) -> Object:
    """The spec of the pods that it makes."""
    return workload["spec"]["template"]["spec"]


def node_pod(objects: list[Object]) -> Object:
    """The spec of the pod on each node."""
    [found] = of_kind(objects, "DaemonSet")
    return pod_of(found)
