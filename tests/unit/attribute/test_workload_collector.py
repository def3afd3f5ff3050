"""Usage of runs, also from the time without a daemon."""

import pytest

from exporter.attribute.identity import RunClaim
from exporter.attribute.sources.process_table import ProcessTable
from exporter.errors import RequestRefused
from exporter.model.commands import EndRun
from exporter.model.ledger import HostCpuTime, RunCpuTime
from exporter.model.runs import RunKey
from tests.unit.attribute.conftest import Host

TICK_US = 10_000


def test_a_registered_tree_is_charged_from_its_start_on(host):
    host.proc.process(10, own=100)
    host.proc.process(11, ppid=10, start=101, own=50)
    host.look()
    host.start(10, "a")
    host.proc.process(10, own=103)
    host.proc.process(11, ppid=10, start=101, own=54)
    assert host.look() == {"a": 7}


def test_the_memory_of_a_new_run_is_read_immediately(host):
    host.proc.process(10, anonymous_kb=7)
    host.look()
    host.start(10, "a")
    host.look()
    assert [usage.memory_bytes for usage in host.workload.usage] == [7 * 1024]


def test_the_daemons_own_environment_makes_the_whole_machine_one_run(host):
    host.begin(claim=RunClaim("job-7", "job-7"))
    host.look()
    assert host.workload.machine_owner is not None
    assert host.workload.machine_owner.run_id == "job-7"
    with pytest.raises(RequestRefused, match="owns the machine"):
        host.workload_collector.end(EndRun(host.workload.machine_owner.uid, "job-7"))


def test_after_a_restart_a_run_is_charged_its_cpu_time_meanwhile(host):
    host.proc.process(10)
    host.look()
    run = host.start(10, "a")
    host.proc.process(10, own=20)
    host.proc.machine(20, 80)
    host.look()
    left = host.workload_collector.run_cpu(), host.workload_collector.machine_cpu()
    host.proc.process(10, own=50, children=5)
    host.proc.machine(40, 60)
    host.begin([run], *left)
    assert host.look() == {"a": 35}
    assert host.workload.machine is not None
    assert host.workload.machine.busy_us == 40 * TICK_US


def test_after_a_restart_without_a_journal_nothing_is_charged_for_the_absence(host):
    host.proc.process(10, own=50)
    host.begin([])
    host.look()
    host.start(10, "a")
    assert host.look() == {"a": 0}


def test_a_lead_whose_pid_was_reused_is_not_taken_for_the_run(host):
    host.proc.process(10, start=100)
    host.look()
    run = host.start(10, "a")
    host.proc.gone(10)
    host.proc.process(10, start=900)
    host.begin([run], [RunCpuTime(run.key, 0)], HostCpuTime(0, 0))
    host.look()
    assert host.run_registry.running() == []


def test_an_unreadable_proc_is_reported_and_ends_no_run(host):
    host.proc.process(10)
    host.look()
    host.start(10, "a")
    hidden = host.proc.root.with_name("hidden")
    host.proc.root.rename(hidden)
    host.look()
    assert [state.ok for state in host.workload_collector.states()] == [False, False]
    assert host.run_registry.is_open(RunKey(1, "a", ""))
    hidden.rename(host.proc.root)


def test_usage_before_a_restart_is_counted_once(host):
    host.proc.process(10)
    host.look()
    host.start(10, "a")
    host.proc.process(10, own=20)
    host.look()
    host.restart()
    host.proc.process(10, own=50)
    table = host.workload_collector._processes
    refresh = table.refresh

    def slow(assign_run):
        refresh(assign_run)
        host.proc.process(10, own=53)

    table.refresh = slow
    assert host.look() == {"a": 33}


def test_an_inner_run_that_ended_in_the_absence_is_not_charged_to_the_outer_again(host):
    host.proc.process(10)
    host.proc.process(11, ppid=10, start=101)
    host.look()
    host.start(10, "outer")
    host.start(11, "inner")
    host.proc.process(11, ppid=10, start=101, own=40)
    assert host.look() == {"outer": 0, "inner": 40}
    host.restart()
    host.proc.gone(11)
    host.proc.process(10, own=3, children=42)
    assert host.look() == {"outer": 5, "inner": 0}


def test_a_run_that_exited_while_no_daemon_ran_ends_at_the_last_journal_write(host):
    host.proc.process(10)
    host.look()
    run = host.start(10, "a")
    host.look()
    left = host.clock.wall()
    host.restart(absent_seconds=3600)
    host.proc.gone(10)
    host.look()
    ended = host.run_registry.get(run.key)
    assert (ended.ended, ended.end_reason) == (left, "exited")


def test_a_run_that_ends_after_a_restart_ends_now(host):
    host.proc.process(10)
    host.look()
    run = host.start(10, "a")
    host.restart(absent_seconds=3600)
    host.look()
    host.proc.gone(10)
    host.look()
    assert host.run_registry.get(run.key).ended == host.clock.wall()


def test_the_runs_of_the_journal_stay_in_place_when_a_process_exits(host):
    host.proc.process(10)
    host.proc.process(11, ppid=10, start=101)
    host.look()
    host.start(10, "outer")
    host.start(11, "inner")
    host.look()
    before = [seen.run for seen in host.workload_collector.run_cpu()]
    host.proc.gone(10)
    host.look()
    assert [seen.run for seen in host.workload_collector.run_cpu()] == before


def test_invalid_host_clocks_are_reported(host):
    (host.proc.root / "stat").write_text("nonsense\n")
    host.look()
    assert [state.ok for state in host.workload_collector.states()] == [True, False]


def test_the_note_names_no_capabilities_that_root_has(proc, clock, monkeypatch):
    monkeypatch.setattr(ProcessTable, "hidden_environments", lambda _: 3)
    (proc.root / "self").mkdir(exist_ok=True)
    (proc.root / "self" / "status").write_text("CapEff:\t000001ffffffffff\n")
    host = Host(proc, clock)
    host.look()
    (why,) = [state.why for state in host.workload_collector.states() if state.name == "processes"]
    assert "read the environments of 3 processes" in why
    assert "CAP_" not in why
    assert "another user namespace" in why


def test_the_note_names_the_missing_capabilities(host, monkeypatch):
    monkeypatch.setattr(ProcessTable, "hidden_environments", lambda _: 3)
    host.look()
    (why,) = [state.why for state in host.workload_collector.states() if state.name == "processes"]
    assert why.endswith("To read them, grant the daemon CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH")
