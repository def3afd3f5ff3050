"""Finding the pods of cgroups, with all runtimes and cgroup drivers."""

import os

import pytest

from exporter.attribute.sources.access_control import ContainerLookup
from exporter.attribute.sources.cgroups import CgroupMeter
from exporter.attribute.sources.kube import pod_cgroups as module
from exporter.attribute.sources.kube.pod_cgroups import PodCgroup, PodCgroups, pod_uid
from tests.kube import cgroup_layouts as layouts

UID = "0a1b2c3d-1111-2222-3333-444455556666"
SLICED = UID.replace("-", "_")
STATIC = "a" * 32
ID = "f" * 64


@pytest.mark.parametrize(
    ("path", "uid"),
    [
        (f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{SLICED}.slice", UID),
        (
            f"/kubepods.slice/kubepods-pod{SLICED}.slice/cri-containerd-{ID}.scope",
            UID,
        ),
        (f"/kubepods/besteffort/pod{UID}/{ID}", UID),
        (f"/kubepods/pod{STATIC}/{ID}", STATIC),
        (f"/../../kubepods/burstable/pod{UID}/{ID}", UID),
        (
            (
                "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/"
                f"kubelet-kubepods-burstable-pod{SLICED}.slice/crio-{ID}.scope"
            ),
            UID,
        ),
        (f"/system.slice/containerd.service/kubepods-burstable-pod{SLICED}.slice:cri:{ID}", UID),
        (f"/system.slice/system.slice:docker:{ID}", ""),
        (f"/machine.slice/machine-libpod_pod_{ID}.slice/libpod-{ID}.scope", ""),
        (f"/kubepods/pod{UID}/{ID}/kubepods/pod{STATIC}/{ID}", UID),
        ("/system.slice/kubelet.service", ""),
        ("/user.slice/podcast.slice", ""),
        (f"/docker/{ID}", ""),
    ],
)
def test_a_pod_is_identified_by_its_cgroup_path(path, uid):
    assert pod_uid(path) == uid


@pytest.mark.parametrize("below", ["", "container"])
def test_a_pod_has_processes_if_a_cgroup_below_it_has_one(tmp_path, below):
    """Of version 1, where no file says so."""
    pod = PodCgroup(UID, {"cpuacct": str(tmp_path)}, {"cpuacct": ("/pod",)})
    (tmp_path / "pod" / "container").mkdir(parents=True)
    assert pod.has_processes(), "unknown"
    for directory in ("pod", "pod/container"):
        (tmp_path / directory / "cgroup.procs").write_text("")
    assert not pod.has_processes()
    (tmp_path / "pod" / below / "cgroup.procs").write_text("12\n")
    assert pod.has_processes()


def test_a_pod_whose_processes_are_of_another_process_namespace_has_cpu_time(tmp_path):
    """As version 1 shows other pods to a container: their `cgroup.procs` are empty."""
    (tmp_path / "pod" / "container").mkdir(parents=True)
    for directory in ("pod", "pod/container"):
        (tmp_path / directory / "cgroup.procs").write_text("")
    usage = tmp_path / "pod" / "cpuacct.usage"
    usage.write_text("0\n")
    pod = PodCgroup("uid", {"cpuacct": str(tmp_path)}, {"cpuacct": ("/pod",)})
    assert not pod.has_processes()
    usage.write_text("11316483\n")
    assert pod.has_processes()


@pytest.mark.parametrize(("usage", "has_processes"), [("0\n", False), ("11316483\n", True)])
def test_processes_of_another_process_namespace_are_known_by_their_cpu_time(
    tmp_path, usage, has_processes
):
    """Of version 1, whose `cgroup.procs` is empty in the container of the exporter."""
    pod = PodCgroup(UID, {"cpuacct": str(tmp_path)}, {"cpuacct": ("/pod",)})
    (tmp_path / "pod").mkdir()
    (tmp_path / "pod" / "cgroup.procs").write_text("")
    (tmp_path / "pod" / "cpuacct.usage").write_text(usage)
    assert pod.has_processes() is has_processes


@pytest.fixture
def mount(proc, tmp_path):
    """Two mounts: of the container itself, without pods, and of the host."""
    own, host = tmp_path / "own", tmp_path / "host"
    (own / "init.scope").mkdir(parents=True)
    host.mkdir()
    (proc.root / "self" / "mountinfo").write_text(
        f"30 24 0:26 / {own} ro - cgroup2 cgroup2 rw\n31 24 0:26 /../.. {host} ro - cgroup2 c rw\n"
    )
    return host


@pytest.mark.parametrize(
    ("guaranteed", "burstable"),
    [
        (
            f"kubepods.slice/kubepods-pod{SLICED}.slice",
            f"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{SLICED[::-1]}.slice",
        ),
        (f"kubepods/pod{UID}", f"kubepods/burstable/pod{UID[::-1]}"),
        (
            f"kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{SLICED}.slice",
            (
                "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/"
                f"kubelet-kubepods-besteffort-pod{SLICED[::-1]}.slice"
            ),
        ),
    ],
)
def test_pods_of_all_qos_classes_and_cgroup_drivers_are_found(proc, mount, guaranteed, burstable):
    (mount / guaranteed).mkdir(parents=True)
    # The digits of a uid stand in groups of 8, 4, 4, 4 and 12, so a reversed one is none.
    (mount / burstable).mkdir(parents=True)
    found = PodCgroups(str(proc.root)).collect()
    assert list(found) == [UID]
    assert found[UID].at == {"": (f"/{guaranteed}",)}
    assert found[UID].mounted == {"": str(mount)}


def test_created_and_removed_pods_are_detected(proc, mount):
    pods = mount / "kubepods" / "burstable"
    (pods / f"pod{UID}").mkdir(parents=True)
    kubepods = PodCgroups(str(proc.root))
    assert list(kubepods.collect()) == [UID]
    (pods / f"pod{STATIC}").mkdir()
    assert set(kubepods.collect()) == {UID, STATIC}
    (pods / f"pod{UID}").rmdir()
    assert list(kubepods.collect()) == [STATIC]


def test_a_hierarchy_of_version_1_that_comes_a_moment_later_is_seen(proc, tmp_path):
    lines = []
    for name in ("memory", "cpuacct"):
        (tmp_path / name / "kubepods").mkdir(parents=True)
        lines.append(f"30 24 0:26 / {tmp_path / name} ro - cgroup cgroup rw,{name}\n")
    (proc.root / "self" / "mountinfo").write_text("".join(lines))
    kubepods = PodCgroups(str(proc.root))
    for name in ("memory", "cpuacct"):
        (tmp_path / name / "kubepods" / f"pod{UID}").mkdir()
        assert name in kubepods.collect()[UID].at


def test_other_mounts_may_have_names_of_any_bytes_and_their_own_a_blank(proc, tmp_path):
    mount = tmp_path / "a b"
    (mount / "kubepods" / f"pod{UID}").mkdir(parents=True)
    spelled = str(mount).replace(" ", r"\040").encode()
    (proc.root / "self" / "mountinfo").write_bytes(
        b"29 24 8:1 / /mnt/caf\xe9 rw - ext4 /dev/sda1 rw\n"
        b"30 24 0:26 / " + spelled + b" ro - cgroup2 cgroup2 rw\n"
    )
    assert PodCgroups(str(proc.root)).collect()[UID].mounted == {"": str(mount)}


def test_a_process_is_in_the_pod_of_its_cgroup(proc, mount):
    (mount / "kubepods" / f"pod{UID}").mkdir(parents=True)
    kubepods = PodCgroups(str(proc.root))
    kubepods.collect()
    proc.process(10, cgroup=f"/../../kubepods/pod{UID}/{ID}")
    proc.process(11, cgroup="/system.slice/kubelet.service")
    assert (kubepods.uid(10), kubepods.uid(11)) == (UID, "")


def test_a_machine_without_pods_has_none(proc):
    assert PodCgroups(str(proc.root)).collect() == {}


def write_clock(directory, used_us):
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "cpu.stat").write_text(f"usage_usec {used_us}\nuser_usec 0\n")
    (directory / "cpuacct.usage").write_text(f"{used_us * 1000}\n")


def clock_us(pod):
    return CgroupMeter(pod.mounted, pod.at).cpu_us()


each_layout = pytest.mark.parametrize("layout", layouts.ALL, ids=lambda layout: layout.name)


@pytest.mark.parametrize("kind", ["cgroup2 cgroup2 rw", "cgroup cgroup rw,cpu,cpuacct"])
@each_layout
def test_the_clock_of_a_pod_is_that_of_its_containers_wherever_they_are(
    proc, tmp_path, layout, kind
):
    (proc.root / "self" / "mountinfo").write_text(f"30 24 0:26 / {tmp_path}/cg ro - {kind}\n")
    write_clock(tmp_path / f"cg{layout.pod}", 0)
    path = layout.container
    while path:  # the kernel adds what a cgroup used to all around it
        write_clock(tmp_path / f"cg{path}", 90_000_000)
        path = path.rpartition("/")[0]
    kubepods = PodCgroups(str(proc.root))
    [(uid, pod)] = kubepods.collect().items()
    assert (uid, clock_us(pod)) == (layout.uid, 90_000_000)
    proc.process(10, cgroup=layout.container)
    assert kubepods.uid(10) == layout.uid


@each_layout
def test_a_process_of_a_pod_is_in_its_own_container_and_not_in_that_of_the_node(proc, layout):
    proc.process(10, cgroup=layout.container)
    assert ContainerLookup(str(proc.root)).of(10) == layouts.ID


def test_what_containers_inside_and_outside_of_the_pods_cgroup_used_is_summed(proc, mount):
    """The state after a change of the cgroup driver while old containers run."""
    name = f"kubepods-burstable-pod{SLICED}.slice"
    own = f"/kubepods.slice/kubepods-burstable.slice/{name}"
    one, two = (f"/system.slice/containerd.service/{name}:cri-containerd:{n * 64}" for n in "12")
    for path, used_us in ((own, 5), (f"{own}/cri-containerd-{ID}.scope", 5), (one, 20), (two, 300)):
        write_clock(mount / path[1:], used_us)
    pod = PodCgroups(str(proc.root)).collect()[UID]
    assert sorted(pod.at[""]) == sorted([own, one, two])
    assert clock_us(pod) == 325


def test_of_a_host_with_both_versions_the_one_that_the_runtime_uses_counts(proc, tmp_path):
    lines = [
        f"30 24 0:26 / {tmp_path / 'unified'} ro - cgroup2 cgroup2 rw\n",
        f"31 24 0:27 / {tmp_path / 'cpuacct'} ro - cgroup cgroup rw,cpu,cpuacct\n",
    ]
    (proc.root / "self" / "mountinfo").write_text("".join(lines))
    [layout] = [each for each in layouts.MISMATCHED if each.uid == layouts.HYBRID_UID]
    write_clock(tmp_path / f"unified{layout.pod}", 0)  # systemd makes it in both
    write_clock(tmp_path / f"cpuacct{layout.pod}", 0)
    write_clock(tmp_path / f"cpuacct{layouts.HYBRID_CONTAINER}", 7)
    proc.process(10)
    (proc.root / "10" / "cgroup").write_text(layouts.HYBRID_PROC_CGROUP)
    kubepods = PodCgroups(str(proc.root))
    assert clock_us(kubepods.collect()[layouts.HYBRID_UID]) == 7
    assert kubepods.uid(10) == layouts.HYBRID_UID
    assert ContainerLookup(str(proc.root)).of(10) == ID


def test_pods_of_version_2_are_found_beside_a_hierarchy_of_version_1_that_has_others(
    proc, tmp_path
):
    """Such as a second node in a container, or a leftover directory of an earlier kubelet."""
    (proc.root / "self" / "mountinfo").write_text(
        f"30 24 0:26 / {tmp_path / 'unified'} ro - cgroup2 cgroup2 rw\n"
        f"31 24 0:27 / {tmp_path / 'cpuacct'} ro - cgroup cgroup rw,cpuacct\n"
    )
    write_clock(tmp_path / "unified" / "kubepods" / f"pod{UID}", 5)
    write_clock(tmp_path / "cpuacct" / "kubepods" / f"pod{STATIC}", 7)
    found = PodCgroups(str(proc.root)).collect()
    assert {uid: clock_us(pod) for uid, pod in found.items()} == {UID: 5, STATIC: 7}


def test_a_container_is_seen_at_the_next_look_where_there_was_one_before(proc, mount):
    service = mount / "system.slice" / "containerd.service"
    name = f"kubepods-pod{SLICED}.slice"
    write_clock(service / f"{name}:cri-containerd:{'1' * 64}", 1)
    kubepods = PodCgroups(str(proc.root))
    assert list(kubepods.collect()) == [UID]
    service.joinpath(f"{name}:cri-containerd:{'1' * 64}").rename(mount / "gone")
    for _ in range(2 * module.WALK_INTERVAL_TICKS):
        assert kubepods.collect() == {}
    write_clock(service / f"{name}:cri-containerd:{'2' * 64}", 1)
    assert list(kubepods.collect()) == [UID]


def test_the_first_container_outside_is_seen_by_the_next_walk(proc, mount):
    write_clock(mount / "kubepods.slice" / f"kubepods-pod{SLICED}.slice", 0)
    kubepods = PodCgroups(str(proc.root))
    kubepods.collect()
    write_clock(mount / "system.slice" / "k3s.service" / f"kubepods-pod{SLICED}.slice:cri:{ID}", 1)
    for _ in range(module.WALK_INTERVAL_TICKS):
        found = kubepods.collect()
    assert clock_us(found[UID]) == 1


def test_pods_inside_a_pod_are_part_of_it(proc, mount):
    write_clock(mount / "kubepods" / f"pod{UID}", 9)
    write_clock(mount / "kubepods" / f"pod{UID}" / ID / "kubepods" / f"pod{STATIC}", 4)
    assert list(PodCgroups(str(proc.root)).collect()) == [UID]


def test_between_walks_only_directories_of_pods_are_listed(proc, mount, monkeypatch):
    for number in range(200):
        write_clock(mount / "system.slice" / f"{number}.service", 0)
    write_clock(mount / "kubepods" / "burstable" / f"pod{UID}", 0)
    kubepods = PodCgroups(str(proc.root))
    walked, listed = [], []
    monkeypatch.setattr(
        module.os, "scandir", lambda path, it=os.scandir: walked.append(path) or it(path)
    )
    monkeypatch.setattr(
        module.os, "listdir", lambda path, it=os.listdir: listed.append(path) or it(path)
    )
    kubepods.collect()
    # Those without directories in them, as the 200, are not opened.
    assert len(walked) <= 4
    kubepods.collect()
    assert len(walked) <= 4
    assert listed == 2 * [f"{mount}/kubepods", f"{mount}/kubepods/burstable"]


def test_a_walk_ends_however_many_cgroups_there_are(proc, mount, monkeypatch):
    monkeypatch.setattr(module, "MAX_DIRECTORIES", 50)
    for number in range(100):
        (mount / "slurm" / f"job_{number}" / "step_0").mkdir(parents=True)
    write_clock(mount / "docker" / "kubepods" / f"pod{UID}", 0)
    walked = []
    monkeypatch.setattr(
        module.os, "scandir", lambda path, it=os.scandir: walked.append(path) or it(path)
    )
    assert list(PodCgroups(str(proc.root)).collect()) == [UID]
    assert len(walked) <= 2 * 50  # both mounts
