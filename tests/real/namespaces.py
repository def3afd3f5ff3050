"""Processes in namespaces, cgroups and directories of their own."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.real.parts import until

CGROUPS = Path("/sys/fs/cgroup")


def run(*command: str, text: str = "", check: bool = True) -> str:
    """What a command prints; its errors are those of the test."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout if done.returncode == 0 else done.stdout + done.stderr


def hierarchies() -> list[Path]:
    """Mount points of the cgroup hierarchies."""
    return [path for path in CGROUPS.iterdir() if (path / "cgroup.procs").exists()]


def child(pid: int) -> int:
    """The first child of a process; 0 for none."""
    return int((Path(f"/proc/{pid}/task/{pid}/children").read_text().split() or ["0"])[0])


def _is_removed(directory: str) -> bool:
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(directory)
    return True


class Namespaces:
    """They are entered by `nsenter`, since `ip netns exec` remounts /sys and hides the cgroups.

    Everything in them ends with their first process.
    """

    namespaces: tuple[str, ...] = ("mount", "pid")
    covered = ("etc", "opt", "var")
    """Directories of the machine that are written to in a directory above them."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory = directory
        self.cgroup = f"{name}-{os.getpid()}"
        self.first_pid = 0
        self._holder: subprocess.Popen[bytes] | None = None

    def open(self) -> None:
        """Make them, and mount what is in them."""
        self._make_cgroups()
        unshared = (
            *("unshare", *(f"--{each}" for each in self.namespaces), "--fork", "--kill-child"),
            *("--propagation", "private", "--mount-proc", *self.first_process()),
        )
        self._holder = subprocess.Popen(self.in_cgroup(*unshared), stderr=subprocess.DEVNULL)
        holder = self._holder.pid
        self.first_pid = until(lambda: child(holder))
        until(lambda: Path(os.readlink(f"/proc/{self.first_pid}/exe")).name != "unshare")
        self.mount()

    def close(self) -> None:
        """End every process in them, and remove the cgroups."""
        if self._holder is not None:
            os.kill(self.first_pid or self._holder.pid, signal.SIGKILL)
            self._holder.wait()
            self._holder = None
        self._remove_cgroups()

    def first_process(self) -> Sequence[str]:
        """The command of the first process."""
        return ("sleep", "infinity")

    def in_cgroup(self, *command: str) -> Sequence[str]:
        """A command that starts a program in the cgroup for programs."""
        return command

    def mount(self) -> None:
        for name in self.covered:
            upper, work = (self.directory / "root" / f"{name}{end}" for end in ("", ".work"))
            for each in (upper, work):
                each.mkdir(parents=True)
                each.chmod(0o755)
            options = f"lowerdir=/{name},upperdir={upper},workdir={work}"
            self.inside("mount", "-t", "overlay", "overlay", "-o", options, f"/{name}")
        self.inside("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
        # The ledger of the machine, if there is one.
        self.inside("rm", "-rf", "/var/lib/emissions-exporter")

    def enter(self, *command: str) -> list[str]:
        """A command in the namespaces, in the root directory of their first process."""
        files = {"mount": "mnt"}
        kinds = (
            f"--{each}=/proc/{self.first_pid}/ns/{files.get(each, each)}"
            for each in self.namespaces
        )
        root = f"/proc/{self.first_pid}/root"
        return ["nsenter", *kinds, f"--root={root}", f"--wd={root}", "--", *command]

    def inside(self, *command: str, text: str = "", check: bool = True) -> str:
        return run(*self.enter(*command), text=text, check=check)

    def _make_cgroups(self) -> None:
        for hierarchy in hierarchies():
            directory = hierarchy / self.cgroup
            directory.mkdir()
            for name in ("cpuset.cpus", "cpuset.mems"):  # version 1 does not inherit them
                if (hierarchy / name).exists():
                    (directory / name).write_text((hierarchy / name).read_text())

    def _remove_cgroups(self) -> None:
        """Also those that programs inside have made."""
        for hierarchy in hierarchies():
            for directory, _, _ in os.walk(hierarchy / self.cgroup, topdown=False):
                until(lambda path=directory: _is_removed(path), what=f"{directory} is removed")
