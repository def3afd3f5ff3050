"""Access of callers in containers, and of root outside of them, to runs."""

import pytest

from exporter.attribute.sources.access_control import ContainerLookup
from exporter.errors import RequestRefused
from exporter.model.commands import EndRun, LogRun

ONE, TWO = "1" * 64, "2" * 64
PATHS = {
    f"/system.slice/docker-{ONE}.scope": ONE,
    f"/docker/{ONE}": ONE,
    f"/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ONE}.scope": ONE,
    f"/../../kubepods/burstable/pod1/{ONE}": ONE,
    f"/machine.slice/libpod-{ONE}.scope/container": ONE,
    "/lxc.payload.web/init.scope": "web",
    "/machine.slice/machine-deb.scope": "deb",
    "/user.slice/user-1000.slice/session-2.scope": "",
    "/": "",
}


@pytest.mark.parametrize(("path", "container"), PATHS.items())
def test_a_container_is_identified_by_its_cgroup_path(proc, path, container):
    proc.process(10, cgroup=path)
    assert ContainerLookup(str(proc.root)).of(10) == container


def test_processes_in_the_daemons_own_container_are_in_no_container(proc):
    (proc.root / "self" / "cgroup").write_text(f"0::/docker/{ONE}\n")
    proc.process(10, cgroup=f"/docker/{ONE}")
    proc.process(11, cgroup=f"/docker/{TWO}")
    containers = ContainerLookup(str(proc.root))
    assert (containers.of(10), containers.of(11)) == ("", TWO)


@pytest.fixture
def shared(host):
    """Two containers of one image, both with user root, and root of the host."""
    (host.proc.root / "self" / "cgroup").write_text("0::/\n")
    host.begin()
    host.proc.process(10, uid=0, cgroup=f"/docker/{ONE}")
    host.proc.process(20, uid=0, start=101, cgroup=f"/docker/{TWO}")
    host.proc.process(30, uid=0, start=102)
    host.look()
    host.start(10, "train", uid=0)
    return host


def test_root_of_another_container_may_not_join_a_run(shared):
    with pytest.raises(RequestRefused, match="in use outside of this container"):
        shared.start(20, "train", uid=0)


@pytest.mark.parametrize("command", [EndRun(0, "train", pid=20), LogRun(0, "train", pid=20)])
def test_root_of_another_container_may_neither_end_nor_update_a_run(shared, command):
    def ask():
        if isinstance(command, EndRun):
            shared.workload_collector.end(command)
        else:
            shared.workload_collector.log(command, None)

    with pytest.raises(RequestRefused, match="is not in this container") as refused:
        ask()
    assert refused.value.status == 403
    assert shared.running() == {"train"}


def test_a_process_of_the_same_container_may_end_a_run(shared):
    shared.proc.process(11, ppid=10, start=103, uid=0, cgroup=f"/docker/{ONE}")
    shared.look()
    assert shared.end("train", pid=11, uid=0).ended is not None


def test_root_outside_of_containers_may_end_any_run(shared):
    assert shared.end("train", pid=30, uid=0).ended is not None


def test_another_container_may_have_a_run_of_another_id(shared):
    shared.start(20, "other-train", uid=0)
    assert shared.running() == {"train", "other-train"}
