"""Which process belongs to which run, and what the runs used."""

import pytest

from exporter.attribute.identity import Claim
from exporter.attribute.runbook import Runbook
from exporter.attribute.sources.machine import MachineTotals
from exporter.attribute.sources.processes import ProcessTable
from exporter.attribute.witness import LiveWitness
from exporter.errors import Refused
from exporter.model.books import MachineCpu, RunCpu
from exporter.model.commands import End, Start
from exporter.model.runs import RunKey

TICK_US = 10_000


class Host:
    """A witness over a made-up machine; settings of a second one stand for a restart."""

    def __init__(self, proc, clock) -> None:
        self.proc = proc
        self.clock = clock
        self.restart()

    def restart(self, runs=(), run_cpu=(), machine_cpu=None, claim=None) -> None:
        self.runbook = Runbook(runs, 100)
        self.witness = LiveWitness(
            runbook=self.runbook,
            processes=ProcessTable(str(self.proc.root), 100, read_environments=True),
            machine=MachineTotals(str(self.proc.root), machine_cpu),
            procfs=str(self.proc.root),
            clock=self.clock,
            user_name=lambda uid: f"user{uid}",
            claim=claim,
            run_cpu=tuple(run_cpu),
        )

    def look(self) -> dict[str, int]:
        self.clock.advance(1)
        self.sighting = self.witness.look()
        return {usage.run.run_id: usage.cpu_us // TICK_US for usage in self.sighting.usage}

    def start(self, pid: int, run_id: str, uid: int = 1, **more):
        return self.witness.start(Start(uid, "ada", pid, run_id, **more))


@pytest.fixture
def host(proc, clock) -> Host:
    return Host(proc, clock)


def test_a_registered_tree_is_charged_from_its_start_on(host):
    host.proc.process(10, own=100)
    host.proc.process(11, ppid=10, start=101, own=50)
    host.look()
    host.start(10, "a")
    host.proc.process(10, own=103)
    host.proc.process(11, ppid=10, start=101, own=54)
    assert host.look() == {"a": 7}


def test_the_memory_of_a_new_run_is_looked_at_at_once(host):
    host.proc.process(10, anonymous_kb=7)
    host.look()
    host.start(10, "a")
    host.look()
    assert [usage.memory_bytes for usage in host.sighting.usage] == [7 * 1024]


def test_the_innermost_run_wins_and_gives_back_when_it_ends(host):
    host.proc.process(10)
    host.proc.process(11, ppid=10, start=101)
    host.look()
    host.start(10, "outer")
    host.start(11, "inner")
    host.proc.process(11, ppid=10, start=101, own=5)
    assert host.look() == {"outer": 0, "inner": 5}
    host.witness.end(End(1, "inner"))
    host.proc.process(11, ppid=10, start=101, own=8)
    assert host.look() == {"outer": 3}


def test_a_process_that_names_its_run_in_its_environment_is_that_run(host):
    host.proc.process(10, environment="EMISSIONS_RUN_ID=e EMISSIONS_JOB_ID=j")
    host.proc.process(11, ppid=10, start=101, environment="EMISSIONS_RUN_ID=e EMISSIONS_JOB_ID=j")
    host.look()
    host.proc.process(11, ppid=10, start=101, own=4)
    assert host.look() == {"e": 4}
    assert [run.origin for run in host.runbook.running()] == ["environment"]


def test_a_child_of_a_registered_run_that_carries_its_id_stays_in_it(host):
    host.proc.process(10)
    host.look()
    host.start(10, "a", job_id="j")
    host.proc.process(11, ppid=10, start=101, own=2, environment="EMISSIONS_RUN_ID=a")
    assert host.look() == {"a": 2}
    assert len(host.runbook.running()) == 1


def test_a_run_ends_when_its_last_process_is_gone(host):
    host.proc.process(10)
    host.look()
    host.start(10, "a")
    host.proc.gone(10)
    host.look()
    assert [run.end_reason for run in host.runbook.shown()] == ["exited"]


def test_the_daemons_own_environment_makes_the_whole_machine_one_run(host):
    host.restart(claim=Claim("job-7", "job-7"))
    host.look()
    assert host.sighting.holder is not None
    assert host.sighting.holder.run_id == "job-7"
    with pytest.raises(Refused, match="owns the machine"):
        host.witness.end(End(host.sighting.holder.uid, "job-7"))


def test_after_a_restart_a_run_is_charged_what_it_provably_used_meanwhile(host):
    host.proc.process(10)
    host.look()
    run = host.start(10, "a")
    host.proc.process(10, own=20)
    host.proc.machine(20, 80)
    host.look()
    left = host.witness.run_cpu(), host.witness.machine_cpu()
    host.proc.process(10, own=50, children=5)
    host.proc.machine(40, 60)
    host.restart([run], *left)
    assert host.look() == {"a": 35}
    assert host.sighting.machine is not None
    assert host.sighting.machine.busy_us == 40 * TICK_US


def test_after_a_restart_without_a_journal_nothing_is_charged_for_the_absence(host):
    host.proc.process(10, own=50)
    host.restart([])
    host.look()
    host.start(10, "a")
    assert host.look() == {"a": 0}


def test_a_lead_whose_pid_was_reused_is_not_taken_for_the_run(host):
    host.proc.process(10, start=100)
    host.look()
    run = host.start(10, "a")
    host.proc.gone(10)
    host.proc.process(10, start=900)
    host.restart([run], [RunCpu(run.key, 0)], MachineCpu(0, 0))
    host.look()
    assert host.runbook.running() == []


def test_a_process_that_is_not_there_is_refused_with_the_remedy(host):
    host.look()
    with pytest.raises(Refused, match="process namespace"):
        host.start(4711, "a")


def test_the_reserved_id_is_refused(host):
    host.proc.process(10)
    host.look()
    with pytest.raises(Refused, match="reserved"):
        host.start(10, "other")


def test_a_run_without_an_id_is_given_one(host):
    host.proc.process(10)
    host.look()
    assert host.start(10, "").key.run_id.endswith("-10")


def test_only_the_own_user_or_root_can_end_a_run(host):
    host.proc.process(10)
    host.look()
    host.start(10, "a", uid=1)
    with pytest.raises(Refused, match="no open run"):
        host.witness.end(End(2, "a"))
    assert host.witness.end(End(0, "a")).ended is not None


def test_scope_cgroup_in_the_root_cgroup_is_refused_with_the_remedy(host):
    host.proc.process(10)
    (host.proc.root / "10" / "cgroup").write_text("0::/\n")
    (host.proc.root / "self" / "mountinfo").write_text("1 1 0:1 / /cg rw - cgroup2 none rw\n")
    host.look()
    with pytest.raises(Refused, match="whole machine"):
        host.start(10, "a", scope="cgroup")


@pytest.mark.parametrize("version", [1, 2])
def test_a_cgroup_run_is_charged_its_cgroups_clock_less_that_of_runs_inside(
    host, tmp_path, version
):
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


def test_an_unreadable_proc_is_said_and_ends_no_run(host):
    host.proc.process(10)
    host.look()
    host.start(10, "a")
    hidden = host.proc.root.with_name("hidden")
    host.proc.root.rename(hidden)
    host.look()
    assert [state.ok for state in host.witness.states()] == [False, False]
    assert host.runbook.is_open(RunKey(1, "a", ""))
    hidden.rename(host.proc.root)
