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

from tests.bench import cost
from tests.real.parts import COMMAND, REPOSITORY, Daemon, get, until

RUNS = 20
SOCKETS = ("--package=100:20", "--package=60:10")
ZONES = "devices/virtual/powercap/intel-rapl"
SETTLE_SECONDS = 3.0
HERE = Path(__file__).parent


def compiled(name: str, directory: Path) -> str:
    """The path of a C program of this folder, built with `cc`."""
    program = directory / name
    subprocess.run(["cc", "-O2", "-o", program, HERE / f"{name}.c"], check=True)
    return str(program)


def start(daemon: Daemon, **environment: str) -> "subprocess.Popen[bytes]":
    """Start a daemon that says nothing on the terminal, and do not wait for it."""
    command = [
        *(*COMMAND, "serve", f"--web.listen-address=127.0.0.1:{daemon.port}"),
        *(f"--socket.path={daemon.socket}", f"--path.state={daemon.directory / 'state'}"),
        *daemon.flags,
    ]
    with (daemon.directory / "log").open("ab") as log:
        return subprocess.Popen(
            command, stdout=log, stderr=log, cwd=REPOSITORY, env={**os.environ, **environment}
        )


class Scene:
    """A daemon on that state, and the programs to build and to judge it."""

    def __init__(self, directory: Path, runs: int = RUNS) -> None:
        directory.mkdir(exist_ok=True)
        self._count = runs
        self.directory = directory
        self._floor = compiled("floor", directory)
        self.sleepers = compiled("sleepers", directory)
        self._ends = ExitStack()
        self._runs: list[subprocess.Popen[bytes]] = []
        self._pids: list[int] = []
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
        self.daemon.process = start(self.daemon)
        self._end_with(self.daemon.process)
        until(lambda: get(self.daemon.url + "/-/ready"), what="the daemon is ready")
        for number in range(self._count):
            self._runs.append(self._start_run(number))
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    @property
    def pid(self) -> int:
        """The daemon's."""
        assert self.daemon.process is not None
        return self.daemon.process.pid

    def grow(self, processes: int) -> None:
        """Have that many processes in the runs, those that lead a run included."""
        leaders = 2  # `run`, and the program that it started
        for run in self._runs:
            assert run.stdin is not None
            run.stdin.write(b"%d\n" % (processes // self._count - leaders))
            run.stdin.flush()
        roots = [run.pid for run in self._runs]
        self._pids = until(lambda: _family(roots, processes), 60, f"{processes} processes")
        time.sleep(SETTLE_SECONDS)

    def ticks(self, count: int) -> list[float]:
        """CPU time of that many ticks of the daemon, in ms."""
        at_ns = self.daemon.json("/api/v1/snapshot")["at_ns"]
        return list(cost.ticks(self.pid, at_ns, count))

    def floor(self, count: int) -> list[float]:
        """CPU time in ms of that many ticks that only read; the daemon stands still meanwhile."""
        zones = [*self.sysfs.glob(f"{ZONES}/*/energy_uj")]
        dram = [path.parent / "energy_uj" for path in self.sysfs.glob(f"{ZONES}/*/*/name")]
        wanted = [path for path in dram if (path.parent / "name").read_text() == "dram\n"]
        files = ["/proc/stat", *map(str, (*zones, *wanted))]
        files += [f"/proc/{pid}/stat" for pid in self._pids]
        with self.paused():
            done = subprocess.run(
                [self._floor, str(count)],
                input="\n".join(files).encode(),
                stdout=subprocess.PIPE,
                check=True,
            )
        return [int(line) / cost.NANOSECONDS_PER_MS for line in done.stdout.split()]

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
        before = [_stat(pid) for pid in self._pids]
        time.sleep(1)
        after = [_stat(pid) for pid in self._pids]
        return sum(a != b for a, b in zip(after, before, strict=True)) / len(before)

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


def _stat(pid: int) -> bytes:
    with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
        return file.read()


def _family(roots: Sequence[int], wanted: int) -> list[int]:
    """The processes and all their descendants; empty as long as they are fewer than wanted."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        try:
            fields = _stat(int(name)).rpartition(b")")[2].split()
        except (ValueError, OSError):
            continue
        children.setdefault(int(fields[1]), []).append(int(name))
    found = list(roots)
    for pid in found:
        found += children.get(pid, [])
    return found if len(found) >= wanted else []
