"""Manifests of pods that hold GPUs, and what became of the energy of these GPUs."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.cluster.conftest import Exporter, Metrics
from tests.cluster.node import LONG_SECONDS, SHELL, Node
from tests.real.parts import until

GPU = "nvidia.com/gpu"
RUN_ENERGY = "emissions_run_energy_joules_total"
PUBLISHED_SECONDS = 20.0
DEVICE_ENERGY = "emissions_device_energy_joules_total"
ATTRIBUTED = "emissions_attributed_energy_joules_total"
UNATTRIBUTED = "emissions_unattributed_energy_joules_total"


def container(name: str = "main", *command: str, **limits: int | str) -> dict[str, Any]:
    """A container that holds a GPU, unless `limits` says what else; it waits by default."""
    made: dict[str, Any] = {
        "name": name,
        "image": SHELL,
        "resources": {"limits": limits or {GPU: 1}},
    }
    return {**made, "command": ["sh", "-c", *command]} if command else made


def spec(*containers: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "containers": list(containers or [container()]),
        **more,
    }


def pod(name: str, *containers: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": spec(*containers, **more),
    }


def controller(kind: str, name: str, template: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """A Deployment or a StatefulSet of one pod."""
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": template},
            **more,
        },
    }


class Energy:
    """The energy of GPUs in scrapes, each of which must be divided exactly."""

    def __init__(self, node: Node, exporter: Exporter) -> None:
        self.node = node
        self.exporter = exporter

    def scrape(self) -> Metrics:
        """A scrape in which all energy of pods is that of published runs.

        A new pod is not published for up to five seconds while its name may still arrive.
        """

        def published() -> Metrics | None:
            metrics = self.exporter.scrape()
            metrics.assert_complete()
            uuids = {labels["id"] for labels, _ in metrics.select(ATTRIBUTED, device="gpu")}
            sums = (
                [metrics.microjoules(name, id=uuid) for uuid in uuids]
                for name in (ATTRIBUTED, RUN_ENERGY)
            )
            return metrics if next(sums) == next(sums) else None

        return until(published, PUBLISHED_SECONDS, "all pods are published runs")

    def run(self, name: str, namespace: str = "default") -> str:
        """The id of the run of a pod, which is its uid, as soon as there is such a run.

        Runs of other tests may have the same name.
        """
        uid = str(self.node.get("pod", name, f"--namespace={namespace}")["metadata"]["uid"])
        until(
            lambda: self.scrape().select("emissions_run_info", run_id=uid),
            LONG_SECONDS,
            f"the run of {name}",
        )
        return uid

    def holder(self, name: str) -> str:
        """The id of the run of a pod, as soon as it holds a GPU."""
        run = self.run(name)
        until(lambda: run in self.holders(), LONG_SECONDS, f"{name} holds a GPU")
        return run

    def release(self, run: str = "") -> None:
        """Wait until a run, or every run, no longer holds a GPU."""
        until(lambda: not (self.holders() & {run} if run else self.holders()), LONG_SECONDS)

    def holders(self) -> set[str]:
        """Runs that have power of a GPU now."""
        found = self.scrape().select("emissions_run_power_watts", device="gpu")
        return {labels["run_id"] for labels, watts in found if watts}

    def gains(self, ticks: int = 4) -> "Gains":
        """Energy over some ticks, from the second tick on."""
        self.exporter.pass_ticks(2)
        first = self.scrape()
        self.exporter.pass_ticks(ticks)
        return Gains(first, self.scrape())


class Gains:
    """Energy between two scrapes in microjoules."""

    def __init__(self, first: Metrics, second: Metrics) -> None:
        self.first = first
        self.second = second

    def of(self, name: str, **labels: str) -> int:
        return self.second.microjoules(name, **labels) - self.first.microjoules(name, **labels)

    def run(self, run: str, uuids: Sequence[str] = ()) -> int:
        """Energy of a run, of all GPUs or of these."""
        if not uuids:
            return self.of(RUN_ENERGY, run_id=run, device="gpu")
        return sum(self.of(RUN_ENERGY, run_id=run, id=uuid) for uuid in uuids)

    def gpu(self, *uuids: str) -> int:
        return sum(self.of(DEVICE_ENERGY, id=uuid) for uuid in uuids)

    def unattributed(self, *uuids: str) -> int:
        return sum(self.of(UNATTRIBUTED, id=uuid) for uuid in uuids)

    def held(self, run: str) -> list[str]:
        """GPUs of which the run got energy."""
        found = {labels["id"] for labels, _ in self.second.select(RUN_ENERGY, run_id=run)} - {""}
        return sorted(uuid for uuid in found if self.run(run, [uuid]))
