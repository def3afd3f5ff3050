"""CPU time of process trees is counted once, children included."""

import os

from exporter.attribute.sources.process_table import ProcessTable
from exporter.model.runs import RunKey

RUN = RunKey(0, "r", "")
TICK_US = 10_000


def table(proc, max_files: int = 100) -> ProcessTable:
    return ProcessTable(str(proc.root), max_files, read_environments=True)


def inherit(process, parent):
    return parent.run if parent else None


def owned(proc, **lead) -> ProcessTable:
    """A table with process 10 in RUN."""
    proc.process(10, **lead)
    processes = table(proc)
    processes.refresh(inherit)
    processes.assign([processes.find(10)], RUN)
    return processes


def count(processes: ProcessTable) -> int:
    processes.refresh(inherit)
    return processes.count().get(RUN, 0) // TICK_US


def test_what_was_used_before_the_run_began_is_not_counted(proc):
    processes = owned(proc, own=500, children=300)
    assert count(processes) == 0
    proc.process(10, own=507, children=300)
    assert count(processes) == 7


def test_a_child_of_a_run_is_counted_from_its_start(proc):
    processes = owned(proc)
    proc.process(11, ppid=10, start=200, own=4)
    assert count(processes) == 4


def test_a_child_that_was_never_seen_is_counted_when_it_was_waited_for(proc):
    processes = owned(proc)
    proc.process(10, own=1, children=50)
    assert count(processes) == 51


def test_a_child_that_was_seen_is_not_counted_again_when_it_was_waited_for(proc):
    processes = owned(proc)
    proc.process(11, ppid=10, start=200, own=40)
    assert count(processes) == 40
    proc.gone(11)
    proc.process(10, children=45)
    assert count(processes) == 5


def test_a_subtree_that_ends_between_two_ticks_is_not_counted_again(proc):
    processes = owned(proc)
    proc.process(11, ppid=10, start=200, own=3)
    proc.process(12, ppid=11, start=300, own=40)
    assert count(processes) == 43
    proc.gone(12)
    proc.gone(11)
    proc.process(10, children=44)
    assert count(processes) == 1


def test_cpu_time_of_children_before_the_run_makes_no_debt(proc):
    proc.process(10)
    proc.process(11, ppid=10, start=200, own=50)
    processes = table(proc)
    processes.refresh(lambda process, parent: RUN if process.pid == 11 else None)
    processes.count()
    proc.gone(11)
    proc.process(10, children=50)
    processes.refresh(inherit)
    processes.count()
    processes.assign([processes.find(10)], RUN)
    proc.process(10, children=60)
    assert count(processes) == 10


def test_time_that_no_process_of_a_run_waited_for_is_dropped(proc):
    processes = owned(proc)
    proc.process(11, ppid=10, start=200, own=40)
    assert count(processes) == 40
    proc.gone(11)
    assert count(processes) == 0
    proc.process(10, children=45)
    assert count(processes) == 45


def test_a_failed_read_does_not_make_a_process_new(proc, monkeypatch):
    processes = owned(proc, own=9)

    def refuse(*_):
        raise OSError(12, "Cannot allocate memory")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", refuse)
        assert count(processes) == 0
    assert count(processes) == 0


def test_a_reused_pid_is_another_process(proc):
    processes = owned(proc)
    proc.gone(10)
    proc.process(10, start=999, own=77)
    assert count(processes) == 0


def test_an_orphan_stays_in_its_run(proc):
    processes = owned(proc)
    proc.process(11, ppid=10, start=200)
    count(processes)
    proc.gone(10)
    proc.process(11, ppid=1, start=200, own=9)
    assert count(processes) == 9


def test_a_process_with_parentheses_in_its_name_is_read_right(proc):
    processes = owned(proc, own=3)
    proc.process(10, own=8)
    assert count(processes) == 5


def test_without_file_handles_left_it_still_counts(proc):
    proc.process(10)
    processes = table(proc, max_files=0)
    processes.refresh(inherit)
    processes.assign([processes.find(10)], RUN)
    proc.process(10, own=6)
    assert count(processes) == 6


def test_memory_is_the_sum_of_anonymous_and_the_largest_shared(proc):
    processes = owned(proc, anonymous_kb=10, shared_kb=5)
    proc.process(11, ppid=10, start=200, anonymous_kb=20, shared_kb=8)
    count(processes)
    assert processes.memory_by_run() == {RUN: (10 + 20 + 8) * 1024}


def test_the_memory_of_many_processes_is_read_a_part_at_a_time(proc):
    processes = owned(proc, anonymous_kb=1)
    for pid in range(11, 50):
        proc.process(pid, ppid=10, start=200, anonymous_kb=100)
    proc.process(10, anonymous_kb=100)
    count(processes)
    assert processes.memory_by_run() == {RUN: 4000 * 1024}
    for pid in range(10, 50):
        proc.process(pid, start=100 if pid == 10 else 200, anonymous_kb=200)
    count(processes)
    sums = [processes.memory_by_run()[RUN] // 1024 for _ in range(10)]
    assert sums == [4400, 4800, 5200, 5600, 6000, 6400, 6800, 7200, 7600, 8000]


def test_memory_is_not_read_again_while_the_resident_size_stays(proc):
    processes = owned(proc, anonymous_kb=100)
    count(processes)
    assert processes.memory_by_run() == {RUN: 100 * 1024}
    (proc.root / "10" / "status").unlink()
    count(processes)
    assert processes.memory_by_run() == {RUN: 100 * 1024}
    proc.process(10, anonymous_kb=300)
    count(processes)
    assert processes.memory_by_run() == {RUN: 300 * 1024}


def test_a_pid_reused_between_identical_listings_is_detected(proc):
    processes = owned(proc)
    proc.process(11, ppid=10, start=200, own=40)
    assert count(processes) == 40
    proc.gone(11)
    proc.process(11, ppid=10, start=900, own=3)
    assert count(processes) == 0
    assert count(processes) == 3


def test_a_process_that_could_not_be_read_when_first_listed_is_found_later(proc):
    processes = owned(proc)
    (proc.root / "11").mkdir()
    assert count(processes) == 0
    proc.process(11, ppid=10, start=200, own=4)
    assert count(processes) == 4


def test_only_young_processes_of_the_first_refresh_are_checked_for_exec(proc):
    seen = []
    for pid, start in ((10, 100), (11, 900), (12, 950)):
        proc.process(pid, start=start)
    processes = table(proc)
    processes.refresh(inherit)
    for pid, start in ((10, 100), (11, 900), (12, 950)):
        proc.process(pid, start=start, environment="EMISSIONS_RUN_ID=late")
    processes.refresh(lambda process, parent: seen.append(process.pid))
    assert sorted(seen) == [11, 12]


def test_the_user_of_a_claim_is_the_real_user_and_not_the_owner_of_the_file(proc):
    proc.process(10, environment="EMISSIONS_RUN_ID=r", uid=1000)
    processes = table(proc)
    processes.refresh(inherit)
    assert (proc.root / "10" / "environ").stat().st_uid != 1000
    assert processes.find(10).uid == 1000


def test_a_later_process_with_the_pid_of_a_parent_is_not_the_parent(proc):
    proc.process(11, ppid=10, start=200)
    proc.process(10, ppid=1, start=900)
    processes = table(proc)
    processes.refresh(inherit)
    assert processes.parent(processes.find(11)) is None


def test_an_environment_that_changes_by_exec_is_seen(proc):
    seen = []

    def assign_run(process, parent):
        seen.append(process.claim.run_id if process.claim else None)

    proc.process(10)
    processes = table(proc)
    processes.refresh(assign_run)
    proc.process(10, environment="EMISSIONS_RUN_ID=late")
    processes.refresh(assign_run)
    processes.refresh(assign_run)
    assert seen == [None, "late"]
