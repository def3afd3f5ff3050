"""Which run a real pod is, by its annotations, labels, variables and controller."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.cluster.conftest import GPUS, NAMESPACE, Exporter, Labels, driver_values
from tests.cluster.node import LONG_SECONDS, Node
from tests.cluster.pods import GPU, Energy, Gains, container, controller, pod, spec
from tests.nvml.fake import FakeNvml
from tests.real.parts import until

RUN, JOB = "emissions-exporter/run-id", "emissions-exporter/job-id"
HELD = GPUS[:2]
OTHER, EXCLUDED = "other-team", "left-out"
ATTRIBUTE = {"exported_labels": ["team", "cost-center"], "excluded_namespaces": [EXCLUDED]}


@pytest.fixture(scope="module")
def exporter(node: Node, gpus: FakeNvml, privileged: Any) -> Iterator[Exporter]:
    for name in (NAMESPACE, OTHER, EXCLUDED):
        privileged(name)
    node.offer({"resources": {GPU: HELD}})
    made = Exporter(node)
    config = {"convert": {"zone": "DE"}, "attribute": ATTRIBUTE}
    made.install({"config": config, **driver_values(gpus)})
    yield made
    made.uninstall()


@pytest.fixture
def energy(node: Node, exporter: Exporter) -> Iterator[Energy]:
    made = Energy(node, exporter)
    yield made
    for namespace in ("default", OTHER, EXCLUDED):
        node.kubectl("delete", "deployments,jobs,pods", "--all", f"--namespace={namespace}")
    made.release()


def small(name: str = "main", **env: str | dict[str, Any]) -> dict[str, Any]:
    """A container without a GPU, with literal variables and others."""
    variables = [
        {"name": key, "value": value} if isinstance(value, str) else {"name": key, **value}
        for key, value in env.items()
    ]
    return {**container(name, cpu="10m"), "env": variables}


def named(
    name: str,
    *containers: Mapping[str, Any],
    annotations: Labels | None = None,
    labels: Labels | None = None,
    namespace: str = "default",
) -> dict[str, Any]:
    made = pod(name, *(containers or (small(),)))
    made["metadata"] |= {
        "annotations": annotations or {},
        "labels": labels or {},
        "namespace": namespace,
    }
    return made


def info_of(energy: Energy, name: str) -> Labels:
    """Labels of the run of a pod, as soon as it is identified."""

    def found() -> Labels | None:
        metrics = energy.scrape()
        members = metrics.select("emissions_run_member_info", workload_pod=name)
        infos = [
            labels
            for member, _ in members
            for labels, _ in metrics.select("emissions_run_info", run_id=member["run_id"])
        ]
        return infos[0] if infos else None

    return until(found, LONG_SECONDS, name)


def test_an_annotation_precedes_a_label_and_a_label_a_variable(energy: Energy) -> None:
    by_env = small(EMISSIONS_RUN_ID="env-run", EMISSIONS_JOB_ID="env-job")
    reference = {"valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    energy.node.apply(
        named("plain"),
        named(
            "annotated",
            by_env,
            annotations={RUN: "annotated-run", JOB: "annotated-job"},
            labels={RUN: "unused", JOB: "unused"},
        ),
        named("labelled", by_env, labels={RUN: "labelled-run", JOB: "labelled-job"}),
        named("variable", small("first"), by_env | {"name": "second"}, small("last")),
        named("referring", small(EMISSIONS_RUN_ID=reference)),
    )
    uids = {
        name: energy.node.get("pod", name)["metadata"]["uid"] for name in ("plain", "referring")
    }
    for name, run, job in (
        ("plain", uids["plain"], ""),
        ("annotated", "annotated-run", "annotated-job"),
        ("labelled", "labelled-run", "labelled-job"),
        ("variable", "env-run", "env-job"),
        ("referring", uids["referring"], ""),
    ):
        info = info_of(energy, name)
        assert (info["run_id"], info["job_id"], info["run_name"]) == (run, job, name)
        assert (info["user"], info["workload_namespace"]) == ("", "default")


def test_pods_of_a_job_with_a_run_id_are_one_run_with_its_name(energy: Energy) -> None:
    template = {"metadata": {"annotations": {RUN: "identity-sweep"}}, "spec": spec()}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "sweep"},
        "spec": {"parallelism": 2, "completions": 2, "template": template},
    }
    energy.node.apply(job)
    until(lambda: len(members(energy, "identity-sweep")) == 2, LONG_SECONDS)
    until(lambda: count(energy, "identity-sweep") == 2, LONG_SECONDS)
    gained = energy.gains()
    [(info, _)] = gained.second.select("emissions_run_info", run_id="identity-sweep")
    assert (info["job_id"], info["run_name"]) == ("sweep", "sweep")
    assert gained.held("identity-sweep") == HELD
    assert gained.run("identity-sweep") == gained.gpu(*HELD) > 0


def test_a_deployment_with_a_run_id_stays_one_run_over_a_rollout(energy: Energy) -> None:
    made = controller("Deployment", "serve", {**spec(), "restartPolicy": "Always"})
    made["spec"]["template"]["metadata"]["annotations"] = {RUN: "identity-serving"}
    energy.node.apply(made)
    until(lambda: count(energy, "identity-serving") == 1, LONG_SECONDS)
    before = energy.gains()
    (old,) = members(energy, "identity-serving")
    energy.node.kubectl("rollout", "restart", "deployment/serve")
    energy.node.kubectl("rollout", "status", "deployment/serve", "--timeout=120s")
    until(lambda: members(energy, "identity-serving") not in ([], [old]), LONG_SECONDS)
    until(lambda: count(energy, "identity-serving") == 1, LONG_SECONDS)
    gained = energy.gains()
    (held,) = gained.held("identity-serving")
    assert gained.run("identity-serving") == gained.gpu(held) > 0
    whole = Gains(before.second, gained.second)
    assert whole.run("identity-serving") + whole.unattributed(*HELD) == whole.gpu(*HELD)


def test_the_same_run_id_in_another_namespace_is_another_run(energy: Energy) -> None:
    energy.node.apply(
        *(
            named(f"in-{space}", container(), annotations={RUN: "identity-same"}, namespace=space)
            for space in ("default", OTHER)
        )
    )
    first, second = (info_of(energy, f"in-{space}") for space in ("default", OTHER))
    assert (first["workload_namespace"], second["workload_namespace"]) == ("default", OTHER)
    runs = [first["run_id"], second["run_id"]]
    assert runs in (
        ["identity-same", f"identity-same@{OTHER}"],
        ["identity-same@default", "identity-same"],
    )
    until(lambda: all(count(energy, run) == 1 for run in runs), LONG_SECONDS)
    gained = energy.gains()
    assert sorted(gained.held(runs[0]) + gained.held(runs[1])) == HELD
    for run, space in zip(runs, ("default", OTHER), strict=True):
        assert gained.run(run) == gained.gpu(*gained.held(run)) > 0
        owned = gained.of("emissions_owner_energy_joules_total", workload_namespace=space)
        assert owned >= gained.run(run)


def test_exported_labels_of_a_pod_are_labels_of_its_run_and_of_its_owner(energy: Energy) -> None:
    labels = {"team": "nlp", "cost-center": "42", "app": "unused"}
    energy.node.apply(named("labels", container(), labels=labels))
    info = info_of(energy, "labels")
    exported = {key: value for key, value in info.items() if key.startswith("label_")}
    assert exported == {"label_team": "nlp", "label_cost_center": "42"}
    until(lambda: count(energy, info["run_id"]), LONG_SECONDS)
    gained = energy.gains()
    (held,) = gained.held(info["run_id"])
    owned = gained.of("emissions_owner_energy_joules_total", label_team="nlp")
    assert owned >= gained.gpu(held) > 0


def test_a_pod_of_an_excluded_namespace_is_no_run_and_its_gpu_unallocated(energy: Energy) -> None:
    energy.node.apply(named("seen", container()), named("unseen", container(), namespace=EXCLUDED))
    namespace = f"--namespace={EXCLUDED}"
    energy.node.kubectl("wait", "pod/unseen", namespace, "--for=condition=Ready", "--timeout=60s")
    seen = info_of(energy, "seen")
    until(lambda: count(energy, seen["run_id"]), LONG_SECONDS)
    gained = energy.gains()
    (held,) = gained.held(seen["run_id"])
    (left,) = set(HELD) - {held}
    unallocated = gained.of(
        "emissions_unattributed_energy_joules_total", id=left, reason="unallocated"
    )
    assert unallocated == gained.gpu(left) > 0
    for family in ("emissions_run_info", "emissions_owner_energy_joules_total"):
        assert gained.second.select(family, workload_namespace=EXCLUDED) == []
    assert gained.second.select("emissions_run_member_info", workload_pod="unseen") == []


def members(energy: Energy, run: str) -> list[str]:
    """Names of the pods of a run at present."""
    found = energy.scrape().select("emissions_run_member_info", run_id=run)
    return sorted(labels["workload_pod"] for labels, _ in found)


def count(energy: Energy, run: str) -> int:
    """How many GPUs a run holds now."""
    found = energy.scrape().select("emissions_run_power_watts", run_id=run, device="gpu")
    return sum(watts > 0 for _, watts in found)
