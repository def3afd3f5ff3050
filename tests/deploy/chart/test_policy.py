"""What the pods may do, and what they may not."""

import base64
import json

import pytest
import yaml

from tests.deploy.chart.chart import (
    each_variant,
    named,
    needs_helm,
    node_pod,
    of_kind,
    pod_of,
    render,
    workloads,
)
from tests.deploy.chart.pod_security import refused

pytestmark = needs_helm
PROFILES = ("default", "sharing", "gpu-only")
ASKED = {
    "intensity": {"enabled": True},
    "config": {"convert": {"zone": "GB", "sources": ["energy_charts", "table"]}},
}
NO_RIGHTS = {"create": False}


@each_variant
def test_no_container_may_do_more_than_it_must(variant):
    for workload in workloads(render(variant)):
        pod = pod_of(workload)
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not pod.get("hostNetwork")
        assert not pod.get("hostIPC")
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["privileged"] is False
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}


@each_variant
def test_every_container_has_probes_and_resources(variant):
    for workload in workloads(render(variant)):
        for container in pod_of(workload)["containers"]:
            assert container["startupProbe"]
            assert container["livenessProbe"]
            assert container["readinessProbe"]
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}
            assert container["resources"]["limits"].keys() == {"memory"}


@each_variant
def test_a_pod_that_gets_little_cpu_time_may_start_for_minutes_and_be_late(variant):
    for workload in workloads(render(variant)):
        for container in pod_of(workload)["containers"]:
            startup, liveness = container["startupProbe"], container["livenessProbe"]
            assert startup["failureThreshold"] * startup["periodSeconds"] >= 300
            assert liveness["failureThreshold"] * liveness["periodSeconds"] >= 60
            # With 10m on a saturated processor, an answer was measured to take 2 s.
            for probe in (startup, liveness, container["readinessProbe"]):
                assert probe["timeoutSeconds"] >= 10
            assert container["resources"]["requests"]["cpu"] == "50m"


@pytest.mark.parametrize("profile", PROFILES)
def test_values_of_a_chart_without_a_startup_probe_get_the_default_one(profile):
    """As `helm upgrade --reuse-values` passes them."""
    before = {
        "startupProbe": None,
        "livenessProbe": {"initialDelaySeconds": 5, "timeoutSeconds": 3, "failureThreshold": 3},
    }
    [default] = node_pod(render({"profile": profile}))["containers"]
    [container] = node_pod(render({"profile": profile, **before}))["containers"]
    assert container["startupProbe"] == default["startupProbe"]
    assert container["livenessProbe"]["failureThreshold"] == 3


@pytest.mark.parametrize("profile", PROFILES)
def test_the_priority_class_is_an_option_of_every_profile(profile):
    assert "priorityClassName" not in node_pod(render({"profile": profile}))
    given = {"profile": profile, "priorityClassName": "system-node-critical"}
    assert node_pod(render(given))["priorityClassName"] == "system-node-critical"


def test_the_intensity_pod_is_scheduled_by_values_of_its_own():
    linux = {"kubernetes.io/os": "linux"}
    of_nodes = {
        "priorityClassName": "system-node-critical",
        "nodeSelector": {"pool": "gpu"},
        "affinity": {"podAffinity": {}},
    }
    name = "x-emissions-exporter-intensity"
    pod = pod_of(named(render({**ASKED, **of_nodes}), "Deployment", name))
    assert pod["nodeSelector"] == linux
    assert not {"tolerations", "affinity", "priorityClassName"} & pod.keys()
    own = {
        "priorityClassName": "system-cluster-critical",
        "nodeSelector": {"pool": "system"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
    }
    given = {**ASKED, "intensity": {"enabled": True, **own}}
    pod = pod_of(named(render(given), "Deployment", name))
    assert {key: pod[key] for key in own} == {**own, "nodeSelector": {"pool": "system", **linux}}


@pytest.mark.parametrize("profile", PROFILES)
def test_values_of_a_chart_without_scheduling_of_the_intensity_pod_are_accepted(profile):
    """As `helm upgrade --reuse-values` passes them."""
    unset = dict.fromkeys(("nodeSelector", "tolerations", "affinity", "priorityClassName"))
    given = {**ASKED, "profile": profile, "intensity": {"enabled": True, **unset}}
    pod = pod_of(named(render(given), "Deployment", "x-emissions-exporter-intensity"))
    assert pod["nodeSelector"] == {"kubernetes.io/os": "linux"}


@pytest.mark.parametrize("profile", PROFILES)
def test_only_sharing_sees_the_processes_of_the_host(profile):
    assert node_pod(render({"profile": profile})).get("hostPID", False) is (profile == "sharing")


def test_gpu_only_passes_restricted():
    pod = node_pod(render({"profile": "gpu-only"}))
    assert refused(pod) == []
    assert pod["containers"][0]["securityContext"]["runAsUser"] == 65532


def test_the_intensity_pod_passes_restricted():
    objects = render(ASKED)
    assert refused(pod_of(named(objects, "Deployment", "x-emissions-exporter-intensity"))) == []


def test_the_check_of_restricted_refuses_the_other_profiles_for_what_they_use():
    assert set(refused(node_pod(render({"profile": "sharing"})))) == {
        "hostPID",
        "runAsNonRoot",
        "runAsUser",
        *(
            f"volume {name}: hostPath"
            for name in ("state", "devices", "bus", "cgroup", "proc", "pod-resources")
        ),
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"privileged": True}, "privileged"),
        ({"allowPrivilegeEscalation": True}, "allowPrivilegeEscalation"),
        ({"capabilities": {"drop": ["ALL"], "add": ["SYS_PTRACE"]}}, "capabilities are added"),
        ({"capabilities": {}}, "capabilities are not dropped"),
        ({"runAsUser": 0}, "runAsUser"),
        ({"runAsNonRoot": False}, "runAsNonRoot"),
        ({"seccompProfile": {"type": "Unconfined"}}, "seccompProfile"),
        ({"seLinuxOptions": {"type": "spc_t"}}, "seLinuxOptions"),
        ({"procMount": "Unmasked"}, "procMount"),
    ],
)
def test_the_check_of_restricted_sees_each_breach(change, said):
    pod = node_pod(render({"profile": "gpu-only"}))
    pod["containers"][0]["securityContext"] |= change
    assert refused(pod) == [said]


def test_the_host_is_mounted_to_be_read_except_for_totals():
    pod = node_pod(render())
    mounts = {each["name"]: each for each in pod["containers"][0]["volumeMounts"]}
    paths = {
        each["name"]: each["hostPath"]["path"] for each in pod["volumes"] if "hostPath" in each
    }
    assert paths == {
        "state": "/var/lib/emissions-exporter",
        "devices": "/sys/devices",
        "bus": "/sys/bus",
        "cgroup": "/sys/fs/cgroup",
        "proc": "/proc",
        "pod-resources": "/var/lib/kubelet/pod-resources",
    }
    assert [name for name in paths if not mounts[name].get("readOnly")] == ["state"]
    assert mounts["proc"]["recursiveReadOnly"] == "IfPossible"


def test_older_clusters_are_not_asked_for_what_they_do_not_know():
    assert "recursiveReadOnly" not in json.dumps(render(kubernetes="1.30.0"))


@each_variant
def test_every_mount_has_a_volume_and_every_volume_a_mount(variant):
    for workload in workloads(render(variant)):
        pod = pod_of(workload)
        [container] = pod["containers"]
        mounts = [each["name"] for each in container["volumeMounts"]]
        assert sorted(mounts) == sorted(each["name"] for each in pod["volumes"])


def test_the_agent_socket_is_shared_only_on_request():
    given = {"profile": "sharing"}
    volumes = {each["name"]: each for each in node_pod(render(given))["volumes"]}
    assert volumes["run"] == {"name": "run", "emptyDir": {}}
    given["agentSocket"] = {"enabled": True}
    volumes = {each["name"]: each for each in node_pod(render(given))["volumes"]}
    assert volumes["run"]["hostPath"]["path"] == "/run/emissions-exporter"


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("create", [True, False])
def test_a_token_is_mounted_only_where_it_has_rights(profile, create):
    objects = render({"profile": profile, "rbac": {"create": create}})
    has_rights = create and profile != "gpu-only"
    assert node_pod(objects)["automountServiceAccountToken"] is has_rights
    assert bool(of_kind(objects, "ClusterRole")) is has_rights
    assert bool(of_kind(objects, "ClusterRoleBinding")) is has_rights
    for account in of_kind(objects, "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False


@pytest.mark.parametrize("create", [True, False])
def test_without_rights_nobody_is_asked_and_nothing_is_said_to_fail(create):
    (container,) = node_pod(render({"rbac": {"create": create}}))["containers"]
    variables = {each["name"]: each.get("value") for each in container["env"]}
    account = variables.get("EMISSIONS_EXPORTER_ATTRIBUTE_SERVICE_ACCOUNT", "the usual one")
    assert account == ("the usual one" if create else "")


def test_rights_are_those_that_are_used_and_no_more():
    [role] = of_kind(render(), "ClusterRole")
    pods = {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]}
    assert role["rules"] == [pods]
    [role] = of_kind(render({"rbac": {"dynamicResourceAllocation": True}}), "ClusterRole")
    assert role["rules"] == [
        pods,
        {
            "apiGroups": ["resource.k8s.io"],
            "resources": ["resourceslices"],
            "verbs": ["list"],
        },
        {
            "apiGroups": ["resource.k8s.io"],
            "resources": ["resourceclaims"],
            "verbs": ["get"],
        },
    ]


@each_variant
def test_no_variant_writes_a_secret(variant):
    assert of_kind(render(variant), "Secret") == []


def test_tokens_are_files_in_the_pod_that_asks_and_nowhere_else():
    secret = {"secretName": "apis", "defaultMode": 0o440}
    given = {"tokens": {"existingSecret": "apis"}}
    assert {"name": "tokens", "secret": secret} in node_pod(render(given))["volumes"]
    objects = render({**given, **ASKED})
    assert "apis" not in json.dumps(node_pod(objects))
    [deployment] = of_kind(objects, "Deployment")
    assert {"name": "tokens", "secret": secret} in pod_of(deployment)["volumes"]
    assert "apis" not in json.dumps(of_kind(objects, "ConfigMap"))


def test_a_change_of_settings_starts_the_pods_anew():
    sums = [
        of_kind(render({"config": {"convert": {"pue": pue}}}), "DaemonSet")[0]["spec"]["template"][
            "metadata"
        ]["annotations"]["checksum/config"]
        for pue in (1.1, 1.2, 1.2)
    ]
    assert sums[0] != sums[1]
    assert sums[1] == sums[2]


@pytest.mark.parametrize(
    ("web", "expected"),
    [
        ({}, {"httpGet": {"path": "/-/healthy", "port": "http", "scheme": "HTTP"}}),
        ({"tls": True}, {"httpGet": {"path": "/-/healthy", "port": "http", "scheme": "HTTPS"}}),
        (
            {"tls": True, "clientCertificates": True},
            # At a tenth of a CPU second for each.
            {
                "exec": {"command": ["emissions-exporter", "healthcheck"]},
                "periodSeconds": 60,
                "timeoutSeconds": 30,
            },
        ),
    ],
)
def test_probes_get_through_the_web_config(web, expected):
    objects = render({"webConfig": {"existingSecret": "web", **web}})
    [container] = node_pod(objects)["containers"]
    assert expected.items() <= container["livenessProbe"].items()
    assert "--web.config.file=/etc/emissions-exporter/web/web.yaml" in container["args"]
    ways = {"httpGet", "exec", "tcpSocket"}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert len(ways & container[probe].keys()) == 1
    assert "exec" not in container["readinessProbe"]
    assert "exec" not in container["startupProbe"]


def test_longer_times_of_a_probe_that_is_a_command_are_kept():
    web = {"existingSecret": "web", "tls": True, "clientCertificates": True}
    given = {"webConfig": web, "livenessProbe": {"periodSeconds": 90, "timeoutSeconds": 45}}
    [container] = node_pod(render(given))["containers"]
    assert container["livenessProbe"]["periodSeconds"] == 90
    assert container["livenessProbe"]["timeoutSeconds"] == 45


@each_variant
def test_the_image_is_the_one_that_was_asked_for(variant):
    images = {pod_of(each)["containers"][0]["image"] for each in workloads(render(variant))}
    pinned = f"registry.example/emissions-exporter@sha256:{'0' * 64}"
    is_full = variant.name == "full-values.yaml"
    assert images == {pinned if is_full else "emissions-exporter:0.1.0"}


def _ports(policy):
    """The TCP and UDP ports that `policy` lets out, to anywhere."""
    return {
        (port["protocol"], port["port"])
        for rule in policy["spec"]["egress"]
        if "to" not in rule
        for port in rule["ports"]
    }


DNS = {("UDP", 53), ("TCP", 53), ("UDP", 5353), ("TCP", 5353)}


def test_the_network_policy_lets_every_source_of_intensity_out():
    sources = [
        {"electricity_maps": {"token_file": "/token"}},
        {"prometheus": {"url": "http://prometheus:9090/prefix", "query": "x"}},
        {"uk": {"url": "http://mirror"}},
        {"exporter": {"url": "https://[fd00::1]:8443"}},
        "energinet",
    ]
    convert = {"cloud_metadata": True, "sources": sources, "fallback": "any"}
    given = {"networkPolicy": {"enabled": True}, "config": {"convert": convert}}
    objects = render(given)
    wanted = {("TCP", port) for port in (443, 6443, 9090, 80, 8443)}
    assert _ports(named(objects, "NetworkPolicy")) == DNS | wanted


@pytest.mark.parametrize("proxy", ["10.0.0.1:3128", "proxy.example:3128", "http://proxy:3128/"])
def test_a_proxy_is_found_however_it_is_named(proxy):
    environment = [{"name": "https_proxy", "value": proxy}]
    policy = named(
        render({**ASKED, "networkPolicy": {"enabled": True}, "extraEnv": environment}),
        "NetworkPolicy",
        "x-emissions-exporter-intensity",
    )
    assert ("TCP", 3128) in _ports(policy)


@pytest.mark.parametrize(
    ("source", "port"), [("uk", 443), ({"uk": {"url": "http://mirror:8080"}}, 8080)]
)
def test_nodes_are_let_out_to_the_stand_ins_of_the_intensity_pod(source, port):
    intensity = {"enabled": True, "standIns": [source, "table"]}
    policy = named(
        render(
            {
                **ASKED,
                "networkPolicy": {"enabled": True},
                "intensity": intensity,
                "rbac": NO_RIGHTS,
            }
        ),
        "NetworkPolicy",
    )
    assert ("TCP", port) in _ports(policy)


def test_volumes_for_all_are_in_the_intensity_pod_too_and_those_of_the_host_are_not():
    volumes = [
        {"name": "certificates", "configMap": {"name": "certificates"}},
        {"name": "host", "hostPath": {"path": "/opt"}},
    ]
    mounts = [{"name": each["name"], "mountPath": f"/{each['name']}"} for each in volumes]
    objects = render({**ASKED, "extraVolumes": volumes, "extraVolumeMounts": mounts})
    [deployment] = of_kind(objects, "Deployment")
    pod = pod_of(deployment)
    assert volumes[0] in pod["volumes"]
    assert volumes[1] not in pod["volumes"]
    assert mounts[0] in pod["containers"][0]["volumeMounts"]
    assert mounts[1] not in pod["containers"][0]["volumeMounts"]
    assert refused(pod) == []


def test_the_network_policy_lets_the_proxy_and_the_metadata_service_be_asked():
    given = {
        "networkPolicy": {"enabled": True},
        "config": {"convert": {"cloud_metadata": True, "sources": ["energy_charts"]}},
        "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://user@proxy:3128"}],
    }
    policy = named(render(given), "NetworkPolicy")
    assert ("TCP", 3128) in _ports(policy)
    assert {
        "to": [{"ipBlock": {"cidr": "169.254.169.254/32"}}],
        "ports": [{"protocol": "TCP", "port": 80}],
    } in policy["spec"]["egress"]


def test_with_an_intensity_pod_only_that_one_is_let_out_to_the_sources():
    objects = render({"networkPolicy": {"enabled": True}, **ASKED})
    node = named(objects, "NetworkPolicy")
    asker = named(objects, "NetworkPolicy", "x-emissions-exporter-intensity")
    assert _ports(node) == DNS | {("TCP", 443), ("TCP", 6443)}
    assert _ports(asker) == DNS | {("TCP", 443)}
    [deployment] = of_kind(objects, "Deployment")
    [to] = [rule["to"] for rule in node["spec"]["egress"] if "to" in rule]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert to[0]["podSelector"]["matchLabels"].items() <= labels.items()
    [daemonset] = of_kind(objects, "DaemonSet")
    [source] = asker["spec"]["ingress"][0]["from"]
    labels = daemonset["spec"]["template"]["metadata"]["labels"]
    assert source["podSelector"]["matchLabels"].items() <= labels.items()


def test_gpu_only_is_not_let_out_to_the_api_server():
    policy = named(
        render({"profile": "gpu-only", "networkPolicy": {"enabled": True}}), "NetworkPolicy"
    )
    assert _ports(policy) == DNS


@pytest.mark.parametrize(
    "convert",
    [{}, {"zone": "DE"}, {"zone": "DE", "sources": [{"table": {}}]}, {"grams_per_kwh": 9}],
)
def test_without_a_source_on_the_network_only_dns_and_the_api_server_are_let_out(convert):
    given = {"networkPolicy": {"enabled": True}, "config": {"convert": convert}}
    assert _ports(named(render(given), "NetworkPolicy")) == DNS | {("TCP", 443), ("TCP", 6443)}
    given |= {"rbac": NO_RIGHTS}
    assert _ports(named(render(given), "NetworkPolicy")) == DNS


@pytest.mark.parametrize("kind", ["PodMonitor", "ServiceMonitor"])
def test_a_monitor_names_the_node_and_not_the_pod(kind):
    given = {f"{kind[0].lower()}{kind[1:]}": {"enabled": True}}
    spec = named(render(given), kind)["spec"]
    [endpoint] = spec["podMetricsEndpoints" if kind == "PodMonitor" else "endpoints"]
    node, job, dropped = endpoint["relabelings"]
    assert node == {
        "sourceLabels": ["__meta_kubernetes_pod_node_name"],
        "targetLabel": "instance",
    }
    assert job == {"targetLabel": "job", "replacement": "emissions-exporter"}
    assert {"pod", "container", "endpoint", "namespace"} <= set(dropped["regex"].split("|"))
    assert "instance" not in dropped["regex"]


@pytest.mark.parametrize("kind", ["podMonitor", "serviceMonitor"])
def test_no_monitor_finds_the_intensity_pod(kind):
    objects = render({kind: {"enabled": True}, **ASKED})
    [monitor] = of_kind(objects, f"{kind[0].upper()}{kind[1:]}")
    selector = monitor["spec"]["selector"]["matchLabels"]
    found = [
        (each["kind"], each["metadata"]["name"])
        for each in objects
        if selector.items() <= each["metadata"]["labels"].items()
    ]
    assert ("Service", "x-emissions-exporter-intensity") not in found
    [deployment] = of_kind(objects, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert not selector.items() <= labels.items()


def test_nothing_that_looks_like_a_token_reaches_a_config_map():
    secret = base64.b64encode(b"token").decode()
    given = {"extraEnv": [{"name": "EMISSIONS_EXPORTER_ELECTRICITY_MAPS_TOKEN", "value": secret}]}
    for each in of_kind(render(given), "ConfigMap"):
        assert secret not in yaml.safe_dump(each)
