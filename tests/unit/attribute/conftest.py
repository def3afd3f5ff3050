"""A simulated /proc."""

import shutil
from functools import partial
from pathlib import Path

import pytest

from exporter.attribute.run_registry import RunRegistry
from exporter.attribute.sources.process_table import ProcessTable
from exporter.attribute.workload_collector import HostTotals, LiveWorkloadCollector
from exporter.model.commands import EndRun
from exporter.model.runs import RunInfo
from tests.agents import start_run
from tests.fakes import FakeClock

TICK_US = 10_000
PAGE_BYTES = 4096


class FakeProc:
    """Process directories with only the files and fields that are read."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "self").mkdir()
        self.busy = self.idle = 0
        self.machine(0, 0)
        (root / "meminfo").write_text(
            "MemTotal: 1000 kB\nMemFree: 1 kB\nAnonPages: 300 kB\nShmem: 100 kB\n"
        )

    def machine(self, busy: int, idle: int) -> None:
        """Add clock ticks to the host's clocks."""
        self.busy += busy
        self.idle += idle
        (self.root / "stat").write_text(f"cpu  {self.busy} 0 0 {self.idle} 0 0 0 0 0 0\n")

    def process(
        self,
        pid: int,
        *,
        ppid: int = 1,
        start: int = 100,
        own: int = 0,
        children: int = 0,
        environment: str | None = None,
        anonymous_kb: int = 0,
        shared_kb: int = 0,
        uid: int = 1,
        cgroup: str = "/",
        name: str = "python3",
    ) -> None:
        directory = self.root / str(pid)
        directory.mkdir(exist_ok=True)
        pages = (anonymous_kb + shared_kb + 7) * 1024 // PAGE_BYTES
        after = ["S", ppid, *[0] * 9, own, 0, children, 0, 20, 0, 1, 0, start, 0, pages]
        line = f"{pid} (a ) b) " + " ".join(map(str, after))
        stat = directory / "stat"
        if stat.exists():
            with stat.open("r+") as file:
                file.write(line + "\n")
                file.truncate()
        else:
            stat.write_text(line + "\n")
        (directory / "comm").write_text(name + "\n")
        if environment is not None:
            block = "\0".join(environment.split()) + "\0"
            (directory / "environ").write_text(block)
        elif not (directory / "environ").exists():
            (directory / "environ").write_text("")
        (directory / "cgroup").write_text(f"0::{cgroup}\n")
        (directory / "status").write_text(
            f"Name:\tx\nUid:\t{uid}\t0\t0\t0\nRssAnon:\t{anonymous_kb} kB\n"
            f"RssFile:\t7 kB\nRssShmem:\t{shared_kb} kB\n"
        )

    def gone(self, pid: int) -> None:
        """End a process. An open file of a real /proc then fails with ESRCH; here it is emptied."""
        (self.root / str(pid) / "stat").write_text("")
        shutil.rmtree(self.root / str(pid))


class Host:
    """A workload collector over a simulated host; `restart` replaces it by a second one."""

    def __init__(self, proc: FakeProc, clock: FakeClock) -> None:
        self.proc = proc
        self.clock = clock
        self.jobs = proc.root.parent / "jobs"
        self.name_of = "user{}".format
        self.pods = None
        """Factory of the runs of pods; None: no Kubernetes."""
        self.begin()

    def begin(
        self, runs=(), run_cpu=(), machine_cpu=None, claim=None, left_wall=0.0, max_runs=100
    ) -> None:
        self.names_asked = []
        self.run_registry = RunRegistry(runs, max_runs)
        self.workload_collector = LiveWorkloadCollector(
            run_registry=self.run_registry,
            processes=ProcessTable(str(self.proc.root), 100, read_environments=True),
            machine=HostTotals(str(self.proc.root), machine_cpu),
            procfs=str(self.proc.root),
            clock=self.clock,
            user_name=self._name,
            claim=claim,
            run_cpu=tuple(run_cpu),
            left_wall=left_wall,
            jobs_directory=str(self.jobs),
            pods=None if self.pods is None else partial(self.pods, self.run_registry),
        )

    def _name(self, uid: int) -> str:
        self.names_asked.append(uid)
        return self.name_of(uid)

    def restart(self, absent_seconds: float = 0.0) -> None:
        """Restart from the state in the journal, in another order, since none is guaranteed."""
        left_wall = self.clock.wall()
        self.clock.advance(absent_seconds)
        self.begin(
            reversed(self.run_registry._runs.values()),
            self.workload_collector.run_cpu(),
            self.workload_collector.machine_cpu(),
            left_wall=left_wall,
        )

    def look(self, occupancies=None, infos=()) -> dict[str, int]:
        """CPU time in clock ticks, by run id."""
        self.clock.advance(1)
        self.workload = self.workload_collector.collect(occupancies or {}, infos)
        return {usage.run.run_id: usage.cpu_us // TICK_US for usage in self.workload.usage}

    def start(self, pid: int, run_id: str, uid: int = 1, **more) -> RunInfo:
        return self.workload_collector.start(start_run(uid, "ada", pid, run_id, **more))

    def end(self, run_id: str, pid: int = 0, uid: int = 1) -> RunInfo:
        return self.workload_collector.end(EndRun(uid, run_id, pid=pid))

    def running(self) -> set[str]:
        return {run.key.run_id for run in self.run_registry.running()}


@pytest.fixture
def host(proc: FakeProc, clock: FakeClock) -> Host:
    return Host(proc, clock)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    root = tmp_path / "proc"
    root.mkdir()
    return FakeProc(root)
