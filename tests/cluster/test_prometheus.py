"""Prometheus discovers the exporter by the documented scrape job, and answers what is promised."""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any, NamedTuple

import pytest

from tests.cluster.conftest import GPUS, Exporter, driver_values
from tests.cluster.monitoring import (
    EXPORTERS,
    Prometheus,
    admit,
    commented_job,
    documented_job,
    example,
    operator_job,
    program,
    rule_expressions,
    server_job,
)
from tests.cluster.node import LONG_SECONDS, NAME, SHELL, Node
from tests.dashboards.boards import BOARDS, GRAFANA, chosen, numbers, questions
from tests.dashboards.scene import write_rules
from tests.nvml.fake import FakeNvml
from tests.real.parts import until

GPU = "nvidia.com/gpu"
SERVING, BATCH = "serving", "batch"
SERVE = """
busybox mkdir /www && busybox httpd -p 8000 -h /www
requests=0
while :; do
  requests=$((requests + 1))
  echo "vllm:generation_tokens_total $((requests * 340))" >/www/new
  echo "vllm:request_success_total{finished_reason=\\"stop\\"} $requests" >>/www/new
  busybox mv /www/new /www/metrics.txt
  busybox sleep 0.3
done
"""
"""The counters of vLLM."""
Series = frozenset[tuple[str, str]]
Runs = dict[str, list[dict[str, Any]]]
SPIN = "while :; do :; done"
COUNTERS = '{__name__=~"emissions_(device|attributed|unattributed|run|owner)_.+_total"}'
OF_PODS = {"pod", "container", "endpoint", "namespace"}
NOT_HERE = re.compile(
    r"emissions_run_(budget|forecast|units|end_time)|per_budget|sum_max30d|per_unit|ALERTS"
    r"|emissions_grid_intensity_requests|collector_success\{.*[=>] 0"
)
"""In queries for what this node does not have: runs with budgets or units, or that have ended,
alerts, live sources, and failures."""


def pod(namespace: str, name: str, script: str, **fields: Any) -> dict[str, Any]:
    container = {"name": "main", "image": SHELL, "command": ["sh", "-c", script], **fields}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"team": "vision"},
            "annotations": {"emissions-exporter/run-id": f"{name}-1"},
        },
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
        },
    }


class Scene(NamedTuple):
    """A node with busy pods, and Prometheus on it."""

    node: Node
    exporter: Exporter
    program: str
    server: Prometheus


@pytest.fixture(scope="module")
def scene(node: Node, gpus: FakeNvml, privileged: Any) -> Iterator[Scene]:
    installed = program()
    if installed is None:
        pytest.skip("prometheus is missing: .ci/setup cluster")
    privileged(EXPORTERS)
    node.offer({"resources": {GPU: GPUS[:2]}})
    exporter = Exporter(node, "monitored", EXPORTERS)
    config = {"convert": {"zone": "DE"}, "attribute": {"exported_labels": ["team"]}}
    exporter.install({"config": config, **driver_values(gpus)})
    node.apply(
        *(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            for name in (SERVING, BATCH)
        )
    )
    admit(node, EXPORTERS, SERVING)
    rules = node.directory / "rules"
    write_rules(rules)
    with ExitStack() as ends:
        server = Prometheus(
            *(node, installed, 9090),
            [documented_job(), server_job(SERVING)],
            f"{rules}/*.yaml",
        )
        ends.callback(server.stop)
        until(lambda: named_serviceaccount(node, SERVING) and named_serviceaccount(node, BATCH))
        ports = [{"name": "http", "containerPort": 8000}]
        node.apply(
            pod(SERVING, "chat", SERVE, ports=ports, resources={"limits": {GPU: 1}}),
            pod(BATCH, "fold", SPIN, resources={"limits": {"cpu": "150m"}}),
        )
        yield Scene(node, exporter, installed, server)
        node.kubectl("delete", "namespace", SERVING, BATCH)
    exporter.uninstall()


def named_serviceaccount(node: Node, namespace: str) -> bool:
    found = node.kubectl("get", "serviceaccounts", f"--namespace={namespace}", check=False)
    return "default" in found


def test_the_scrape_job_in_prometheus_yml_is_that_of_the_documentation() -> None:
    assert commented_job() == documented_job()


def test_discovery_finds_the_exporter_under_the_name_of_its_node(scene: Scene) -> None:
    server = scene.server
    server.scraped()
    (target,) = server.targets("emissions-exporter")
    assert target["labels"] == {"instance": NAME, "job": "emissions-exporter"}
    assert target["lastError"] == ""
    assert target["scrapeUrl"] == f"http://{scene.exporter.address}/metrics"


def test_the_pod_monitor_gives_the_same_labels(scene: Scene) -> None:
    server = Prometheus(scene.node, scene.program, 9190, [operator_job()])
    try:
        name = operator_job()["job_name"]
        until(lambda: [each["health"] for each in server.targets(name)] == ["up"], LONG_SECONDS)
        (target,) = server.targets(name)
        assert target["labels"] == {"instance": NAME, "job": "emissions-exporter"}
        assert len(server.query("up")) == 1
    finally:
        server.stop()


def test_every_rule_is_evaluated_without_an_error(scene: Scene) -> None:
    server = scene.server
    until(lambda: all(rule["health"] != "unknown" for rule in server.rules()), LONG_SECONDS)
    rules = server.rules()
    assert len(rules) > len(rule_expressions())
    assert [rule for rule in rules if rule["health"] != "ok" or rule.get("lastError")] == []


def test_every_rule_as_it_is_delivered_has_an_answer_without_an_error(scene: Scene) -> None:
    for _, expression in rule_expressions():
        scene.server.query(expression)


@pytest.mark.parametrize("board", BOARDS)
def test_the_queries_of_a_board_are_answered(scene: Scene, board: str) -> None:
    server = scene.server
    until(lambda: server.query("run_id:emissions_served_tokens:rate5m"), LONG_SECONDS)
    values = chosen(board, GRAFANA, server.query, {"user", "job_id", "unit"})
    unanswered = questions(board)

    def answered() -> bool:
        nonlocal unanswered
        unanswered = [each for each in unanswered if not numbers(each, values, server.result)]
        return all(NOT_HERE.search(each.expr) for each in unanswered)

    with suppress(AssertionError):
        until(answered)
    assert [each.place for each in unanswered if not NOT_HERE.search(each.expr)] == []


@pytest.fixture(scope="module")
def before(scene: Scene) -> set[Series]:
    """The counters that there were, before another pod replaced that of the exporter."""
    scene.server.scraped()
    found = scene.server.current(COUNTERS)
    (old,) = scene.exporter.pods()
    scene.node.kubectl("delete", "pod", old["metadata"]["name"], f"--namespace={EXPORTERS}")
    until(scene.exporter.is_ready, LONG_SECONDS, "another pod is ready")
    (new,) = scene.exporter.pods()
    assert new["metadata"]["uid"] != old["metadata"]["uid"]
    scene.server.scraped()
    return found


def test_a_replaced_pod_continues_the_series_of_its_node(scene: Scene, before: set[Series]) -> None:
    assert len(before) > 20
    assert before <= scene.server.current(COUNTERS)
    assert len(scene.server.series('up{job="emissions-exporter"}')) == 1
    for series in scene.server.series('{__name__=~"emissions_.*",job="emissions-exporter"}'):
        labels = dict(series)
        assert labels["instance"] == NAME
        assert not labels.keys() & OF_PODS


def test_counters_do_not_fall_at_a_replacement(scene: Scene, before: set[Series]) -> None:
    for name in {dict(series)["__name__"] for series in before}:
        assert scene.server.query(f"resets({name}[1h]) > 0") == [], name
        assert scene.server.query(f"resets({name}[1h])"), name


@pytest.fixture(scope="module")
def ended(scene: Scene, before: set[Series]) -> Runs:
    """Records of the runs of each namespace, after their pods are deleted."""
    for namespace in (SERVING, BATCH):
        scene.node.kubectl("delete", "pods", "--all", f"--namespace={namespace}")

    def records(namespace: str) -> list[dict[str, Any]]:
        return list(scene.exporter.json(f"/api/v1/runs?namespace={namespace}")["runs"])

    def have_ended() -> bool:
        return all(run["ended"] for name in (SERVING, BATCH) for run in records(name))

    until(have_ended, LONG_SECONDS, "the runs have ended")
    scene.server.scraped()
    return {namespace: records(namespace) for namespace in (SERVING, BATCH)}


def total(runs: list[dict[str, Any]], field: str) -> Any:
    assert runs
    return pytest.approx(sum(run[field] for run in runs), rel=1e-9)


def of_namespace(scene: Scene, query: str, namespace: str) -> float:
    """The value of a query for one namespace."""
    (found,) = [
        float(row["value"][1])
        for row in scene.server.query(query)
        if row["metric"] == {"workload_namespace": namespace}
    ]
    return found


@pytest.mark.parametrize("namespace", [SERVING, BATCH])
def test_the_recipes_for_namespaces_give_the_sums_of_their_runs(
    scene: Scene, ended: Runs, namespace: str
) -> None:
    runs = ended[namespace]
    energy = example("rules", "sum by (account) (sum_over_time(account:")
    kwh = energy.replace("account", "workload_namespace")
    grams = kwh.replace("energy_joules", "carbon_grams").removesuffix(" / 3.6e6")
    assert of_namespace(scene, kwh, namespace) * 3.6e6 == total(runs, "energy_joules")
    assert of_namespace(scene, grams, namespace) == total(runs, "carbon_grams")
    owners = "sum by (workload_namespace) (emissions_owner_energy_joules_total)"
    assert of_namespace(scene, owners, namespace) == total(runs, "energy_joules")


@pytest.mark.parametrize("namespace", [SERVING, BATCH])
def test_the_recipes_for_runs_give_their_energy(scene: Scene, ended: Runs, namespace: str) -> None:
    whole, part = example("rules", "# total energy of the runs").split("\n\n")
    for run in ended[namespace]:
        for recipe in (whole, part):
            found = {
                row["metric"]["run_id"]: float(row["value"][1])
                for row in scene.server.query(recipe)
            }
            assert found[run["run_id"]] == total([run], "energy_joules")


@pytest.mark.parametrize("namespace", [SERVING, BATCH])
def test_a_report_from_prometheus_is_that_of_the_node(
    scene: Scene, ended: Runs, namespace: str
) -> None:
    url = f"--prometheus=http://{scene.server.address}"
    (pod,) = scene.exporter.pods()
    printed = scene.node.kubectl(
        *("exec", pod["metadata"]["name"], f"--namespace={EXPORTERS}", "--", "emissions-exporter"),
        *("report", url, f"--namespace={namespace}", "--format=json"),
    )
    report = json.loads(printed)
    assert report["energy_joules"] == total(ended[namespace], "energy_joules")
    assert report["carbon_grams"] == total(ended[namespace], "carbon_grams")
