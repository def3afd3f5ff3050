"""Energy of real pods that the device plugin gave a GPU, over a driver of constant power."""

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.cluster.conftest import GPUS, NAMESPACE, Exporter, driver_values
from tests.cluster.node import LONG_SECONDS, Node
from tests.cluster.pods import GPU, Energy, Gains, container, controller, pod, spec
from tests.nvml.fake import FakeNvml
from tests.real.parts import until

EXCLUSIVE = GPUS[:2]
SHARED, PARTITIONED = GPUS[2:]
REPLICA = "nvidia.com/gpu.shared"
SMALL, LARGE = "nvidia.com/mig-1g.10gb", "nvidia.com/mig-3g.40gb"
MIG = [f"MIG-0000000{number}-0000-4000-8000-000000000000" for number in range(3)]
SLICES = 7
INVENTORY = {
    "resources": {
        GPU: EXCLUSIVE,
        # The ids of replicas of NVIDIA's device plugin.
        REPLICA: [f"{SHARED}::{number}" for number in range(4)],
        SMALL: MIG[:2],
        LARGE: MIG[2:],
    }
}


@pytest.fixture(scope="module")
def exporter(node: Node, gpus: FakeNvml, privileged: Any) -> Iterator[Exporter]:
    privileged(NAMESPACE)
    sizes = (1, 1, 3)
    instances = [
        {"id": uuid, "gi": number + 1, "ci": 0, "slices": size}
        for number, (uuid, size) in enumerate(zip(MIG, sizes, strict=True))
    ]
    gpus.partition(GPUS.index(PARTITIONED), SLICES, instances)
    node.offer(INVENTORY)
    made = Exporter(node)
    made.install({"config": {"convert": {"zone": "DE"}}, **driver_values(gpus)})
    yield made
    made.uninstall()
    gpus.heal()


@pytest.fixture
def energy(node: Node, exporter: Exporter) -> Iterator[Energy]:
    made = Energy(node, exporter)
    yield made
    node.kubectl("delete", "deployments,statefulsets,jobs,pods", "--all")
    made.release()


@pytest.fixture
def static_cpus(node: Node) -> Iterator[None]:
    """A kubelet that gives pods processors of their own."""
    reserved = {"cpuManagerPolicy": "static", "kubeReserved": {"cpu": "100m"}}
    restart_kubelet(node, {**node.kubelet_settings(), **reserved})
    yield
    restart_kubelet(node, node.kubelet_settings())


def restart_kubelet(node: Node, settings: Mapping[str, Any]) -> None:
    node.end("kubelet")
    node.inside("rm", "-f", "/var/lib/kubelet/cpu_manager_state")
    (node.directory / "kubelet.json").write_text(json.dumps(settings))
    node.begin("kubelet")
    reserved = "kubeReserved" in settings
    until(lambda: node.allocatable()["cpu"].endswith("m") == reserved, LONG_SECONDS)
    until(lambda: node.allocatable()[GPU] == "2", LONG_SECONDS)


def test_the_energy_of_a_gpu_is_that_of_the_pod_that_holds_it(energy: Energy) -> None:
    energy.node.apply(pod("train"))
    run = energy.holder("train")
    gained = energy.gains()
    (held,) = gained.held(run)
    assert held in EXCLUSIVE
    assert gained.run(run) == gained.gpu(held) > 0
    (free,) = set(EXCLUSIVE) - {held}
    assert gained.unattributed(free) == gained.gpu(free) > 0
    energy.node.kubectl("delete", "pod", "train")
    energy.release(run)
    after = energy.gains()
    assert after.run(run) == 0
    assert after.unattributed(*EXCLUSIVE) == after.gpu(*EXCLUSIVE) > 0


def test_two_containers_of_a_pod_have_both_of_their_gpus(energy: Energy) -> None:
    energy.node.apply(pod("pair", container("first"), container("second")))
    run = energy.holder("pair")
    gained = energy.gains()
    assert gained.held(run) == EXCLUSIVE
    assert gained.run(run) == gained.gpu(*EXCLUSIVE)
    members = gained.second.select("emissions_run_member_info", run_id=run)
    assert sorted(labels["workload_container"] for labels, _ in members) == ["first", "second"]


def test_a_sidecar_holds_its_gpu_and_an_init_container_that_of_its_successor(
    energy: Energy,
) -> None:
    first = [
        {**container("sidecar"), "restartPolicy": "Always"},
        container("prepare", "busybox sleep 8"),
    ]
    energy.node.apply(pod("staged", initContainers=first))
    run = energy.holder("staged")
    gained = energy.gains()
    while_prepared = energy.node.get("pod", "staged")
    until(lambda: phase(energy.node, "staged") == "Running", LONG_SECONDS)
    then = energy.gains()
    assert while_prepared["status"]["phase"] == "Pending"
    for each in (gained, then):
        assert each.held(run) == EXCLUSIVE
        assert each.run(run) == each.gpu(*EXCLUSIVE)


def test_replicas_of_a_gpu_are_parts_of_its_energy(energy: Energy) -> None:
    energy.node.apply(
        pod("one", container("main", **{REPLICA: 1})),
        pod("two", container("main", **{REPLICA: 2})),
    )
    one, two = energy.holder("one"), energy.holder("two")
    gained = energy.gains()
    quarter = gained.gpu(SHARED) / 4
    parts = [gained.run(one), gained.run(two), gained.unattributed(SHARED)]
    assert sum(parts) == gained.gpu(SHARED) > 0
    assert parts == pytest.approx([quarter, 2 * quarter, quarter], abs=20)  # rounded every tick


def test_a_mig_instance_has_its_slices_of_the_energy(energy: Energy) -> None:
    energy.node.apply(
        pod("small", container("main", **{SMALL: 1})),
        pod("large", container("main", **{LARGE: 1})),
    )
    small, large = energy.holder("small"), energy.holder("large")
    gained = energy.gains()
    slice_ = gained.gpu(PARTITIONED) / SLICES
    parts = [gained.run(small), gained.run(large), gained.unattributed(PARTITIONED)]
    assert sum(parts) == gained.gpu(PARTITIONED) > 0
    assert parts == pytest.approx([slice_, 3 * slice_, 3 * slice_], abs=20)


def test_a_rollout_of_a_deployment_divides_the_energy_between_its_pods(energy: Energy) -> None:
    made = controller("Deployment", "serve", {**spec(), "restartPolicy": "Always"})
    energy.node.apply(made)
    energy.node.kubectl("rollout", "status", "deployment/serve", "--timeout=120s")
    (first,) = names(energy.node, "app=serve")
    old = energy.holder(first)
    before = energy.scrape()
    energy.node.kubectl("rollout", "restart", "deployment/serve")
    energy.node.kubectl("rollout", "status", "deployment/serve", "--timeout=120s")
    until(lambda: len(names(energy.node, "app=serve")) == 1, LONG_SECONDS)
    (second,) = names(energy.node, "app=serve")
    new = energy.holder(second)
    energy.release(old)
    gained = energy.gains()
    (held,) = gained.held(new)
    assert gained.run(new) == gained.gpu(held) > 0 == gained.run(old)
    whole = Gains(before, gained.second)
    parts = whole.run(old) + whole.run(new) + whole.unattributed(*EXCLUSIVE)
    assert parts == whole.gpu(*EXCLUSIVE)


def test_a_pod_of_a_statefulset_is_a_new_run_under_the_same_name(energy: Energy) -> None:
    made = controller("StatefulSet", "db", {**spec(), "restartPolicy": "Always"})
    energy.node.apply(made)
    until(lambda: names(energy.node, "app=db"), LONG_SECONDS)
    old = energy.holder("db-0")
    before = energy.scrape()
    energy.node.kubectl("delete", "pod", "db-0")
    energy.release(old)
    until(lambda: names(energy.node, "app=db"), LONG_SECONDS)
    new = energy.holder("db-0")
    assert new != old
    gained = energy.gains()
    (held,) = gained.held(new)
    assert gained.run(new) == gained.gpu(held) > 0 == gained.run(old)
    whole = Gains(before, gained.second)
    parts = whole.run(old) + whole.run(new) + whole.unattributed(*EXCLUSIVE)
    assert parts == whole.gpu(*EXCLUSIVE)


def test_each_retry_of_a_job_is_a_run_with_its_job_id(energy: Energy) -> None:
    template = {"spec": spec(container("main", "busybox sleep 6; exit 1"))}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "retried"},
        "spec": {"backoffLimit": 1, "template": template},
    }
    before = energy.scrape()
    energy.node.apply(job)
    energy.node.kubectl("wait", "job/retried", "--for=condition=Failed", "--timeout=120s")
    energy.release()
    gained = energy.gains()
    pods = energy.node.get("pods", "--selector=job-name=retried")["items"]
    runs = [pod["metadata"]["uid"] for pod in pods]
    infos = [gained.second.select("emissions_run_info", run_id=run) for run in runs]
    assert [labels["job_id"] for ((labels, _),) in infos] == ["retried", "retried"]
    whole = Gains(before, gained.second)
    assert all(whole.run(run) > 0 == gained.run(run) for run in runs)
    parts = sum(map(whole.run, runs)) + whole.unattributed(*EXCLUSIVE)
    assert parts == whole.gpu(*EXCLUSIVE)


@pytest.mark.parametrize("way", ["eviction", "deletion by force"])
def test_gpus_of_a_pod_that_is_taken_away_are_those_of_the_next(energy: Energy, way: str) -> None:
    node, (first, second) = energy.node, [f"{name}-{way[:8]}" for name in ("old", "new")]
    node.apply(pod(first, container("main", **{GPU: 2})))
    old = energy.holder(first)
    gained = energy.gains()
    assert gained.run(old) == gained.gpu(*EXCLUSIVE) > 0
    if way == "eviction":
        evict(node, first)
    else:
        node.kubectl("delete", "pod", first, "--force", "--grace-period=0")
    node.apply(pod(second, container("main", **{GPU: 2})))
    new = energy.holder(second)
    energy.release(old)
    then = energy.gains()
    assert then.run(new) == then.gpu(*EXCLUSIVE) > 0 == then.run(old)
    whole = Gains(gained.second, then.second)
    parts = whole.run(old) + whole.run(new) + whole.unattributed(*EXCLUSIVE)
    assert parts == whole.gpu(*EXCLUSIVE)


def test_a_pod_with_a_processor_of_its_own_has_its_part_of_the_idle_energy(
    static_cpus: None, energy: Energy
) -> None:
    energy.node.apply(pod("pinned", container("main", cpu=1, memory="50Mi")))
    run = energy.run("pinned")
    held_idle = "emissions_run_held_idle_energy_joules_total"

    def idle() -> Gains | None:
        gained = energy.gains()
        return gained if gained.of(held_idle, run_id=run, device="cpu") else None

    # The kubelet has just been restarted, and busy processors have no idle energy.
    gained = until(idle, LONG_SECONDS, "the processor of the pod is idle")
    held = gained.of(held_idle, run_id=run, device="cpu")
    free = gained.of("emissions_unattributed_energy_joules_total", device="cpu", reason="idle")
    processors = os.cpu_count() or 1
    assert held > 0
    assert held == pytest.approx((held + free) / processors, abs=20)


def names(node: Node, selector: str) -> list[str]:
    """Names of pods."""
    found = node.get("pods", f"--selector={selector}")["items"]
    return [item["metadata"]["name"] for item in found]


def phase(node: Node, name: str) -> str:
    return str(node.get("pod", name)["status"]["phase"])


def evict(node: Node, name: str) -> None:
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    path = f"/api/v1/namespaces/default/pods/{name}/eviction"
    node.kubectl("create", f"--raw={path}", "--filename=-", text=json.dumps(eviction))
