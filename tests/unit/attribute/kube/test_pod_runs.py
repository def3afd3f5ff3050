"""Pods as runs: ids, usage and holdings."""

from types import SimpleNamespace

import pytest

from exporter.attribute.sources.kube.pod_metadata import (
    ApiServerState,
    ClaimedMigDevice,
    PodMetadata,
)
from exporter.attribute.sources.kube.pod_resources import (
    ClaimedDevice,
    ContainerResources,
    PodResources,
)
from exporter.attribute.sources.kube.pod_runs import FIRST_POD_UID, PodRuns
from exporter.attribute.sources.kube.sources import KubernetesSources
from exporter.model.readings import (
    Device,
    DeviceInfo,
    DeviceKind,
    GpuActivity,
    GpuProcess,
    Partition,
)
from exporter.model.runs import RunKey, RunMerge
from exporter.model.workload import CollectorState

ONE, TWO, THREE = (f"{n * 8}-{n * 4}-{n * 4}-{n * 4}-{n * 12}" for n in "123")
GPU = Device(DeviceKind.GPU, "GPU-1")
OTHER_GPU = Device(DeviceKind.GPU, "GPU-2")
INFOS = (
    DeviceInfo(GPU, "H200", "NVIDIA", "nvml", 700.0, ordinal="0", aliases=("nvidia1",)),
    DeviceInfo(OTHER_GPU, "H200", "NVIDIA", "nvml", 700.0, ordinal="1", aliases=("nvidia0",)),
)
"""The first GPU on the PCI bus has the second device file."""
AMD_GPU, INTEL_GPU = (Device(DeviceKind.GPU, name) for name in ("amd-1", "intel-1"))
MIXED = (
    *INFOS,
    DeviceInfo(
        *(AMD_GPU, "MI300X", "AMD", "amdgpu", 1500.0),
        ordinal="0",
        aliases=("0000:03:00.0", "card1", "gpu-1-128"),
    ),
    DeviceInfo(
        *(INTEL_GPU, "Max 1550", "Intel", "intel_gpu", 1200.0),
        ordinal="0",
        aliases=("0000:4d:00.0", "card2", "0000-4d-00-0-0x0bda"),
    ),
)
NVIDIA, RDMA = "nvidia.com/gpu", "rdma/hca_shared_devices_a"


class Node:
    """A host with a simulated cgroup tree of pods, a kubelet and an API server."""

    def __init__(self, host, mount):
        self.host = host
        self.mount = mount
        self.kubelet = SimpleNamespace(latest=PodResources(at_ns=1, why=""), wake=self._poke)
        self.pokes = 0
        self.watch = SimpleNamespace(latest=ApiServerState(at_ns=1, why=""))
        self.missing = ()
        self.options = {}
        host.pods = self.make
        host.begin()

    def make(self, run_registry, cgroup_runs):
        return PodRuns(
            str(self.host.proc.root),
            KubernetesSources(self.kubelet, self.watch, self.missing),
            run_registry,
            self.host.clock,
            cgroup_runs,
            **self.options,
        )

    def _poke(self):
        self.pokes += 1

    def pod(self, uid, name="", namespace="ml", used_us=0, **facts):
        """Start a pod, or set its CPU time; without a name it has only a cgroup."""
        path = self.mount / "kubepods" / "burstable" / f"pod{uid}"
        path.mkdir(parents=True, exist_ok=True)
        (path / "cpu.stat").write_text(f"usage_usec {used_us}\n")
        (path / "memory.stat").write_text("anon 1000\nshmem 24\n")
        (path / "cgroup.events").write_text("populated 1\n")
        if name:
            known = PodMetadata(uid, namespace, name, containers=("main",), **facts)
            self.watch.latest = self.watch.latest._replace(
                pods={**self.watch.latest.pods, uid: known}
            )

    def end(self, uid):
        path = self.mount / "kubepods" / "burstable" / f"pod{uid}"
        path.rename(self.mount / f"gone-{uid}")
        if self.watch is None:
            return
        pods = {key: facts for key, facts in self.watch.latest.pods.items() if key != uid}
        self.watch.latest = self.watch.latest._replace(pods=pods)

    def give(self, *containers, replicas=()):
        """Set the kubelet's list: (pod, device ids), or (pod, device ids, cpus).

        An id is of a GPU, or a resource and an id.
        """
        listed = []
        for name, ids, *cpus in containers:
            listed.append(ContainerResources("ml", name, "main", _named(ids), *cpus))
        self.kubelet.latest = PodResources(tuple(listed), _named(replicas), 1, "")

    def list(self, *containers, replicas=()):
        """Set the kubelet's list, requested after everything seen so far."""
        self.give(*containers, replicas=replicas)
        requested_ns = self.host.clock.boottime_ns()
        self.kubelet.latest = self.kubelet.latest._replace(
            at_ns=requested_ns, requested_ns=requested_ns
        )

    def claim(self, *claims, gpus=None, mig=None):
        """Set devices of dynamic allocation, at the kubelet by (pod, device), and at the server."""
        listed = [
            ContainerResources(
                "ml", name, "main", (), (), (ClaimedDevice("gpu.nvidia.com", "n", device),)
            )
            for name, device in claims
        ]
        self.kubelet.latest = PodResources(tuple(listed), (), 1, "")
        keyed = [
            {
                ClaimedDevice("gpu.nvidia.com", "n", device): value
                for device, value in (given or {}).items()
            }
            for given in (gpus, mig)
        ]
        self.watch.latest = self.watch.latest._replace(gpus=keyed[0], mig=keyed[1])

    def look(self, occupancies=None, infos=INFOS):
        return self.host.look(occupancies, infos)

    def held(self):
        return sorted(
            (h.device.id, h.partition, h.run.run_id, h.units, h.units_of)
            for h in self.host.workload.holdings
            if h.until_ns is None
        )

    def state(self, name):
        self.look()
        (state,) = [each for each in self.host.workload_collector.states() if each.name == name]
        return state.ok, state.why

    def fails(self, why="API server: 500 Internal Server Error"):
        """The API server cannot be read; its last state remains."""
        self.watch.latest = self.watch.latest._replace(why=why)

    def answers(self):
        self.watch.latest = self.watch.latest._replace(why="", at_ns=1)

    def shown(self):
        """The published runs after the books have applied all merges."""
        merges = self.host.run_registry.merges()
        shown = {run.key.run_id for run in self.host.run_registry.visible()}
        old, new = ({merge[place].run_id for merge in merges} for place in (0, 1))
        return shown - old | new

    def run(self, run_id):
        runs = self.host.run_registry._runs.values()
        return next(run for run in reversed(runs) if run.key.run_id == run_id)


def _named(ids):
    return tuple((NVIDIA, each) if isinstance(each, str) else each for each in ids)


@pytest.fixture
def node(host, tmp_path):
    mount = tmp_path / "cgroup"
    (mount / "kubepods" / "burstable").mkdir(parents=True)
    (host.proc.root / "self" / "mountinfo").write_text(
        f"30 24 0:26 / {mount} ro - cgroup2 cgroup2 rw\n"
    )
    (host.proc.root / "self" / "cgroup").write_text("0::/\n")
    made = Node(host, mount)
    made.look()
    return made


def test_a_pod_is_charged_by_the_cpu_time_of_its_cgroup(node):
    node.pod(ONE, "train-0", used_us=20_000)
    assert node.look() == {ONE: 2}
    node.pod(ONE, used_us=70_000)
    assert node.look() == {ONE: 5}


def test_a_pod_without_ids_has_its_uid_as_id_and_its_name(node):
    node.pod(ONE, "train-0", owner_kind="StatefulSet", owner_name="train")
    node.look()
    run = node.run(ONE)
    assert (run.name, run.namespace, run.origin) == ("train-0", "ml", "pod")
    assert run.labels == (("owner_kind", "StatefulSet"), ("owner_name", "train"))


def test_a_pod_whose_clock_comes_a_moment_later_than_its_cgroup_pays_by_it(node):
    node.pod(ONE, "train-0")
    clock = node.mount / "kubepods" / "burstable" / f"pod{ONE}" / "cpu.stat"
    clock.rename(clock.with_name("later"))
    node.look()
    clock.with_name("later").rename(clock)
    node.pod(TWO, "train-1")
    node.look()
    node.pod(ONE, used_us=50_000)
    assert node.look() == {ONE: 5, TWO: 0}


def leave_behind(node):
    """Leave a cgroup without a process, and restart the daemon."""
    node.pod(ONE, used_us=10_000)
    events = node.mount / "kubepods" / "burstable" / f"pod{ONE}" / "cgroup.events"
    events.write_text("populated 0\nfrozen 0\n")
    node.host.restart()


def test_a_cgroup_that_a_removed_pod_left_behind_is_no_run(node):
    leave_behind(node)
    assert node.look() == {}
    node.pod(TWO, "train-1", used_us=20_000)
    assert node.look() == {TWO: 2}
    node.host.clock.advance(60.0)
    assert node.look() == {TWO: 0}
    assert node.host.running() == {TWO}


def test_a_pod_whose_cgroup_had_no_process_at_the_start_pays_from_its_first_one_on(node):
    leave_behind(node)
    node.host.clock.advance(60.0)
    assert node.look() == {}
    node.pod(ONE, used_us=40_000)
    assert node.look() == {ONE: 3}


def test_a_new_cgroup_is_that_of_a_pod_before_its_first_process(node):
    node.pod(ONE)
    (node.mount / "kubepods" / "burstable" / f"pod{ONE}" / "cgroup.events").write_text(
        "populated 0\n"
    )
    assert node.look() == {ONE: 0}


def test_a_pod_that_the_api_server_describes_is_a_run_before_its_first_process(node):
    node.pod(ONE, "train-0")
    (node.mount / "kubepods" / "burstable" / f"pod{ONE}" / "cgroup.events").write_text(
        "populated 0\n"
    )
    assert node.look() == {ONE: 0}


def test_a_container_that_restarts_changes_nothing_of_its_pod(node):
    node.pod(ONE, "train-0", used_us=20_000)
    container = node.mount / "kubepods" / "burstable" / f"pod{ONE}" / "cri-containerd-1.scope"
    container.mkdir()
    node.look()
    container.rmdir()
    container.with_name("cri-containerd-2.scope").mkdir()
    node.pod(ONE, used_us=50_000)
    assert node.look() == {ONE: 3}
    assert node.host.running() == {ONE}


def test_a_pod_that_is_evicted_ends_with_its_last_process_though_its_object_stays(node):
    node.pod(ONE, "train-0", used_us=20_000)
    node.look()
    evicted = node.watch.latest.pods[ONE]._replace(is_over=True)
    node.end(ONE)
    node.watch.latest = node.watch.latest._replace(pods={ONE: evicted})
    node.look()
    assert node.host.running() == set()


def test_pods_that_were_given_one_id_are_one_run(node):
    node.pod(ONE, "w-0", run_id="bert", job_id="j", used_us=10_000)
    node.pod(TWO, "w-1", run_id="bert", job_id="j", used_us=30_000)
    assert node.look() == {"bert": 4}
    assert node.host.workload_collector.members() == {
        node.run("bert").key: (("w-0", "main"), ("w-1", "main"))
    }


def test_the_run_of_two_pods_continues_with_the_remaining_one(node):
    node.pod(ONE, "w-0", run_id="bert", used_us=10_000)
    node.pod(TWO, "w-1", run_id="bert", used_us=10_000)
    node.look()
    node.end(ONE)
    node.pod(TWO, used_us=60_000)
    assert node.look() == {"bert": 5}
    assert node.run("bert").ended is None
    node.end(TWO)
    node.look()
    assert node.run("bert").ended is not None


@pytest.mark.parametrize(
    ("first", "second"),
    [("red", "blue"), pytest.param("plumless", "buckeroo", id="of one checksum")],
)
def test_one_id_in_two_namespaces_is_two_runs(node, first, second):
    node.pod(ONE, "a", first, run_id="train", used_us=10_000)
    node.pod(TWO, "a", second, run_id="train", used_us=20_000)
    node.look()
    shown = {run.shown_id for run in node.host.run_registry.running()}
    assert len(shown) == 2
    assert shown & {f"train@{first}", f"train@{second}"}


def test_a_pod_that_comes_back_under_its_name_is_another_run(node):
    node.pod(ONE, "db-0", used_us=10_000)
    node.look()
    node.end(ONE)
    node.pod(TWO, "db-0", used_us=10_000)
    node.look()
    assert node.run(ONE).ended is not None
    assert node.run(TWO).ended is None


def test_while_both_of_a_name_are_there_the_device_is_the_later_ones(node):
    node.pod(ONE, "db-0", created="2026-01-01T00:00:00Z")
    node.pod(TWO, "db-0", created="2026-01-01T00:00:09Z")
    node.give(("db-0", ["GPU-1"]))
    node.look()
    assert node.held() == [("GPU-1", "", TWO, 1, 1)]


def test_a_new_pod_is_off_the_page_for_a_moment_until_it_is_named_and_loses_nothing(node):
    node.pod(ONE, used_us=10_000)
    assert node.look() == {ONE: 1}
    assert node.shown() == set()
    node.pod(ONE, "train-0", run_id="bert", used_us=30_000)
    assert node.look() == {"bert": 2}
    assert node.shown() == {"bert"}
    assert node.host.run_registry.merges() == [
        RunMerge(RunKey(FIRST_POD_UID, ONE, ""), node.run("bert").key, is_counted=True)
    ]


def test_a_pod_without_metadata_is_published_by_its_uid_after_the_timeout(node):
    node.pod(ONE)
    for _ in range(6):
        node.look()
    assert node.shown() == {ONE}


def test_a_pod_that_ends_before_it_is_named_is_on_the_page_by_its_uid(node):
    node.pod(ONE)
    node.look()
    node.end(ONE)
    node.look()
    assert node.shown() == {ONE}
    assert node.run(ONE).ended is not None


def test_where_namespaces_are_left_out_a_new_pod_is_no_run_before_it_is_named(node):
    node.options = {"excluded": ("kube-system",)}
    node.host.begin()
    node.look()
    node.pod(ONE, used_us=10_000)
    assert node.look() == {}
    node.pod(ONE, "b", "kube-system")
    node.look()
    assert node.host.run_registry.visible() == ()
    node.pod(TWO, used_us=10_000)
    node.look()
    node.pod(TWO, "a", used_us=30_000)
    assert node.look() == {TWO: 3}


def test_usage_from_before_the_daemon_started_is_not_counted(node):
    node.pod(ONE, used_us=9_000_000)
    node.host.begin()
    assert node.look() == {ONE: 0}
    node.pod(ONE, "train-0", used_us=9_020_000)
    assert node.look() == {ONE: 2}


def test_after_a_restart_no_run_ends_before_the_api_server_has_answered(node):
    node.pod(ONE, "train-0", run_id="bert", used_us=10_000)
    node.look()
    known, node.watch.latest = node.watch.latest, ApiServerState()
    node.pod(ONE, used_us=30_000)
    node.host.restart(absent_seconds=2)
    assert node.look() == {"bert": 2}
    node.watch.latest = known
    assert node.look() == {"bert": 0}
    assert node.host.running() == {"bert"}


def test_after_a_restart_without_metadata_pods_stay_in_their_common_run(node):
    node.pod(ONE, "w-0", run_id="bert", used_us=10_000)
    node.pod(TWO, "w-1", run_id="bert", used_us=10_000)
    node.look()
    node.watch.latest = ApiServerState(why="API server: 500 Internal Server Error")
    node.pod(ONE, used_us=30_000)
    node.pod(TWO, used_us=40_000)
    node.host.restart(absent_seconds=5)
    assert node.look() == {"bert": 5}


def test_after_a_restart_a_pod_without_metadata_stays_in_its_run(node):
    node.pod(ONE, "train-0", run_id="bert", job_id="j1", used_us=10_000)
    node.look()
    node.watch.latest = ApiServerState(why="API server: 403 Forbidden")
    node.pod(ONE, used_us=30_000)
    node.host.restart(absent_seconds=2)
    for _ in range(8):
        node.look()
    assert node.host.running() == {"bert"}


def test_after_a_restart_a_pod_whose_name_comes_late_holds_its_device_as_before(node):
    node.pod(ONE, "train-0", run_id="bert", job_id="j1")
    node.give(("train-0", ["GPU-1"]))
    node.look()
    known, node.watch.latest = node.watch.latest, ApiServerState(why="API server: 403 Forbidden")
    node.host.restart(absent_seconds=2)
    for _ in range(8):
        node.look()
    node.watch.latest = known
    node.look()
    assert node.held() == [("GPU-1", "", "bert", 1, 1)]
    assert node.host.workload_collector.members() == {node.run("bert").key: (("train-0", "main"),)}
    assert node.host.running() == {"bert"}


def test_a_pod_that_was_folded_stays_so_when_its_name_comes(node):
    node.host.begin(max_runs=1)
    node.pod(ONE, "first")
    node.look()
    node.pod(TWO)
    for _ in range(6):
        node.look()
    node.end(ONE)
    node.pod(TWO, "second")
    node.give(("second", ["GPU-1"]))
    node.look()
    node.look()
    assert node.host.running() == {"other"}
    assert node.held() == [("GPU-1", "", "other", 1, 1)]
    assert node.host.run_registry.dropped == 1


def test_a_pod_whose_name_comes_late_stays_the_run_that_it_is(node):
    node.pod(ONE, used_us=10_000)
    for _ in range(6):
        node.look()
    node.pod(ONE, "train-0", used_us=30_000)
    assert node.look() == {ONE: 2}
    run = node.run(ONE)
    assert (run.name, run.namespace, run.shown_id) == ("train-0", "ml", ONE)


def test_a_pod_whose_run_id_comes_late_is_that_run_from_then_on(node):
    node.pod(ONE, used_us=10_000)
    for _ in range(6):
        node.look()
    node.pod(ONE, "train-0", run_id="bert", used_us=30_000)
    assert node.look() == {"bert": 2}
    assert node.host.running() == {"bert"}
    assert node.shown() == {"bert"}
    node.pod(ONE, used_us=60_000)
    assert node.look() == {"bert": 3}


def test_a_pod_whose_name_never_comes_is_known_by_its_uid(node):
    node.pod(ONE, used_us=10_000)
    for _ in range(6):
        node.look()
    assert node.run(ONE).name == ""


def test_without_the_api_server_pods_are_known_at_once_by_their_uid(node):
    node.watch = None
    node.host.begin()
    node.look()
    node.pod(ONE, used_us=10_000)
    assert node.look() == {ONE: 1}


def test_namespaces_may_be_left_out_or_chosen(node):
    node.options = {"excluded": ("kube-system",)}
    node.host.begin()
    node.pod(ONE, "a", "ml")
    node.pod(TWO, "b", "kube-system")
    node.look()
    assert node.host.running() == {ONE}
    node.options = {"included": ("kube-system",)}
    node.host.begin()
    node.look()
    assert node.host.running() == {TWO}


def test_a_run_inside_a_pod_is_counted_apart_and_keeps_its_job(node):
    node.pod(ONE, "train-0", job_id="j1", used_us=0)
    node.host.proc.process(10, uid=7, cgroup=f"/kubepods/burstable/pod{ONE}/{'f' * 64}")
    node.look()
    run = node.host.start(10, "bert", uid=7)
    assert run.key.job_id == "j1"
    node.host.proc.process(10, uid=7, own=3, cgroup=f"/kubepods/burstable/pod{ONE}/{'f' * 64}")
    node.pod(ONE, used_us=50_000)
    assert node.look() == {"bert": 3, ONE: 2}


def inside(node, pod, pid, **more):
    """A process in a container of a pod."""
    node.host.proc.process(pid, cgroup=f"/kubepods/burstable/pod{pod}/{'f' * 64}", **more)


OWNER = {"owner_kind": "Job", "owner_name": "nightly"}


class TestInner:
    """Runs started inside a pod."""

    @pytest.fixture(params=["registered", "environment"])
    def begun(self, request, node):
        """Starts the run `bert` inside pod ONE and returns its RunInfo."""

        def begin():
            environment = "EMISSIONS_RUN_ID=bert" if request.param == "environment" else None
            inside(node, ONE, 10, uid=7, environment=environment)
            node.look()
            if request.param == "registered":
                node.host.start(10, "bert", uid=7)
            node.look()
            return node.run("bert")

        return begin

    def test_it_keeps_job_namespace_owner_and_pod_of_what_contains_it(self, node, begun):
        node.pod(ONE, "train-0", job_id="j1", labels=(("team", "nlp"),), **OWNER)
        node.look()
        run = begun()
        assert (run.key.job_id, run.namespace, run.enclosing) == ("j1", "ml", node.run(ONE).key)
        assert run.labels == (*OWNER.items(), ("team", "nlp"))
        members = node.host.workload_collector.members()
        assert members[run.key] == (("train-0", "main"),)
        assert members[node.run(ONE).key] == (("train-0", "main"),)

    def test_it_is_called_by_its_user_where_its_id_is_taken(self, node, begun):
        node.pod(TWO, "w-0", run_id="bert")
        node.pod(ONE, "train-0")
        node.look()
        begun()
        assert {run.shown_id for run in node.host.run_registry.visible()} == {"bert", "bert@7", ONE}

    def test_it_knows_the_namespace_though_the_pod_is_named_later(self, node, begun):
        node.fails()
        node.pod(ONE)
        node.look()
        run = begun()
        assert (run.namespace, run.is_provisional) == ("", True)
        node.answers()
        node.pod(ONE, "train-0", run_id="big", **OWNER)
        node.look()
        run = node.run("bert")
        assert (run.namespace, run.enclosing) == ("ml", node.run("big").key)
        assert run.labels == tuple(OWNER.items())
        assert not run.is_provisional
        assert node.host.workload_collector.members()[run.key] == (("train-0", "main"),)

    def test_a_run_inside_it_is_in_the_pod_as_well(self, node, begun):
        node.pod(ONE, "train-0", **OWNER)
        node.look()
        outer = begun()
        inside(node, ONE, 11, ppid=10, start=101, uid=7)
        node.look()
        inner = node.host.start(11, "epoch-1", uid=7)
        assert (inner.enclosing, inner.namespace) == (outer.key, "ml")
        assert inner.labels == tuple(OWNER.items())

    def test_the_container_is_empty_in_a_pod_with_several(self, node, begun):
        node.pod(ONE, "train-0")
        facts = node.watch.latest.pods[ONE]._replace(containers=("main", "side"))
        node.watch.latest = node.watch.latest._replace(pods={ONE: facts})
        node.look()
        run = begun()
        assert node.host.workload_collector.members()[run.key] == (("train-0", ""),)

    def test_a_run_outside_of_pods_has_nothing_of_them(self, node):
        node.pod(ONE, "train-0", **OWNER)
        node.host.proc.process(10, uid=7)
        node.look()
        run = node.host.start(10, "bert", uid=7)
        assert (run.namespace, run.labels, run.enclosing) == ("", (), None)


class TestOutage:
    """The API server cannot be read, and the kubelet answers."""

    REFUSALS = ("API server: 401 Unauthorized", "API server: 10.0.0.1:443 does not answer: refused")

    @pytest.fixture(params=[*REFUSALS, "API server: 403 Forbidden", "API server: 500"])
    def outage(self, request, node):
        node.fails(request.param)
        node.look()
        return node

    def test_a_pod_is_a_run_by_its_uid_and_by_the_name_that_the_kubelet_says(self, outage):
        outage.pod(ONE, used_us=10_000)
        outage.give(("a", ["GPU-1"]))
        assert outage.look() == {ONE: 1, "ml/a": 0}
        assert outage.held() == [("GPU-1", "", "ml/a", 1, 1)]
        assert outage.run("ml/a").namespace == "ml"
        assert outage.shown() == {ONE, "ml/a"}

    @pytest.mark.parametrize("ids", [{}, {"run_id": "bert", "job_id": "j"}, {"job_id": "j"}])
    def test_what_was_booked_is_merged_when_the_pod_is_named(self, outage, ids):
        outage.pod(ONE, used_us=10_000)
        outage.give(("a", ["GPU-1"]))
        outage.look()
        began = outage.run(ONE).started
        outage.answers()
        outage.pod(ONE, "a", used_us=40_000, **ids)
        run_id = ids.get("run_id", ONE)
        assert outage.look() == {run_id: 3}
        assert outage.held() == [("GPU-1", "", run_id, 1, 1)]
        assert outage.shown() == outage.host.running() == {run_id}
        run = outage.run(run_id)
        assert (run.name, run.namespace, run.started) == ("a", "ml", began)
        assert not run.is_provisional
        merged = {merge.old.run_id for merge in outage.host.run_registry.merges()}
        assert merged == ({"ml/a"} if not ids else {"ml/a", ONE})
        assert {merge.new for merge in outage.host.run_registry.merges()} == {run.key}

    def test_pods_of_one_run_are_merged_into_it(self, outage):
        for uid in (ONE, TWO):
            outage.pod(uid, used_us=10_000)
            outage.look()
        outage.answers()
        for uid, name in ((ONE, "w-0"), (TWO, "w-1")):
            outage.pod(uid, name, run_id="bert", used_us=30_000)
        assert outage.look() == {"bert": 4}
        assert outage.shown() == {"bert"}
        assert [merge.old.run_id for merge in outage.host.run_registry.merges()] == [ONE, TWO]

    def test_a_pod_that_joins_a_shown_run_is_not_counted_twice_in_its_counter(self, outage):
        outage.pod(TWO, "w-1", run_id="bert")
        outage.pod(ONE)
        outage.look()
        outage.pod(ONE, "w-0", run_id="bert")
        outage.look()
        (merge,) = outage.host.run_registry.merges()
        assert (merge.new, merge.is_counted) == (outage.run("bert").key, False)

    def test_a_pod_that_ended_before_it_was_named_is_one_run_all_the_same(self, outage):
        outage.pod(ONE, used_us=10_000)
        outage.give(("a", ["GPU-1"]))
        outage.look()
        outage.end(ONE)
        outage.give()
        outage.look()
        assert outage.host.running() == set()
        ended = outage.run(ONE).ended
        over = PodMetadata(ONE, "ml", "a", "bert", is_over=True)
        outage.watch.latest = ApiServerState({ONE: over}, at_ns=1, why="")
        outage.look()
        assert outage.shown() == {"bert"}
        assert outage.run("bert").ended == ended

    def test_a_pod_that_is_never_named_stays_by_its_uid(self, outage):
        outage.pod(ONE)
        outage.look()
        outage.end(ONE)
        outage.answers()
        outage.look()
        outage.look()
        assert outage.shown() == {ONE}
        assert outage.host.run_registry.merges() == []

    def test_processes_on_a_gpu_make_the_pod_pay_by_its_uid(self, outage):
        outage.pod(ONE)
        inside(outage, ONE, 10)
        outage.look()
        look = GpuActivity(GPU, outage.host.clock.boottime_ns(), (GpuProcess(10, ""),))
        outage.look({GPU: look})
        assert outage.held() == [("GPU-1", "", ONE, 1, 0)]

    def test_a_pod_that_was_known_before_holds_what_it_is_given(self, node):
        node.pod(ONE, "a", run_id="bert")
        node.look()
        node.fails()
        node.give(("a", ["GPU-1"]))
        node.look()
        assert node.held() == [("GPU-1", "", "bert", 1, 1)]
        assert node.shown() == {"bert"}

    def test_a_restart_meanwhile_changes_nothing(self, outage):
        outage.pod(ONE, used_us=10_000)
        outage.give(("a", ["GPU-1"]))
        outage.look()
        outage.pod(ONE, used_us=30_000)
        outage.host.restart(absent_seconds=5)
        assert outage.look() == {ONE: 2, "ml/a": 0}
        assert outage.held() == [("GPU-1", "", "ml/a", 1, 1)]
        outage.answers()
        outage.pod(ONE, "a", run_id="bert", used_us=40_000)
        assert outage.look() == {"bert": 1}
        assert outage.shown() == {"bert"}

    def test_a_restart_at_which_the_pod_is_named_at_once_counts_the_absence(self, outage):
        outage.pod(ONE, used_us=10_000)
        outage.look()
        outage.answers()
        outage.pod(ONE, "a", run_id="bert", used_us=60_000)
        outage.host.restart(absent_seconds=5)
        assert outage.look() == {"bert": 5}
        assert outage.shown() == {"bert"}

    def test_a_merge_that_was_not_done_before_a_restart_is_done_after_it(self, outage):
        outage.pod(ONE)
        outage.look()
        outage.answers()
        outage.pod(ONE, "a", run_id="bert")
        outage.look()
        pairs = [(merge.old, merge.new) for merge in outage.host.run_registry.merges()]
        runs = outage.host.run_registry._runs.values()
        outage.host.begin(list(runs))
        assert [(merge.old, merge.new) for merge in outage.host.run_registry.merges()] == pairs
        outage.look()
        assert outage.shown() == {"bert"}

    def test_both_runs_of_a_pod_that_ended_are_its_own_though_it_has_no_run_id(self, outage):
        outage.pod(ONE, used_us=10_000)
        outage.give(("a", ["GPU-1"]))
        outage.look()
        outage.end(ONE)
        outage.give()
        outage.look()
        ended = outage.run(ONE).ended
        outage.watch.latest = ApiServerState(
            {ONE: PodMetadata(ONE, "ml", "a", is_over=True)}, 1, ""
        )
        outage.look()
        outage.look()
        assert outage.shown() == {ONE}
        run = outage.run(ONE)
        assert (run.name, run.ended, run.is_provisional) == ("a", ended, False)
        assert outage.host.running() == set()

    @pytest.mark.parametrize("ids", [{}, {"run_id": "bert"}])
    def test_a_pod_that_ended_before_a_restart_is_named_after_it(self, outage, ids):
        outage.pod(ONE, used_us=10_000)
        outage.give(("a", ["GPU-1"]))
        outage.look()
        outage.end(ONE)
        outage.give()
        outage.look()
        outage.host.restart(absent_seconds=5)
        outage.look()
        over = PodMetadata(ONE, "ml", "a", is_over=True, **ids)
        outage.watch.latest = ApiServerState({ONE: over}, at_ns=1, why="")
        outage.look()
        assert outage.shown() == {ids.get("run_id", ONE)}
        assert outage.host.running() == set()

    def test_both_runs_of_a_pod_are_its_own_though_it_is_named_at_once_after_a_restart(
        self, outage
    ):
        outage.pod(ONE, used_us=10_000)
        outage.give(("a", ["GPU-1"]))
        outage.look()
        outage.answers()
        outage.pod(ONE, "a", run_id="bert")
        outage.host.restart(absent_seconds=5)
        outage.look()
        outage.look()
        assert outage.shown() == {"bert"}
        merged = {merge.old.run_id for merge in outage.host.run_registry.merges()}
        assert merged == {ONE, "ml/a"}

    def test_a_run_ended_when_the_last_of_those_merged_into_it_did(self, outage):
        outage.pod(TWO, "w-1", run_id="bert")
        outage.look()
        outage.end(TWO)
        outage.look()
        outage.pod(ONE)
        for _ in range(3):
            outage.look()
        outage.end(ONE)
        outage.look()
        last = outage.run(ONE).ended
        assert last > outage.run("bert").ended
        over = PodMetadata(ONE, "ml", "w-0", "bert", is_over=True)
        outage.watch.latest = ApiServerState({ONE: over}, at_ns=1, why="")
        outage.look()
        assert outage.run("bert").ended == last

    def test_a_pod_that_comes_back_under_its_name_holds_what_it_is_given(self, outage):
        outage.pod(ONE, "db-0", created="2026-01-01T00:00:00Z")
        outage.give(("db-0", ["GPU-1"]))
        outage.look()
        stale = outage.watch.latest
        outage.end(ONE)
        outage.watch.latest = stale
        outage.pod(TWO)
        outage.look()
        outage.list(("db-0", ["GPU-1"]))
        outage.look()
        assert outage.held() == [("GPU-1", "", TWO, 1, 1)]
        assert (outage.run(TWO).name, outage.run(TWO).namespace) == ("db-0", "ml")
        assert outage.run(ONE).ended is not None

    def test_what_is_known_by_a_name_is_not_that_of_a_pod_that_left_with_it(self, outage):
        outage.pod(ONE, "db-0", created="2026-01-01T00:00:00Z")
        outage.look()
        stale = outage.watch.latest
        outage.end(ONE)
        outage.watch.latest = stale
        for uid in (TWO, THREE):
            outage.pod(uid)
        outage.look()
        outage.list(("db-0", ["GPU-1"]), ("b", []))
        outage.look()
        assert outage.held() == [("GPU-1", "", "ml/db-0", 1, 1)]
        outage.answers()  # the watch goes on, and has not said yet what happened
        outage.look()
        assert outage.run(ONE).ended is not None
        assert outage.held() == [("GPU-1", "", "ml/db-0", 1, 1)]
        outage.pod(TWO, "db-0", created="2026-01-01T00:00:09Z")
        outage.look()
        assert outage.held() == [("GPU-1", "", TWO, 1, 1)]
        assert outage.run(ONE).ended is not None
        assert [merge.new.run_id for merge in outage.host.run_registry.merges()] == [TWO]

    def test_what_was_on_the_page_stays_there_when_the_api_server_answers(self, outage):
        outage.pod(TWO, "w-1", run_id="bert")
        outage.pod(ONE)
        outage.look()
        outage.host.run_registry.pop_opened()
        outage.answers()
        outage.look()
        assert outage.shown() == {"bert", ONE}
        outage.pod(ONE, "w-0", run_id="bert")
        outage.look()
        (merge,) = outage.host.run_registry.merges()
        assert not merge.is_counted

    def test_where_pages_are_full_a_pod_that_is_named_keeps_its_place(self, outage):
        outage.host.begin(max_runs=1)
        outage.pod(ONE)
        outage.look()
        outage.answers()
        outage.pod(ONE, "a", run_id="bert")
        outage.look()
        assert outage.shown() == {"bert"}
        assert outage.host.run_registry.dropped == 0

    def test_of_a_namespace_that_is_left_out_a_pod_ends_when_it_is_named(self, outage):
        outage.options = {"excluded": ("kube-system",)}
        outage.host.begin()
        outage.pod(ONE)
        outage.give(("a", ["GPU-1"]))
        outage.look()
        outage.answers()
        outage.pod(ONE, "b", "kube-system")
        outage.look()
        assert outage.host.running() == set()


class TestLinks:
    """One uid without a name and one name without a uid are one pod."""

    @pytest.fixture(params=["API server: 500", "", None])
    def silent(self, request, node):
        """The API server describes no pods, with different error states."""
        if request.param is None:
            node.watch = None
            node.host.begin()
        else:
            node.fails(request.param)
        node.look()
        return node

    def test_a_pod_is_one_run_by_its_uid_and_the_name_that_the_kubelet_says(self, silent):
        silent.pod(ONE, used_us=10_000)
        silent.look()
        silent.list(("a", ["GPU-1"]))
        silent.look()
        assert silent.held() == [("GPU-1", "", ONE, 1, 1)]
        assert silent.host.running() == {ONE}
        (run,) = silent.host.run_registry.running()
        assert (run.name, run.namespace) == ("a", "ml")
        assert silent.host.run_registry.merges() == []

    def test_it_stays_so_when_others_come_and_go(self, silent):
        silent.pod(ONE)
        silent.look()
        silent.list(("a", ["GPU-1"]))
        silent.look()
        for uid in (TWO, THREE):
            silent.pod(uid)
        silent.look()
        silent.list(("a", ["GPU-1"]), ("b", []), ("c", []))
        silent.look()
        silent.end(TWO)
        silent.look()
        assert silent.held() == [("GPU-1", "", ONE, 1, 1)]
        silent.list(("a", ["GPU-1"]), ("c", ["GPU-2"]))
        silent.look()
        held = [("GPU-1", "", ONE, 1, 1), ("GPU-2", "", THREE, 1, 1)]
        assert silent.held() == held

    def test_one_that_has_left_and_is_listed_on_leaves_no_other_without_a_name(self, silent):
        silent.pod(ONE)
        silent.look()
        silent.list(("a", ["GPU-1"]))
        silent.look()
        silent.end(ONE)
        silent.look()
        silent.pod(TWO)
        silent.look()
        silent.list(("a", ["GPU-1"]), ("b", ["GPU-2"]))
        silent.look()
        assert silent.held() == [("GPU-2", "", TWO, 1, 1)]
        silent.end(TWO)
        silent.look()
        silent.pod(THREE)  # under the name of the first
        silent.look()
        silent.list(("a", ["GPU-1"]))
        silent.look()
        assert silent.held() == [("GPU-1", "", THREE, 1, 1)]

    def test_it_stays_so_over_a_restart(self, silent):
        silent.pod(ONE, used_us=10_000)
        silent.look()
        silent.list(("a", ["GPU-1"]))
        silent.look()
        for uid in (TWO, THREE):
            silent.pod(uid)
        silent.pod(ONE, used_us=30_000)
        silent.list(("a", ["GPU-1"]), ("b", []), ("c", []))
        for _ in range(6):
            silent.look()
        silent.host.restart()
        silent.look()
        assert silent.held() == [("GPU-1", "", ONE, 1, 1)]

    def test_a_list_that_is_older_than_the_pod_links_nothing(self, silent):
        silent.list(("done", ["GPU-1"]))
        silent.pod(ONE)
        silent.look()
        assert ("GPU-1", "", ONE, 1, 1) not in silent.held()
        silent.list(("a", ["GPU-2"]))
        silent.look()
        assert silent.held() == [("GPU-2", "", ONE, 1, 1)]

    def test_a_cgroup_that_was_left_behind_is_no_pod_that_comes_later(self, silent):
        silent.pod(ONE)
        silent.look()
        silent.list()
        silent.look()
        silent.list(("b", ["GPU-1"]))  # given out before its cgroup is made
        silent.look()
        assert ("GPU-1", "", ONE, 1, 1) not in silent.held()
        silent.pod(TWO)
        silent.look()
        silent.list(("b", ["GPU-1"]))
        silent.look()
        assert silent.held() == [("GPU-1", "", TWO, 1, 1)]

    def test_a_newer_list_that_does_not_come_is_waited_for_for_a_moment(self, node):
        node.fails()
        node.pod(ONE)
        node.list(("a", ["GPU-1"]))
        node.look()
        assert node.held() == []
        for _ in range(5):
            node.look()
        assert node.held() == [("GPU-1", "", "ml/a", 1, 1)]

    def test_of_two_on_either_side_none_is_linked(self, silent):
        for uid in (ONE, TWO):
            silent.pod(uid)
        silent.look()
        silent.list(("a", ["GPU-1"]), ("b", []))
        for _ in range(6):
            silent.look()
        assert silent.held() == [("GPU-1", "", "ml/a", 1, 1)]

    def test_the_pod_of_a_left_out_namespace_is_never_on_the_page(self, node):
        node.options = {"excluded": ("ml",)}
        node.fails()
        node.list()
        node.host.begin()
        node.look()
        node.pod(ONE, used_us=10_000)
        node.look()
        node.list(("a", ["GPU-1"]))
        node.look()
        assert (node.shown(), node.held()) == (set(), [])

    def test_pods_of_before_a_restart_have_their_names(self, node):
        for uid, name in ((ONE, "w-0"), (TWO, "w-1")):
            node.pod(uid, name, run_id="bert")
        node.list(("w-0", ["GPU-1"]), ("w-1", []))
        node.look()
        node.watch.latest = ApiServerState(why="API server: 500")
        node.host.restart(absent_seconds=5)
        node.pod(THREE)
        node.list(("w-0", ["GPU-1"]), ("w-1", []))
        node.look()
        assert node.host.running() == {"bert", THREE}
        assert node.held() == [("GPU-1", "", "bert", 1, 1)]
        (holding,) = [row for row in node.host.workload.holdings if row.until_ns is None]
        began_ns = round((node.run("bert").started - node.host.clock.epoch) * 1e9)
        assert holding.since_ns == pytest.approx(began_ns, abs=1e3)
        node.host.restart(absent_seconds=5)
        node.look()
        assert node.held() == [("GPU-1", "", "bert", 1, 1)]
        assert node.host.running() == {"bert", THREE}

    def test_a_run_of_before_a_restart_has_the_devices_of_its_pod(self, node):
        node.pod(ONE, "w-0", run_id="bert", job_id="j", used_us=10_000)
        node.list(("w-0", ["GPU-1"]))
        node.look()
        node.watch.latest = ApiServerState(why="API server: 500")
        node.pod(ONE, used_us=30_000)
        node.host.restart(absent_seconds=5)
        assert node.look()["bert"] == 2
        node.list(("w-0", ["GPU-1"]))
        node.look()
        assert node.held() == [("GPU-1", "", "bert", 1, 1)]
        assert node.host.running() == node.shown() == {"bert"}
        node.answers()
        node.pod(ONE, "w-0", run_id="bert", job_id="j", used_us=40_000)
        assert node.look() == {"bert": 1}
        assert node.host.run_registry.merges() == []


def test_a_pod_that_a_silent_server_does_not_name_has_its_devices_by_its_name(node):
    for uid in (ONE, TWO):
        node.pod(uid)
    node.give(("a", ["GPU-1"]), ("b", []))
    node.look()
    assert node.held() == []
    for _ in range(5):
        node.look()
    assert node.held() == [("GPU-1", "", "ml/a", 1, 1)]


def test_the_run_of_all_that_is_too_much_stays_on_the_page(node):
    node.host.begin(max_runs=1)
    node.pod(ONE, "first")
    node.look()
    node.pod(TWO, "second")
    node.look()
    node.host.run_registry.pop_opened()
    node.pod(THREE)
    node.look()
    assert node.shown() == {ONE, "other"}


class TestLogDirectories:
    """Names of pods from the kubelet's log directories, without the API server."""

    @pytest.fixture
    def logs(self, node):
        def write(uid, name, namespace="ml"):
            (directory / f"{namespace}_{name}_{uid}").mkdir()

        directory = node.host.proc.root / "1" / "root" / "var" / "log" / "pods"
        directory.mkdir(parents=True)
        (directory / "not a pod").mkdir()
        return write

    @pytest.mark.parametrize("why", [None, "API server: 500"])
    def test_a_pod_is_one_run_from_the_first_moment(self, node, logs, why):
        if why is None:
            node.watch = None
            node.host.begin()
        else:
            node.fails(why)
        node.look()
        logs(ONE, "a")
        node.pod(ONE, used_us=10_000)
        node.give(("a", ["GPU-1"]))
        assert node.look() == {ONE: 1}
        assert node.held() == [("GPU-1", "", ONE, 1, 1)]
        run = node.run(ONE)
        assert (run.name, run.namespace, run.is_provisional) == ("a", "ml", why is not None)
        assert node.host.workload_collector.members() == {run.key: (("a", ""),)}

    def test_a_finished_pod_that_the_kubelet_still_lists_pays_nothing(self, node, logs):
        node.watch = None
        node.host.begin()
        node.look()
        logs(ONE, "done")
        logs(TWO, "live")
        node.pod(TWO)
        node.give(("done", ["GPU-1::0"]), ("live", ["GPU-1::1"]), replicas=["GPU-1::0", "GPU-1::1"])
        node.look()
        assert node.held() == [("GPU-1", "", TWO, 1, 2)]
        assert node.shown() == {TWO}

    def test_a_pod_that_ends_holds_nothing_any_more_though_the_kubelet_lists_it(self, node, logs):
        node.watch = None
        node.host.begin()
        node.look()
        for uid, name in ((ONE, "a"), (TWO, "b")):
            logs(uid, name)
            node.pod(uid)
        node.give(("a", ["GPU-1::0"]), ("b", ["GPU-1::1"]), replicas=["GPU-1::0", "GPU-1::1"])
        node.look()
        assert [row[2] for row in node.held()] == [ONE, TWO]
        node.end(ONE)
        node.look()
        assert [row[2] for row in node.held()] == [TWO]

    def test_the_directory_may_come_a_moment_later_than_the_cgroup(self, node, logs):
        node.fails()
        node.pod(ONE)
        node.look()
        logs(ONE, "a")
        node.give(("a", ["GPU-1"]))
        node.look()
        assert (node.run(ONE).name, node.run(ONE).namespace) == ("a", "ml")
        assert node.held() == [("GPU-1", "", ONE, 1, 1)]
        assert node.shown() == {ONE}


def test_of_more_listed_pods_than_there_are_none_holds_by_its_name_alone(node):
    node.watch = None
    node.host.begin()
    node.look()
    node.pod(TWO)
    inside(node, TWO, 10)
    node.give(("done", ["GPU-1::0"]), ("live", ["GPU-1::1"]), replicas=["GPU-1::0", "GPU-1::1"])
    node.look()
    look = GpuActivity(GPU, node.host.clock.boottime_ns(), (GpuProcess(10, ""),))
    node.look({GPU: look})
    assert node.held() == [("GPU-1", "", TWO, 1, 0)]


def test_where_no_pod_is_one_that_is_over_and_still_listed_holds_nothing(node):
    node.watch = None
    node.host.begin()
    node.give(("done", ["GPU-1"]))
    for _ in range(6):
        node.look()
    assert (node.held(), node.shown()) == ([], set())


def test_a_pod_continues_after_a_restart_with_its_usage_meanwhile(node):
    node.pod(ONE, "w-0", run_id="bert", used_us=10_000)
    node.pod(TWO, "w-1", run_id="bert", used_us=10_000)
    node.look()
    node.pod(ONE, used_us=30_000)
    node.pod(TWO, used_us=40_000)
    node.host.restart(absent_seconds=5)
    assert node.look() == {"bert": 5}


HALF = ClaimedMigDevice("GPU-1", 3, 7)
MIG = (
    Partition("MIG-1", 3, aliases=("GPU-1/4/0", "nvidia1/gi4")),
    Partition("MIG-2", 3, aliases=("GPU-1/5/0", "nvidia1/gi5")),
)


class TestDevices:
    def test_a_pod_holds_what_it_was_given_alone_though_it_does_nothing(self, node):
        node.pod(ONE, "a")
        node.give(("a", ["GPU-1"]), replicas=["GPU-1"])
        node.look()
        assert node.held() == [("GPU-1", "", ONE, 1, 1)]

    def test_what_a_pod_was_given_it_has_since_it_began(self, node):
        node.pod(ONE, "a", started_ns=7)
        node.give(("a", ["GPU-1"]))
        node.kubelet.latest = node.kubelet.latest._replace(at_ns=9)
        node.look()
        assert [row.since_ns for row in node.host.workload.holdings] == [7]

    def test_no_pod_begins_after_the_kubelet_said_what_it_has(self, node):
        node.pod(ONE, "a", started_ns=1 << 62)
        node.give(("a", ["GPU-1"]))
        node.kubelet.latest = node.kubelet.latest._replace(at_ns=9)
        node.look()
        assert [row.since_ns for row in node.host.workload.holdings] == [9]

    @pytest.mark.parametrize("form", ["GPU-1::{}", "nvidia1/vgpu{}", "GPU-1-{}", "0::{}"])
    def test_replicas_of_a_device_are_parts_of_it_held_or_not(self, node, form):
        node.pod(ONE, "a")
        node.pod(TWO, "b")
        ids = [form.format(n) for n in range(4)]
        node.give(("a", ids[:1]), ("b", ids[1:3]), replicas=ids)
        node.look()
        assert node.held() == [("GPU-1", "", ONE, 1, 4), ("GPU-1", "", TWO, 2, 4)]

    def test_a_device_of_several_containers_of_a_pod_is_one_replica(self, node):
        node.pod(ONE, "a")
        ids = [f"GPU-1::{n}" for n in range(4)]
        node.give(("a", ids[:1]), ("a", ids[:1]), ("a", ids[1:2]), replicas=ids)
        node.look()
        assert node.held() == [("GPU-1", "", ONE, 2, 4)]

    @pytest.mark.parametrize("form", ["MIG-2", "MIG-GPU-1/5/0", "nvidia1/gi5", "MIG-2-0"])
    def test_a_mig_instance_is_a_part_of_its_device(self, node, form):
        node.pod(ONE, "a")
        node.give(("a", [form]))
        node.look({GPU: GpuActivity(GPU, 1, (), MIG, 7)})
        assert node.held() == [("GPU-1", "MIG-2", ONE, 1, 1)]

    @pytest.mark.parametrize("form", ["MIG-2::{}", "MIG-GPU-1/5/0::{}", "nvidia1/gi5/vgpu{}"])
    def test_replicas_of_a_mig_instance_are_parts_of_it(self, node, form):
        node.pod(ONE, "a")
        ids = [form.format(n) for n in range(3)]
        node.give(("a", ids[:1]), replicas=ids)
        node.look({GPU: GpuActivity(GPU, 1, (), MIG, 7)})
        assert node.held() == [("GPU-1", "MIG-2", ONE, 1, 3)]

    def test_a_gpu_instance_of_several_compute_instances_is_the_first_of_them(self, node):
        node.pod(ONE, "a")
        node.give(("a", ["nvidia1/gi5"]))
        parts = tuple(
            Partition(f"MIG-{2 + number}", 1, aliases=(f"GPU-1/5/{number}", "nvidia1/gi5"))
            for number in range(2)
        )
        node.look({GPU: GpuActivity(GPU, 1, (), parts, 7)})
        assert node.held() == [("GPU-1", "MIG-2", ONE, 1, 1)]

    def test_dynamic_allocation_names_a_device_by_its_slice(self, node):
        node.pod(ONE, "a")
        claimed = ClaimedDevice("gpu.nvidia.com", "node-1", "gpu-0")
        container = ContainerResources("ml", "a", "main", (), (), (claimed,))
        node.kubelet.latest = PodResources((container,), (), 1, "")
        node.watch.latest = node.watch.latest._replace(gpus={claimed: "GPU-1"})
        node.look()
        assert node.held() == [("GPU-1", "", ONE, 1, 1)]

    def test_a_claim_whose_device_may_not_be_looked_up_is_said_and_is_no_failure(self, node):
        node.pod(ONE, "a")
        node.watch.latest = node.watch.latest._replace(gpus_reason="may not be read")
        assert node.state("pods") == (True, "")
        claimed = ClaimedDevice("gpu.nvidia.com", "node-1", "gpu-0")
        container = ContainerResources("ml", "a", "main", (), (), (claimed,))
        node.kubelet.latest = PodResources((container,), (), 1, "")
        assert node.state("pods") == (True, "may not be read")
        node.watch.latest = node.watch.latest._replace(why="API server: 500")
        assert node.state("pods")[0] is False

    @pytest.mark.parametrize(
        "device_id",
        ["nic-7", "MIG-GPU-1/0/9", "nvidia1/gi1", "nvidia9", "9", "GPU-1,GPU-2", ""],
    )
    def test_an_unknown_gpu_is_not_held(self, node, device_id):
        node.pod(ONE, "a")
        node.give(("a", [device_id]))
        node.look()
        assert node.held() == []

    def test_ids_of_a_gpu_resource_that_name_no_gpu_are_reported(self, node):
        node.pod(ONE, "a")
        node.give(("a", ["nvidia9", "tegra", "GPU-9", "GPU-1", (RDMA, "9")]))
        node.look()
        ok, why = node.state("kubelet")
        assert ok
        assert "no GPU of this node: 3, the first GPU-9 of nvidia.com/gpu" in why
        assert ("GPU-1", "", ONE, 1, 1) in node.held()

    @pytest.mark.parametrize("number", ["0", "nvidia0", "uuid-0"])
    def test_a_claimed_device_that_its_driver_numbers_is_no_gpu(self, node, number):
        node.pod(ONE, "a")
        claimed = ClaimedDevice("net.example.com", "n", "nic-0")
        container = ContainerResources("ml", "a", "main", (), (), (claimed,))
        node.kubelet.latest = PodResources((container,), (), 1, "")
        node.watch.latest = node.watch.latest._replace(gpus={claimed: number})
        node.look()
        assert node.held() == []

    @pytest.mark.parametrize(
        ("device_id", "gpu"),
        [("0", "GPU-1"), ("1", "GPU-2"), ("nvidia0", "GPU-2"), ("nvidia1", "GPU-1")],
    )
    def test_an_index_is_that_of_the_driver_and_a_device_file_has_a_minor_number(
        self, node, device_id, gpu
    ):
        node.pod(ONE, "a")
        node.give(("a", [device_id]))
        node.look()
        assert node.held() == [(gpu, "", ONE, 1, 1)]

    @pytest.mark.parametrize(
        "resource",
        [RDMA, "intel.com/sriov_netdevice", "nvidia.com/GA102GL_A10", "nvidia.com/hostdev", "gpu"],
    )
    def test_the_id_0_of_another_resource_is_no_gpu(self, node, resource):
        node.pod(ONE, "trainer")
        node.pod(TWO, "nfs")
        node.give(
            ("trainer", ["GPU-1"]),
            ("nfs", [(resource, "0"), (resource, "1"), (resource, "nvidia0")]),
            replicas=["GPU-1", "GPU-2", *((resource, str(number)) for number in range(63))],
        )
        node.look()
        assert node.held() == [("GPU-1", "", ONE, 1, 1)]

    @pytest.mark.parametrize(
        "resource", ["nvidia.com/gpu.shared", "nvidia.com/mig-3g.40gb", "nvidia.com/mig-1g.shared"]
    )
    def test_shared_and_partitioned_gpus_are_gpus_by_their_resource(self, node, resource):
        node.pod(ONE, "a")
        ids = [(resource, f"GPU-1::{number}") for number in range(4)]
        node.give(("a", ids[:1]), replicas=ids)
        node.look()
        assert node.held() == [("GPU-1", "", ONE, 1, 4)]

    @pytest.mark.parametrize(
        ("resource", "device_id", "gpu"),
        [
            (NVIDIA, "0", "GPU-1"),
            ("amd.com/gpu", "0000:03:00.0", "amd-1"),
            ("amd.com/gpu", "0000:03:00.0-slice-1", "amd-1"),
            ("amd.com/spx_nps1", "0000:03:00.0", "amd-1"),
            ("gpu.intel.com/i915", "card2-0", "intel-1"),
            ("gpu.intel.com/xe", "card2-1", "intel-1"),
        ],
    )
    def test_gpus_of_every_vendor_are_held_on_one_node(self, node, resource, device_id, gpu):
        node.pod(ONE, "a")
        node.give(("a", [(resource, device_id)]))
        node.look(infos=MIXED)
        assert [holding[0] for holding in node.held()] == [gpu]

    @pytest.mark.parametrize(
        "resource", ["gpu.intel.com/i915_monitoring", "gpu.intel.com/millicores", "amd.com/gpu_vf"]
    )
    def test_a_resource_that_does_not_allocate_gpus_is_none(self, node, resource):
        node.pod(ONE, "a")
        node.give(("a", [(resource, "card2-0"), (resource, "0000:03:00.0")]))
        node.look(infos=MIXED)
        assert node.held() == []

    @pytest.mark.parametrize(
        ("driver", "device", "published", "held"),
        [
            ("gpu.amd.com", "gpu-1-128", "0000:03:00.0", ("amd-1", "")),
            ("gpu.amd.com", "gpu-2-129", "0000:03:00.0", ("amd-1", "amd-1/1")),
            ("gpu.amd.com", "gpu-0-cpx-nps4", "0000:03:00.0", ("amd-1", "")),
            ("gpu.intel.com", "0000-4d-00-0-0x56c0", "0000:4d:00.0", ("intel-1", "")),
            ("gpu.intel.com", "0000-4d-00-0-0x56c0", "0", None),
            ("gpu.intel.com", "0000-4d-00-0-0x0bda", "", ("intel-1", "")),
            ("net.example.com", "eth0", "0000:05:00.0", None),
            ("net.example.com", "gpu-1-128", "", None),
        ],
    )
    def test_a_claimed_gpu_is_found_by_its_address(self, node, driver, device, published, held):
        node.pod(ONE, "a")
        claimed = ClaimedDevice(driver, "n", device)
        container = ContainerResources("ml", "a", "main", (), (), (claimed,))
        node.kubelet.latest = PodResources((container,), (), 1, "")
        node.watch.latest = node.watch.latest._replace(gpus={claimed: published})
        part = Partition("amd-1/1", 1, aliases=("gpu-2-129",))
        node.look({AMD_GPU: GpuActivity(AMD_GPU, 1, (), (part,), 8)}, infos=MIXED)
        assert [holding[:2] for holding in node.held()] == ([held] if held else [])

    def test_other_resources_are_gpus_where_they_are_named(self, node):
        node.options = {"gpu_resources": ("volcano.sh/vgpu-*", "example.com/a100")}
        node.host.begin()
        node.pod(ONE, "a")
        node.pod(TWO, "b")
        ids = [("volcano.sh/vgpu-number", f"GPU-1-{number}") for number in range(10)]
        node.give(("a", ids[:3]), ("b", [("example.com/a100", "1"), (RDMA, "0")]), replicas=ids)
        node.look()
        assert node.held() == [("GPU-1", "", ONE, 3, 10), ("GPU-2", "", TWO, 1, 1)]

    def test_two_resources_of_one_gpu_are_no_two_parts_of_it(self, node):
        node.options = {"gpu_resources": ("volcano.sh/*",)}
        node.host.begin()
        node.pod(ONE, "a")
        number, memory = (
            [(f"volcano.sh/vgpu-{what}", f"GPU-1-{each}") for each in range(count)]
            for what, count in (("number", 10), ("memory", 80))
        )
        node.give(("a", [*number[:1], *memory[:40]]), replicas=[*number, *memory])
        node.look()
        assert node.held() == [("GPU-1", "", ONE, 40, 80)]

    def test_a_resource_with_ids_of_gpus_that_is_not_named_is_said_with_the_remedy(self, node):
        uuid = "GPU-aaaaaaaa-0000-1111-2222-aaaaaaaaaaaa"
        node.pod(ONE, "a")
        node.give(("a", [("example.com/vgpu", f"{uuid}-0"), (RDMA, "0")]))
        node.look()
        ok, why = node.state("kubelet")
        assert ok
        assert "devices of example.com/vgpu" in why
        assert "attribute.gpu_resources" in why
        node.give(("a", [(RDMA, "0")]))
        node.look()
        assert node.state("kubelet") == (True, "")

    def test_what_of_the_kubelets_answer_cannot_be_decoded_is_counted_and_said(self, node):
        node.pod(ONE, "a")
        node.give(("a", ["GPU-1"]))
        reasons = ("a claim of pod ml/b: x", "a pod: y")
        node.kubelet.latest = node.kubelet.latest._replace(skipped=reasons)
        ok, why = node.state("kubelet")
        assert not ok
        assert "in 2 places" in why
        assert "a claim of pod ml/b: x" in why
        assert node.held() == [("GPU-1", "", ONE, 1, 1)]

    def test_a_claim_of_another_driver_takes_nobody_anything(self, node):
        node.pod(ONE, "a")
        node.pod(TWO, "b")
        claimed = ContainerResources(
            "ml", "b", "main", (), (), (ClaimedDevice("dra.net", "n", "eth0"),)
        )
        node.give(("a", ["GPU-1"]))
        latest = node.kubelet.latest
        node.kubelet.latest = latest._replace(containers=(*latest.containers, claimed))
        node.look()
        assert node.held() == [("GPU-1", "", ONE, 1, 1)]
        assert node.state("kubelet") == (True, "")

    def test_a_claimed_mig_device_without_a_uuid_is_the_instance_of_its_size(self, node):
        node.pod(ONE, "a")
        node.claim(("a", "gpu-1-mig-3g40gb-9-4"), mig={"gpu-1-mig-3g40gb-9-4": HALF})
        parts = (Partition("MIG-1", 4), Partition("MIG-2", 3))
        node.look({GPU: GpuActivity(GPU, 1, (), parts, 7)})
        assert node.held() == [("GPU-1", "MIG-2", ONE, 1, 1)]
        ok, why = node.state("kubelet")
        assert ok
        assert "claimed MIG devices without a UUID: 1" in why

    def test_claimed_mig_devices_of_one_size_are_parts_of_their_instances(self, node):
        for uid, name in ((ONE, "a"), (TWO, "b")):
            node.pod(uid, name)
        node.claim(("a", "m0"), ("b", "m4"), mig={"m0": HALF, "m4": HALF})
        node.look({GPU: GpuActivity(GPU, 1, (), MIG, 7)})
        assert node.held() == [
            ("GPU-1", part, uid, 1, 2) for part in ("MIG-1", "MIG-2") for uid in (ONE, TWO)
        ]

    def test_a_claimed_mig_device_that_the_driver_does_not_show_is_its_share_of_the_gpu(self, node):
        node.pod(ONE, "a")
        node.claim(("a", "m0"), mig={"m0": HALF})
        node.look()
        assert node.held() == [("GPU-1", "", ONE, 3, 7)]

    def test_a_claim_that_two_containers_name_is_one_device(self, node):
        node.pod(ONE, "a")
        node.claim(("a", "m0"), ("a", "m0"), mig={"m0": HALF})
        node.look({GPU: GpuActivity(GPU, 1, (), MIG, 7)})
        assert node.held() == [("GPU-1", "MIG-1", ONE, 1, 2), ("GPU-1", "MIG-2", ONE, 1, 2)]

    def test_a_claimed_gpu_that_no_slice_describes_is_said(self, node):
        node.pod(ONE, "a")
        node.claim(("a", "gpu-0"), gpus={"gpu-7": "GPU-1"})
        node.look()
        assert node.held() == []
        why = node.state("kubelet")[1]
        assert "has a UUID, a PCI address or a MIG profile for gpu.nvidia.com/n/gpu-0" in why

    def test_a_claimed_gpu_that_is_passed_through_is_held_by_nobody_and_said_by_nobody(self, node):
        node.pod(ONE, "a")
        node.claim(("a", "gpu-vfio-0"), gpus={"gpu-vfio-0": ""})
        node.look()
        assert node.held() == []
        assert node.state("kubelet") == (True, "")

    def test_a_pod_with_admin_access_does_not_hold_the_gpu(self, node):
        for uid, name in ((ONE, "a"), (TWO, "monitor")):
            node.pod(uid, name)
        node.claim(("a", "gpu-0"), ("monitor", "gpu-0"), gpus={"gpu-0": "GPU-1"})
        device = ("gpu.nvidia.com", "n", "gpu-0")
        node.watch.latest = node.watch.latest._replace(admin_devices={TWO: {device}})
        node.look()
        assert node.held() == [("GPU-1", "", ONE, 1, 1)]

    def test_a_pod_whose_admin_access_is_known_later_no_longer_holds_the_gpu(self, node):
        node.pod(ONE, "monitor")
        node.claim(("monitor", "gpu-0"), gpus={"gpu-0": "GPU-1"})
        node.look()
        assert node.held() == [("GPU-1", "", ONE, 1, 1)]
        device = ("gpu.nvidia.com", "n", "gpu-0")
        node.watch.latest = node.watch.latest._replace(admin_devices={ONE: {device}})
        node.look()
        assert node.held() == []

    def test_pods_that_share_are_told_apart_by_their_processes(self, node):
        for uid, name, pid in ((ONE, "a", 10), (TWO, "b", 11)):
            node.pod(uid, name)
            node.host.proc.process(pid, start=100 + pid, cgroup=f"/kubepods/burstable/pod{uid}/x")
        node.give(("a", ["GPU-1::0"]), ("b", ["GPU-1::1"]), replicas=["GPU-1::0", "GPU-1::1"])
        node.look()
        at_ns = node.host.clock.boottime_ns()
        look = GpuActivity(
            GPU, at_ns, (GpuProcess(10, "", 0.9), GpuProcess(11, "", 0.1)), coverage=1.0
        )
        node.look({GPU: look})
        assert node.held() == [("GPU-1", "", ONE, 1, 2), ("GPU-1", "", TWO, 1, 2)]
        assert {pid: key.run_id for pid, key in node.host.workload.run_of_pid.items()} == {
            10: ONE,
            11: TWO,
        }

    def test_a_pod_that_ended_holds_nothing_though_the_kubelet_is_late(self, node):
        node.pod(ONE, "a")
        node.give(("a", ["GPU-1"]))
        node.look()
        node.end(ONE)
        node.look()
        assert node.held() == []

    def test_the_kubelet_is_asked_at_once_when_a_pod_is_new(self, node):
        node.look()
        before = node.pokes
        node.pod(ONE, "a")
        node.look()
        node.look()
        assert node.pokes == before + 1

    def test_a_successor_with_the_same_name_does_not_get_the_device_of_an_older_list(self, node):
        node.pod(ONE, "db-0", created="2026-01-01T00:00:00Z")
        node.list(("db-0", ["GPU-1"]))
        node.look()
        assert node.held() == [("GPU-1", "", ONE, 1, 1)]
        node.end(ONE)
        node.pod(TWO, "db-0", created="2026-01-01T00:00:09Z")
        node.look()
        assert node.held() == []
        node.list(("db-0", ["GPU-2"]))
        node.look()
        assert node.held() == [("GPU-2", "", TWO, 1, 1)]

    def test_a_successor_with_the_same_name_gets_the_same_device_of_a_newer_list(self, node):
        node.pod(ONE, "db-0", created="2026-01-01T00:00:00Z")
        node.list(("db-0", ["GPU-1"], (2, 3)))
        node.look()
        node.end(ONE)
        node.pod(TWO, "db-0", created="2026-01-01T00:00:09Z")
        node.look()
        before = node.kubelet.latest
        node.list(("db-0", ["GPU-1"], (2, 3)))
        node.kubelet.latest = node.kubelet.latest._replace(containers=before.containers)
        node.look()
        assert node.held() == [("GPU-1", "", TWO, 1, 1)]
        usage = {usage.run.run_id: usage.held_threads for usage in node.host.workload.usage}
        assert usage == {TWO: 2}

    def test_the_kubelet_is_asked_every_tick_until_a_new_pods_claim_is_prepared(self, node):
        node.look()
        node.pod(ONE, "a", claims=("whole",))
        node.list(("a", []))
        node.look()
        before = node.pokes
        for _ in range(3):
            node.look()
        assert node.pokes == before + 3
        node.claim(("a", "gpu-0"), gpus={"gpu-0": "GPU-1"})
        node.look()
        assert node.held() == [("GPU-1", "", ONE, 1, 1)]
        assert node.pokes == before + 3

    def test_a_claim_that_is_never_prepared_is_not_asked_for_long(self, node):
        node.look()
        node.pod(ONE, "a", claims=("whole",))
        for _ in range(90):
            node.look()
        assert node.pokes == 60

    def test_a_running_pod_keeps_its_devices_if_the_kubelets_list_is_incomplete(self, node):
        for uid, name in ((ONE, "a"), (TWO, "b")):
            node.pod(uid, name)
        node.give(("a", ["GPU-1::0"]), ("b", ["GPU-1::1"]), replicas=["GPU-1::0", "GPU-1::1"])
        node.look()
        node.give(("b", ["GPU-1::1"]), replicas=["GPU-1::0", "GPU-1::1"])
        node.look()
        assert node.held() == [("GPU-1", "", ONE, 1, 2), ("GPU-1", "", TWO, 1, 2)]

    def test_a_reallocated_device_is_held_by_the_new_pod(self, node):
        for uid, name in ((ONE, "a"), (TWO, "b")):
            node.pod(uid, name)
        node.give(("a", ["GPU-1"]))
        node.look()
        node.give(("b", ["GPU-1"]))
        node.look()
        assert node.held() == [("GPU-1", "", TWO, 1, 1)]

    def test_a_pod_that_is_over_has_nothing_when_the_kubelet_says_so(self, node):
        node.pod(ONE, "a")
        node.give(("a", ["GPU-1"]))
        node.look()
        node.pod(ONE, "a", is_over=True)
        node.give()
        node.look()
        assert node.held() == []

    def test_a_pod_that_ended_while_the_api_server_was_silent_holds_nothing(self, node):
        node.pod(ONE, "db-0")
        node.give(("db-0", ["GPU-1"]))
        node.look()
        known = node.watch.latest._replace(why="API server: 500")
        node.end(ONE)
        node.watch.latest = known
        node.pod(TWO)
        node.look()
        assert node.held() == []
        assert node.host.running() == {TWO}

    def test_cgroups_that_cannot_be_listed_end_no_pod(self, node):
        node.pod(ONE, "a")
        node.give(("a", ["GPU-1"]))
        node.look()
        pods = node.mount / "kubepods" / "burstable"
        pods.rename(node.mount / "away")
        node.look()
        assert node.held() == [("GPU-1", "", ONE, 1, 1)]
        (node.mount / "away").rename(pods)
        node.look()
        assert node.host.running() == {ONE}

    def test_the_last_answer_of_the_kubelet_is_used_while_it_does_not_answer(self, node):
        node.pod(ONE, "a")
        node.give(("a", ["GPU-1"]))
        node.look()
        node.kubelet.latest = node.kubelet.latest._replace(why="the kubelet does not answer")
        node.host.clock.advance(100)
        ok, why = node.state("kubelet")
        assert node.held() == [("GPU-1", "", ONE, 1, 1)]
        assert not ok
        assert "its answer of 1" in why
        assert "s ago is still used" in why

    def test_cores_that_a_pod_has_alone_are_its_own(self, node):
        node.pod(ONE, "a")
        node.give(("a", [], (2, 3)))
        node.look()
        assert [usage.held_threads for usage in node.host.workload.usage] == [2]

    def test_a_running_pod_keeps_its_cores_while_the_kubelet_lists_no_pods(self, node):
        """As in the first second after its start."""

        def held():
            return [usage.held_threads for usage in node.host.workload.usage]

        node.pod(ONE, "a")
        node.give(("a", [], (2, 3)))
        node.look()
        node.give()
        node.look()
        assert held() == [2]
        node.pod(TWO, "b")
        node.give(("b", [], (3, 4)))
        node.look()
        assert sorted(held()) == [0, 2]
        node.end(TWO)
        node.give()
        node.look()
        assert not any(held())

    def test_without_cgroups_a_device_is_held_under_the_name_that_the_kubelet_says(self, node):
        (node.mount / "kubepods").rename(node.mount / "elsewhere")
        node.watch = None
        node.host.begin()
        node.look()
        node.give(("a", ["GPU-1"]))
        node.look()
        node.look()
        assert node.held() == [("GPU-1", "", "ml/a", 1, 1)]
        node.give()
        node.look()
        node.look()
        assert node.held() == []
        assert node.run("ml/a").ended is not None


def test_a_wrong_node_name_is_reported(node):
    assert node.state("pods") == (True, "")
    node.pod(ONE)
    for _ in range(6):
        node.look()
    ok, why = node.state("pods")
    assert not ok
    assert "attribute.node_name" in why
    node.pod(ONE, "a")
    assert node.state("pods") == (True, "")


def test_a_pending_first_answer_is_reported_and_is_no_failure(node):
    node.kubelet.latest, node.watch.latest = PodResources(), ApiServerState()
    assert node.state("kubelet") == (True, "the kubelet has not answered yet")
    assert node.state("pods") == (True, "the API server has not answered yet")


def test_missing_sources_are_reported(node):
    node.missing = (CollectorState("pods", ok=False, seconds=0.0, why="no token"),)
    node.host.begin()
    node.look()
    assert node.missing[0] in node.host.workload_collector.states()


class Outside:
    """A container in a cgroup of the runtime outside of its pod's, as with different drivers."""

    def __init__(self, node, uid):
        sliced = uid.replace("-", "_")
        self._above = node.mount / "system.slice" / "containerd.service"
        self._name = f"kubepods-burstable-pod{sliced}.slice:cri-containerd:"
        self.path = f"/system.slice/containerd.service/{self._name}"

    def use(self, container, used_us):
        path = self._above / (self._name + container * 64)
        path.mkdir(parents=True, exist_ok=True)
        (path / "cpu.stat").write_text(f"usage_usec {used_us}\n")
        (path / "memory.stat").write_text("anon 5000\nshmem 0\n")
        (path / "cgroup.events").write_text("populated 1\n")

    def end(self, container):
        path = self._above / (self._name + container * 64)
        path.rename(self._above / f"gone-{container}")


def test_a_pod_pays_for_containers_outside_of_its_cgroup_as_they_come_and_go(node):
    outside = Outside(node, ONE)
    node.pod(ONE, "train-0")
    outside.use("1", 20_000)
    node.host.restart()  # with the first container there, its home is known
    node.look()
    outside.use("1", 50_000)
    assert node.look() == {ONE: 3}
    outside.use("2", 40_000)
    assert node.look() == {ONE: 4}
    outside.end("1")
    outside.use("2", 60_000)
    assert node.look() == {ONE: 2}
    assert [usage.memory_bytes for usage in node.host.workload.usage] == [1024 + 5000]


def test_a_restart_neither_loses_nor_repeats_what_containers_outside_used(node):
    outside = Outside(node, ONE)
    node.pod(ONE, "train-0")
    outside.use("1", 20_000)
    node.host.restart()
    node.look()
    outside.use("2", 10_000)
    node.look()
    outside.end("1")
    node.look()
    node.host.restart()
    outside.use("2", 50_000)
    assert node.look() == {ONE: 4}


def test_a_process_in_a_container_outside_of_the_pods_cgroup_is_the_pods(node):
    outside = Outside(node, ONE)
    node.pod(ONE, "train-0")
    outside.use("1", 0)
    node.host.proc.process(10, cgroup=outside.path + "1" * 64)
    node.look()
    at_ns = node.host.clock.boottime_ns()
    node.look({GPU: GpuActivity(GPU, at_ns, (GpuProcess(10, "", 0.9),), coverage=1.0)})
    assert {pid: key.run_id for pid, key in node.host.workload.run_of_pid.items()} == {10: ONE}
