"""Runs with a cgroup are charged by its CPU accounting."""

import errno
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.attribute.sources.cgroups import CgroupMeter, cgroup_mounts, cgroup_paths
from exporter.errors import RequestRefused
from exporter.model.readings import Device, DeviceKind, GpuActivity, GpuProcess

TICK_US = 10_000


class Groups:
    """Simulated cgroups of version 2 and their processes."""

    def __init__(self, host, root: Path) -> None:
        self.host = host
        self.root = root
        root.mkdir()
        point = str(root).replace(" ", r"\040")
        (host.proc.root / "self" / "mountinfo").write_text(
            f"1 1 0:1 / {point} rw - cgroup2 none rw\n"
        )

    def group(self, path: str, ticks: int = 0, *, has_processes: int = 1, memory: int = 0) -> None:
        directory = self.root / path.lstrip("/")
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "cpu.stat").write_text(f"usage_usec {ticks * TICK_US}\nuser_usec 0\n")
        (directory / "cgroup.events").write_text(f"populated {has_processes}\nfrozen 0\n")
        (directory / "cgroup.procs").write_text("")
        (directory / "memory.stat").write_text(f"anon {memory}\nfile 9\nshmem 1\n")

    def put(self, pid: int, path: str) -> None:
        (self.host.proc.root / str(pid) / "cgroup").write_bytes(b"0::" + os.fsencode(path) + b"\n")


@pytest.fixture
def groups(host, tmp_path) -> Groups:
    return Groups(host, tmp_path / "c g")


def test_scope_cgroup_in_the_root_cgroup_is_refused_with_the_remedy(host):
    host.proc.process(10)
    (host.proc.root / "10" / "cgroup").write_text("0::/\n")
    (host.proc.root / "self" / "mountinfo").write_text("1 1 0:1 / /cg rw - cgroup2 none rw\n")
    host.look()
    with pytest.raises(RequestRefused, match="whole machine"):
        host.start(10, "a", scope="cgroup")


@pytest.mark.parametrize("version", [1, 2])
def test_a_cgroup_run_is_charged_cgroup_cpu_time_without_inner_runs(host, tmp_path, version):
    group = tmp_path / "cg" / "job"
    group.mkdir(parents=True)
    mount = f"1 1 0:1 / {group.parent} rw - " + (
        "cgroup2 none rw\n" if version == 2 else "cgroup none rw,cpuacct\n"
    )
    (host.proc.root / "self" / "mountinfo").write_text(mount)

    def used(ticks: int) -> None:
        (group / "cpu.stat").write_text(f"usage_usec {ticks * TICK_US}\nuser_usec 0\n")
        (group / "cpuacct.usage").write_text(f"{ticks * TICK_US * 1000}\n")

    used(100)
    (group / "cgroup.procs").write_text("10\n11\n")
    host.proc.process(10)
    host.proc.process(11, ppid=10, start=101)
    line = "0::/job\n" if version == 2 else "3:cpuacct:/job\n"
    (host.proc.root / "10" / "cgroup").write_text(line)
    host.look()
    host.start(10, "group", scope="cgroup")
    host.start(11, "inner")
    used(130)
    host.proc.process(11, ppid=10, start=101, own=10)
    assert host.look() == {"group": 20, "inner": 10}


@pytest.fixture
def nested(host, groups):
    """A cgroup run, a run inside it, and another cgroup run inside that."""
    for pid, path in ((10, "/job"), (11, "/job"), (12, "/job/step")):
        groups.group(path)
        host.proc.process(pid, ppid=pid - 1, start=90 + pid)
        groups.put(pid, path)
    host.look()
    host.start(10, "job", scope="cgroup")
    host.start(11, "middle")
    host.start(12, "step", scope="cgroup")
    host.look()
    return host


def test_a_cgroup_run_is_not_charged_for_runs_at_any_depth_inside_it(nested, groups):
    groups.group("/job", 100)
    groups.group("/job/step", 60)
    nested.proc.process(11, ppid=10, start=101, own=30)
    assert nested.look() == {"job": 10, "middle": 30, "step": 60}


def test_inner_runs_are_not_charged_twice_after_a_restart(nested, groups):
    nested.restart()
    groups.group("/job", 100)
    groups.group("/job/step", 60)
    nested.proc.process(11, ppid=10, start=101, own=30)
    assert nested.look() == {"job": 10, "middle": 30, "step": 60}


def test_memory_of_inner_runs_is_not_counted_for_the_outer_run(host, groups):
    groups.group("/job", memory=5000)
    host.proc.process(10)
    host.proc.process(11, ppid=10, start=101, anonymous_kb=2)
    groups.put(10, "/job")
    host.look()
    host.start(10, "job", scope="cgroup")
    host.start(11, "inner")
    host.look()
    assert [usage.memory_bytes for usage in host.workload.usage] == [5001 - 2048, 2048]


def test_a_cgroup_run_stays_open_while_a_descendant_cgroup_has_processes(host, groups):
    groups.group("/job")
    host.proc.process(10)
    groups.put(10, "/job")
    host.look()
    host.start(10, "job", scope="cgroup")
    host.proc.gone(10)
    host.look()
    assert host.running() == {"job"}
    groups.group("/job", has_processes=0)
    host.look()
    assert host.running() == set()


def test_a_cgroup_with_a_non_utf8_name_is_metered(host, groups):
    path = os.fsdecode(b"/j\xff b")
    groups.group(path, 7)
    host.proc.process(10)
    groups.put(10, path)
    host.look()
    run = host.start(10, "job", scope="cgroup")
    assert run.cgroup == "/j\\xff b"
    groups.group(path, 12)
    assert host.look() == {"job": 5}
    host.restart()
    groups.group(path, 20)
    assert host.look() == {"job": 8}


def test_joining_an_existing_run_adds_no_cgroup_meter(host, groups):
    groups.group("/job")
    host.proc.process(10)
    groups.put(10, "/job")
    host.look()
    host.start(10, "a")
    host.start(10, "a", scope="cgroup")
    groups.group("/job", 90)
    assert host.look() == {"a": 0}


def test_a_removed_cgroup_uses_no_more_cpu_time(host, groups):
    groups.group("/job", 5)
    host.proc.process(10)
    groups.put(10, "/job")
    root = str(host.proc.root)
    meter = CgroupMeter(cgroup_mounts(root), cgroup_paths(root, 10))
    (groups.root / "job" / "cpu.stat").unlink()
    assert meter.advance_us() == 0


def test_scope_cgroup_without_cgroups_is_refused(host, groups):
    host.proc.process(10)
    (host.proc.root / "10" / "cgroup").write_text("")
    host.look()
    with pytest.raises(RequestRefused, match="scope cgroup is not available"):
        host.start(10, "a", scope="cgroup")


def test_a_process_in_the_cgroup_of_a_run_holds_gpus_for_it_and_one_beside_it_does_not(
    host, groups
):
    for pid, path in ((10, "/job"), (20, "/job/step"), (30, "/job2"), (40, "/job/inner")):
        groups.group(path)
        host.proc.process(pid)
        groups.put(pid, path)
    host.look()
    run = host.start(10, "a", scope="cgroup").key
    inner = host.start(40, "b", scope="cgroup").key
    gpu = Device(DeviceKind.GPU, "GPU-1")
    seen = GpuActivity(gpu, host.clock.now_ns, tuple(GpuProcess(pid) for pid in (10, 20, 30, 40)))
    host.look({gpu: seen})
    assert host.workload.run_of_pid == {10: run, 20: run, 40: inner}
    assert {held.run for held in host.workload.holdings} == {run, inner}


def written(directory, used_us, memory=0):
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "cpu.stat").write_text(f"usage_usec {used_us}\n")
    (directory / "cpuacct.usage").write_text(f"{used_us * 1000}\n")
    (directory / "memory.stat").write_text(f"anon {memory}\nshmem 1\n")
    (directory / "cgroup.events").write_text("populated 0\n")


def test_a_meter_keeps_the_cpu_time_of_removed_cgroups(tmp_path):
    mounted = {"": str(tmp_path)}
    written(tmp_path / "a", 100, memory=10)
    meter = CgroupMeter(mounted, {"": ["/a"]})
    written(tmp_path / "b", 40, memory=20)
    meter.follow(mounted, {"": ["/a", "/b"]})
    assert meter.advance_us() == 40  # it began after the meter did
    assert meter.memory_bytes() == 32
    written(tmp_path / "b", 45)
    assert meter.advance_us() == 5
    meter.follow(mounted, {"": ["/a"]})
    written(tmp_path / "a", 101)
    assert (meter.cpu_us(), meter.advance_us()) == (146, 1)
    # What can be read again after a restart.
    assert meter.last_us - meter.gone_us == 101


@pytest.mark.parametrize("used_us", [3, 100])
def test_a_cgroup_recreated_at_the_same_path_continues_the_sum(tmp_path, monkeypatch, used_us):
    """Open files of a removed cgroup fail with ENODEV, unlike those of a usual file system."""
    written(tmp_path / "a", 100)
    meter = CgroupMeter({"": str(tmp_path)}, {"": "/a"})
    with monkeypatch.context() as patched:
        patched.setattr(os, "pread", lambda *_: (_ for _ in ()).throw(OSError(errno.ENODEV, "")))
        assert meter.advance_us() == 0
    written(tmp_path / "a", used_us)
    assert (meter.advance_us(), meter.cpu_us()) == (used_us, 100 + used_us)


def test_a_change_of_cgroup_version_counts_no_cpu_time_twice(tmp_path):
    written(tmp_path / "new" / "a", 100)
    written(tmp_path / "old" / "a", 90)
    mounted = {"": str(tmp_path / "new"), "cpuacct": str(tmp_path / "old")}
    meter = CgroupMeter(mounted, {"": ["/a"]})
    meter.follow(mounted, {"cpuacct": ["/a"]})
    assert meter.advance_us() == 0
    written(tmp_path / "old" / "a", 97)
    assert meter.advance_us() == 7


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 5), st.integers(1, 1000)), max_size=6),
        min_size=1,
        max_size=12,
    )
)
def test_a_meter_counts_the_cpu_time_of_its_cgroups_in_any_order_of_changes(steps):
    """Each step has the existing cgroups, with their CPU time since the last step."""
    with TemporaryDirectory() as directory:
        root = Path(directory)
        written(root / "pod", 0)
        mounted = {"": directory}
        meter = CgroupMeter(mounted, {"": ["/pod"]})
        clocks: dict[str, int] = {}
        counted = total = 0
        for number, step in enumerate(steps):
            used = dict(step)
            for each in clocks.keys() - used.keys():
                clocks[each] = 0  # its next cgroup is another one
            for each, more_us in used.items():
                clocks[each] = clocks.get(each, 0) + more_us
                written(root / f"{each}", clocks[each])
                total += more_us
            meter.follow(mounted, {"": ["/pod", *[f"/{each}" for each in used]]})
            counted += meter.advance_us()
            assert counted == total, number
            assert meter.cpu_us() == total
