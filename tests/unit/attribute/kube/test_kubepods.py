"""Which pod a cgroup belongs to, with every runtime and driver."""

import pytest

from exporter.attribute.sources.kube.kubepods import Kubepods, uid_of

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
        (f"/system.slice/containerd.service/kubepods-burstable-pod{SLICED}.slice:cri:{ID}", ""),
        ("/system.slice/kubelet.service", ""),
        ("/user.slice/podcast.slice", ""),
        (f"/docker/{ID}", ""),
    ],
)
def test_a_pod_is_known_by_the_path_of_its_cgroup(path, uid):
    assert uid_of(path) == uid


@pytest.fixture
def mount(proc, tmp_path):
    """Two mounts: that of the container itself, which shows no pods, and the host's."""
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
def test_pods_of_all_classes_are_found_whichever_driver_made_them(
    proc, mount, guaranteed, burstable
):
    (mount / guaranteed).mkdir(parents=True)
    # The digits of a uid stand in groups of 8, 4, 4, 4 and 12, so a reversed one is none.
    (mount / burstable).mkdir(parents=True)
    found = Kubepods(str(proc.root)).look()
    assert list(found) == [UID]
    assert found[UID].at == {"": f"/{guaranteed}"}
    assert found[UID].mounted == {"": str(mount)}


def test_pods_come_and_go(proc, mount):
    pods = mount / "kubepods" / "burstable"
    (pods / f"pod{UID}").mkdir(parents=True)
    kubepods = Kubepods(str(proc.root))
    assert list(kubepods.look()) == [UID]
    (pods / f"pod{STATIC}").mkdir()
    assert set(kubepods.look()) == {UID, STATIC}
    (pods / f"pod{UID}").rmdir()
    assert list(kubepods.look()) == [STATIC]


def test_a_hierarchy_of_version_1_that_comes_a_moment_later_is_seen(proc, tmp_path):
    lines = []
    for name in ("memory", "cpuacct"):
        (tmp_path / name / "kubepods").mkdir(parents=True)
        lines.append(f"30 24 0:26 / {tmp_path / name} ro - cgroup cgroup rw,{name}\n")
    (proc.root / "self" / "mountinfo").write_text("".join(lines))
    kubepods = Kubepods(str(proc.root))
    for name in ("memory", "cpuacct"):
        (tmp_path / name / "kubepods" / f"pod{UID}").mkdir()
        assert name in kubepods.look()[UID].at


def test_other_mounts_may_have_names_of_any_bytes_and_their_own_a_blank(proc, tmp_path):
    mount = tmp_path / "a b"
    (mount / "kubepods" / f"pod{UID}").mkdir(parents=True)
    spelled = str(mount).replace(" ", r"\040").encode()
    (proc.root / "self" / "mountinfo").write_bytes(
        b"29 24 8:1 / /mnt/caf\xe9 rw - ext4 /dev/sda1 rw\n"
        b"30 24 0:26 / " + spelled + b" ro - cgroup2 cgroup2 rw\n"
    )
    assert Kubepods(str(proc.root)).look()[UID].mounted == {"": str(mount)}


def test_a_process_is_in_the_pod_of_its_cgroup(proc, mount):
    (mount / "kubepods" / f"pod{UID}").mkdir(parents=True)
    kubepods = Kubepods(str(proc.root))
    kubepods.look()
    proc.process(10, cgroup=f"/../../kubepods/pod{UID}/{ID}")
    proc.process(11, cgroup="/system.slice/kubelet.service")
    assert (kubepods.uid(10), kubepods.uid(11)) == (UID, "")


def test_a_machine_without_pods_has_none(proc):
    assert Kubepods(str(proc.root)).look() == {}
