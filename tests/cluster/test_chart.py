"""The life of a release on a real API server and kubelet, from "Install" to "Uninstall"."""

import re
import shlex
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.cluster.conftest import CHART, GPUS, IMAGE, Exporter, Metrics, driver_values
from tests.cluster.node import EXPORTER, LONG_SECONDS, SHELL, Node
from tests.deploy.chart.test_docs import example, text_of
from tests.nvml.fake import FakeNvml
from tests.real.parts import until

NAME = "emissions-exporter"
"""Of release and namespace, as in the documentation."""
GPU = "nvidia.com/gpu"
STATE = "/var/lib/emissions-exporter"
KIND_NAMES = (
    "daemonsets,deployments,pods,services,configmaps,secrets,networkpolicies,"
    "serviceaccounts,clusterroles,clusterrolebindings"
)
DURABLE = re.compile(
    r"emissions_(device|attributed|unattributed|run|owner)_(energy|carbon)_\w+_total"
)
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "lasting"},
    "spec": {
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "main", "image": SHELL, "resources": {"limits": {GPU: 1}}}],
    },
}


@pytest.fixture(scope="module")
def exporter(node: Node, gpus: FakeNvml) -> Iterator[Exporter]:
    """A release that was installed as documented, beside a pod with a GPU."""
    node.inside("rm", "-rf", STATE)
    for command in example("kubernetes", "kubectl create namespace").splitlines():
        node.kubectl(*shlex.split(command)[1:])
    node.offer({"resources": {GPU: GPUS[:2]}})
    node.apply(POD)
    made = Exporter(node, NAME, NAME)
    made.install({"config": {"convert": {"zone": "DE"}}, **driver_values(gpus)})
    until(lambda: run_energy(made.scrape()) > 0, LONG_SECONDS, "the pod is a run with energy")
    yield made
    node.kubectl("delete", "pod", "lasting")
    node.kubectl("delete", "namespace", NAME)


def run_id(metrics: Metrics) -> str:
    found = metrics.select("emissions_run_info", run_name="lasting")
    return found[0][0]["run_id"] if found else ""


def run_energy(metrics: Metrics) -> int:
    return metrics.microjoules("emissions_run_energy_joules_total", run_id=run_id(metrics))


def totals(metrics: Metrics) -> dict[tuple[Any, ...], float]:
    """Durable counters of devices, owners and the pod's run."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for sample in metrics.samples
        if DURABLE.fullmatch(sample.name)
        and sample.labels.get("run_id", run_id(metrics)) == run_id(metrics)
    }


def assert_continued(before: Metrics, after: Metrics) -> None:
    """No counter is lost or lower, and the run goes on under its id."""
    earlier, later = totals(before), totals(after)
    assert earlier
    fallen = {key: value for key, value in earlier.items() if later.get(key, -1.0) < value}
    assert not fallen
    assert run_id(after) == run_id(before) != ""
    for metrics in (before, after):
        metrics.assert_complete()


def replaced(exporter: Exporter, *command: str) -> tuple[Metrics, Metrics]:
    """Scrapes before and after a command of helm that replaces the pod."""
    before = exporter.scrape()
    [pod] = exporter.pods()
    exporter.node.helm(*command, f"--namespace={NAME}")

    def is_replaced() -> bool:
        if not exporter.is_ready():
            return False
        [newer] = exporter.pods()
        return bool(newer["metadata"]["uid"] != pod["metadata"]["uid"])

    until(is_replaced, LONG_SECONDS, "the pod is replaced")
    exporter.pass_ticks(2)
    return before, exporter.scrape()


def upgraded(exporter: Exporter, *values: str) -> tuple[Metrics, Metrics]:
    keep = ("upgrade", NAME, str(CHART), "--reset-then-reuse-values")
    return replaced(exporter, *keep, *values)


def image_of(exporter: Exporter) -> str:
    [pod] = exporter.pods()
    return str(pod["spec"]["containers"][0]["image"])


def tag_image(node: Node, tag: str) -> None:
    name = f"{EXPORTER.rpartition(':')[0]}:{tag}"
    address = "--address=/run/containerd/containerd.sock"
    node.inside("ctr", address, "--namespace=k8s.io", "images", "tag", EXPORTER, name)


def test_a_new_release_measures_with_the_zone_of_its_values(exporter: Exporter) -> None:
    metrics = exporter.scrape()
    assert metrics.select("emissions_grid_intensity_grams_per_kwh", grid_zone="DE")
    found = metrics.select("emissions_device_energy_joules_total", device="gpu")
    assert {labels["id"] for labels, _ in found} == set(GPUS)


def test_totals_continue_over_an_upgrade_that_changes_a_value(exporter: Exporter) -> None:
    before, after = upgraded(exporter, "--set-json=config.convert.pue=1.5")
    assert_continued(before, after)
    assert after.select("emissions_grid_intensity_grams_per_kwh", grid_zone="DE")
    ratios = [metrics.total("emissions_pue_ratio") for metrics in (before, after)]
    assert ratios[0] != ratios[1] == 1.5


def test_totals_continue_over_an_upgrade_to_another_image_and_its_rollback(
    exporter: Exporter,
) -> None:
    tag_image(exporter.node, "next")
    assert_continued(*upgraded(exporter, "--set-string=image.tag=next"))
    assert image_of(exporter).endswith(":next")
    before, after = replaced(exporter, "rollback", NAME, "1")
    assert_continued(before, after)
    assert image_of(exporter).endswith(f":{IMAGE['tag']}")
    assert after.total("emissions_pue_ratio") == 1.0


def test_totals_continue_after_an_upgrade_to_an_image_that_does_not_exist(
    exporter: Exporter,
) -> None:
    before = exporter.scrape()
    keep = ("upgrade", NAME, str(CHART), f"--namespace={NAME}", "--reset-then-reuse-values")
    exporter.node.helm(*keep, "--set-string=image.tag=absent")

    def is_waiting() -> bool:
        states = [
            container["state"].get("waiting", {}).get("reason")
            for pod in exporter.pods()
            for container in pod["status"].get("containerStatuses", [])
        ]
        return states == ["ErrImageNeverPull"]

    until(is_waiting, LONG_SECONDS, "the image is missing")
    exporter.node.helm("rollback", NAME, f"--namespace={NAME}")
    until(exporter.is_ready, LONG_SECONDS, "the previous revision is ready")
    exporter.pass_ticks(2)
    assert_continued(before, exporter.scrape())


def stop_and_start() -> tuple[list[str], list[str]]:
    """The commands that stop the exporter on all nodes and start it again."""
    patch = r"(kubectl --namespace emissions-exporter patch daemonset .*\\\n *--patch '.*')"
    stop, start = re.findall(patch, text_of("kubernetes"))
    return (shlex.split(stop.replace("\\\n", ""))[1:], shlex.split(start.replace("\\\n", ""))[1:])


def stop(exporter: Exporter) -> None:
    exporter.node.kubectl(*stop_and_start()[0])
    until(lambda: not exporter.pods(), LONG_SECONDS, "the exporter is stopped")


def start(exporter: Exporter) -> None:
    exporter.node.kubectl(*stop_and_start()[1])


def on_all_nodes(node: Node, program: str = "", schema: str = "N") -> str:
    """What the DaemonSet of the documentation prints, with its program or another one."""
    document = yaml.safe_load(example("kubernetes", "apiVersion: apps/v1"))
    pod = document["spec"]["template"]["spec"]
    [job], [done] = pod["initContainers"], pod["containers"]
    for container in (job, done):
        container |= {"image": EXPORTER, "imagePullPolicy": "Never"}
    job["env"][0]["value"] = schema
    job["args"] = [program or job["args"][0]]
    node.apply(document)
    where = f"--namespace={NAME}"
    node.kubectl("rollout", "status", "daemonset/ledger-restore", where, "--timeout=2m")
    selected = ("--selector", "app=ledger-restore", "--container", "restore", "--tail=-1")
    printed = node.kubectl("logs", where, *selected)
    node.kubectl("delete", "daemonset", "ledger-restore", where)
    return printed.strip()


def on_ledger(node: Node, *statements: str) -> int:
    """Execute statements on the ledger of the node; its schema afterwards."""
    program = (
        "import sqlite3, sys; ledger = sqlite3.connect(sys.argv[1]);"
        "[ledger.execute(each) for each in sys.argv[2:]]; ledger.commit();"
        "print(ledger.execute('PRAGMA user_version').fetchone()[0])"
    )
    return int(node.inside(sys.executable, "-c", program, f"{STATE}/ledger.sqlite", *statements))


def recorded_energy(exporter: Exporter) -> float:
    """Energy in the record of the pod's run."""
    record = exporter.json(f"/api/v1/runs/{run_id(exporter.scrape())}")
    return float(record["energy_joules"])


def test_the_documented_rollback_restores_the_copy_of_an_older_ledger(exporter: Exporter) -> None:
    node, energy = exporter.node, recorded_energy(exporter)
    stop(exporter)
    schema = on_ledger(node)
    copy = f"{STATE}/ledger.sqlite.schema-{schema}"
    on_ledger(node, f"VACUUM INTO '{copy}'")
    assert on_ledger(node, f"PRAGMA user_version = {schema + 1}") == schema + 1
    start(exporter)
    refusal = f"has schema version {schema + 1}, and this exporter supports up to {schema}"
    logs = ("logs", exporter.daemonset, f"--namespace={NAME}")
    until(
        lambda: refusal in node.kubectl(*logs, check=False).strip().rpartition("\n")[2],
        LONG_SECONDS,
        "the last line of the log names both schemas",
    )
    stop(exporter)
    moved = f"schema {schema + 1} moved to ledger.sqlite.newer"
    restored = f"node-1 {moved}, ledger.sqlite.schema-{schema} restored"
    assert on_all_nodes(node, schema=str(schema)) == restored
    start(exporter)
    until(exporter.is_ready, LONG_SECONDS, "the exporter starts with the copy")
    assert recorded_energy(exporter) >= energy > 0
    exporter.scrape().assert_complete()


def test_a_ledger_is_copied_while_the_exporter_runs(exporter: Exporter) -> None:
    node = exporter.node
    [pod] = exporter.pods()
    start_of = "kubectl --namespace emissions-exporter exec POD -- python3 -c 'import sqlite3"
    command = example("kubernetes", start_of)
    node.kubectl(*shlex.split(command.replace("POD", pod["metadata"]["name"]))[1:])
    assert "backup.sqlite" in node.inside("ls", STATE)


def owned(node: Node) -> list[str]:
    """Objects of the release in the cluster."""
    selector = f"--selector=app.kubernetes.io/instance={NAME}"
    found = node.kubectl("get", KIND_NAMES, "--all-namespaces", selector, "--output=name")
    return found.split()


def test_an_uninstall_leaves_the_totals_and_nothing_in_the_cluster(exporter: Exporter) -> None:
    node, before = exporter.node, exporter.scrape()
    values = yaml.safe_load(node.helm("get", "values", NAME, f"--namespace={NAME}", "-o", "yaml"))
    assert owned(node)
    exporter.uninstall()
    assert owned(node) == []
    exporter.install(values)
    exporter.pass_ticks(2)
    assert_continued(before, exporter.scrape())
    stop(exporter)
    assert on_all_nodes(node, example("kubernetes", "import os, shutil")) == "node-1 removed"
    assert node.inside("ls", "--almost-all", STATE).strip() == ""
    exporter.uninstall()
    assert owned(node) == []
