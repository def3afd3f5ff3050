"""Slurm jobs as runs, with cgroup version 2; tests/real has a Slurm with version 1."""

import os

import pytest

from exporter.attribute.sources.slurm_cgroups import JOB_IN_PATH, SlurmCgroups
from exporter.model.readings import (
    Device,
    DeviceInfo,
    DeviceKind,
    GpuActivity,
    GpuProcess,
    Partition,
)

GPU = Device(DeviceKind.GPU, "GPU-1")
SCOPE = "system.slice/node1_slurmstepd.scope"
SLUID = "s5K1KKYAYG5D00"
"""As in doc/html/cgroups.shtml of Slurm 26.05."""


@pytest.fixture
def slurm(host, tmp_path):
    """A host with a simulated cgroup2 tree in which jobs start and end."""
    mount = tmp_path / "cgroup"
    (mount / SCOPE).mkdir(parents=True)
    (host.proc.root / "self" / "mountinfo").write_text(
        f"30 24 0:26 / {mount} rw,nosuid shared:4 - cgroup2 cgroup2 rw\n"
    )
    (host.proc.root / "self" / "cgroup").write_text("0::/system.slice/emissions-exporter.service\n")
    host.jobs.mkdir()
    host.begin()
    host.look()
    return Slurm(host, mount)


class Slurm:
    def __init__(self, host, mount):
        self.host = host
        self.mount = mount

    def job(self, job_id, *pids, used_us=0):
        """Start a job, or set its CPU time."""
        return self.begin(f"job_{job_id}", *pids, used_us=used_us)

    def begin(self, name, *pids, used_us=0, scope=SCOPE, step="step_0/user/task_0"):
        """The same for a job by the name of its cgroup."""
        path = self.mount / scope / name
        step = path / step
        step.mkdir(parents=True, exist_ok=True)
        for directory in (path, step):
            (directory / "cpu.stat").write_text(f"usage_usec {used_us}\nuser_usec 0\n")
            (directory / "memory.stat").write_text("anon 1000\nshmem 24\n")
            (directory / "cgroup.events").write_text(f"populated {int(bool(pids))}\nfrozen 0\n")
            (directory / "cgroup.procs").write_text("")
        (step / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
        return f"/{scope}/{step.relative_to(self.mount / scope)}"

    def stepd(self, name, pid, title, step="step_0", uid=0):
        """The slurmstepd of a step; its title is padded with NUL, as by setproctitle.c."""
        daemons = self.mount / SCOPE / name / step / "slurm"
        daemons.mkdir(parents=True)
        (daemons / "cgroup.procs").write_text(f"{pid}\n")
        (self.mount / SCOPE / name / "cgroup.events").write_text("populated 1\nfrozen 0\n")
        self.host.proc.process(pid, uid=uid, cgroup=f"/{SCOPE}/{name}/{step}/slurm")
        self.owned(pid, uid)
        (self.host.proc.root / str(pid) / "cmdline").write_bytes(title + bytes(40))

    def member(self, pid, name, environment=None, uid=7):
        """A process of a step's task."""
        cgroup = f"/{SCOPE}/{name}/step_0/user/task_0"
        self.host.proc.process(pid, uid=uid, cgroup=cgroup, environment=environment)
        self.owned(pid, uid)

    def owned(self, pid, uid):
        """/proc/PID belongs to the process's user."""
        os.chown(self.host.proc.root / str(pid), uid, -1)

    def end(self, job_id):
        path = self.mount / SCOPE / f"job_{job_id}"
        path.rename(self.mount / f"gone-{job_id}")

    def write(self, job_id, uid=7, gpus="", **more):
        lines = {"job_id": job_id, "uid": uid, "gpus": gpus, **more}
        text = "".join(f"{name}={value}\n" for name, value in lines.items())
        (self.host.jobs / str(job_id)).write_text(text)

    def states(self, *names):
        """States of collectors by name; by default of `jobs`."""
        states = self.host.workload_collector.states()
        return {s.name: (s.ok, s.why) for s in states if s.name in (names or ("jobs",))}

    def run(self, job_id):
        return next(r for r in self.host.run_registry.visible() if r.key.run_id == str(job_id))


@pytest.mark.parametrize(
    ("path", "job"),
    [
        ("/slurm/uid_1000/job_17/step_batch/task_0", "17"),
        ("/slurm_node1/uid_0/job_17", "17"),
        ("/system.slice/slurmstepd.scope/job_17/step_0/slurm", "17"),
        ("/system.slice/node1_slurmstepd.scope/job_17/step_extern/user/task_special", "17"),
        ("/../../system.slice/slurmstepd.scope/job_17", "17"),
        ("/slurm.slice/slurmstepd.scope/job_17", "17"),
        ("/a.slice/a-b.slice/slurmstepd.scope/job_17/step_batch/user/task_0", "17"),
    ],
)
def test_a_job_is_identified_by_its_cgroup_path(path, job):
    match = JOB_IN_PATH.search(path)
    assert match is not None
    assert match["job"] == job


@pytest.mark.parametrize(
    "path",
    [
        "/user.slice/job_17",
        "/slurm/job_17",
        "/slurmx/uid_1/job_17",
        # what users may make for themselves, in the cgroup that systemd leaves to them
        "/user.slice/user-7.slice/user@7.service/slurmstepd.scope/job_17",
        "/user.slice/user-7.slice/user@7.service/slurm/uid_7/job_17",
    ],
)
def test_a_similar_cgroup_path_is_no_job(path):
    assert JOB_IN_PATH.search(path) is None


def test_a_job_is_charged_by_the_cpu_time_of_its_cgroup(slurm):
    path = slurm.job(17, 10, used_us=20_000)
    slurm.host.proc.process(10, uid=7, cgroup=path)
    assert slurm.host.look() == {"17": 2}
    slurm.job(17, 10, used_us=80_000)
    assert slurm.host.look() == {"17": 6}


def test_the_user_of_a_job_is_read_from_its_job_file(slurm):
    slurm.write(17, uid=1000, user="ada", account="physics", name="train", nodes=2)
    slurm.job(17)
    slurm.host.look()
    run = slurm.run(17)
    assert (run.key, run.user, run.account) == ((1000, "17", "17"), "ada", "physics")
    assert (run.name, run.nodes, run.origin) == ("train", 2, "slurm")


def test_a_job_ends_with_its_cgroup_and_keeps_its_totals(slurm):
    path = slurm.job(17, 10, used_us=20_000)
    slurm.host.proc.process(10, uid=7, cgroup=path)
    slurm.host.look()
    slurm.host.proc.gone(10)
    slurm.end(17)
    slurm.host.look()
    assert slurm.run(17).end_reason == "exited"


def test_a_run_inside_a_job_is_counted_separately_and_has_its_job_id(slurm):
    path = slurm.job(17, 10, used_us=0)
    slurm.host.proc.process(10, uid=7, cgroup=path)
    slurm.host.look()
    run = slurm.host.start(10, "bert", uid=7)
    assert run.key.job_id == "17"
    slurm.host.proc.process(10, uid=7, cgroup=path, own=4)
    slurm.job(17, 10, used_us=100_000)
    assert slurm.host.look() == {"bert": 4, "17": 6}


def test_a_job_continues_after_a_restart_with_its_usage_meanwhile(slurm):
    path = slurm.job(17, 10, used_us=20_000)
    slurm.host.proc.process(10, uid=7, cgroup=path)
    slurm.host.look()
    slurm.job(17, 10, used_us=70_000)
    slurm.host.restart(absent_seconds=5)
    assert slurm.host.look() == {"17": 5}
    assert slurm.run(17).ended is None


def held(host):
    return {(h.device.id, h.run.run_id, h.partition): h.until_ns for h in host.workload.holdings}


def test_a_job_holds_its_allocated_gpus_while_they_are_idle(slurm):
    slurm.write(17, gpus="GPU-1,GPU-2")
    slurm.job(17)
    slurm.host.look()
    assert held(slurm.host) == {("GPU-1", "17", ""): None, ("GPU-2", "17", ""): None}


@pytest.mark.parametrize(
    ("written", "gpus"),
    [("0", {"GPU-1"}), ("nvidia0", {"GPU-2"}), ("nvidia1,0", {"GPU-1"}), ("nvidia7", set())],
)
def test_a_number_in_a_job_file_is_resolved_by_index_or_minor_number(slurm, written, gpus):
    infos = [
        DeviceInfo(
            *(Device(DeviceKind.GPU, uuid), "", "", "nvml", 1.0), ordinal=index, aliases=(file,)
        )
        for uuid, index, file in (("GPU-1", "0", "nvidia1"), ("GPU-2", "1", "nvidia0"))
    ]
    slurm.write(17, gpus=written)
    slurm.host.look(infos=infos)
    assert {gpu for gpu, _, _ in held(slurm.host)} == gpus


def test_a_job_without_a_cgroup_yet_holds_its_gpus_from_the_prolog_on(slurm):
    slurm.write(17, gpus="GPU-1")
    slurm.host.look()
    assert held(slurm.host) == {("GPU-1", "17", ""): None}
    (slurm.host.jobs / "17").unlink()
    slurm.host.look()
    assert slurm.run(17).ended is not None


def test_a_run_inside_a_job_holds_what_it_uses_and_the_job_the_rest(slurm):
    slurm.write(17, gpus="GPU-1,GPU-2")
    path = slurm.job(17, 10)
    slurm.host.proc.process(10, uid=7, cgroup=path)
    slurm.host.look()
    slurm.host.start(10, "bert", uid=7)
    slurm.host.clock.advance(1)
    look = GpuActivity(GPU, slurm.host.clock.boottime_ns(), (GpuProcess(10),))
    began_ns = slurm.host.clock.boottime_ns() - 1_000_000_000
    slurm.host.look({GPU: look})
    assert held(slurm.host) == {
        ("GPU-1", "17", ""): began_ns,
        ("GPU-1", "bert", ""): None,
        ("GPU-2", "17", ""): None,
    }


def test_a_stale_job_file_expires_ten_minutes_after_the_last_process(slurm):
    slurm.write(17, gpus="GPU-1")
    slurm.job(17, 10)
    slurm.host.look()
    slurm.end(17)
    slurm.host.look()
    assert held(slurm.host)
    slurm.host.clock.advance(601)
    slurm.host.look()
    slurm.host.look()
    assert not held(slurm.host)
    assert slurm.run(17).ended is not None


def test_a_partition_that_a_job_was_given_is_held_on_its_device(slurm):
    slurm.write(17, gpus="MIG-1")
    slurm.job(17)
    look = GpuActivity(GPU, 1, (), (Partition("MIG-1", 3), Partition("MIG-2", 3)), 7)
    slurm.host.look({GPU: look})
    assert held(slurm.host) == {("GPU-1", "17", "MIG-1"): None}


def test_an_empty_leftover_cgroup_is_no_job(slurm):
    slurm.job(17)
    slurm.host.look()
    assert slurm.host.running() == set()


def test_a_job_ends_with_its_last_process_though_its_cgroup_remains(slurm):
    path = slurm.job(17, 10)
    slurm.host.proc.process(10, uid=7, cgroup=path)
    slurm.host.look()
    slurm.host.proc.gone(10)
    slurm.job(17)
    for _ in range(6):
        slurm.host.look()
    assert slurm.run(17).ended is not None


@pytest.mark.parametrize(
    "title",
    [
        b"slurmstepd: [42.0]",
        b"slurmstepd: [42.extern]",
        b"slurmstepd: [42.batch]",
        b"slurmstepd: [42.interactive]",
        b"slurmstepd: [42.3+1]",
        b"slurmstepd: [42.extern stepmgr]",
        b"slurmstepd: [42]",
    ],
)
def test_a_job_in_a_cgroup_with_a_sluid_is_named_by_its_slurmstepd(slurm, title):
    """Titles as `_set_job_log_prefix` and `log_build_step_id_str` of Slurm 26.11 write them."""
    slurm.stepd(SLUID, 9, title)
    slurm.begin(SLUID, 10, used_us=20_000)
    slurm.member(10, SLUID)
    assert slurm.host.look() == {"42": 2}
    assert slurm.run(42).key == (7, "42", "42")
    assert slurm.states() == {"jobs": (True, "")}


@pytest.mark.parametrize("place", ["step_0/slurm", "step_extern/slurm", "step_0", ""])
def test_process_titles_are_used_only_outside_of_user_cgroups(slurm, place):
    path = slurm.mount / SCOPE / SLUID / place
    path.mkdir(parents=True)
    slurm.begin(SLUID, 10)
    slurm.member(10, SLUID)
    (path / "cgroup.procs").write_text("9\n")
    slurm.host.proc.process(9, uid=0, cgroup=f"/{SCOPE}/{SLUID}/{place}")
    (slurm.host.proc.root / "9" / "cmdline").write_bytes(b"slurmstepd: [42.0]" + bytes(40))
    slurm.host.look()
    assert slurm.host.running() == {"42"}


@pytest.mark.parametrize("sluid", [SLUID.lower(), "sEKNKTV3WPV5IL"])
def test_every_sluid_that_slurm_accepts_is_accepted(slurm, sluid):
    """`str2sluid` of Slurm's sluid.c: any case, and I and L are read as 1."""
    path = slurm.begin(sluid, 10, used_us=20_000)
    slurm.host.proc.process(10, uid=7, cgroup=path)
    slurm.owned(10, 7)
    assert slurm.host.look() == {sluid: 2}


def test_jobs_are_listed_in_the_hierarchy_that_has_them(tmp_path):
    """A leftover directory of slurmd in another hierarchy hides no jobs."""
    lines = []
    for controller in ("freezer", "memory"):
        (tmp_path / controller / "slurm").mkdir(parents=True)
        lines.append(f"30 24 0:30 / {tmp_path}/{controller} rw - cgroup cgroup rw,{controller}\n")
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "mountinfo").write_text("".join(lines))
    (tmp_path / "memory" / "slurm" / "uid_7" / "job_42" / "step_0").mkdir(parents=True)
    assert list(SlurmCgroups(str(tmp_path)).collect()) == ["42"]


def test_a_job_removed_during_listing_is_no_failure(slurm, monkeypatch):
    slurm.job(17, 10)
    monkeypatch.setattr(os.path, "isdir", lambda _: False)
    slurm.host.look()
    assert slurm.states("processes") == {"processes": (True, "")}


def test_a_user_cannot_name_the_job_of_another_one(slurm):
    slurm.begin(SLUID, 10)
    slurm.member(10, SLUID)
    (slurm.host.proc.root / "10" / "cmdline").write_bytes(b"slurmstepd: [42.0]")
    slurm.host.look()
    assert slurm.host.running() == {SLUID}


def test_a_job_with_a_sluid_has_the_id_in_its_job_file(slurm):
    slurm.write(42, gpus="GPU-1", sluid=SLUID)
    slurm.begin(SLUID, 10, used_us=20_000)
    slurm.member(10, SLUID)
    assert slurm.host.look() == {"42": 2}
    assert held(slurm.host) == {("GPU-1", "42", ""): None}


def test_a_job_with_a_sluid_is_named_by_a_members_environment(slurm):
    slurm.begin(SLUID, 10)
    slurm.member(10, SLUID, f"SLURM_JOB_ID=42 SLURM_JOB_SLUID={SLUID}")
    slurm.host.look()
    assert slurm.host.running() == {"42"}


@pytest.mark.parametrize(
    "environment",
    [
        # task.c of slurmstepd tells each component the id of the first one
        "SLURM_JOB_ID=42 SLURM_HET_SIZE=2",
        "SLURM_JOB_ID=42 SLURM_JOB_SLUID=sEKNKTV3WPV500",
        "SLURM_JOB_ID=forty",
    ],
)
def test_a_job_is_not_named_by_the_id_of_another_one(slurm, environment):
    slurm.begin(SLUID, 10)
    slurm.member(10, SLUID, environment)
    slurm.host.look()
    assert slurm.host.running() == {SLUID}


def test_a_job_without_a_known_id_is_a_run_named_by_its_sluid_and_is_reported(slurm):
    slurm.begin(SLUID, 10, used_us=20_000)
    slurm.member(10, SLUID)
    assert slurm.host.look() == {SLUID: 2}
    is_ok, why = slurm.states()["jobs"]
    assert not is_ok
    assert SLUID in why
    assert "prolog.sh" in why


@pytest.mark.parametrize("restarted", [False, True])
def test_a_job_with_a_late_id_remains_one_run(slurm, restarted):
    slurm.begin(SLUID, 10, used_us=20_000)
    slurm.member(10, SLUID)
    slurm.host.look()
    slurm.write(42, gpus="GPU-1", sluid=SLUID, name="train", account="physics")
    if restarted:
        slurm.host.restart()
    slurm.member(11, SLUID, "SLURM_JOB_ID=42")
    slurm.begin(SLUID, 10, 11, used_us=50_000)
    assert slurm.host.look() == {SLUID: 3}
    run = slurm.run(SLUID)
    assert (run.name, run.account, dict(run.labels)) == ("train", "physics", {"slurm_job": "42"})
    assert held(slurm.host) == {("GPU-1", SLUID, ""): None}
    assert slurm.states() == {"jobs": (True, "")}


def test_two_jobs_with_the_same_claimed_id_are_two_runs(slurm):
    later = "s5K1KKYAYG5D01"
    for number, name in enumerate((SLUID, later), 10):
        slurm.begin(name, number)
        slurm.member(number, name, "SLURM_JOB_ID=42")
        slurm.host.look()
    assert slurm.host.running() == {"42", later}


def test_components_of_a_heterogeneous_job_are_runs_of_their_own(slurm):
    for number, job_id in enumerate((42, 43), 10):
        path = slurm.job(job_id, number)
        environment = "SLURM_JOB_ID=42 SLURM_HET_SIZE=2 SLURM_JOB_NAME=train"
        slurm.host.proc.process(number, uid=7, cgroup=path, environment=environment)
        slurm.owned(number, 7)
    slurm.host.look()
    slurm.job(43, 11, used_us=30_000)
    assert slurm.host.look() == {"42": 0, "43": 3}


@pytest.mark.parametrize(
    "scope",
    [
        "slurmstepd.scope",
        "slurm.slice/slurmstepd.scope",
        "user.slice/slurmstepd.scope",
        "a.slice/a-b.slice/node1_slurmstepd.scope",
        "a.slice/a-b.slice/a-b-c.slice/a-b-c-d.slice/slurmstepd.scope",
    ],
)
@pytest.mark.parametrize("name", ["job_42", SLUID])
def test_a_job_is_found_in_any_slice(host, tmp_path, scope, name):
    host.jobs.mkdir()
    mount = tmp_path / "cgroup"
    mount.mkdir()
    (host.proc.root / "self" / "mountinfo").write_text(
        f"30 24 0:26 / {mount} rw - cgroup2 cgroup2 rw\n"
    )
    slurm = Slurm(host, mount)
    slurm.write(42, sluid=SLUID)
    slurm.begin(name, 10, scope=scope)
    host.proc.process(10, uid=7, cgroup=f"/{scope}/{name}/step_0/user/task_0")
    host.look()
    slurm.begin(name, 10, scope=scope, used_us=20_000)
    assert host.look() == {"42": 2}


def test_the_user_of_a_job_is_not_the_user_of_slurmstepd(slurm):
    slurm.stepd("job_17", 9, b"slurmstepd: [17.extern]", "step_extern")
    slurm.begin("job_17", 9, step="step_extern/slurm")
    slurm.host.look()
    assert slurm.host.running() == set()
    slurm.job(17, 10)
    slurm.member(10, "job_17")
    slurm.host.look()
    assert slurm.run(17).key.uid == 7


def test_a_job_of_root_is_a_run(slurm):
    slurm.job(17, 10)
    slurm.member(10, "job_17", uid=0)
    slurm.host.look()
    assert slurm.run(17).key.uid == 0


@pytest.mark.parametrize("seconds", [1, 300, 602, 86_400])
def test_a_job_of_which_no_process_was_ever_seen_stays_until_its_epilog(slurm, seconds):
    slurm.write(17, gpus="GPU-1")
    slurm.host.look()
    slurm.host.clock.advance(seconds)
    slurm.host.look()
    assert held(slurm.host) == {("GPU-1", "17", ""): None}
    assert slurm.run(17).ended is None
    (slurm.host.jobs / "17").unlink()
    slurm.host.look()
    assert slurm.run(17).end_reason == "exited"


def test_a_job_with_processes_found_by_environment_lasts_as_long_as_they_do(slurm):
    slurm.write(17, gpus="GPU-1")
    slurm.host.proc.process(10, uid=7, environment="SLURM_JOB_ID=17")
    slurm.host.look()
    slurm.host.start(10, "bert", uid=7)
    for _ in range(3):
        slurm.host.clock.advance(601)
        slurm.host.look()
        assert slurm.run(17).ended is None
    slurm.host.proc.gone(10)
    slurm.host.look()
    assert slurm.run(17).ended is None
    slurm.host.clock.advance(601)
    slurm.host.look()
    assert slurm.run(17).ended is not None


def test_a_job_whose_processes_exited_while_no_daemon_ran_ends(slurm):
    slurm.write(17, gpus="GPU-1")
    slurm.write(18, gpus="GPU-2")
    slurm.job(17, 10, used_us=20_000)
    slurm.host.look()
    slurm.end(17)
    slurm.host.restart()
    slurm.host.look()
    assert slurm.run(17).ended is None
    slurm.host.clock.advance(601)
    slurm.host.look()
    assert slurm.run(17).ended is not None
    slurm.host.look()
    assert held(slurm.host) == {("GPU-2", "18", ""): None}


def test_a_late_job_file_is_added_to_the_job(slurm):
    slurm.job(17, 10)
    slurm.member(10, "job_17")
    slurm.host.look()
    slurm.write(17, name="train", account="physics", nodes=2)
    slurm.host.look()
    run = slurm.run(17)
    assert (run.name, run.account, run.nodes) == ("train", "physics", 2)


def test_a_step_after_a_long_pause_continues_the_job(slurm):
    slurm.write(17, gpus="GPU-1")
    slurm.job(17, 10)
    slurm.host.look()
    slurm.end(17)
    slurm.host.clock.advance(599)
    slurm.host.look()
    slurm.job(17, 11)
    for _ in range(2):
        slurm.host.clock.advance(601)
        slurm.host.look()
        assert held(slurm.host) == {("GPU-1", "17", ""): None}


def test_a_job_without_processes_ends_after_its_time_limit(slurm):
    limit = int(slurm.host.clock.wall()) + 3600
    slurm.write(17, gpus="GPU-1", end_time=limit)
    slurm.write(18, gpus="GPU-2", end_time=limit)
    slurm.job(18, 10)
    slurm.host.clock.advance(4100)
    slurm.host.look()
    assert slurm.run(17).ended is None
    slurm.host.clock.advance(200)
    slurm.host.look()
    assert slurm.run(17).ended is not None
    assert slurm.run(18).ended is None


def test_job_files_from_before_a_reboot_are_ignored(host):
    kernel = host.proc.root / "sys" / "kernel" / "random"
    kernel.mkdir(parents=True)
    (kernel / "boot_id").write_text("now\n")
    host.jobs.mkdir()
    for job_id, boot_id in ((17, "before"), (18, "now"), (19, "")):
        (host.jobs / str(job_id)).write_text(f"job_id={job_id}\nuid=7\nboot_id={boot_id}\n")
    host.begin()
    host.look()
    assert host.running() == {"18", "19"}


def test_cgroups_that_cannot_be_listed_now_end_no_job(slurm, monkeypatch):
    slurm.job(17, 10)
    slurm.member(10, "job_17")
    slurm.host.look()
    listdir = os.listdir

    def fail(path="."):
        if str(path).endswith(SCOPE):
            raise PermissionError(13, "Permission denied", path)
        return listdir(path)

    monkeypatch.setattr(os, "listdir", fail)
    slurm.host.look()
    assert slurm.run(17).ended is None
    assert not slurm.states()["jobs"][0]
    assert SCOPE in slurm.states()["jobs"][1]


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(5, "EIO")])
def test_a_jobs_directory_that_cannot_be_listed_fails_alone(slurm, monkeypatch, error):
    slurm.write(17, gpus="GPU-1")
    slurm.job(18, 10)
    slurm.member(10, "job_18")
    slurm.host.look()
    slurm.write(19)
    scandir = os.scandir

    def fail(path):
        if path == str(slurm.host.jobs):
            raise error
        return scandir(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", fail)
        slurm.job(18, 10, used_us=20_000)
        assert slurm.host.look() == {"17": 0, "18": 2}
        states = slurm.states("processes", "jobs")
    assert states["processes"] == (True, "")
    is_ok, why = states["jobs"]
    assert not is_ok
    assert str(slurm.host.jobs) in why
    assert error.strerror in why
    assert "attribute.jobs_directory" in why
    slurm.host.look()
    assert slurm.states() == {"jobs": (True, "")}
    assert slurm.host.running() == {"17", "18", "19"}


def test_a_cgroup_that_cannot_be_read_now_is_not_empty(slurm):
    slurm.job(17, 10)
    slurm.member(10, "job_17")
    slurm.host.look()
    events = slurm.mount / SCOPE / "job_17" / "cgroup.events"
    events.unlink()
    events.mkdir()  # reading it fails
    for _ in range(6):
        slurm.host.look()
    assert slurm.run(17).ended is None


def test_a_jobs_directory_that_is_a_file_fails_alone(host):
    host.jobs.write_text("")
    host.proc.process(10, environment="EMISSIONS_RUN_ID=bert")
    assert host.look() == {"bert": 0}
    states = {state.name: state for state in host.workload_collector.states()}
    assert states["processes"].ok
    assert not states["jobs"].ok
    assert f"{host.jobs}: Not a directory" in states["jobs"].why


def test_a_node_without_jobs_of_a_scheduler_has_no_collector_of_them(host):
    host.look()
    assert "jobs" not in {state.name for state in host.workload_collector.states()}


def test_the_first_job_of_a_user_has_the_users_name_once_it_is_known(slurm):
    names = {7: ""}
    slurm.host.name_of = names.__getitem__
    slurm.job(17, 10)
    slurm.member(10, "job_17")
    slurm.host.look()
    assert slurm.run(17).user == ""
    names[7] = "ada"
    slurm.host.restart()
    slurm.host.look()
    assert (slurm.run(17).user, slurm.run(17).owner) == ("ada", None)


@pytest.fixture
def written(slurm):
    """Writes a job file at the time of the host's clock."""

    def write(job_id, **more):
        slurm.write(job_id, **more)
        now = slurm.host.clock.wall()
        os.utime(slurm.host.jobs / str(job_id), (now, now))

    return write


def test_a_job_without_cgroup_and_process_is_reported_after_a_minute(slurm, written):
    written(2, gpus="GPU-1")
    slurm.host.look()
    slurm.host.clock.advance(57)
    slurm.host.look()
    assert slurm.states() == {"jobs": (True, "")}
    slurm.host.clock.advance(1)
    slurm.host.look()
    is_ok, why = slurm.states()["jobs"]
    assert is_ok
    assert why.startswith("has no cgroup and no visible process: job 2; ")
    assert held(slurm.host) == {("GPU-1", "2", ""): None}
    (slurm.host.jobs / "2").unlink()
    slurm.host.look()
    assert slurm.states().get("jobs", (True, ""))[1] == ""


def test_a_job_that_was_seen_once_is_not_reported(slurm, written):
    written(2)
    written(3)
    written(4)
    slurm.job(3, 10, used_us=20_000)
    slurm.host.proc.process(11, uid=7, environment="SLURM_JOB_ID=4")
    slurm.host.look()
    slurm.host.start(11, "bert", uid=7)
    slurm.host.look()
    slurm.end(3)
    slurm.host.proc.gone(11)
    slurm.host.clock.advance(120)
    slurm.host.look()
    assert ": job 2; " in slurm.states()["jobs"][1]
    slurm.job(2, 12, used_us=0)
    slurm.host.look()
    assert slurm.states()["jobs"] == (True, "")


def test_unseen_jobs_beyond_the_limit_are_counted(slurm, written):
    for job_id in range(10, 20):
        written(job_id)
    slurm.host.look()
    slurm.host.clock.advance(60)
    slurm.host.look()
    assert ": job 10, 11, 12, 13, 14, 15, 16, 17 and 2 more; " in slurm.states()["jobs"][1]
