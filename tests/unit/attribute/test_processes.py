"""CPU time of process trees is counted once, children included."""

from exporter.attribute.sources.processes import ProcessTable
from exporter.model.runs import RunKey

RUN = RunKey(0, "r", "")
TICK_US = 10_000


def table(proc, max_files: int = 100) -> ProcessTable:
    return ProcessTable(str(proc.root), max_files, read_environments=True)


def inherit(process, parent):
    return parent.run if parent else None


def owned(proc, **lead) -> ProcessTable:
    """A table whose process 10 belongs to RUN from now on."""
    proc.process(10, **lead)
    processes = table(proc)
    processes.refresh(inherit)
    processes.own(processes.find(10), RUN)
    return processes


def count(processes: ProcessTable) -> int:
    processes.refresh(inherit)
    return processes.count().get(RUN, 0) // TICK_US


def test_what_was_used_before_the_run_began_is_not_counted(proc):
    processes = owned(proc, own=500, children=300)
    assert count(processes) == 0
    proc.process(10, own=507, children=300)
    assert count(processes) == 7


def test_a_child_born_in_the_run_belongs_to_it_with_all_that_it_used(proc):
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


def test_a_child_that_is_waited_for_late_is_still_counted_once(proc):
    processes = owned(proc)
    proc.process(11, ppid=10, start=200, own=40)
    assert count(processes) == 40
    proc.gone(11)
    assert count(processes) == 0
    proc.process(10, children=45)
    assert count(processes) == 5


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
    processes.own(processes.find(10), RUN)
    proc.process(10, own=6)
    assert count(processes) == 6


def test_memory_is_the_sum_of_anonymous_and_the_largest_shared(proc):
    processes = owned(proc, anonymous_kb=10, shared_kb=5)
    proc.process(11, ppid=10, start=200, anonymous_kb=20, shared_kb=8)
    count(processes)
    assert processes.memories() == {RUN: (10 + 20 + 8) * 1024}


def test_an_environment_that_changes_by_exec_is_seen(proc):
    seen = []

    def adopt(process, parent):
        seen.append(process.claim.run_id if process.claim else None)

    proc.process(10)
    processes = table(proc)
    processes.refresh(adopt)
    proc.process(10, environment="EMISSIONS_RUN_ID=late")
    processes.refresh(adopt)
    processes.refresh(adopt)
    assert seen == [None, "late"]
