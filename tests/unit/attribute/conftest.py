"""A made-up /proc."""

import shutil
from pathlib import Path

import pytest

from tests.fakes import FakeClock


class FakeProc:
    """Process directories with just the files and fields that are read."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "self").mkdir()
        self.busy = self.idle = 0
        self.machine(0, 0)
        (root / "meminfo").write_text(
            "MemTotal: 1000 kB\nMemFree: 1 kB\nAnonPages: 300 kB\nShmem: 100 kB\n"
        )

    def machine(self, busy: int, idle: int) -> None:
        """Add clock ticks to the machine's own clocks."""
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
    ) -> None:
        directory = self.root / str(pid)
        directory.mkdir(exist_ok=True)
        after = ["S", ppid, *[0] * 9, own, 0, children, 0, 20, 0, 1, 0, start, 0, 0]
        line = f"{pid} (a ) b) " + " ".join(map(str, after))
        stat = directory / "stat"
        if stat.exists():
            with stat.open("r+") as file:
                file.write(line + "\n")
                file.truncate()
        else:
            stat.write_text(line + "\n")
        if environment is not None:
            block = "\0".join(environment.split()) + "\0"
            (directory / "environ").write_text(block)
        elif not (directory / "environ").exists():
            (directory / "environ").write_text("")
        (directory / "status").write_text(
            f"Name:\tx\nUid:\t{uid}\t0\t0\t0\nRssAnon:\t{anonymous_kb} kB\n"
            f"RssFile:\t7 kB\nRssShmem:\t{shared_kb} kB\n"
        )

    def gone(self, pid: int) -> None:
        """End a process. A kept file of a real /proc then answers ESRCH; here it is emptied."""
        (self.root / str(pid) / "stat").write_text("")
        shutil.rmtree(self.root / str(pid))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    root = tmp_path / "proc"
    root.mkdir()
    return FakeProc(root)
