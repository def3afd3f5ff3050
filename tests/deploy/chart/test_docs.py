"""What docs/kubernetes.md and docs/scale.md tell to apply: it renders, and is valid."""

import json
import re
import shutil
import sqlite3
import subprocess
import sys
import textwrap

import kubernetes_validate
import pytest
import yaml

from deploy.helm import generate
from tests.deploy.chart.chart import ROOT, needs_helm, node_pod, of_kind, render

pytestmark = needs_helm
PAGES = ("kubernetes", "operations", "runbook")
VALUES = json.loads((ROOT / "deploy/helm/emissions-exporter/values.schema.json").read_text())


def text_of(page):
    return (ROOT / f"docs/{page}.md").read_text()


def blocks(page):
    """The indented examples of a page, as text."""
    found = re.findall(r"(?m)(?:^(?: {4}.*)?\n)+", text_of(page))
    return [textwrap.dedent(each).strip() for each in found if each.strip()]


def example(page, start):
    """The example of a page that begins like this."""
    [found] = [each for each in blocks(page) if each.startswith(start)]
    return found


def parts(text):
    """Of an example of several files, each by its name in a comment."""
    names = re.findall(r"(?m)^# (\S+\.yaml)", text)
    texts = re.split(r"(?m)^# \S+\.yaml.*$", text)[1:]
    return dict(zip(names, texts, strict=True))


def merged(first, second):
    """Values of two files, as helm merges them."""
    both = {**first, **second}
    for key in first.keys() & second.keys():
        if isinstance(first[key], dict):
            both[key] = merged(first[key], second[key])
    return both


def values_in(page):
    """The examples that are values of the chart."""
    for text in blocks(page):
        try:
            document = yaml.safe_load(text)
        except yaml.YAMLError:
            continue
        if isinstance(document, dict) and document.keys() <= VALUES["properties"].keys():
            yield document


def test_every_example_of_values_renders():
    found = list(values_in("kubernetes"))
    assert len(found) >= 5
    for values in found:
        if "intensity" in values:
            assert of_kind(render(values), "Deployment")
        if "grafana" not in values:
            node_pod(render({**values, "profile": values.get("profile", "default")}))


def test_the_pod_monitor_for_other_ways_is_that_of_the_chart():
    written = yaml.safe_load(example("scale", "apiVersion: monitoring.coreos.com/v1"))
    given = {"enabled": True, "sampleLimit": 15000}
    [made] = of_kind(render({"podMonitor": given}), written["kind"])
    selector = made["spec"]["selector"]["matchLabels"]
    assert selector.pop("app.kubernetes.io/instance")
    assert written["spec"] == made["spec"]


def test_the_endpoint_for_a_web_config_is_that_of_the_chart():
    written = yaml.safe_load(example("kubernetes", "podMetricsEndpoints:"))
    [endpoint] = written["podMetricsEndpoints"]
    given = {
        "webConfig": {"existingSecret": "emissions-exporter-web", "tls": True},
        "podMonitor": {"enabled": True}
        | {key: endpoint[key] for key in ("tlsConfig", "basicAuth")},
    }
    [made] = of_kind(render(given), "PodMonitor")
    [of_chart] = made["spec"]["podMetricsEndpoints"]
    assert of_chart.pop("relabelings")
    assert endpoint == of_chart


def test_a_release_of_a_region_has_its_nodes_and_its_zone():
    text = example("kubernetes", "# eu.yaml").partition("\nhelm install")[0]
    objects = render(yaml.safe_load(text))
    region = node_pod(objects)["nodeSelector"]["topology.kubernetes.io/region"]
    [settings] = [each for each in of_kind(objects, "ConfigMap") if "config.yaml" in each["data"]]
    assert f"zone: aws:{region}" in settings["data"]["config.yaml"]


def restore(directory, schema="4"):
    """What the DaemonSet of a rollback prints on a node whose state is in `directory`."""
    document = yaml.safe_load(example("kubernetes", "apiVersion: apps/v1"))
    [container] = document["spec"]["template"]["spec"]["initContainers"]
    [program] = container["args"]
    assert container["command"] == ["python3", "-c"]
    assert program.count('"/state"') == 1
    done = subprocess.run(
        [sys.executable, "-c", program.replace('"/state"', repr(str(directory)))],
        env={"SCHEMA": schema, "NODE": "node-a"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.removeprefix("node-a ").strip()


def write_ledger(path, schema):
    """Make a ledger of that schema whose last commit is in the write-ahead log, as after a kill."""
    program = (
        "import os, sqlite3, sys; connection = sqlite3.connect(sys.argv[1]); "
        "connection.execute('PRAGMA journal_mode = WAL'); "
        "connection.execute(f'PRAGMA user_version = {sys.argv[2]}'); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", program, str(path), str(schema)], check=True, timeout=60)
    assert path.with_name(f"{path.name}-wal").stat().st_size > 0


def write_copy(directory, schema):
    """Make the copy that a newer exporter makes of a ledger of that schema."""
    connection = sqlite3.connect(directory / f"ledger.sqlite.schema-{schema}")
    connection.execute(f"PRAGMA user_version = {schema}")
    connection.close()


def schema_of(path):
    connection = sqlite3.connect(path)
    [version] = connection.execute("PRAGMA user_version").fetchone()
    connection.close()
    return version


def files_in(directory):
    return {path.name for path in directory.iterdir()}


def test_a_rollback_restores_the_copy_and_nothing_the_second_time(tmp_path):
    write_ledger(tmp_path / "ledger.sqlite", 5)
    (tmp_path / "journal").write_text("of the newer exporter")
    for schema in (3, 4):
        write_copy(tmp_path, schema)
    said = "schema 5 moved to ledger.sqlite.newer, ledger.sqlite.schema-4 restored"
    assert restore(tmp_path) == said
    left = {"ledger.sqlite", "ledger.sqlite.newer", "ledger.sqlite.schema-3"}
    assert files_in(tmp_path) == left
    assert schema_of(tmp_path / "ledger.sqlite") == 4
    assert schema_of(tmp_path / "ledger.sqlite.newer") == 5
    assert restore(tmp_path) == "schema 4, not changed"
    assert files_in(tmp_path) == left


def test_a_rollback_without_a_copy_moves_the_newer_ledger_away(tmp_path):
    write_ledger(tmp_path / "ledger.sqlite", 5)
    (tmp_path / "ledger.sqlite.newer").write_text("of an earlier rollback")
    (tmp_path / "ledger.sqlite.schema-3").write_text("of an earlier upgrade")
    said = "schema 5 moved to ledger.sqlite.newer.1, no copy: totals begin at zero"
    assert restore(tmp_path) == said
    assert (tmp_path / "ledger.sqlite.newer").read_text() == "of an earlier rollback"
    assert not (tmp_path / "ledger.sqlite").exists()
    assert not (tmp_path / "ledger.sqlite-wal").exists()
    assert schema_of(tmp_path / "ledger.sqlite.newer.1") == 5


def test_a_rollback_continues_after_an_interruption_and_on_an_empty_node(tmp_path):
    (tmp_path / "a").mkdir()
    write_copy(tmp_path / "a", 4)
    assert restore(tmp_path / "a") == "no ledger, ledger.sqlite.schema-4 restored"
    assert schema_of(tmp_path / "a/ledger.sqlite") == 4
    (tmp_path / "b").mkdir()
    assert restore(tmp_path / "b") == "no ledger, no copy: totals begin at zero"
    assert files_in(tmp_path / "b") == set()


def test_an_uninstall_removes_all_that_is_in_the_state_directory(tmp_path):
    (tmp_path / "ledger.sqlite").write_text("totals")
    (tmp_path / "directory").mkdir()
    program = example("kubernetes", "import os, shutil")
    subprocess.run(
        [sys.executable, "-c", program.replace('"/state"', repr(str(tmp_path)))],
        env={"NODE": "node-a"},
        check=True,
        timeout=60,
    )
    assert files_in(tmp_path) == set()


@pytest.mark.parametrize("page", [*(ROOT / "docs").glob("*.md"), generate.CHART / "README.md"])
def test_every_upgrade_is_a_whole_command_that_keeps_the_values(page):
    commands = re.findall(r"(?m)^ +helm upgrade (?:.*\\\n)*.*", page.read_text())
    for command in commands:
        assert "helm upgrade emissions-exporter deploy/helm/emissions-exporter" in command
        assert "--namespace emissions-exporter --reset-then-reuse-values" in command
    assert "htpasswd -nBC 10 prometheus" not in page.read_text()


needs_kustomize = pytest.mark.skipif(
    shutil.which("kustomize") is None, reason="no kustomize, nor Go to build it"
)


def kustomized(directory, *further_patches):
    """The objects that the kustomization of the documentation makes."""
    text = example("kubernetes", "# kustomization.yaml").partition("\nkubectl")[0]
    kustomization = yaml.safe_load(text)
    kustomization["patches"] += further_patches
    (directory / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    shutil.copytree(ROOT / "deploy/kubernetes", directory / "deploy/kubernetes")
    done = subprocess.run(
        ["kustomize", "build", str(directory)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@needs_kustomize
def test_the_patch_for_a_web_config_makes_the_pod_of_the_chart(tmp_path):
    patches = yaml.safe_load(example("kubernetes", "# patches of kustomization.yaml"))
    node = node_pod(kustomized(tmp_path, *patches))
    secret = {"existingSecret": "emissions-exporter-web", "tls": True}
    of_chart = node_pod(render({"webConfig": secret}))
    [made], [wanted] = node["containers"], of_chart["containers"]
    assert sorted(made["args"]) == sorted(wanted["args"])
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert made[probe] == wanted[probe]
    web = [
        [each for each in of if each["name"] == "web"]
        for of in (
            made["volumeMounts"],
            wanted["volumeMounts"],
            node["volumes"],
            of_chart["volumes"],
        )
    ]
    assert web[0] == web[1] != []
    assert web[2] == web[3] != []


def test_the_loop_without_helm_writes_the_rules_of_the_chart(tmp_path):
    shutil.copytree(ROOT / "deploy/prometheus", tmp_path / "deploy/prometheus")
    subprocess.run(
        ["bash", "-ec", example("kubernetes", "for file in").partition("\nkubectl")[0]],
        cwd=tmp_path,
        check=True,
        timeout=60,
    )
    written = list(yaml.safe_load_all((tmp_path / "prometheusrules.yaml").read_text()))
    made = of_kind(render({"prometheusRule": {"enabled": True}}), "PrometheusRule")

    def groups(objects):
        found = {each["name"]: each for one in objects for each in one["spec"]["groups"]}
        for rule in (rule for group in found.values() for rule in group["rules"]):
            rule.get("annotations", {}).pop("runbook_url", None)
        return found

    assert groups(written) == groups(made) != {}
    assert {each["kind"] for each in written} == {"PrometheusRule"}


@needs_kustomize
def test_the_kustomization_sets_image_and_zone_and_suits_older_clusters(tmp_path):
    objects = kustomized(tmp_path)
    [container] = node_pod(objects)["containers"]
    assert container["image"] == "registry.example/emissions-exporter:0.1.0"
    [settings] = of_kind(objects, "ConfigMap")
    assert yaml.safe_load(settings["data"]["config.yaml"]) == {"convert": {"zone": "DE"}}
    assert {each["mountPath"] for each in container["volumeMounts"]} >= {
        "/host/proc",
        "/host/sys/devices",
    }
    for document in objects:
        kubernetes_validate.validate(document, "1.25", strict=True)


def test_two_releases_have_no_node_in_common_and_one_set_of_rules():
    files = parts(example("kubernetes", "# gpu.yaml").partition("\nhelm install")[0])
    given = {name: yaml.safe_load(text) for name, text in files.items()}
    common = given.pop("common.yaml")
    rendered = {name: render(merged(common, values)) for name, values in given.items()}
    assert [name for name, made in rendered.items() if of_kind(made, "PrometheusRule")] == [
        "gpu.yaml"
    ]
    pods = {name: node_pod(made) for name, made in rendered.items()}
    label = "nvidia.com/gpu.deploy.dcgm-exporter"
    assert pods["gpu.yaml"]["nodeSelector"][label] == "true"
    terms = pods["cpu.yaml"]["affinity"]["nodeAffinity"]
    [term] = terms["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    [expression] = term["matchExpressions"]
    assert expression == {"key": "nvidia.com/gpu.present", "operator": "NotIn", "values": ["true"]}


@pytest.mark.parametrize(
    "start",
    ["apiVersion: apps/v1", "apiVersion: batch/v1", "apiVersion: v1\nkind: ResourceQuota"],
)
def test_objects_that_are_written_out_are_valid(start):
    document = yaml.safe_load(example("kubernetes", start))
    for version in ("1.25", "1.33"):
        kubernetes_validate.validate(document, version, strict=True)


def heading(text):
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_every_link_to_a_heading_leads_to_one(page):
    links = re.findall(r"\]\((?:([\w/.-]+)\.md)?#([\w-]+)\)", text_of(page))
    assert links
    for target, anchor in links:
        lines = text_of(target or page).splitlines()
        found = {heading(line.lstrip("# ")) for line in lines if line.startswith("#")}
        assert anchor in found, (target, anchor)
