"""CPU time of processes is counted once, whatever they do and whenever they are read."""

from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from exporter.attribute.sources import process_table as module
from exporter.attribute.sources.procfs import CpuClocks, Process, settle_cpu_time
from exporter.model.runs import RunKey

RUN = RunKey(0, "r", "")
ROOT = 10
TICK_US = 10_000


class Kernel:
    """Processes that fork, work, exit and wait; the first one waits for orphans.

    It stands in for the files of /proc, and takes the steps of `meanwhile` between any two reads.
    """

    def __init__(self) -> None:
        self.there = {ROOT: Process(ROOT, 1, 1)}
        self.zombies: set[int] = set()
        self.born = ROOT
        self.work = 0
        self.meanwhile = iter(())

    def step(self, verb: str, which: int, ticks: int) -> None:
        alive = [pid for pid in self.there if pid not in self.zombies]
        pid = alive[which % len(alive)]
        process = self.there[pid]
        if verb == "fork":
            self.born += 1
            self.there[self.born] = Process(self.born, self.born, pid)
        elif verb == "work":
            process.own_ticks += ticks
            self.work += ticks
        elif verb == "end" and pid != ROOT:
            self.zombies.add(pid)
            for child in self.there.values():
                if child.ppid == pid:
                    child.ppid = ROOT
        elif verb == "wait":
            self.wait(process)

    def wait(self, process: Process) -> None:
        for pid in sorted(self.zombies):
            if self.there[pid].ppid == process.pid:
                ended = self.there.pop(pid)
                process.ended_ticks += ended.own_ticks + ended.ended_ticks
                self.zombies.remove(pid)
                return

    def interrupt(self) -> None:
        for step in next(self.meanwhile, ()):
            self.step(*step)

    def names(self) -> list[str]:
        return [str(pid) for pid in self.there]

    def discover(self, name: str) -> Process | None:
        self.interrupt()
        known = self.there.get(int(name))
        if known is None:
            return None
        process = Process(known.pid, known.start, known.ppid)
        process.advance(known.own_ticks, known.ended_ticks)
        return process

    def read_claim(self, process: Process) -> None:
        self.interrupt()

    def read_clocks(self, process: Process) -> bool:
        self.interrupt()
        known = self.there.get(process.pid)
        if known is None:
            process.gone = True
            return False
        process.ppid = known.ppid
        process.advance(known.own_ticks, known.ended_ticks)
        return True

    def read_memory(self, process: Process) -> None:
        pass

    def close(self, process: Process) -> None:
        pass


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["fork", "fork", "work", "end", "wait", "wait"]),
        st.integers(0, 9),
        st.integers(1, 50),
    ),
    max_size=12,
)


def counted(table: module.ProcessTable) -> int:
    table.refresh(lambda process, parent: parent.run if parent else None)
    return table.count().get(RUN, 0) // TICK_US


@given(st.lists(st.tuples(STEPS, st.lists(STEPS.map(lambda steps: steps[:2]), max_size=8))))
def test_cpu_time_is_counted_once_in_any_order_of_forks_exits_and_waits(looks):
    kernel = Kernel()
    with patch.object(module, "Procfs", lambda *_, **__: kernel):
        table = module.ProcessTable("", 0, read_environments=True)
    counted(table)
    table.assign([table.find(ROOT)], RUN)
    total = 0
    for before, meanwhile in looks:
        for step in before:
            kernel.step(*step)
        kernel.meanwhile = iter(meanwhile)
        total += counted(table)
        kernel.meanwhile = iter(())
        total += counted(table)
        assert total == kernel.work
    kernel.zombies = kernel.there.keys() - {ROOT}
    for process in kernel.there.values():
        process.ppid = ROOT
    while kernel.zombies:
        kernel.wait(kernel.there[ROOT])
    assert counted(table) == 0
    root = kernel.there[ROOT]
    assert total == root.own_ticks + root.ended_ticks


METERED, COUNTED = RunKey(0, "metered", ""), RunKey(0, "counted", "")
MOVES = st.tuples(st.just("move"), st.integers(0, 9), st.sampled_from([METERED, COUNTED, None]))


def moved(kernel: Kernel, tables: list[module.ProcessTable], which: int, run: RunKey | None):
    """Assign a process and its descendants in the same run, as when it registers one."""
    pids = [*kernel.there]
    tree = {pids[which % len(pids)]}
    lead = tables[0].find(min(tree))
    for pid in pids:
        process = tables[0].find(pid)
        if kernel.there[pid].ppid in tree and process.run == lead.run:
            tree.add(pid)
    for table in tables:
        table.assign([table.find(pid) for pid in sorted(tree)], run)


@given(st.lists(st.tuples(STEPS, MOVES), max_size=12))
def test_what_counted_runs_use_does_not_depend_on_skipping_metered_ones(looks):
    kernel = Kernel()
    with patch.object(module, "Procfs", lambda *_, **__: kernel):
        full, lean = (module.ProcessTable("", 0, read_environments=True) for _ in range(2))
    for steps, (_, which, run) in looks:
        for step in steps:
            kernel.step(*step)
        used = []
        for table, metered in ((full, frozenset()), (lean, frozenset({METERED}))):
            table.refresh(lambda process, parent: parent.run if parent else None)
            used.append(table.count(metered).get(COUNTED, 0))
        assert used[0] == used[1]
        moved(kernel, [full, lean], which, run)


def test_processes_of_a_metered_run_are_not_read():
    kernel = Kernel()
    with patch.object(module, "Procfs", lambda *_, **__: kernel):
        table = module.ProcessTable("", 0, read_environments=True)
    for _ in range(3):
        kernel.step("fork", 0, 0)
    counted(table)
    table.assign([*table.all()], METERED)
    reads = []
    with patch.object(kernel, "read_clocks", lambda process: reads.append(process.pid) or True):
        table.count(frozenset({METERED}))
        assert reads == []
        table.count()
        assert {*reads} == {process.pid for process in table.all()}


def chained(*processes: CpuClocks):
    """Each the child of the one before."""
    parents = dict(zip(processes[1:], processes, strict=False))
    return settle_cpu_time(processes, parents.get)


def test_cpu_time_of_an_orphan_is_settled_with_the_ancestor_that_waits_for_it():
    top = CpuClocks(run=RUN, new_ended=40)
    parent = CpuClocks(run=RUN, new_ended=5)
    gone = CpuClocks(run=RUN, own_ticks=5, gone=True)
    orphan = CpuClocks(run=RUN, own_ticks=40, gone=True)
    assert chained(top, parent, gone, orphan) == {}


def test_an_exited_parent_settles_the_children_that_it_waited_for():
    top = CpuClocks(run=RUN, new_ended=1)
    parent = CpuClocks(run=RUN, ended_ticks=1, new_ended=1, gone=True)
    gone = CpuClocks(run=RUN, own_ticks=1, gone=True)
    assert chained(top, parent, gone) == {}


def test_a_process_without_a_run_has_no_debt():
    outside = CpuClocks()
    assert chained(outside, CpuClocks(run=RUN, own_ticks=5, new_own=5, gone=True)) == {RUN: 5}
    assert outside.owed == 0


def test_a_clock_that_steps_back_is_ignored():
    process = CpuClocks(run=RUN)
    for own in (7, 5, 8):
        process.advance(own, 0)
    assert chained(process) == {RUN: 8}
