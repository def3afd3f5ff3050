"""Values that are wrong, and what is said of them."""

import json
import random

import pytest

from exporter.cli import main as cli
from tests.deploy.chart.chart import helm, needs_helm

pytestmark = needs_helm
ON = {"enabled": True}
WITH_INTENSITY = {"intensity": ON}

MAPS = {"electricity_maps": {"token_file": "/etc/emissions-exporter/tokens/maps"}}
WATTTIME = {"watttime": {"token_file": "/somewhere/else"}}


def of_convert(**given):
    return {"config": {"convert": given}}


MISTAKES = [
    ({"profil": "default"}, "additional properties 'profil' not allowed"),
    ({"profile": "gpu"}, "'/profile': value must be one of 'default', 'sharing', 'gpu-only'"),
    ({"port": "http"}, "'/port': got string, want integer"),
    ({"port": None}, "missing property 'port'"),
    ({"webConfig": None}, "missing property 'webConfig'"),
    ({"config": None}, "missing property 'config'"),
    ({"port": 0}, "'/port': minimum: got 0, want 1"),
    ({"image": {"digest": "latest"}}, "'/image/digest': 'latest' does not match pattern"),
    ({"image": {"name": "x"}}, "'/image': additional properties 'name' not allowed"),
    ({"image": {"pullPolicy": "always"}}, "'/image/pullPolicy': value must be one of 'Always'"),
    (
        {"image": {"repository": "registry.example/x:0.1"}},
        "'/image/repository': 'registry.example/x",
    ),
    ({"extraEnv": [{"name": "A", "value": 1}]}, "'/extraEnv/0/value': got number, want string"),
    ({"extraEnv": [{"nam": "A"}]}, "additional properties 'nam' not allowed"),
    ({"tolerations": [{"efect": "x"}]}, "additional properties 'efect' not allowed"),
    ({"tolerations": [{"key": "gpu", "value": True}]}, "'/tolerations/0/value': got boolean"),
    ({"resources": {"limit": {}}}, "'/resources': additional properties 'limit' not allowed"),
    ({"updateStrategy": {"type": "Recreate"}}, "value must be one of 'RollingUpdate', 'OnDelete'"),
    ({"enabled": False}, "'/enabled': value must be true"),
    ({"tokens": {"electricityMaps": "abc"}}, "additional properties 'electricityMaps' not allowed"),
    ({"state": {"hostPath": "state"}}, "'/state/hostPath': 'state' does not match pattern"),
    ({"podMonitor": {"interval": "15"}}, "'/podMonitor/interval': '15' does not match pattern"),
    ({"seLinuxOptions": {"typ": "spc_t"}}, "additional properties 'typ' not allowed"),
    ({"commonLabels": {"team": 1}}, "'/commonLabels/team': got number, want string"),
    ({"config": {"expose": {"telemetry_path": "metrics"}}}, "telemetry_path: metrics is no path"),
    (
        {"config": {"attribute": {"exported_labels": ["te-am", "te_am"]}}},
        "te-am and te_am would both become label_te_am. Leave one out.",
    ),
    (
        {"config": {"expose": {"telemetry_path": "/-/ready"}}},
        "telemetry_path: /-/ready is reserved",
    ),
    (of_convert(sources=["static"]), "sources: static requires its option grams_per_kwh or"),
    (of_convert(sources=[{"static": {"source": "PPA"}}]), "sources: static requires its option"),
    (of_convert(second=["static"]), "config.convert.second: static requires its option"),
    (of_convert(sources=["file"]), "file requires its option path or config.convert.file"),
    (of_convert(zon="DE"), "'/config/convert': additional properties 'zon' not allowed"),
    (of_convert(pue="high"), "'/config/convert/pue': got string, want number"),
    (of_convert(token="abc"), "additional properties 'token' not allowed"),
    (of_convert(sources=["tabel"]), "'/config/convert/sources/0': value must be one of"),
    (of_convert(sources=["prometheus"]), "'/config/convert/sources/0': value must be one of"),
    (of_convert(sources=[{"exporter": {}}]), "missing property 'url'"),
    (
        of_convert(sources=[{"prometheus": {"url": "prometheus:9090", "query": "x"}}]),
        "'prometheus:9090' does not match pattern",
    ),
    (
        of_convert(sources=[{"prometheus": {"url": "http://a:secret@b", "query": "x"}}]),
        "sources/0/prometheus/url': 'http://a:secret@b' does not match pattern",
    ),
    (of_convert(sources=[{"uk": {"area": 1}}]), "additional properties 'area' not allowed"),
    (of_convert(zone="Germany"), "config.convert.zone: Germany is a name, and a code is expected."),
    (of_convert(zone=" united kingdom"), "Did you mean GB?"),
    (of_convert(zone="Germany", sources=["energy_charts"]), "Did you mean DE?"),
    (
        of_convert(zone="DE", sources=[{"electricity_maps": {"zone": "Hawaii"}}, "table"]),
        "config.convert.sources.electricity_maps.zone: Hawaii is a name, and a code is expected.",
    ),
    (
        of_convert(zone="Germny"),
        "the bundled table has no zone GERMNY. Expected the code of a country",
    ),
    (of_convert(zone="XX"), "config.convert: the bundled table has no value for XX; set config"),
    (
        of_convert(zone="ES-CN-FV"),
        "write {table: {zone: ESP}} or config.convert.zone: ESP for the mean",
    ),
    (of_convert(zone="aws:eu-west-9"), "the bundled table has no zone AWS:EU-WEST-9."),
    (of_convert(zone="aws:eu-central1"), "Did you mean aws:eu-central-1?"),
    (of_convert(zone="eu-central-1"), "Did you mean aws:eu-central-1?"),
    (of_convert(zone="DEE"), "Did you mean DE?"),
    (of_convert(zone="UKK"), "Did you mean UK?"),
    (of_convert(zone="CAL"), "Did you mean CA or US-CAL-BANC or US-CAL-CISO?"),
    (of_convert(zone="US-CAL"), "Did you mean US-CAL-BANC or US-CAL-CISO or US-CAL-IID?"),
    (of_convert(zone="Germny", file="/x.csv"), "the bundled table has no zone GERMNY."),
    (of_convert(sources=["table"]), "config.convert.sources: `table` requires a zone."),
    (of_convert(sources=["energy_charts"]), "`energy_charts` requires a zone."),
    (
        of_convert(zone="building-7", sources=["energy_charts"]),
        "`energy_charts` requires a country of two letters, and BUILDING-7 is none.",
    ),
    (
        of_convert(zone="SE1", sources=[{"table": {"basis": "direct"}}]),
        "no direct value for SE1. It has: one whose basis is not stated.",
    ),
    (
        of_convert(zone="DE", sources=["uk"]),
        "`uk` knows GBR only, and config.convert.zone DE is in",
    ),
    (
        of_convert(zone="GB", sources=["uk", "table"]),
        "counts average direct location. Change it: write {table: {basis: direct}}, leave it out,",
    ),
    (
        of_convert(
            zone="DE", sources=[{"static": {"grams_per_kwh": 9, "accounting": "market"}}, "table"]
        ),
        "never replaces `static`, which counts average unstated market. Change it: leave it out",
    ),
    (of_convert(zone="DE", sources=[WATTTIME]), "`watttime` is marginal, which is not what was"),
    (of_convert(zone="DE", sources=["electricity_maps"]), "`electricity_maps` requires a token."),
    (
        of_convert(zone="DE", second=["watttime"]),
        "config.convert.second: `watttime` requires a token",
    ),
    (
        of_convert(zone="DE", sources=[MAPS, "table"]),
        "electricity_maps.token_file is below the mount of tokens. Name its Secret in tokens.exist",
    ),
    (
        of_convert(zone="GB", second=["table"]),
        "config.convert.second: `table` counts the same as the first intensity, average lifecycle",
    ),
    (
        of_convert(zone="GB", second=["uk", "table"]),
        "Change it: write {table: {basis: direct}}, leave it out.",
    ),
    (WITH_INTENSITY, "intensity.standIns: `table` requires a zone. Set config.convert.zone"),
    (
        {**WITH_INTENSITY, **of_convert(cloud_metadata=True)},
        "leave `table` out. The intensity pod serves nodes of one zone; for several zones, install",
    ),
    (
        {**WITH_INTENSITY, **of_convert(zone="GB", sources=["uk"])},
        "intensity.standIns: `table` counts average lifecycle location, so it never replaces the",
    ),
    (
        {
            **of_convert(zone="DE", sources=["energy_charts"]),
            "intensity": {**ON, "basis": "direct"},
        },
        "intensity.basis is direct, and the first source of the intensity pod counts unstated.",
    ),
    (
        {**of_convert(zone="DE"), "intensity": {**ON, "accounting": "market"}},
        "intensity.accounting is market, and the first source of the intensity pod counts",
    ),
    (
        {
            **of_convert(zone="DE", sources=[MAPS]),
            "tokens": {"existingSecret": "apis"},
            "intensity": {**ON, "standIns": [MAPS]},
        },
        "intensity.standIns.electricity_maps.token_file: tokens.existingSecret is not mounted in",
    ),
    (
        {"profile": "gpu-only", "state": {"hostPath": "/data"}},
        "state.hostPath has no effect with profile: gpu-only, which mounts nothing of the host.",
    ),
    (
        {"profile": "gpu-only", "config": {"attribute": {"excluded_namespaces": ["a"]}}},
        "config.attribute.excluded_namespaces has no effect with profile: gpu-only",
    ),
    (
        {"config": {"attribute": {"excluded_namespaces": ["a", "b"], "namespaces": ["b"]}}},
        "config.attribute: b is in namespaces and in excluded_namespaces.",
    ),
    ({"extraArgs": ["--foo"]}, "extraArgs: `serve` has no flag --foo."),
    ({"extraArgs": ["--convert.zone=DE"]}, "extraArgs: write config.convert.zone instead of"),
    ({"resources": {"limits": {"memory": "64MB"}}}, "'/resources/limits/memory': '64MB' does not"),
    (
        {"intensity": {"resources": {"requests": {"cpu": "50 m"}}}},
        "'/intensity/resources/requests/cpu': '50 m' does not match pattern",
    ),
    ({"zone": "Germany"}, "additional properties 'zone' not allowed"),
    (
        of_convert(grams_per_kwh=0.473),
        "less than any grid emits, it looks like kg/kWh. Write 473.",
    ),
    (
        of_convert(second=[{"static": {"grams_per_kwh": 0.012, "accounting": "market"}}]),
        "config.convert.second.static.grams_per_kwh: 0.012 g/kWh",
    ),
    (
        {"config": {"sample": {"collectors": {"gpu": False}}}},
        "additional properties 'gpu' not allowed",
    ),
    ({"config": {"sample": {"interval_seconds": 0}}}, "minimum: got 0, want 0.1"),
    (
        {"agentSocket": ON},
        "no caller could be told from another; name runs by annotations of pods instead.",
    ),
    ({"agentSocket": ON, "profile": "gpu-only"}, "agentSocket.enabled needs profile: sharing"),
    (
        {"profile": "gpu-only", "rbac": {"dynamicResourceAllocation": True}},
        "rbac.dynamicResourceAllocation needs rbac.create: true and a profile other than gpu-only",
    ),
    (
        {"rbac": {"create": False, "dynamicResourceAllocation": True}},
        "rbac.dynamicResourceAllocation needs rbac.create: true",
    ),
    (
        {"profile": "gpu-only", "seLinuxOptions": {"type": "spc_t"}},
        "seLinuxOptions.type: spc_t is not allowed to pods that are restricted. Leave it out",
    ),
    (
        {"profile": "gpu-only", "extraVolumes": [{"name": "root", "hostPath": {"path": "/"}}]},
        "extraVolumes: root is a hostPath, and profile: gpu-only mounts nothing of the host",
    ),
    ({"podMonitor": ON, "serviceMonitor": ON}, "scraped twice. Enable one of them."),
    ({"webConfig": {"tls": True}}, "Name its secret in webConfig.existingSecret."),
    (
        {"webConfig": {"existingSecret": "web", "clientCertificates": True}},
        "webConfig.clientCertificates needs webConfig.tls: true.",
    ),
    (
        {"updateStrategy": {"rollingUpdate": {"maxSurge": 1}}},
        "maxSurge must be 0: only one exporter may hold the totals of a node.",
    ),
    (
        {"updateStrategy": {"rollingUpdate": {"maxUnavailable": 0}}},
        "maxUnavailable must be above 0 where maxSurge is 0: no pod could be replaced.",
    ),
    (
        {"podLabels": {"app.kubernetes.io/name": "x"}},
        "podLabels: app.kubernetes.io/name is set by the chart. Leave it out.",
    ),
    (
        {"extraEnv": [{"name": "EMISSIONS_EXPORTER_EXPOSE_SOCKET", "value": "/x"}]},
        "extraEnv: EMISSIONS_EXPORTER_EXPOSE_SOCKET is set by the chart (agentSocket).",
    ),
    (
        {"extraArgs": ["--web.listen-address=:9"]},
        "extraArgs: --web.listen-address is set by the chart. Leave it out.",
    ),
    (
        {"extraArgs": ["--web.telemetry-path=/m"]},
        "extraArgs: write config.expose.telemetry_path instead of --web.telemetry-path",
    ),
    ({"prometheusRule": {"budgets": "groups: []"}}, "budgets needs prometheusRule.enabled: true."),
    (
        {"podMonitor": {**ON, "interval": "15s", "scrapeTimeout": "1m"}},
        "podMonitor.scrapeTimeout: 1m is longer than podMonitor.interval, 15s",
    ),
    (
        {"serviceMonitor": {**ON, "interval": "1m30s", "scrapeTimeout": "90500ms"}},
        "serviceMonitor.scrapeTimeout: 90500ms is longer than serviceMonitor.interval, 1m30s",
    ),
    (
        {"prometheusRule": {**ON, "repositoryUrl": "git.example/emissions"}},
        "would have no working link. Write, for example, https://git.example/emissions.",
    ),
    (
        {"prometheusRule": {**ON, "repositoryUrl": "https://git.example/docs/runbook.md"}},
        "is the address of a page. Write the address above docs/",
    ),
    (
        {"config": {"attribute": {"namespaces": ["team_a"]}}},
        "'/config/attribute/namespaces/0': 'team_a' does not match pattern",
    ),
    (
        {"config": {"attribute": {"excluded_namespaces": ["kube-*"]}}},
        "'/config/attribute/excluded_namespaces/0': 'kube-*' does not match pattern",
    ),
    (
        {"networkPolicy": {"namespaces": ["Monitoring"]}},
        "'/networkPolicy/namespaces/0': 'Monitoring' does not match pattern",
    ),
    (
        {"intensity": {"tolerations": [{"efect": "x"}]}},
        "'/intensity/tolerations/0': additional properties 'efect' not allowed",
    ),
    ({"serviceAccount": {"create": False}}, "name the account in serviceAccount.name, or set"),
    (
        {**WITH_INTENSITY, **of_convert(second=["watttime"])},
        "config.convert.second cannot go through intensity.enabled.",
    ),
    (
        {**WITH_INTENSITY, **of_convert(grams_per_kwh=20)},
        "intensity.enabled is for sources that are asked over the network.",
    ),
    (
        {"prometheusRule": {**ON, "budgets": "budgets:\n  - name: all\n"}},
        "prometheusRule.budgets expects rules. Make them with: emissions-exporter rules --budgets",
    ),
    (
        {"config": {"expose": {"listen_address": ":1"}}},
        "config.expose.listen_address is set by the chart (port). Leave it out of config.",
    ),
    (
        {"config": {"account": {"state_directory": "/data"}}},
        "config.account.state_directory is set by the chart (state.hostPath).",
    ),
]


@pytest.mark.parametrize(("values", "said"), MISTAKES, ids=[said[:40] for _, said in MISTAKES])
def test_a_mistake_stops_with_what_to_do(values, said):
    done = helm("template", "x", values=values)
    assert done.returncode != 0, done.stdout
    assert said in done.stderr
    assert "nil pointer" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    "values", [of_convert(zone="Germany"), of_convert(zone="XX"), WITH_INTENSITY]
)
def test_a_contradiction_fails_the_lint_too(values):
    done = helm("lint", values=values)
    assert done.returncode != 0
    assert "1 chart(s) failed" in done.stdout + done.stderr
    assert "Fail: " in done.stderr


GOOD = [
    *({"zone": zone} for zone in ("UK", "de", "DEU", "SE1", "US-CAL-CISO", "aws:eu-west-1")),
    *({"zone": zone} for zone in ("World", "", "US-HI")),
    {"zone": "building-7", "sources": [{"static": {"grams_per_kwh": 1}}]},
    {"grams_per_kwh": 0},
    {"grams_per_kwh": 1.04},
    {"zone": "GB", "sources": [{"table": None}, "uk"], "fallback": "any"},
    {"zone": "GB", "sources": ["uk", {"table": {"basis": "direct"}}]},
    {"zone": "DE", "sources": ["energy_charts", "table"]},
    {"zone": "SE1", "sources": ["energy_charts", "table"]},
    {"cloud_metadata": True, "sources": ["energy_charts", "table"]},
    {"sources": [{"table": {"zone": "DE"}}]},
    {"zone": "aws:eu-west-9", "sources": [{"electricity_maps": {"token_file": "/t"}}]},
    {"zone": "FR", "sources": ["rte"], "second": ["table"]},
    {"zone": "XX", "grams_per_kwh": 500},
    {
        "zone": "US-HI",
        "sources": [{"electricity_maps": {"token_file": "/t"}}],
        "second": [WATTTIME],
    },
]


@pytest.mark.parametrize("convert", GOOD, ids=str)
def test_a_zone_and_a_number_that_can_be_are_taken(convert):
    done = helm("template", "x", values=of_convert(**convert))
    assert done.returncode == 0, done.stderr


SOURCES = (
    *("uk", "rte", "energy_charts", "table", {"table": {"basis": "direct"}}),
    *({"table": {"zone": "DE"}}, {"static": {"grams_per_kwh": 9, "basis": "direct"}}),
    *({"static": {"grams_per_kwh": 9, "accounting": "market"}}, {"energy_charts": {"zone": "FR"}}),
)
ZONES = ("GB", "DK-DK1", "US-CA", "SE1", "XX", "building-7", "", "aws:eu-west-1", "ES-CN-FV")


@pytest.mark.parametrize("seed", range(30))
def test_the_chart_takes_the_chains_that_the_exporter_takes(seed, tmp_path, capsys):
    """The checks of the chart repeat those of the exporter in another language."""
    chosen = random.Random(seed)
    convert = {
        "zone": chosen.choice(ZONES),
        "sources": chosen.sample(SOURCES, chosen.randint(0, 3)),
        "second": chosen.sample(SOURCES, chosen.choice((0, 0, 1))),
        "fallback": chosen.choice(("same", "same", "any")),
    }
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps({"convert": convert}))
    is_active = cli.main(["check-config", str(path)]) == 0
    done = helm("template", "x", values=of_convert(**convert))
    assert (done.returncode == 0) is is_active, capsys.readouterr().err + done.stderr


def test_a_zone_of_the_environment_counts_as_set():
    zone = [{"name": "EMISSIONS_EXPORTER_CONVERT_ZONE", "value": "de"}]
    done = helm("template", "x", values={**WITH_INTENSITY, "extraEnv": zone})
    assert done.returncode == 0, done.stderr


def test_a_number_with_a_point_is_given_as_json():
    """`helm --set` makes a text of it, which the schema names."""
    done = helm("template", "x", "--set", "config.convert.pue=1.3")
    assert "'/config/convert/pue': got string, want number" in done.stderr
    done = helm("template", "x", "--set-json", "config.convert.pue=1.3")
    assert "pue: 1.3\n" in done.stdout
