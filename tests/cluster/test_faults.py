"""Faults of a node: API server, kubelet, credentials, and the exporter itself."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.cluster.conftest import (
    GPUS,
    NAMESPACE,
    RELEASE,
    WATTS,
    Exporter,
    Metrics,
    driver_values,
)
from tests.cluster.node import KUBERNETES_SERVICE, LONG_SECONDS, SHELL, STATIC_PODS, Node
from tests.nvml.fake import FakeNvml
from tests.real.parts import until

GPU = "nvidia.com/gpu"
RUN_ID = "emissions-exporter/run-id"
DURABLE = ("device", "attributed", "unattributed", "run", "run_held_idle", "owner")
KILLS = 20


class Observed(Exporter):
    """An exporter whose address is known without the API server."""

    _address = ""

    @property
    def address(self) -> str:
        self._address = self._address or super().address
        return self._address

    def find(self) -> None:
        """Ask again, after its pod was replaced."""
        self._address = super().address

    def process_start(self) -> float:
        """When the process that answers was started; 0 while none does."""
        curl = ("curl", "--silent", "--fail", "--max-time", "10")
        page = self.node.inside(*curl, f"http://{self.address}/metrics", check=False)
        return Metrics(page).total("process_start_time_seconds")

    def reads(self, collector: str) -> bool:
        return self.scrape().total("emissions_collector_success", collector=collector) == 1

    def reads_pods(self) -> bool:
        return self.reads("pods")

    def reason(self, collector: str) -> str:
        """What the exporter says of a collector."""
        states = self.json("/api/v1/snapshot")["collectors"]
        return next(str(state["why"]) for state in states if state["name"] == collector)


class Energy:
    """Energy of one GPU, in microjoules."""

    def __init__(self, metrics: Metrics, uuid: str) -> None:
        metrics.assert_complete()
        self.device, self.attributed = (
            metrics.microjoules(f"emissions_{part}_energy_joules_total", id=uuid, device="gpu")
            for part in ("device", "attributed")
        )
        self.by_run = {
            labels["run_id"]: round(value * 1e6)
            for labels, value in metrics.select("emissions_run_cumulative_energy_joules", id=uuid)
        }


def pod(name: str, *, run_id: str = "", gpus: int = 1, **spec: Any) -> dict[str, Any]:
    container = {"name": "main", "image": SHELL, "resources": {"limits": {GPU: gpus}}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "annotations": {RUN_ID: run_id} if run_id else {}},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "containers": [{**container, **spec}],
        },
    }


def run_named(metrics: Metrics, name: str) -> str:
    found = metrics.select("emissions_run_info", run_name=name)
    return found[0][0]["run_id"] if found else ""


def gpu_of(exporter: Observed, run: str) -> str:
    """The GPU that a run holds, when it has energy of one."""

    def held() -> str:
        found = exporter.scrape().select("emissions_run_power_watts", run_id=run, device="gpu")
        return found[0][0]["id"] if found else ""

    return until(held, LONG_SECONDS, f"{run} holds a GPU")


def held_gpus(exporter: Observed) -> set[str]:
    """GPUs that a run holds now."""
    found = exporter.scrape().select("emissions_run_power_watts", device="gpu")
    return {labels["id"] for labels, watts in found if watts}


def charged(metrics: Metrics, before: dict[str, int]) -> str:
    """A GPU of which more is attributed than before."""
    return next((uuid for uuid in before if Energy(metrics, uuid).attributed > before[uuid]), "")


def until_named(exporter: Observed, uuid: str, run_id: str, before: int) -> None:
    """Wait until all that was attributed of a GPU since then is energy of a run, exactly."""

    def is_merged() -> bool:
        energy = Energy(exporter.scrape(), uuid)
        return energy.by_run.get(run_id) == energy.attributed - before

    until(is_merged, LONG_SECONDS, f"{run_id} has all energy of {uuid}")


def process(node: Node, container: str, pod_name: str = "") -> int:
    """The first process of a running container, in the process namespace of the node."""
    ctr = ("ctr", "--address=/run/containerd/containerd.sock", "--namespace=k8s.io")
    label = f'labels."io.kubernetes.container.name"=={container}'
    if pod_name:
        label += f',labels."io.kubernetes.pod.name"=={pod_name}'
    known = node.inside(*ctr, "containers", "list", "--quiet", label).split()
    tasks = [line.split() for line in node.inside(*ctr, "tasks", "list").splitlines()[1:]]
    running = [int(pid) for name, pid, state in tasks if name in known and state == "RUNNING"]
    return running[0] if running else 0


def kill(node: Node, container: str, pod_name: str = "") -> None:
    pid = until(lambda: process(node, container, pod_name), LONG_SECONDS)
    node.inside("kill", "-KILL", str(pid))


@contextmanager
def unreachable(node: Node, address: str) -> Iterator[None]:
    """Let nothing from the API server arrive at a pod, without a reset."""
    rule = ("from", KUBERNETES_SERVICE, "to", address, "blackhole")
    node.inside("ip", "rule", "add", *rule)
    yield
    node.inside("ip", "rule", "delete", *rule)


@pytest.fixture(scope="module")
def exporter(node: Node, gpus: FakeNvml, privileged: Any) -> Iterator[Observed]:
    privileged(NAMESPACE)
    node.offer({"resources": {GPU: GPUS}})
    made = Observed(node)
    made.install({"config": {"convert": {"zone": "DE"}}, **driver_values(gpus)})
    yield made
    made.uninstall()


@pytest.fixture(scope="module")
def kept(node: Node, exporter: Observed) -> Iterator[str]:
    """The GPU of a pod that runs all the time, whose run is its annotation."""
    node.apply(pod("kept", run_id="kept-run"))
    yield gpu_of(exporter, "kept-run")
    node.kubectl("delete", "pod", "kept")


@pytest.fixture(autouse=True)
def nothing_is_lost(node: Node, exporter: Observed, kept: str) -> Iterator[None]:
    """All energy of the GPU of `kept` is energy of its run; other pods end with their test."""
    first = Energy(exporter.scrape(), kept)
    yield
    node.kubectl("delete", "pod", "--field-selector=metadata.name!=kept", "--force")
    until(lambda: held_gpus(exporter) == {kept}, LONG_SECONDS, "no other pod holds a GPU")
    exporter.pass_ticks(2)
    last = Energy(exporter.scrape(), kept)
    gained = last.device - first.device
    assert gained == last.by_run["kept-run"] - first.by_run["kept-run"] > 0
    assert gained == last.attributed - first.attributed


@pytest.fixture
def same_process(exporter: Observed) -> Iterator[None]:
    """The exporter is not restarted."""
    began = exporter.process_start()
    yield
    assert exporter.process_start() == began


def durable(metrics: Metrics) -> dict[tuple[str, ...], float]:
    names = [f"emissions_{part}_energy_joules_total" for part in DURABLE]
    names += [f"emissions_{part}_carbon_grams_total" for part in DURABLE]
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for sample in metrics.samples
        if sample.name in names or "_cumulative_" in sample.name
    }


def restart_energy(metrics: Metrics, uuid: str) -> int:
    name = "emissions_unattributed_energy_joules_total"
    return metrics.microjoules(name, id=uuid, reason="restart")


def test_counters_continue_over_kills(node: Node, exporter: Observed, kept: str) -> None:
    exporter.pass_ticks(2)
    shown, began_ns = exporter.scrape(), exporter.json("/api/v1/snapshot")["at_ns"]
    first, restarts = Energy(shown, kept), restart_energy(shown, kept)
    for _ in range(KILLS):
        before = durable(shown)
        start = exporter.process_start()
        kill(node, "emissions-exporter")
        until(lambda start=start: exporter.process_start() > start, LONG_SECONDS)
        exporter.pass_ticks(1)
        shown = exporter.scrape()
        after = durable(shown)
        assert not {key for key, was in before.items() if after.get(key, -1) < was}
        shown.assert_complete()
    microseconds = (exporter.json("/api/v1/snapshot")["at_ns"] - began_ns) / 1e3
    gained = Energy(shown, kept).device - first.device
    # What the hardware counted, but for the time between two scrapes.
    assert abs(gained - WATTS * microseconds) < 2 * WATTS * 1e6
    assert restart_energy(shown, kept) == restarts


@pytest.mark.usefixtures("same_process")
def test_pods_end_and_start_without_an_api_server(
    node: Node, exporter: Observed, kept: str
) -> None:
    node.apply(pod("ends"))
    ended = until(lambda: run_named(exporter.scrape(), "ends"), LONG_SECONDS)
    freed = gpu_of(exporter, ended)
    with node.without("kube-apiserver"):
        until(lambda: not exporter.reads_pods(), LONG_SECONDS)
        kill(node, "main", "ends")
        until(lambda: not exporter.scrape().select("emissions_run_power_watts", run_id=ended))
        whole = Energy(exporter.scrape(), freed)
        before = {uuid: Energy(exporter.scrape(), uuid).attributed for uuid in GPUS if uuid != kept}
        manifest = json.dumps(pod("static", run_id="static-run"))
        node.inside("tee", f"{STATIC_PODS}/static.json", text=manifest)
        held = until(lambda: charged(exporter.scrape(), before), LONG_SECONDS)
    until_named(exporter, held, "static-run", before[held])
    assert Energy(exporter.scrape(), freed).by_run[ended] == whole.by_run[ended]
    node.inside("rm", f"{STATIC_PODS}/static.json")
    node.apply(pod("later", run_id="later-run"))
    gpu_of(exporter, "later-run")


@pytest.mark.usefixtures("same_process")
def test_a_pod_that_starts_while_only_the_exporter_is_cut_off_is_charged_before_it_is_named(
    node: Node, exporter: Observed, kept: str
) -> None:
    before = {uuid: Energy(exporter.scrape(), uuid).attributed for uuid in GPUS if uuid != kept}
    with unreachable(node, exporter.address.partition(":")[0]):
        node.apply(pod("cut", run_id="cut-run"))
        held = until(lambda: charged(exporter.scrape(), before), LONG_SECONDS)
        until(lambda: not exporter.reads_pods(), LONG_SECONDS)
        assert "does not answer" in exporter.reason("pods")
        assert not exporter.scrape().select("emissions_run_info", run_id="cut-run")
    until_named(exporter, held, "cut-run", before[held])


@pytest.mark.usefixtures("same_process")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_pods_keep_their_gpus_over_a_restart_of_the_kubelet(
    node: Node, exporter: Observed, number: int
) -> None:
    node.end("kubelet", number)
    until(lambda: not exporter.reads("kubelet"), LONG_SECONDS)
    node.begin("kubelet")
    until(lambda: exporter.reads("kubelet"), LONG_SECONDS)
    node.apply(pod("again", run_id="again-run"))
    gpu_of(exporter, "again-run")


@pytest.mark.usefixtures("same_process")
def test_a_new_ca_of_the_cluster_is_followed(node: Node, exporter: Observed) -> None:
    node.rotate_ca()
    until(exporter.reads_pods, LONG_SECONDS)
    node.apply(pod("rotated", run_id="rotated-run"))
    gpu_of(exporter, "rotated-run")


@pytest.mark.usefixtures("same_process")
def test_a_token_that_is_no_longer_valid_is_replaced(
    node: Node, exporter: Observed, kept: str
) -> None:
    named = (f"{RELEASE}-emissions-exporter", f"--namespace={NAMESPACE}")
    account = node.get("serviceaccount", *named)
    node.kubectl("delete", "serviceaccount", *named)
    for name in ("uid", "resourceVersion", "creationTimestamp"):
        del account["metadata"][name]
    node.apply(account)
    with node.without("kube-apiserver"):  # a watch outlives its token
        until(lambda: not exporter.reads_pods(), LONG_SECONDS)
    until(lambda: "401 Unauthorized" in exporter.reason("pods"), LONG_SECONDS)
    before = {uuid: Energy(exporter.scrape(), uuid).attributed for uuid in GPUS if uuid != kept}
    node.apply(pod("token", run_id="token-run"))
    held = until(lambda: charged(exporter.scrape(), before), LONG_SECONDS)
    node.end("kubelet")
    node.begin("kubelet")  # it requests another token
    until_named(exporter, held, "token-run", before[held])


def test_the_exporter_starts_and_is_not_killed_while_all_processors_are_busy(
    node: Node, exporter: Observed
) -> None:
    processors = int(node.allocatable()["cpu"])
    # All that may be requested beside the exporter's pod and the one that replaces it.
    limits = {"cpu": f"{(1000 * processors - 150) // processors}m", "memory": "16Mi"}
    loops = "while :; do :; done & while :; do :; done"
    for number in range(processors):
        busy = pod(f"busy-{number}", command=["sh", "-c", loops])
        busy["spec"]["containers"][0]["resources"] = {"limits": limits}
        node.apply(busy)
    rest = pod("busy-rest", command=["sh", "-c", loops])  # what the limits of the others leave
    del rest["spec"]["containers"][0]["resources"]
    node.apply(rest)
    names = {*(f"busy-{number}" for number in range(processors)), "busy-rest"}
    until(
        lambda: (
            names <= {run["run_name"] for run, _ in exporter.scrape().select("emissions_run_info")}
        ),
        LONG_SECONDS,
    )
    daemonset = f"daemonset/{RELEASE}-emissions-exporter"
    node.kubectl("rollout", "restart", daemonset, f"--namespace={NAMESPACE}")
    until(exporter.is_ready, LONG_SECONDS)
    exporter.find()
    exporter.pass_ticks(30)
    (found,) = exporter.pods()
    assert found["status"]["qosClass"] == "Burstable"
    assert [each["restartCount"] for each in found["status"]["containerStatuses"]] == [0]
    selector = f"--field-selector=involvedObject.uid={found['metadata']['uid']}"
    events = node.get("events", f"--namespace={NAMESPACE}", selector)["items"]
    assert not [event for event in events if event["reason"] == "Killing"]
    assert not [event for event in events if event["message"].startswith("Liveness")]
