"""Pods on shared and partitioned GPUs: real cgroups, a kubelet and a server that really speak."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tests.kube.api_server import FakeApiServer, described
from tests.kube.kubelet import FakeKubelet, container, pod
from tests.nvml.fake import FakeNvml, build
from tests.real.clocks import Clocks
from tests.real.fed import Host
from tests.real.parts import Daemon, Prometheus, get, until

CGROUPS = Path("/sys/fs/cgroup/unified")
ROOT = CGROUPS / "kubepods"
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        not os.access(CGROUPS, os.W_OK) and not os.access("/sys/fs/cgroup/cgroup.procs", os.W_OK),
        reason="no cgroups of version 2 that may be written to",
    ),
    pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler for the made-up driver"),
]
Joules: TypeAlias = dict[str, float]
"""By GPU."""
NVIDIA, MIG = "nvidia.com/gpu", "nvidia.com/mig-3g.40gb"
RDMA = "rdma/hca_shared_devices_a"
"""Its ids are numbers, as indices of GPUs are."""
SPIN = "import time\nwhile time.process_time() < {seconds}: pass"


class Pod:
    """One pod with a real cgroup."""

    def __init__(self, name: str, **given: Any) -> None:
        self.name = name
        self.uid = str(uuid.uuid4())
        self.path = ROOT / "burstable" / f"pod{self.uid}"
        self.path.mkdir(parents=True)
        started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.described = described(self.uid, name, "ml", started=started, **given)
        self.run_id = given.get("annotations", {}).get("emissions-exporter/run-id", self.uid)

    def start(self, *program: str) -> "subprocess.Popen[bytes]":
        """A process in the pod."""
        script = f'echo $$ > {self.path}/cgroup.procs; exec "$@"'
        return subprocess.Popen(["sh", "-c", script, "sh", *program])

    def spin(self, seconds: float) -> "subprocess.Popen[bytes]":
        """A process in the pod that uses so much CPU time."""
        return self.start(sys.executable, "-c", SPIN.format(seconds=seconds))

    def end(self) -> None:
        """Take its cgroup away; its processes have ended."""
        with contextlib.suppress(OSError):
            self.path.rmdir()


class Node:
    """The daemon, and all that speaks to it."""

    def __init__(self, daemon: Daemon, kubelet: FakeKubelet, api: FakeApiServer) -> None:
        self.daemon = daemon
        self.kubelet = kubelet
        self.api = api

    def snapshot(self) -> dict[str, Any]:
        return dict(self.daemon.json("/api/v1/snapshot"))

    def parts(self, run_id: str, kind: str) -> dict[str, int]:
        """Microjoules of a run by device."""
        runs = {run["run_id"]: run for run in self.snapshot()["runs"]}
        found = runs.get(run_id, {"parts": []})["parts"]
        return {part["id"]: part["energy_uj"] for part in found if part["device"] == kind}

    def collector(self, name: str) -> dict[str, Any]:
        (state,) = [each for each in self.snapshot()["collectors"] if each["name"] == name]
        return dict(state)


def gpu(number: int, watts: float, **more: Any) -> dict[str, Any]:
    return {
        "kind": "gpu",
        "id": f"GPU-{number}",
        "model": "NVIDIA H200",
        "pci_bus_id": f"00000000:{number + 1:02X}:00.0",
        "power_limit_watts": 700,
        "watts": [[0, watts]],
        **more,
    }


PODS = ("alone", "half", "other-half", "slice", "claimed", "w-0", "w-1")
BEHIND_MPS = ("mps-server", "mps-large", "mps-small")
"""The control daemon of the device plugin, which asks for no GPU, and its two clients."""
RUN_IDS = {"alone": "bert", "w-0": "pair", "w-1": "pair"}
"""What each has is said to the kubelet below."""


@pytest.fixture(scope="module")
def pods() -> Iterator[dict[str, Pod]]:
    made = {}
    for name in PODS + BEHIND_MPS:
        ids = {"run-id": RUN_IDS[name], "job-id": "j1"} if name in RUN_IDS else {}
        annotations = {f"emissions-exporter/{key}": value for key, value in ids.items()}
        made[name] = Pod(name, annotations=annotations)
    yield made
    for each in made.values():
        each.end()
    for directory in (ROOT / "burstable", ROOT):
        with contextlib.suppress(OSError):
            directory.rmdir()


def replicas(*numbers: int) -> list[str]:
    return [f"GPU-{gpu}::{number}" for gpu in (4, 5) for number in numbers]


def behind_mps(root: Path, pods: dict[str, Pod], ends: ExitStack) -> list[dict[str, Any]]:
    """What a driver says of GPU-4 and GPU-5: the server is busy; of GPU-5, no client is named."""
    gpu_holdings: list[dict[str, Any]] = []
    for name in BEHIND_MPS:
        program = root / ("nvidia-cuda-mps-server" if name == "mps-server" else name)
        program.symlink_to(shutil.which("sleep") or "sleep")
        process = pods[name].start(str(program), "300")
        ends.callback(process.wait)
        ends.callback(process.terminate)
        served = {"serves": True, "active": [[0, 0.9]]} if name == "mps-server" else {}
        gpu_holdings.append({"id": "GPU-4", "pid": process.pid, **served})
    gpu_holdings.append({**gpu_holdings[0], "id": "GPU-5"})
    return [{"starts": 0, "ends": 600, "gpus": [seat]} for seat in gpu_holdings]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, pods: dict[str, Pod]) -> Iterator[Node]:
    root = tmp_path_factory.mktemp("kubernetes")
    with ExitStack() as ends:
        patch = ends.enter_context(pytest.MonkeyPatch.context())
        host = Host(root / "host")
        ends.enter_context(host.tree)
        ends.callback(host.stop)
        host.play()
        instances = [{"id": f"MIG-{n}", "gi": n, "ci": 0, "slices": 3} for n in (1, 2)]
        mig = {"slices": 7, "instances": instances}
        gpus = [gpu(0, 70), gpu(1, 400), gpu(2, 280, mig=mig), gpu(3, 90)]
        gpus += [gpu(4, 300), gpu(5, 120), gpu(6, 200)]
        for number, each in enumerate(gpus):
            each["nvml"] = {"minor": len(gpus) - 1 - number}
        workload = behind_mps(root, pods, ends)
        host_of_gpus = {"period_seconds": 600, "devices": gpus, "workload": workload}
        fake = FakeNvml(root / "fake", host_of_gpus)
        for name, value in fake.environment(build(root / "library")).items():
            patch.setenv(name, value)
        kubelet = FakeKubelet(root / "pod-resources" / "kubelet.sock")
        kubelet.allocatable = {
            NVIDIA: [
                *("nvidia6", "GPU-1::0", "GPU-1::1", "GPU-3", "GPU-6"),
                *(f"GPU-{number}::{replica}" for number in (4, 5) for replica in range(3)),
            ],
            MIG: ["MIG-1", "MIG-2"],
            RDMA: [str(number) for number in range(63)],
        }
        kubelet.pods = [
            # As GKE's plugin calls it: GPU-0 has the last device file, and index 0.
            pod("ml", "alone", container("main", {NVIDIA: ["nvidia6"]})),
            pod("ml", "half", container("main", {NVIDIA: ["GPU-1::0"]})),
            pod("ml", "other-half", container("main", {NVIDIA: ["GPU-1::1"]})),
            pod("ml", "slice", container("main", {MIG: ["MIG-1"], RDMA: ["0", "3"]})),
            pod("ml", "mps-large", container("main", {NVIDIA: replicas(0, 1)})),
            pod("ml", "mps-small", container("main", {NVIDIA: replicas(2)})),
            pod("ml", "claimed", container("main", claims=[("gpu.nvidia.com", "node-1", "gpu-3")])),
        ]
        ends.callback(kubelet.stop)
        kubelet.start()
        api = FakeApiServer(root / "api")
        ends.callback(api.stop)
        api.pods = [each.described for each in pods.values()]
        device = {"name": "gpu-3", "attributes": {"uuid": {"string": "GPU-3"}}}
        spec = {"driver": "gpu.nvidia.com", "pool": {"name": "node-1"}, "devices": [device]}
        api.slices = {"v1": [{"spec": spec}]}
        settings = {
            "EMISSIONS_EXPORTER_ATTRIBUTE_NODE_NAME": "node-1",
            "EMISSIONS_EXPORTER_ATTRIBUTE_KUBELET_SOCKET": str(kubelet.path),
            "EMISSIONS_EXPORTER_ATTRIBUTE_SERVICE_ACCOUNT": str(api.account),
            "KUBERNETES_SERVICE_HOST": "localhost",
            "KUBERNETES_SERVICE_PORT": api.port,
        }
        for name, value in settings.items():
            patch.setenv(name, value)
        daemon = Daemon(root / "daemon", f"--path.sysfs={host.root}")
        ends.callback(daemon.stop)
        daemon.start()
        made = Node(daemon, kubelet, api)
        until(lambda: made.parts("bert", "gpu"), what="the pods hold their GPUs")
        for name in ("claimed", "slice", "mps-large"):
            until(lambda uid=pods[name].uid: made.parts(uid, "gpu"), what=f"{name} has its GPU")
        yield made


def used(node: Node, seconds: float, *run_ids: str) -> tuple[dict[str, Joules], Joules]:
    """Joules by run and GPU in so many seconds, and those of the GPUs themselves."""
    before = node.snapshot()
    time.sleep(seconds)
    after = node.snapshot()

    def of_devices(snapshot: dict[str, Any]) -> Joules:
        return {each["id"]: each["counted"]["energy_uj"] / 1e6 for each in snapshot["devices"]}

    def of_run(snapshot: dict[str, Any], run_id: str) -> Joules:
        (run,) = [each for each in snapshot["runs"] if each["run_id"] == run_id] or [{"parts": []}]
        parts = [part for part in run["parts"] if part["device"] == "gpu"]
        return {part["id"]: part["energy_uj"] / 1e6 for part in parts}

    def more(new: Joules, old: Joules) -> Joules:
        return {name: joules - old.get(name, 0.0) for name, joules in new.items()}

    runs = {each: more(of_run(after, each), of_run(before, each)) for each in run_ids}
    return runs, more(of_devices(after), of_devices(before))


def test_every_pod_pays_for_what_it_was_given(node: Node, pods: dict[str, Pod]) -> None:
    names = ("half", "other-half", "slice", "claimed")
    runs, gpus = used(node, 5, "bert", *(pods[name].uid for name in names))
    assert gpus["GPU-1"] / gpus["GPU-0"] == pytest.approx(400 / 70, rel=0.5)
    expected = {
        "bert": {"GPU-0": gpus["GPU-0"]},
        pods["half"].uid: {"GPU-1": gpus["GPU-1"] / 2},
        pods["other-half"].uid: {"GPU-1": gpus["GPU-1"] / 2},
        pods["slice"].uid: {"GPU-2": gpus["GPU-2"] * 3 / 7},
        pods["claimed"].uid: {"GPU-3": gpus["GPU-3"]},
    }
    for run_id, of_run in expected.items():
        assert runs[run_id] == pytest.approx(of_run, rel=1e-6), run_id


def test_pods_behind_an_mps_server_pay_for_its_work_by_what_they_hold(
    node: Node, pods: dict[str, Pod]
) -> None:
    ids = [pods[name].uid for name in BEHIND_MPS]
    runs, gpus = used(node, 5, *ids)
    server, large, small = (runs[run_id] for run_id in ids)
    assert not any(server.values())
    for name in ("GPU-4", "GPU-5"):
        assert large[name] + small[name] == pytest.approx(gpus[name], rel=1e-6), name
        assert large[name] == pytest.approx(2 * small[name], rel=1e-3), name
    assert not unattributed(node, "GPU-4", "unknown_process")


def unattributed(node: Node, gpu_id: str, reason: str) -> int:
    """Microjoules of a GPU that were of nobody for this reason."""
    return int(counted(node, gpu_id)["unattributed_uj"].get(reason, 0))


def counted(node: Node, gpu_id: str) -> dict[str, Any]:
    """What was counted of a GPU."""
    (device,) = [each for each in node.snapshot()["devices"] if each["id"] == gpu_id]
    return dict(device["counted"])


def test_what_nobody_was_given_is_unallocated(node: Node) -> None:
    # Not since the beginning: until the kubelet has answered, nobody was given anything.
    before = counted(node, "GPU-2")
    until(lambda: counted(node, "GPU-2")["energy_uj"] - before["energy_uj"] > 3 * 280 * 1e6)
    after = counted(node, "GPU-2")
    rest = after["unattributed_uj"]["unallocated"] - before["unattributed_uj"]["unallocated"]
    used_uj = after["energy_uj"] - before["energy_uj"]
    assert rest / used_uj == pytest.approx(4 / 7, rel=1e-6)


def test_processors_are_paid_for_by_the_clocks_of_cgroups(
    node: Node, pods: dict[str, Pod], clocks: Clocks
) -> None:
    before = {name: sum(node.parts(pods[name].uid, "cpu").values()) for name in ("half", "slice")}
    work = [pods["half"].spin(4), pods["slice"].spin(2)]
    for process in work:
        assert process.wait(60) == 0
    node.daemon.pass_ticks(2)
    for name, seconds in (("half", 4), ("slice", 2)):
        joules = (sum(node.parts(pods[name].uid, "cpu").values()) - before[name]) / 1e6
        assert joules == clocks.add_cpu_time(seconds, rel=0.08), name


def test_the_parts_are_the_devices_exactly(node: Node) -> None:
    snapshot = node.snapshot()
    for device in snapshot["devices"]:
        counted = device["counted"]
        parts = counted["attributed_uj"] + sum(counted["unattributed_uj"].values())
        assert counted["energy_uj"] == parts, device["id"]
    assert snapshot["health"]["imbalance_uj"] == 0
    assert snapshot["health"]["ledger_errors"] == 0


def test_ids_names_and_members_are_on_the_page(node: Node) -> None:
    lines = get(node.daemon.url + "/metrics").decode().splitlines()
    (info,) = [x for x in lines if x.startswith("emissions_run_info") and 'run_id="bert"' in x]
    assert 'job_id="j1"' in info
    assert 'workload_namespace="ml"' in info
    (member,) = [
        x for x in lines if x.startswith("emissions_run_member_info") and 'run_id="bert"' in x
    ]
    assert 'workload_pod="alone"' in member
    assert 'workload_container="main"' in member


def test_two_pods_of_one_run_are_one_line_of_a_join(
    node: Node, pods: dict[str, Pod], tmp_path_factory: pytest.TempPathFactory
) -> None:
    if shutil.which("prometheus") is None:
        pytest.skip("no prometheus on this machine: `make test` as root installs it")
    lines = get(node.daemon.url + "/metrics").decode().splitlines()
    members = [x for x in lines if x.startswith("emissions_run_member_info") and "pair" in x]
    assert len(members) == 2
    prometheus = Prometheus(tmp_path_factory.mktemp("join") / "data", {"n1": node.daemon})
    join = (
        "emissions_run_power_watts * on (instance, run_id, job_id) "
        "group_left (workload_namespace) emissions_run_info"
    )
    try:
        found = until(lambda: prometheus.query(join), what="the join has an answer")
    finally:
        prometheus.stop()
    ours = {pod.run_id for pod in pods.values()}  # others may be made on this machine meanwhile
    metrics = [each["metric"] for each in found if each["metric"]["run_id"] in ours]
    assert {metric["workload_namespace"] for metric in metrics} == {"ml"}
    of_pair = [metric for metric in metrics if metric["run_id"] == "pair"]
    assert sorted(metric["device"] for metric in of_pair) == ["cpu", "dram"]


def test_a_silent_kubelet_and_a_server_that_refuses_change_nothing_that_was_known(
    node: Node,
) -> None:
    node.kubelet.stop()
    node.api.status = 403
    node.api.cut()
    until(lambda: not node.collector("kubelet")["ok"], 30, "the kubelet is missed")
    until(lambda: not node.collector("pods")["ok"], 30, "the server is missed")
    runs, gpus = used(node, 4, "bert")
    assert runs["bert"]["GPU-0"] == pytest.approx(gpus["GPU-0"], rel=1e-6)
    assert gpus["GPU-0"] > 70
    assert "allow the service account to list and watch pods" in node.collector("pods")["why"]
    node.api.status = 0
    node.kubelet.start()
    until(lambda: node.collector("kubelet")["ok"], 40, "the kubelet is there again")
    until(lambda: node.collector("pods")["ok"], 70, "the server is there again")


def test_a_pod_pays_for_what_its_gpu_used_while_the_daemon_was_away(node: Node) -> None:
    before, restart = node.parts("bert", "gpu")["GPU-0"], unattributed(node, "GPU-0", "restart")
    node.daemon.kill()
    time.sleep(4)
    node.daemon.start()
    more = 4 * 70 * 1e6
    until(lambda: node.parts("bert", "gpu")["GPU-0"] - before > more, what="it has paid")
    assert unattributed(node, "GPU-0", "restart") == restart


def test_a_pod_that_ends_is_retained_and_its_device_is_free(
    node: Node, pods: dict[str, Pod]
) -> None:
    gone = pods["claimed"]
    node.kubelet.pods.pop()
    gone.end()
    node.api.tell("DELETED", gone.described)
    runs = until(
        lambda: [
            run for run in node.snapshot()["runs"] if run["run_id"] == gone.uid and run["ended"]
        ],
        what="the run ends",
    )
    assert runs[0]["energy_uj"] > 0
    before = unattributed(node, "GPU-3", "unallocated")
    until(lambda: unattributed(node, "GPU-3", "unallocated") > before, what="nobody has it")


def by_label(node: Node, family: str, label: str) -> float:
    """The sum of a family's samples that have this label."""
    lines = get(node.daemon.url + "/metrics").decode().splitlines()
    found = [line for line in lines if line.startswith(f"{family}{{") and label in line]
    return sum(float(line.rpartition(" ")[2]) for line in found)


def test_a_pod_that_begins_while_the_api_server_is_down_is_one_run_from_its_first_joule(
    node: Node,
) -> None:
    annotations = {"emissions-exporter/run-id": "late", "emissions-exporter/job-id": "j9"}
    node.api.status = 500
    node.api.cut()
    until(lambda: not node.collector("pods")["ok"], 30, "the server is missed")
    free = unattributed(node, "GPU-6", "unallocated")
    owner = "emissions_owner_energy_joules_total", 'workload_namespace="ml"'
    late = Pod("late", annotations=annotations)
    node.kubelet.pods.append(pod("ml", "late", container("main", {NVIDIA: ["GPU-6"]})))
    until(lambda: node.parts(late.uid, "gpu").get("GPU-6", 0) > 4e8, 30, "the pod pays")
    work = late.spin(2)
    assert work.wait(60) == 0
    until(lambda: sum(node.parts(late.uid, "cpu").values()) > 0, 30, "it pays for processors too")
    node.daemon.kill()
    time.sleep(2)
    node.daemon.start()
    until(lambda: node.parts(late.uid, "gpu").get("GPU-6", 0) > 8e8, 30, "it goes on")
    before_uj = node.parts(late.uid, "gpu")["GPU-6"]
    cpu_uj = sum(node.parts(late.uid, "cpu").values())
    of_owner = by_label(node, *owner)

    node.api.pods = [*node.api.pods, late.described]
    node.api.status = 0
    until(lambda: node.parts("late", "gpu").get("GPU-6", 0) > before_uj, 70, "it is named")
    runs = {run["run_id"] for run in node.snapshot()["runs"]}
    assert "late" in runs
    assert not runs & {"ml/late", late.uid}
    assert sum(node.parts("late", "cpu").values()) >= cpu_uj
    # All but what went by before the kubelet was asked, and the daemon saw the cgroup.
    total = counted(node, "GPU-6")
    assert total["unattributed_uj"]["unallocated"] - free < 7 * 200 * 1e6
    assert total["energy_uj"] == total["attributed_uj"] + sum(total["unattributed_uj"].values())
    assert node.parts("late", "gpu")["GPU-6"] == total["attributed_uj"]
    lines = get(node.daemon.url + "/metrics").decode().splitlines()
    (info,) = [x for x in lines if x.startswith("emissions_run_info") and 'run_id="late"' in x]
    assert 'job_id="j9"' in info
    assert 'workload_namespace="ml"' in info
    assert by_label(node, *owner) >= of_owner + before_uj / 1e6
    node.daemon.kill()
    node.daemon.start()
    assert node.parts("late", "gpu")["GPU-6"] >= total["attributed_uj"]
    assert not {run["run_id"] for run in node.snapshot()["runs"]} & {"ml/late", late.uid}
    late.end()
