"""What helm makes of every variant is what the API server and the operator would take."""

import json
import shutil
from functools import cache
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from deploy.helm.schema import schema
from deploy.helm.values import values
from tests.deploy.chart.chart import CHART, each_variant, helm, needs_helm, of_kind, render

pytestmark = needs_helm
VALUES = CHART / "values.yaml"
CRDS = Path(__file__).parent / "crds"
VERSIONS = ("1.25", "1.28", "1.30", "1.31", "1.33", "1.35")


@cache
def crd(kind):
    return json.loads((CRDS / f"{kind}.json").read_text())


def check(document, version):
    """Raise for an object that this version of Kubernetes, or the operator, does not take."""
    if document["apiVersion"].startswith("monitoring.coreos.com/"):
        jsonschema.validate(document, crd(document["kind"]))
    else:
        kubernetes_validate.validate(document, version, strict=True)


@each_variant
def test_no_variant_has_anything_for_the_lint_to_say(variant):
    done = helm("lint", "--strict", values=variant)
    assert done.returncode == 0, done.stdout
    assert "0 chart(s) failed" in done.stdout
    assert "[WARNING]" not in done.stdout
    assert "[ERROR]" not in done.stdout


@pytest.mark.parametrize("version", VERSIONS)
@each_variant
def test_every_object_of_every_variant_is_valid(variant, version):
    objects = render(variant, f"{version}.0")
    assert objects
    for document in objects:
        check(document, version)


def test_an_object_of_an_unknown_kind_is_refused():
    with pytest.raises(kubernetes_validate.SchemaNotFoundError):
        check({"apiVersion": "v1", "kind": "Daemon", "metadata": {"name": "x"}}, "1.33")
    with pytest.raises(FileNotFoundError):
        check({"apiVersion": "monitoring.coreos.com/v1", "kind": "Probe"}, "1.33")


@pytest.mark.parametrize("kind", ["PodMonitor", "PrometheusRule"])
def test_an_unknown_field_of_the_operators_kinds_is_refused(kind):
    [document, *_] = of_kind(
        render({"podMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}}), kind
    )
    check(document, "1.33")
    document["spec"]["selektor"] = {}
    with pytest.raises(jsonschema.ValidationError, match="selektor"):
        check(document, "1.33")


def test_an_unknown_field_of_a_pod_is_refused():
    [document] = of_kind(render(), "DaemonSet")
    document["spec"]["template"]["spec"]["hostPid"] = True
    with pytest.raises(kubernetes_validate.ValidationError, match="hostPid"):
        check(document, "1.33")


def test_a_cluster_older_than_what_is_supported_is_refused():
    done = helm("template", "x", kubernetes="1.24.0")
    assert done.returncode != 0
    assert "kubeVersion" in done.stderr


@each_variant
def test_names_are_used_once_and_selectors_select_the_pods(variant):
    objects = render(variant)
    names = [
        (each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"])
        for each in objects
    ]
    assert len(names) == len(set(names))
    for workload in (*of_kind(objects, "DaemonSet"), *of_kind(objects, "Deployment")):
        labels = workload["spec"]["template"]["metadata"]["labels"]
        assert workload["spec"]["selector"]["matchLabels"].items() <= labels.items()


def test_a_namespace_and_a_release_of_digits_alone_are_texts():
    done = helm("template", "7", "--namespace", "4711", values={"podMonitor": {"enabled": True}})
    objects = [each for each in yaml.safe_load_all(done.stdout) if each]
    for each in objects:
        check(each, "1.33")
        assert each["metadata"].get("namespace", "4711") == "4711"
        assert each["metadata"]["labels"]["app.kubernetes.io/instance"] == "7"


def test_a_limit_in_millions_is_a_whole_number():
    given = {"podMonitor": {"enabled": True, "sampleLimit": 2_000_000}}
    done = helm("template", "x", values=given)
    assert "sampleLimit: 2000000\n" in done.stdout


@pytest.mark.parametrize("monitor", ["podMonitor", "serviceMonitor"])
def test_every_value_that_may_be_unset_can_be(monitor):
    given = {}
    described = values(VALUES.read_text())
    whole = schema(described)
    for value in described:
        *above, name = value.path.split(".")
        place, allowed = given, whole
        for part in above:
            place, allowed = place.setdefault(part, {}), allowed["properties"][part]
        place[name] = None if name not in allowed.get("required", []) else value.default
    for name in ("intensity", "prometheusRule", "dashboards", "networkPolicy", monitor):
        given[name]["enabled"] = True
    given["config"] = {"convert": {"zone": "DE"}}
    assert [each for each, value in given.items() if value is None]
    for document in render(given):
        check(document, "1.33")


def test_a_chart_above_switches_this_one_and_has_globals_of_its_own(tmp_path):
    dependency = {"name": "emissions-exporter", "version": "0.1.0"}
    about = {"apiVersion": "v2", "name": "above", "version": "1.0.0"}
    about["dependencies"] = [{**dependency, "condition": "emissions-exporter.enabled"}]
    (tmp_path / "Chart.yaml").write_text(yaml.safe_dump(about))
    shutil.copytree(CHART, tmp_path / "charts/emissions-exporter")
    given = {"global": {"storageClass": "fast"}, "emissions-exporter": {"enabled": True}}
    assert of_kind(render(given, chart=tmp_path), "DaemonSet")
    given["emissions-exporter"]["enabled"] = False
    assert render(given, chart=tmp_path) == []


def test_two_releases_make_cluster_wide_objects_of_two_names():
    names = {
        each["metadata"]["name"]
        for namespace in ("a", "b")
        for each in _rendered_in(namespace)
        if each["kind"].startswith("ClusterRole")
    }
    assert len(names) == 2


def _rendered_in(namespace):
    done = helm("template", "x", "--namespace", namespace)
    return [each for each in yaml.safe_load_all(done.stdout) if each]
