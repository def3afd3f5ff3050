"""Prometheus on the node of the cluster, with the scrape jobs of the documentation."""

import json
import os
import re
import shutil
import subprocess
import textwrap
from functools import partial
from typing import Any

import yaml

from tests.cluster.node import BUILT, LONG_SECONDS, NODE_ADDRESS, Node
from tests.real.parts import REPOSITORY, until

EXPORTERS = "emissions-exporter"
"""The namespace that the scrape job of the documentation selects."""
MONITORING = "monitoring"
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where a program in a pod finds its token."""
SERVICE = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}


def program() -> str | None:
    """The Prometheus to test. That of Debian cannot discover pods."""
    return shutil.which(os.environ.get("PROMETHEUS", BUILT / "prometheus"))


def example(page: str, start: str) -> str:
    """The example of a page of the documentation that begins like this."""
    text = (REPOSITORY / "docs" / f"{page}.md").read_text()
    blocks = re.findall(r"(?m)(?:^(?: {4}.*)?\n)+", text)
    (found,) = [each for each in blocks if textwrap.dedent(each).strip().startswith(start)]
    return textwrap.dedent(found).strip()


def documented_job() -> dict[str, Any]:
    """The scrape job for Kubernetes."""
    start = "scrape_configs:\n  - job_name: emissions-exporter\n    kubernetes_sd_configs:"
    (job,) = yaml.safe_load(example("scale", start))["scrape_configs"]
    return dict(job)


def operator_job() -> dict[str, Any]:
    """The scrape job that the Prometheus operator makes of the documented PodMonitor."""
    text = example("scale", "apiVersion: monitoring.coreos.com/v1\nkind: PodMonitor")
    spec = yaml.safe_load(text)["spec"]
    (endpoint,) = spec["podMetricsEndpoints"]
    pod = "__meta_kubernetes_pod"
    labels = {
        name: f"{pod}_label_{re.sub('[^a-zA-Z0-9]', '_', name)}"
        for name in spec["selector"]["matchLabels"]
    }
    fields = {"sourceLabels": "source_labels", "targetLabel": "target_label"}
    own = {
        "namespace": "__meta_kubernetes_namespace",
        "container": f"{pod}_container_name",
        "pod": f"{pod}_name",
    }
    return {
        "job_name": f"podMonitor/{EXPORTERS}/emissions-exporter/0",
        "metrics_path": endpoint["path"],
        "scheme": endpoint["scheme"],
        "kubernetes_sd_configs": [{"role": "pod", "namespaces": {"names": [EXPORTERS]}}],
        "relabel_configs": [
            {"source_labels": [f"{pod}_phase"], "regex": "(Failed|Succeeded)", "action": "drop"},
            *(
                {"source_labels": [labels[name]], "regex": value, "action": "keep"}
                for name, value in spec["selector"]["matchLabels"].items()
            ),
            {
                "source_labels": [f"{pod}_container_port_name"],
                "regex": endpoint["port"],
                "action": "keep",
            },
            *({"source_labels": [own[name]], "target_label": name} for name in own),
            {"target_label": "endpoint", "replacement": endpoint["port"]},
            *(
                {fields.get(name, name): value for name, value in each.items()}
                for each in endpoint["relabelings"]
            ),
        ],
    }


def server_job(namespace: str) -> dict[str, Any]:
    """A scrape job for inference servers, with the labels that rules/serving.yaml requires."""
    return {
        "job_name": "vllm",
        "metrics_path": "/metrics.txt",
        "kubernetes_sd_configs": [{"role": "pod", "namespaces": {"names": [namespace]}}],
        "relabel_configs": [
            {
                "source_labels": ["__meta_kubernetes_pod_container_port_name"],
                "regex": "http",
                "action": "keep",
            },
            {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
            {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
        ],
    }


def admit(node: Node, *namespaces: str) -> None:
    """Give Prometheus a service account that may list and watch the pods of these namespaces."""
    account = {"kind": "ServiceAccount", "name": "prometheus", "namespace": MONITORING}
    rbac = "rbac.authorization.k8s.io"
    node.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": MONITORING}},
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "prometheus", "namespace": MONITORING},
        },
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": "prometheus-pods"},
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]}],
        },
        *(
            {
                "apiVersion": f"{rbac}/v1",
                "kind": "RoleBinding",
                "metadata": {"name": "prometheus-pods", "namespace": namespace},
                "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "prometheus-pods"},
                "subjects": [account],
            }
            for namespace in namespaces
        ),
    )
    token = node.kubectl("create", "token", "prometheus", f"--namespace={MONITORING}")
    node.inside("mkdir", "-p", ACCOUNT)
    node.inside("tee", f"{ACCOUNT}/token", text=token.strip())
    node.inside("cp", node.authority.path("ca.crt"), f"{ACCOUNT}/ca.crt")


class Prometheus:
    """One that runs on the node, with the environment and the token of a pod."""

    def __init__(
        self, node: Node, program: str, port: int, jobs: list[dict[str, Any]], rules: str = ""
    ) -> None:
        self._node = node
        self.address = f"{NODE_ADDRESS}:{port}"
        self.directory = node.directory / f"prometheus-{port}"
        self.directory.mkdir()
        config = self.directory / "prometheus.yml"
        config.write_text(
            json.dumps(
                {
                    "global": {"scrape_interval": "1s"},
                    "rule_files": [rules] if rules else [],
                    "scrape_configs": jobs,
                }
            )
        )
        with (self.directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                node.enter(
                    *("env", *(f"{name}={value}" for name, value in SERVICE.items()), program),
                    f"--config.file={config}",
                    f"--storage.tsdb.path={self.directory / 'data'}",
                    f"--web.listen-address={self.address}",
                    "--web.enable-lifecycle",
                ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until(self._is_ready, LONG_SECONDS, "Prometheus is ready")

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, self.log()
        url = f"http://{self.address}/-/ready"
        return bool(self._node.inside("curl", "--silent", "--fail", url, check=False))

    def stop(self) -> None:
        self._node.inside("curl", "--silent", "--data", "", f"http://{self.address}/-/quit")
        self._process.wait(LONG_SECONDS)

    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def get(self, path: str, **fields: object) -> Any:
        """The data of an answer; an assertion fails if it has errors or warnings."""
        data = [
            part
            for each in fields.items()
            for part in ("--data-urlencode", "=".join(map(str, each)))
        ]
        url = f"http://{self.address}/api/v1/{path}"
        text = self._node.inside("curl", "--silent", "--get", *data, url)
        answer = json.loads(text)
        assert answer["status"] == "success", (fields, text)
        assert not answer.get("warnings"), (fields, text)
        return answer["data"]

    def result(self, how: str, **fields: object) -> list[dict[str, Any]]:
        return list(self.get(how, **fields)["result"])

    def query(self, text: str) -> list[dict[str, Any]]:
        """The series of an instant query."""
        return self.result("query", query=text)

    def value(self, text: str) -> float:
        """The only number that a query gives; NaN for none."""
        rows = self.query(text)
        assert len(rows) <= 1, rows
        return float(rows[0]["value"][1]) if rows else float("nan")

    def current(self, selector: str) -> set[frozenset[tuple[str, str]]]:
        """The labels of all series that have a value now."""
        return {frozenset(row["metric"].items()) for row in self.query(selector)}

    def series(self, selector: str) -> set[frozenset[tuple[str, str]]]:
        """The labels of all series that there are or were."""
        found = self.get("series", **{"match[]": selector})
        return {frozenset(labels.items()) for labels in found}

    def targets(self, job: str) -> list[dict[str, Any]]:
        """Active targets of a job in the configuration."""
        active = self.get("targets", state="active")["activeTargets"]
        return [target for target in active if target["scrapePool"] == job]

    def rules(self) -> list[dict[str, Any]]:
        """Every rule that was loaded, with its health."""
        return [rule for group in self.get("rules")["groups"] for rule in group["rules"]]

    def scraped(self) -> None:
        """Wait for a scrape and an evaluation that begin after this call."""
        now = self.value("vector(time())")
        scraped = "max(timestamp(up{job='emissions-exporter'} == 1))"
        evaluated = "max(timestamp(instance_run_id_job_id:emissions_run_start_time_seconds:max))"
        for each in (scraped, evaluated):
            until(partial(self._is_later, each, now + 1), LONG_SECONDS, each)

    def _is_later(self, query: str, than: float) -> bool:
        return self.value(query) > than


def rule_expressions() -> list[tuple[str, str]]:
    """Every rule of deploy/prometheus as it is there: name and expression."""
    return [
        (rule.get("record") or rule["alert"], rule["expr"])
        for path in sorted((REPOSITORY / "deploy" / "prometheus").glob("*/*.yaml"))
        for group in yaml.safe_load(path.read_text())["groups"]
        for rule in group["rules"]
    ]


def commented_job() -> dict[str, Any]:
    """The scrape job for Kubernetes in the comment of prometheus.yml."""
    text = (REPOSITORY / "deploy" / "prometheus" / "prometheus.yml").read_text()
    comment = text.partition("# In Kubernetes,")[2].partition("\n")[2]
    lines = [line.strip().removeprefix("#") for line in comment.splitlines()]
    (job,) = yaml.safe_load(textwrap.dedent("\n".join(lines)))
    return dict(job)
