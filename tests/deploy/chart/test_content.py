"""What the objects carry: settings, rules, dashboards, and the plain manifests."""

import json
import re
import shutil
import subprocess
import tarfile
import textwrap

import pytest
import yaml

from deploy.helm import generate
from exporter.cli import main as cli
from exporter.cli.dashboards import set_runbook_url
from exporter.sample.registry import COLLECTOR_NAMES
from tests.deploy.chart.chart import (
    CHART,
    ROOT,
    VARIANTS,
    each_variant,
    helm,
    named,
    needs_helm,
    node_pod,
    of_kind,
    render,
    workloads,
)

pytestmark = needs_helm
TLS = {"webConfig": {"existingSecret": "web", "tls": True}}
NODE, ASKER = "x-emissions-exporter", "x-emissions-exporter-intensity"
ASKED = {"intensity": {"enabled": True}, "config": {"convert": {"zone": "DE"}}}
MONITORED = {"prometheusRule": {"enabled": True}, "dashboards": {"enabled": True}}


def notes_of(values, chart):
    """What an installation says at its end; helm shows that only where there is a cluster."""
    shutil.copytree(CHART, chart)
    path = chart / "templates/NOTES.txt"
    made = f'{{{{- define "notes" }}}}{path.read_text()}{{{{ end }}}}\nkind: Notes\n'
    made += 'said: |\n  {{- include "notes" . | nindent 2 }}\n'
    (chart / "templates/notes.yaml").write_text(made)
    path.unlink()
    [notes] = of_kind(render(values, chart=chart), "Notes")
    return notes["said"]


def settings(objects, name=NODE):
    """The settings in the ConfigMap of that name."""
    return yaml.safe_load(named(objects, "ConfigMap", name)["data"]["config.yaml"])


@each_variant
def test_the_exporter_takes_the_settings_of_every_variant(variant, tmp_path, capsys):
    token = tmp_path / "token"
    token.write_text("secret")
    configs = [
        each["data"]["config.yaml"]
        for each in of_kind(render(variant), "ConfigMap")
        if "config.yaml" in each["data"]
    ]
    assert configs
    for index, text in enumerate(configs):
        path = tmp_path / f"{index}.yaml"
        mounted = "/etc/emissions-exporter/tokens/electricity-maps"
        path.write_text(text.replace(mounted, str(token)))
        assert cli.main(["check-config", "--config.file", str(path)]) == 0, capsys.readouterr().err


@each_variant
def test_the_exporter_knows_every_flag_of_every_variant(variant, tmp_path):
    [container] = node_pod(render(variant))["containers"]
    kept = [
        argument
        for argument in container["args"]
        if not argument.startswith(("--config.file=", "--web.config.file="))
    ]
    assert kept.pop(0) == "serve"
    assert cli.main(["check-config", *kept]) == 0


def test_nodes_ask_the_intensity_pod_and_only_that_asks_the_sources():
    convert = {"zone": "DE", "pue": 1.2, "sources": ["energy_charts", "table"]}
    given = {"intensity": {"enabled": True, "standIns": []}}
    objects = render({**given, "config": {"convert": convert}})
    assert settings(objects, ASKER)["convert"] == convert
    assert settings(objects)["convert"] == {
        "zone": "DE",
        "pue": 1.2,
        "sources": [
            {
                "exporter": {
                    "url": f"http://{ASKER}.emissions:10680",
                    "basis": "unstated",
                    "accounting": "location",
                }
            }
        ],
    }
    service = named(objects, "Service", ASKER)
    assert service["spec"]["ports"][0]["port"] == 10680


def test_the_intensity_pod_reads_no_hardware():
    found = settings(render(ASKED), ASKER)["sample"]["collectors"]
    assert found == dict.fromkeys(COLLECTOR_NAMES, False), (
        "run `make chart`: templates/_helpers.tpl must disable each name in SOURCES of "
        "exporter/sample/registry.py"
    )


def test_a_new_collector_is_disabled_in_the_intensity_pod():
    text = (CHART / "templates/_helpers.tpl").read_text()
    made = generate.helpers(text, ("nvml", "meter"))
    assert '(dict "collectors" (dict "nvml" false "meter" false))' in made
    assert generate.helpers(made, COLLECTOR_NAMES) == text
    with pytest.raises(ValueError, match="found 0 times"):
        generate.helpers("", COLLECTOR_NAMES)


def test_gpu_only_does_not_try_what_it_cannot_reach():
    assert settings(render({"profile": "gpu-only"})) == {"sample": {"collectors": {"rapl": False}}}
    [container] = node_pod(render({"profile": "gpu-only"}))["containers"]
    assert {"name": "KUBERNETES_SERVICE_HOST", "value": ""} in container["env"]


@pytest.mark.parametrize(
    ("sources", "stand_ins", "basis"),
    [
        ([], ["table"], "lifecycle"),
        (["energy_charts", "table"], ["table"], "unstated"),
        ([{"static": {"grams_per_kwh": 300}}], ["table"], "unstated"),
        ([{"static": {"grams_per_kwh": 300, "basis": "direct"}}], [], "direct"),
        ([{"table": {"basis": "direct"}}], [{"table": {"basis": "direct"}}], "direct"),
    ],
)
def test_nodes_expect_what_the_first_source_counts(sources, stand_ins, basis):
    convert = {"zone": "DE", "sources": sources} if sources else {"zone": "DE"}
    given = {"intensity": {"enabled": True, "standIns": stand_ins}, "config": {"convert": convert}}
    [exporter, *_] = settings(render(given))["convert"]["sources"]
    assert exporter["exporter"]["basis"] == basis


def test_the_intensity_pod_measures_nothing():
    objects = render(ASKED)
    assert not any(settings(objects, ASKER)["sample"]["collectors"].values())


def test_the_rules_are_those_of_deploy_prometheus():
    made = {
        each["metadata"]["name"].removeprefix(f"{NODE}-"): each["spec"]
        for each in of_kind(render(MONITORED), "PrometheusRule")
    }
    source = ROOT / "deploy/prometheus"
    assert made == {
        f"{part}-{path.stem}": yaml.safe_load(set_runbook_url(path.read_text(), ""))
        for part in ("rules", "alerts")
        for path in (source / part).glob("*.yaml")
    }


def test_the_dashboards_are_those_of_grafana():
    made = {}
    for each in of_kind(render(MONITORED), "ConfigMap"):
        if each["metadata"]["labels"].get("grafana_dashboard") == "1":
            made |= each["data"]
    source = ROOT / "dashboards/generated"
    assert {name: json.loads(text) for name, text in made.items()} == {
        f"emissions-{path.name}": json.loads(path.read_text()) for path in source.glob("*.json")
    }


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool")
def test_prometheus_takes_every_rule_and_those_of_budgets(tmp_path, capsys):
    budgets = ROOT / "deploy/prometheus/budgets.example.yaml"
    assert cli.main(["rules", "--budgets", str(budgets)]) == 0
    given = {"enabled": True, "budgets": capsys.readouterr().out}
    rules = of_kind(render({"prometheusRule": given}), "PrometheusRule")
    assert f"{NODE}-budgets" in [each["metadata"]["name"] for each in rules]
    paths = []
    for each in rules:
        paths.append(tmp_path / f"{each['metadata']['name']}.yaml")
        paths[-1].write_text(yaml.safe_dump(each["spec"]))
    done = subprocess.run(
        ["promtool", "check", "rules", *map(str, paths)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_without_the_operator_the_pods_of_nodes_are_scraped_and_no_other():
    text = (ROOT / "deploy/prometheus/prometheus.yml").read_text()
    job = yaml.safe_load(textwrap.dedent(re.sub("(?m)^  # ?", "", text.partition("pods:\n")[2])))
    keep_only, node = job[0]["relabel_configs"]
    found = []
    for each in workloads(render(ASKED)):
        labels = each["spec"]["template"]["metadata"]["labels"]
        known = {
            f"__meta_kubernetes_pod_label_{re.sub('[./-]', '_', name)}": value
            for name, value in labels.items()
        } | {"__meta_kubernetes_pod_container_port_name": "http"}
        joined = ";".join(known[name] for name in keep_only["source_labels"])
        found += [each["kind"]] if re.fullmatch(keep_only["regex"], joined) else []
    assert found == ["DaemonSet"]
    assert node["target_label"] == "instance"


def test_alerts_lead_to_the_runbook_of_the_repository_that_was_named():
    url = "https://git.example/emissions/"
    rules = of_kind(
        render({"prometheusRule": {"enabled": True, "repositoryUrl": url}}), "PrometheusRule"
    )
    links = [
        rule["annotations"]["runbook_url"]
        for each in rules
        for group in each["spec"]["groups"]
        for rule in group["rules"]
        if "alert" in rule
    ]
    assert links
    assert all(link.startswith(f"{url}docs/runbook.md#") for link in links)


@pytest.mark.parametrize(
    ("config", "path"),
    [({}, "/metrics"), ({"expose": {}}, "/metrics"), ({"expose": {"telemetry_path": "/m"}}, "/m")],
)
def test_monitors_scrape_the_path_that_the_exporter_serves(config, path):
    for kind, part in (("PodMonitor", "podMetricsEndpoints"), ("ServiceMonitor", "endpoints")):
        given = {"config": config, f"{kind[0].lower()}{kind[1:]}": {"enabled": True}}
        [monitor] = of_kind(render(given), kind)
        assert [each["path"] for each in monitor["spec"][part]] == [path]


def test_alerts_have_no_link_where_no_address_is_known():
    made = json.dumps(of_kind(render({"prometheusRule": {"enabled": True}}), "PrometheusRule"))
    assert "EmissionsRunBudgetForecast" in made
    assert "runbook" not in made


def test_alerts_can_be_left_out():
    given = {"prometheusRule": {"enabled": True, "alerts": False}}
    assert '"alert"' not in json.dumps(of_kind(render(given), "PrometheusRule"))


def test_helm_warns_of_nothing_in_the_chart():
    done = helm("template", "x")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_plain_manifests_are_what_the_chart_makes():
    program = shutil.which("helm")
    assert program
    assert list(generate._stale(generate.manifests(program))) == []


def test_every_profile_has_a_variant():
    profiles = {yaml.safe_load(path.read_text()).get("profile", "default") for path in VARIANTS}
    assert profiles == set(generate.PROFILES)


@pytest.mark.parametrize(
    ("values", "said", "unsaid"),
    [
        ({}, ["enforce=privileged", "shared GPUs are split by replicas", "world average"], []),
        ({"profile": "sharing"}, ["hostPID", "agentSocket.enabled is false"], ["by replicas"]),
        (
            {"profile": "gpu-only", "config": {"convert": {"zone": "DE"}}},
            ["no energy is attributed", "totals are lost with the pod"],
            ["enforce=privileged", "world average"],
        ),
        ({"rbac": {"create": False}}, ["pods are identified by their uid"], []),
        ({"webConfig": {"existingSecret": "web", "tls": True}}, ["https://localhost:10680"], []),
        (
            {},
            [
                "Prometheus does not scrape the pods yet",
                "helm upgrade x CHART --namespace emissions --reset-then-reuse-values --set ...",
            ],
            ["tlsConfig"],
        ),
        ({"podMonitor": {"enabled": True}}, [], ["does not scrape the pods yet", "tlsConfig"]),
        (
            {**TLS, "podMonitor": {"enabled": True}},
            ["podMonitor.tlsConfig is empty"],
            ["serviceMonitor.tlsConfig"],
        ),
        (
            {**TLS, "serviceMonitor": {"enabled": True, "tlsConfig": {"serverName": "x"}}},
            [],
            ["tlsConfig is empty"],
        ),
        ({}, ["image.repository is the default", "describe daemonset"], ["MIG instances, are"]),
        ({"image": {"repository": "registry.example/x"}}, [], ["image.repository is the default"]),
        (
            {"global": {"imageRegistry": "registry.example"}},
            [],
            ["image.repository is the default"],
        ),
    ],
)
def test_the_notes_say_what_these_values_lose(values, said, unsaid, tmp_path):
    notes = notes_of(values, tmp_path / "chart")
    for text in said:
        assert text in notes
    for text in unsaid:
        assert text not in notes


def test_a_packaged_chart_has_what_its_links_lead_to(tmp_path):
    done = subprocess.run(
        ["helm", "package", str(CHART), "--destination", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    [package] = tmp_path.iterdir()
    with tarfile.open(package) as archive:
        files = [each.name for each in archive if "/files/" in each.name and each.isfile()]
    assert len(files) == len(
        [
            *(ROOT / "deploy/prometheus/rules").iterdir(),
            *(ROOT / "deploy/prometheus/alerts").iterdir(),
            *(ROOT / "dashboards/generated").glob("*.json"),
        ]
    )
