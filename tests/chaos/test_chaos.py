"""Everything at once: faults of every source, kills, restarts, churn of pods and layouts.

The daemon ticks ten times as often as it would, so that minutes hold what half an hour would.
"""

import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from exporter.expose.metrics import metric_families
from tests.kube.api_server import FakeApiServer
from tests.kube.kubelet import FakeKubelet, container, pod
from tests.nvml.fake import FakeNvml, build
from tests.real.fed import Host
from tests.real.parts import LONG_SECONDS, Daemon, Prometheus, until
from tests.real.test_kubernetes import CGROUPS, MIG, NVIDIA, Pod, gpu

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.skipif(not os.access(CGROUPS, os.W_OK), reason="no cgroups of version 2 to write"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler for the made-up driver"),
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="no prometheus"),
]
SECONDS = float(os.environ.get("CHAOS_SECONDS", "180"))
SEED = int(os.environ["TEST_SEED"])
INTERVAL_SECONDS = 0.1
QUIET_SECONDS = 15
RETRY_SECONDS = 90
"""Longer than the longest wait before something is tried again."""
DURABLE = [family.name for family in metric_families() if family.durable]
BEGINNING = {"joules": 3_500.0, "grams": 0.5, "units": 0.0}
"""What a series may show when it is first scraped: the most that some seconds use."""
CALLS = (
    "nvmlDeviceGetFieldValues",
    "nvmlDeviceGetTotalEnergyConsumption",
    "nvmlDeviceGetPowerUsage",
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetProcessUtilization",
    "nvmlDeviceGetUUID",
)
CODES = (1, 3, 9, 10, 15, 16, 17, 21, 999)
SPIN = "import time\nwhile time.process_time() < {}: pass"


class Chaos:
    """The node, and what can happen to it."""

    def __init__(self, root: Path, ends: ExitStack, patch: pytest.MonkeyPatch) -> None:
        self.random = random.Random(SEED)
        self.pods: list[Pod] = []
        self.given: dict[str, dict[str, list[str]]] = {}
        self.work: list[subprocess.Popen[bytes]] = []
        self.happened: dict[str, int] = {}
        self.imbalances: set[int] = set()
        self._made = 0
        host = Host(root / "host")
        ends.enter_context(host.tree)
        ends.callback(host.stop)
        host.play()
        gpus = [gpu(n, 100 + 50 * n) for n in range(4)]
        self.fake = FakeNvml(root / "fake", {"period_seconds": 600, "devices": gpus})
        self.kubelet = FakeKubelet(root / "pod-resources" / "kubelet.sock").start()
        ends.callback(self.kubelet.stop)
        self.is_kubelet_up = True
        self.api = FakeApiServer(root / "api")
        ends.callback(self.api.stop)
        config = root / "config.json"
        settings = {
            "sample": {"interval_seconds": INTERVAL_SECONDS},
            "attribute": {"retain_ended_seconds": 5, "max_runs": 60},
            "account": {"commit_seconds": 1},
        }
        config.write_text(json.dumps(settings))
        environment = {
            **self.fake.environment(build(root / "library")),
            "EMISSIONS_EXPORTER_ATTRIBUTE_NODE_NAME": "node-1",
            "EMISSIONS_EXPORTER_ATTRIBUTE_KUBELET_SOCKET": str(self.kubelet.path),
            "EMISSIONS_EXPORTER_ATTRIBUTE_SERVICE_ACCOUNT": str(self.api.account),
            "KUBERNETES_SERVICE_HOST": "localhost",
            "KUBERNETES_SERVICE_PORT": self.api.port,
        }
        for name, value in environment.items():
            patch.setenv(name, value)
        flags = f"--path.sysfs={host.root}", f"--config.file={config}", "--log.level=error"
        self.daemon = Daemon(root / "daemon", *flags)
        ends.callback(self.daemon.stop)
        ends.callback(self._end_all)
        self.daemon.start()

    def play(self, seconds: float) -> None:
        """One event after the other, chosen by chance."""
        end = time.monotonic() + seconds
        events: list[tuple[int, Callable[[], None]]] = [
            (8, self.begin_pod),
            (6, self.end_pod),
            (10, self.work_somewhere),
            (5, self.give_devices),
            (4, self.break_the_driver),
            (4, self.heal_the_driver),
            (2, self.change_the_layout),
            (2, self.lose_a_card),
            (2, self.stop_or_start_the_kubelet),
            (2, self.refuse_or_serve),
            (2, self.cut_the_watch),
            (2, self.register_and_leave),
            (1, self.kill_the_daemon),
            (1, self.restart_the_daemon),
            (1, self.reload_the_daemon),
        ]
        weights = [weight for weight, _ in events]
        while time.monotonic() < end:
            _, event = self.random.choices(events, weights)[0]
            event()
            name = event.__name__
            self.happened[name] = self.happened.get(name, 0) + 1
            time.sleep(self.random.uniform(0.02, 0.3))
            self.work = [each for each in self.work if each.poll() is None]
            self._look()

    def calm(self) -> None:
        """No more faults; everything that is there works again."""
        self.fake.heal()
        self.api.status = 0
        if not self.is_kubelet_up:
            self.stop_or_start_the_kubelet()
        for each in self.work:
            each.wait(LONG_SECONDS)
        time.sleep(QUIET_SECONDS)
        with suppress(AssertionError):  # told by its own test
            until(self.works, RETRY_SECONDS, "everything works again")
        self._look()

    def works(self) -> bool:
        """Whether no device is missed, and nobody waits before trying again."""
        snapshot = self.daemon.json("/api/v1/snapshot")
        health = snapshot["health"]
        return (
            not (health["ledger_why"] or health["sick"])
            and all(device["up"] for device in snapshot["devices"])
            and all(state["ok"] for state in snapshot["collectors"])
        )

    def begin_pod(self) -> None:
        if len(self.pods) >= 12:
            return
        self._made += 1
        is_known = self.random.random() < 0.5
        ids = {"emissions-exporter/run-id": f"run-{self.random.randrange(4)}"} if is_known else {}
        # Some come back under a name that was there before, as those of a StatefulSet do.
        made = Pod(f"pod-{self._made % 10}", annotations=ids)
        self.pods.append(made)
        self.api.pods = [each.described for each in self.pods]
        self.api.tell("ADDED", made.described)

    def end_pod(self) -> None:
        idle = [each for each in self.pods if not (each.path / "cgroup.procs").read_text()]
        if not idle:
            return
        gone = self.random.choice(idle)
        self.pods.remove(gone)
        gone.end()
        self.given.pop(gone.name, None)
        self.api.pods = [each.described for each in self.pods]
        self.api.tell("DELETED", gone.described)
        self._tell_kubelet()

    def work_somewhere(self) -> None:
        if self.pods and len(self.work) < 4:
            busy = self.random.choice(self.pods).spin(self.random.uniform(0.05, 0.8))
            self.work.append(busy)
            number = self.random.randrange(4)
            self.fake.begin_process(number, busy.pid, self.random.random())

    def give_devices(self) -> None:
        self.given = {}
        forms = [
            {NVIDIA: ["GPU-0"]},
            {NVIDIA: ["GPU-1::0"]},
            {NVIDIA: ["GPU-1::1", "GPU-1::2"]},
            {MIG: ["MIG-1"]},
            {MIG: ["MIG-2"]},
            {NVIDIA: ["GPU-9"]},
            {"example.com/nic": ["nic-1"]},
        ]
        for each in self.random.sample(self.pods, min(len(self.pods), 5)):
            self.given[each.name] = self.random.choice(forms)
        self._tell_kubelet()

    def break_the_driver(self) -> None:
        call, number = self.random.choice(CALLS), self.random.randrange(4)
        if self.random.random() < 0.2:
            self.fake.fault(call, gpu=number, delay_ms=self.random.choice((50, 400)))
        else:
            self.fake.fault(call, self.random.choice(CODES), gpu=number)

    def heal_the_driver(self) -> None:
        self.fake.heal()

    def change_the_layout(self) -> None:
        count = self.random.randrange(3)
        instances = [{"id": f"MIG-{n}", "gi": n, "ci": 0, "slices": 3} for n in range(1, count + 1)]
        self.fake.partition(2, 7 if count else 0, instances)

    def lose_a_card(self) -> None:
        self.fake.mark_lost(self.random.randrange(4))

    def stop_or_start_the_kubelet(self) -> None:
        if self.is_kubelet_up:
            self.kubelet.stop()
        else:
            self.kubelet.start()
        self.is_kubelet_up = not self.is_kubelet_up

    def refuse_or_serve(self) -> None:
        self.api.status = self.random.choice((0, 0, 401, 403, 429, 500))

    def cut_the_watch(self) -> None:
        self.api.cut()

    def register_and_leave(self) -> None:
        program = [sys.executable, "-c", SPIN.format(0.2)]
        run = self.daemon.run(f"--run-id=own-{self.random.randrange(3)}", "--", *program)
        assert run.stderr is not None
        run.stderr.close()
        self.work.append(run)

    def kill_the_daemon(self) -> None:
        self.daemon.kill()
        self.daemon.start()

    def restart_the_daemon(self) -> None:
        assert self.daemon.stop() == 0, self.daemon.log()[-2000:]
        self.daemon.start()

    def reload_the_daemon(self) -> None:
        assert self.daemon.process is not None
        self.daemon.process.send_signal(signal.SIGHUP)
        time.sleep(0.5)

    def _tell_kubelet(self) -> None:
        self.kubelet.pods = [
            pod("ml", name, container("main", devices)) for name, devices in self.given.items()
        ]

    def _look(self) -> None:
        with suppress(OSError):  # it restarts just now
            health = self.daemon.json("/api/v1/snapshot")["health"]
            self.imbalances.add(health["imbalance_uj"])

    def _end_all(self) -> None:
        for each in self.work:
            each.kill()
            each.wait()
        for each in self.pods:
            each.end()


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    root = tmp_path_factory.mktemp("chaos")
    with ExitStack() as ends:
        patch = ends.enter_context(pytest.MonkeyPatch.context())
        chaos = Chaos(root, ends, patch)
        prometheus = Prometheus(root / "prometheus", {"n1": chaos.daemon})
        ends.callback(prometheus.stop)
        chaos.play(SECONDS)
        chaos.calm()
        chaos.restart_the_daemon()
        until(chaos.works, RETRY_SECONDS, "it has all that it will hold")
        chaos.daemon.pass_ticks(round(3 / INTERVAL_SECONDS))
        before = resources(chaos.daemon)
        churn(chaos, 40)
        chaos.calm()
        yield {
            "chaos": chaos,
            "prometheus": prometheus,
            "before": before,
            "after": resources(chaos.daemon),
            "snapshot": chaos.daemon.json("/api/v1/snapshot"),
        }


def churn(chaos: Chaos, times: int) -> None:
    """All but restarts, for what a daemon gathers while it lives."""
    for _ in range(times):
        for event in (
            chaos.begin_pod,
            chaos.work_somewhere,
            chaos.give_devices,
            chaos.break_the_driver,
            chaos.cut_the_watch,
            chaos.stop_or_start_the_kubelet,
            chaos.end_pod,
            chaos.heal_the_driver,
        ):
            event()
            time.sleep(0.05)
        chaos.work = [each for each in chaos.work if each.poll() is None]
        assert chaos.daemon.process is not None
        assert chaos.daemon.process.poll() is None, chaos.daemon.log()[-2000:]


def resources(daemon: Daemon) -> dict[str, int]:
    assert daemon.process is not None
    proc = Path(f"/proc/{daemon.process.pid}")
    status = proc.joinpath("status").read_text()
    found = {name: re.search(rf"{name}:\s+(\d+)", status) for name in ("Threads", "VmRSS")}
    numbers = {name: int(match[1]) for name, match in found.items() if match is not None}
    return {**numbers, "handles": len(list(proc.joinpath("fd").iterdir()))}


def test_enough_happened(played: dict[str, Any]) -> None:
    happened = played["chaos"].happened
    assert sum(happened.values()) > SECONDS
    assert happened["kill_the_daemon"] >= 1


def test_the_books_were_never_out_of_balance(played: dict[str, Any]) -> None:
    assert played["chaos"].imbalances == {0}
    for device in played["snapshot"]["devices"]:
        counted = device["counted"]
        parts = counted["attributed_uj"] + sum(counted["unattributed_uj"].values())
        assert counted["energy_uj"] == parts, device["id"]


def test_everything_works_again(played: dict[str, Any]) -> None:
    health = played["snapshot"]["health"]
    assert (health["ledger_why"], health["sick"]) == ("", "")
    assert all(device["up"] for device in played["snapshot"]["devices"])
    assert all(state["ok"] for state in played["snapshot"]["collectors"])


@pytest.mark.parametrize("family", DURABLE)
def test_no_durable_counter_steps_back_but_to_zero(played: dict[str, Any], family: str) -> None:
    """A run that left the page and came back begins again at zero; nothing else ever falls."""
    at_most = BEGINNING[family.rsplit("_", 2)[1]]
    window = round(SECONDS) + 300
    wrong = []
    for series in played["prometheus"].query(f"{family}[{window}s]"):
        values = [float(value) for _, value in series["values"]]
        falls = [(a, b) for a, b in itertools.pairwise(values) if b < a]
        may_leave = "_run_" in family
        wrong += [(series["metric"], fall) for fall in falls if not may_leave or fall[1] > at_most]
    assert wrong == []


def test_what_a_daemon_holds_does_not_grow(played: dict[str, Any]) -> None:
    before, after = played["before"], played["after"]
    assert after["Threads"] <= before["Threads"] + 2
    assert after["handles"] <= before["handles"] + 12
    assert after["VmRSS"] <= before["VmRSS"] * 1.15
