"""The state that is measured: two made-up sockets, and 20 runs that own real processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

from exporter.attribute.sources.cgroups import V2, cgroup_mounts
from tests.bench import cost
from tests.bench.machine import family, stat
from tests.real.parts import COMMAND, REPOSITORY, Daemon, get, until

RUNS = 20
MANY_RUNS = 180
"""As many as a daemon shows by default."""
SOCKETS = ("--package=100:20", "--package=60:10")
ZONES = "devices/virtual/powercap/intel-rapl"
SETTLE_SECONDS = 3.0
CGROUPS = Path(cgroup_mounts("/proc").get(V2, "/nonexistent"))
"""The mount of cgroups of version 2."""
PODS = CGROUPS / "kubepods"
JOBS = CGROUPS / "system.slice" / "slurmstepd.scope"
HERE = Path(__file__).parent


def is_free(cgroup: Path) -> bool:
    """Whether cgroups of version 2 can be made, and this one has no processes yet."""
    events = cgroup / "cgroup.events"  # cgroup-v2.rst, "populated"
    is_empty = not events.exists() or "populated 0" in events.read_text()
    return os.access(CGROUPS, os.W_OK) and is_empty


def compiled(name: str, directory: Path) -> str:
    """The path of a C program of this folder, built with `cc`."""
    program = directory / name
    subprocess.run(["cc", "-O2", "-o", program, HERE / f"{name}.c"], check=True)
    return str(program)


def start(daemon: Daemon, **environment: str) -> "subprocess.Popen[bytes]":
    """Start a daemon that says nothing on the terminal, and do not wait for it."""
    with (daemon.directory / "log").open("ab") as log:
        daemon.process = subprocess.Popen(
            daemon.command,
            stdout=log,
            stderr=log,
            cwd=REPOSITORY,
            env={**os.environ, **environment},
        )
    return daemon.process


def pid_of(daemon: Daemon) -> int:
    """Of a daemon that was started."""
    assert daemon.process is not None
    return daemon.process.pid


@contextmanager
def running(daemon: Daemon, **environment: str) -> Iterator[int]:
    """Start a daemon and stop it afterwards; its pid."""
    process = start(daemon, **environment)
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(20)


class Scene:
    """A daemon on that state, and the programs to build and to judge it."""

    def __init__(self, directory: Path, runs: int = RUNS) -> None:
        directory.mkdir(exist_ok=True)
        self._count = runs
        self.directory = directory
        self.floor = compiled("floor", directory)
        self.sleepers = compiled("sleepers", directory)
        self._ends = ExitStack()
        self._runs: list[subprocess.Popen[bytes]] = []
        self.pids: list[int] = []
        self.sysfs = directory / "sys"
        self.daemon = Daemon(directory / "daemon", *self.flags)

    @property
    def flags(self) -> tuple[str, ...]:
        return (f"--path.sysfs={self.sysfs}", "--log.level=error")

    def __enter__(self) -> Self:
        feeder = [sys.executable, str(REPOSITORY / "tests/feeder.py"), f"--root={self.sysfs}"]
        feeding = subprocess.Popen([*feeder, *SOCKETS, "--seconds=3600", "--step=0.2"])
        self._end_with(feeding)
        until((self.sysfs / "truth.json").exists, what="the feeder plays")
        self._end_with(start(self.daemon))
        until(lambda: get(self.daemon.url + "/-/ready"), what="the daemon is ready")
        for number in range(self._count):
            self._runs.append(self._start_run(number))
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    @property
    def pid(self) -> int:
        """The daemon's."""
        return pid_of(self.daemon)

    def grow(self, processes: int) -> None:
        """Have that many processes in the runs, those that lead a run included."""
        leaders = 2  # `run`, and the program that it started
        for run in self._runs:
            assert run.stdin is not None
            run.stdin.write(b"%d\n" % (processes // self._count - leaders))
            run.stdin.flush()
        roots = [run.pid for run in self._runs]
        self.pids = until(lambda: self._find(roots, processes), 60, f"{processes} processes")
        time.sleep(SETTLE_SECONDS)

    def step(self, count: int, *more: str) -> cost.Step:
        """Measure so many ticks beside a floor that reads energy, all processes and `more`."""
        zones = self.sysfs.glob(f"{ZONES}/*/energy_uj")
        dram = self.sysfs.glob(f"{ZONES}/*/*/name")
        files = ["/proc/stat", *map(str, zones)]
        files += [str(path.parent / "energy_uj") for path in dram if path.read_text() == "dram\n"]
        files += [f"/proc/{pid}/stat" for pid in self.pids]
        return cost.step(len(self.pids), self.daemon, count, self.floor, [*files, *more])

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The daemon neither ticks nor answers."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)
            time.sleep(SETTLE_SECONDS)

    def changed_ratio(self) -> float:
        """Part of the processes whose line in /proc changes within a second."""
        before = [stat(pid) for pid in self.pids]
        time.sleep(1)
        after = [stat(pid) for pid in self.pids]
        return sum(a != b for a, b in zip(after, before, strict=True)) / len(before)

    @staticmethod
    def _find(roots: Sequence[int], wanted: int) -> list[int]:
        found = list(family(roots))
        return found if len(found) >= wanted else []

    def _start_run(self, number: int) -> "subprocess.Popen[bytes]":
        options = [f"--socket.path={self.daemon.socket}", f"--run-id=bench-{number}"]
        run = subprocess.Popen(
            [*COMMAND, "run", *options, "--", self.sleepers],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._ends.callback(run.wait)
        assert run.stdin is not None
        self._ends.callback(run.stdin.close)
        return run

    def _end_with(self, process: "subprocess.Popen[bytes]") -> None:
        self._ends.callback(process.wait)
        self._ends.callback(process.terminate)
