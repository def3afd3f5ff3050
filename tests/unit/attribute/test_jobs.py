"""Jobs of Slurm as runs, with cgroups of version 2; a real Slurm here has those of version 1."""

import pytest

from exporter.attribute.sources.slurm import IN_JOB
from exporter.model.readings import Device, DeviceInfo, Kind, Occupancy, Occupant, Partition

GPU = Device(Kind.GPU, "GPU-1")
SCOPE = "system.slice/node1_slurmstepd.scope"


@pytest.fixture
def slurm(host, tmp_path):
    """A host whose cgroup2 is a made-up tree; jobs are begun and ended in it."""
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
        """Begin a job, or let it have used so much."""
        path = self.mount / SCOPE / f"job_{job_id}"
        step = path / "step_0" / "user" / "task_0"
        step.mkdir(parents=True, exist_ok=True)
        for directory in (path, step):
            (directory / "cpu.stat").write_text(f"usage_usec {used_us}\nuser_usec 0\n")
            (directory / "memory.stat").write_text("anon 1000\nshmem 24\n")
            (directory / "cgroup.events").write_text("populated 1\nfrozen 0\n")
            (directory / "cgroup.procs").write_text("")
        (step / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
        return f"/{SCOPE}/job_{job_id}/step_0/user/task_0"

    def end(self, job_id):
        path = self.mount / SCOPE / f"job_{job_id}"
        path.rename(self.mount / f"gone-{job_id}")

    def write(self, job_id, uid=7, gpus="", **more):
        lines = {"job_id": job_id, "uid": uid, "gpus": gpus, **more}
        text = "".join(f"{name}={value}\n" for name, value in lines.items())
        (self.host.jobs / str(job_id)).write_text(text)

    def run(self, job_id):
        return next(r for r in self.host.runbook.shown() if r.key.run_id == str(job_id))


@pytest.mark.parametrize(
    ("path", "job"),
    [
        ("/slurm/uid_1000/job_17/step_batch/task_0", "17"),
        ("/slurm_node1/uid_0/job_17", "17"),
        ("/system.slice/slurmstepd.scope/job_17/step_0/slurm", "17"),
        ("/system.slice/node1_slurmstepd.scope/job_17/step_extern/user/task_special", "17"),
        ("/../../system.slice/slurmstepd.scope/job_17", "17"),
    ],
)
def test_a_job_is_known_by_the_path_of_its_cgroup(path, job):
    match = IN_JOB.search(path)
    assert match is not None
    assert match["job"] == job


@pytest.mark.parametrize("path", ["/user.slice/job_17", "/slurm/job_17", "/slurmx/uid_1/job_17"])
def test_what_only_looks_like_a_job_is_none(path):
    assert IN_JOB.search(path) is None


def test_a_job_is_a_run_that_pays_by_the_clock_of_its_cgroup(slurm):
    path = slurm.job(17, 10, used_us=20_000)
    slurm.host.proc.process(10, uid=7, cgroup=path)
    assert slurm.host.look() == {"17": 2}
    slurm.job(17, 10, used_us=80_000)
    assert slurm.host.look() == {"17": 6}


def test_a_jobs_user_is_whom_the_prolog_wrote_down(slurm):
    slurm.write(17, uid=1000, user="ada", account="physics", name="train", nodes=2)
    slurm.job(17)
    slurm.host.look()
    run = slurm.run(17)
    assert (run.key, run.user, run.account) == ((1000, "17", "17"), "ada", "physics")
    assert (run.name, run.nodes, run.origin) == ("train", 2, "slurm")


def test_a_job_ends_with_its_cgroup_and_stays_as_it_was(slurm):
    path = slurm.job(17, 10, used_us=20_000)
    slurm.host.proc.process(10, uid=7, cgroup=path)
    slurm.host.look()
    slurm.host.proc.gone(10)
    slurm.end(17)
    slurm.host.look()
    assert slurm.run(17).end_reason == "exited"


def test_a_run_inside_a_job_is_counted_apart_and_keeps_its_job_id(slurm):
    path = slurm.job(17, 10, used_us=0)
    slurm.host.proc.process(10, uid=7, cgroup=path)
    slurm.host.look()
    run = slurm.host.start(10, "bert", uid=7)
    assert run.key.job_id == "17"
    slurm.host.proc.process(10, uid=7, cgroup=path, own=4)
    slurm.job(17, 10, used_us=100_000)
    assert slurm.host.look() == {"bert": 4, "17": 6}


def test_a_job_goes_on_after_a_restart_with_what_it_used_meanwhile(slurm):
    path = slurm.job(17, 10, used_us=20_000)
    slurm.host.proc.process(10, uid=7, cgroup=path)
    slurm.host.look()
    slurm.job(17, 10, used_us=70_000)
    slurm.host.restart(absent_seconds=5)
    assert slurm.host.look() == {"17": 5}
    assert slurm.run(17).ended is None


def held(host):
    return {(h.device.id, h.run.run_id, h.partition): h.until_ns for h in host.sighting.holdings}


def test_a_job_holds_the_gpus_that_it_was_given_though_it_leaves_them_idle(slurm):
    slurm.write(17, gpus="GPU-1,GPU-2")
    slurm.job(17)
    slurm.host.look()
    assert held(slurm.host) == {("GPU-1", "17", ""): None, ("GPU-2", "17", ""): None}


@pytest.mark.parametrize(
    ("written", "gpus"),
    [("0", {"GPU-1"}), ("nvidia0", {"GPU-2"}), ("nvidia1,0", {"GPU-1"}), ("nvidia7", set())],
)
def test_a_number_that_the_prolog_wrote_down_is_found_by_what_it_counts(slurm, written, gpus):
    infos = [
        DeviceInfo(Device(Kind.GPU, uuid), "", "", "nvml", 1.0, ordinal=index, minor=minor)
        for uuid, index, minor in (("GPU-1", "0", 1), ("GPU-2", "1", 0))
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
    look = Occupancy(GPU, slurm.host.clock.boottime_ns(), (Occupant(10),))
    began_ns = slurm.host.clock.boottime_ns() - 1_000_000_000
    slurm.host.look({GPU: look})
    assert held(slurm.host) == {
        ("GPU-1", "17", ""): began_ns,
        ("GPU-1", "bert", ""): None,
        ("GPU-2", "17", ""): None,
    }


def test_what_an_epilog_left_behind_counts_for_ten_minutes_more(slurm):
    slurm.write(17, gpus="GPU-1")
    slurm.job(17)
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
    look = Occupancy(GPU, 1, (), (Partition("MIG-1", 3), Partition("MIG-2", 3)), 7)
    slurm.host.look({GPU: look})
    assert held(slurm.host) == {("GPU-1", "17", "MIG-1"): None}


def test_a_cgroup_that_was_left_behind_empty_is_no_job(slurm):
    slurm.job(17)
    slurm.host.look()
    assert slurm.host.running() == set()


def test_a_job_whose_processes_are_gone_ends_though_its_cgroup_stays(slurm):
    path = slurm.job(17, 10)
    slurm.host.proc.process(10, uid=7, cgroup=path)
    slurm.host.look()
    slurm.host.proc.gone(10)
    slurm.job(17)
    (slurm.mount / SCOPE / "job_17" / "cgroup.events").write_text("populated 0\n")
    for _ in range(6):
        slurm.host.look()
    assert slurm.run(17).ended is not None
