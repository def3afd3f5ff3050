"""Assigning processes to runs, and the start, end and reopening of runs."""

import pytest

from exporter.attribute.run_registry import OTHER_RUN
from exporter.errors import RequestRefused
from exporter.model.commands import EndRun


def test_the_innermost_run_is_charged_until_it_ends(host):
    host.proc.process(10)
    host.proc.process(11, ppid=10, start=101)
    host.look()
    host.start(10, "outer")
    host.start(11, "inner")
    host.proc.process(11, ppid=10, start=101, own=5)
    assert host.look() == {"outer": 0, "inner": 5}
    host.workload_collector.end(EndRun(1, "inner"))
    host.proc.process(11, ppid=10, start=101, own=8)
    assert host.look() == {"outer": 3}


def test_a_process_that_names_its_run_in_its_environment_is_that_run(host):
    host.proc.process(10, environment="EMISSIONS_RUN_ID=e EMISSIONS_JOB_ID=j")
    host.proc.process(11, ppid=10, start=101, environment="EMISSIONS_RUN_ID=e EMISSIONS_JOB_ID=j")
    host.look()
    host.proc.process(11, ppid=10, start=101, own=4)
    assert host.look() == {"e": 4}
    assert [run.origin for run in host.run_registry.running()] == ["environment"]


def test_a_child_of_a_registered_run_that_carries_its_id_stays_in_it(host):
    host.proc.process(10)
    host.look()
    host.start(10, "a", job_id="j")
    host.proc.process(11, ppid=10, start=101, own=2, environment="EMISSIONS_RUN_ID=a")
    assert host.look() == {"a": 2}
    assert len(host.run_registry.running()) == 1


def test_a_run_ends_when_its_last_process_is_gone(host):
    host.proc.process(10)
    host.look()
    host.start(10, "a")
    host.proc.gone(10)
    host.look()
    assert [run.end_reason for run in host.run_registry.visible()] == ["exited"]


def test_a_process_that_is_not_visible_is_refused_with_the_remedy(host):
    host.look()
    with pytest.raises(RequestRefused, match="process namespace"):
        host.start(4711, "a")


def test_the_reserved_id_is_refused(host):
    host.proc.process(10)
    host.look()
    with pytest.raises(RequestRefused, match="reserved"):
        host.start(10, "other")


def test_a_run_without_an_id_is_given_one(host):
    host.proc.process(10)
    host.look()
    assert host.start(10, "").key.run_id.endswith("-10")


def test_generated_ids_of_one_process_and_second_are_different(host):
    host.proc.process(10)
    host.look()
    ids = [host.start(10, "").key.run_id for _ in range(3)]
    assert ids[1:] == [f"{ids[0]}-2", f"{ids[0]}-3"]


def test_only_the_own_user_or_root_can_end_a_run(host):
    host.proc.process(10)
    host.look()
    host.start(10, "a", uid=1)
    with pytest.raises(RequestRefused, match="no open run 'a'"):
        host.workload_collector.end(EndRun(2, "a"))
    assert host.workload_collector.end(EndRun(0, "a")).ended is not None


def test_a_process_returns_to_its_outer_run_when_the_inner_one_ends(host):
    host.proc.process(10)
    host.look()
    host.start(10, "outer")
    host.start(10, "inner")
    host.proc.process(10, own=5)
    assert host.look() == {"outer": 0, "inner": 5}
    host.end("inner", pid=10)
    host.proc.process(10, own=8)
    assert host.look() == {"outer": 3}


def test_both_nested_runs_of_a_process_are_restored_after_a_restart(host):
    host.proc.process(10)
    host.proc.process(11, ppid=10, start=101)
    host.look()
    host.start(10, "outer")
    host.start(10, "inner")
    host.look()
    host.restart()
    host.proc.process(10, own=5)
    host.proc.process(11, ppid=10, start=101, own=2)
    assert host.look() == {"outer": 0, "inner": 7}
    host.end("inner", pid=10)
    host.proc.process(10, own=8)
    assert host.look() == {"outer": 3}
    host.end("outer", pid=10)
    assert host.running() == set()


def test_after_a_restart_processes_return_to_the_outer_run(host):
    host.proc.process(10)
    host.proc.process(11, ppid=10, start=101)
    host.look()
    host.start(10, "outer")
    host.start(11, "inner")
    host.look()
    host.restart()
    host.look()
    host.end("inner")
    host.proc.process(11, ppid=10, start=101, own=8)
    assert host.look() == {"outer": 8}


def test_a_run_stays_open_while_an_inner_run_is_open(host):
    host.proc.process(10)
    host.proc.process(11, ppid=10, start=101)
    host.look()
    host.start(10, "outer")
    host.start(11, "inner")
    host.proc.gone(10)
    host.proc.process(11, ppid=1, start=101)
    host.look()
    assert host.running() == {"outer", "inner"}
    host.proc.gone(11)
    host.look()
    assert host.running() == set()


def test_the_user_of_a_run_is_looked_up_once(host):
    host.proc.process(10, environment="EMISSIONS_RUN_ID=e")
    host.proc.process(11, environment="EMISSIONS_RUN_ID=e", start=101)
    host.look()
    host.look()
    host.start(10, "registered")
    assert host.names_asked == [1]


def test_of_several_leads_each_ends_its_own_part_and_the_last_the_run(host):
    host.proc.process(10)
    host.proc.process(20)
    host.look()
    host.start(10, "a")
    host.start(20, "a")
    assert host.end("a", pid=10).ended is None
    host.proc.process(10, own=5)
    host.proc.process(20, own=7)
    assert host.look() == {"a": 7}
    assert host.end("a", pid=20).end_reason == "ended"


def test_the_part_of_a_lead_inside_the_run_stays_in_it(host):
    host.proc.process(10)
    host.proc.process(11, ppid=10, start=101)
    host.look()
    host.start(10, "a")
    host.start(11, "a")
    assert host.end("a", pid=11).ended is None
    host.proc.process(11, ppid=10, start=101, own=4)
    assert host.look() == {"a": 4}


@pytest.mark.parametrize("pid", [0, 30, 4711])
def test_a_process_that_is_no_lead_ends_the_whole_run(host, pid):
    for lead in (10, 20, 30):
        host.proc.process(lead)
    host.look()
    host.start(10, "a")
    host.start(20, "a")
    assert host.end("a", pid=pid).ended is not None


def test_an_exited_lead_keeps_no_run_open(host):
    host.proc.process(10)
    host.proc.process(20)
    host.look()
    host.start(10, "a")
    host.start(20, "a")
    host.proc.gone(10)
    host.look()
    assert host.end("a", pid=20).ended is not None


@pytest.fixture
def full(host):
    """A host with max_runs of 1 and one run."""
    host.begin(max_runs=1)
    host.proc.process(1)
    host.proc.process(10, ppid=1, start=101)
    host.proc.process(11, ppid=10, start=102)
    host.proc.process(20, ppid=1, start=103)
    host.look()
    host.start(20, "first")
    return host


def used_by_11(host, ticks: int) -> dict[str, int]:
    host.proc.process(11, ppid=10, start=102, own=ticks)
    return host.look()


def test_the_end_of_a_folded_run_removes_its_processes_from_other(full):
    assert full.start(10, "b").key == OTHER_RUN
    assert used_by_11(full, 5) == {"first": 0, "other": 5}
    ended = full.end("other", pid=10)
    assert (ended.key, ended.ended) == (OTHER_RUN, None)
    assert used_by_11(full, 9) == {"first": 0, "other": 0}


def test_the_end_of_a_folded_run_leaves_those_of_others_in_it(full):
    full.start(10, "b")
    full.start(11, "c", uid=2)
    full.end("other", pid=10)
    assert used_by_11(full, 5) == {"first": 0, "other": 5}


def test_the_end_of_a_folded_run_returns_processes_to_the_outer_run(full):
    full.start(20, "b")
    assert full.look() == {"first": 0, "other": 0}
    full.end("other", pid=20)
    full.proc.process(20, ppid=1, start=103, own=6)
    assert full.look() == {"first": 6, "other": 0}


@pytest.mark.parametrize(("uid", "status"), [(1, 404), (0, 409)])
def test_other_cannot_be_ended(full, uid, status):
    full.start(10, "b")
    with pytest.raises(RequestRefused) as refusal:
        full.end("other", uid=uid)
    assert refusal.value.status == status


def test_an_explicitly_ended_run_is_not_reopened_by_its_process(host):
    environment = "EMISSIONS_RUN_ID=e"
    host.proc.process(10, environment=environment)
    host.look()
    host.end("e")
    host.look()
    host.restart()
    assert host.look() == {}
    now = round(host.clock.boottime_ns() / 1e9 * 100) + 1
    host.clock.advance(1)
    host.proc.process(12, start=now, environment=environment)
    assert host.look() == {"e": 0}


def test_an_exited_run_is_reopened_by_its_next_process(host):
    host.proc.process(10, environment="EMISSIONS_RUN_ID=e")
    host.look()
    host.proc.gone(10)
    host.look()
    host.proc.process(11, start=101, environment="EMISSIONS_RUN_ID=e")
    assert host.look() == {"e": 0}


def test_a_process_without_privilege_is_not_taken_for_root(host):
    host.proc.process(10, uid=1000, environment="EMISSIONS_RUN_ID=e")
    host.look()
    assert [run.key.uid for run in host.run_registry.running()] == [1000]


def test_an_unreadable_proc_refuses_a_start_for_now(host):
    hidden = host.proc.root.with_name("hidden")
    host.proc.root.rename(hidden)
    with pytest.raises(RequestRefused, match="try again") as refusal:
        host.start(10, "a")
    assert refusal.value.status == 503
    hidden.rename(host.proc.root)


def test_the_labels_of_a_registration_are_bounded(host):
    host.proc.process(10)
    host.look()
    labels = tuple((f"k{n}", "v" * 100) for n in range(40))
    assert len(host.start(10, "a", labels=labels).labels) == 19


def test_the_first_sample_after_a_restart_names_the_runs_from_before_it(host):
    host.proc.process(10, environment="EMISSIONS_RUN_ID=old")
    host.look()
    host.proc.process(20, environment="EMISSIONS_RUN_ID=new", start=900)
    host.restart(absent_seconds=60)
    host.look()
    assert {usage.run.run_id for usage in host.workload.usage} == {"old", "new"}
    assert {run.run_id for run in host.workload.known_runs} == {"old"}
    host.look()
    assert host.workload.known_runs is None
