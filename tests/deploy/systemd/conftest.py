"""A daemon under something that listens as systemd does."""

import os
import socket
from pathlib import Path

import pytest

from tests.real.parts import Daemon


class Systemd:
    """A socket that a daemon notifies; abstract if the name begins with `@`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._end.bind(name.replace("@", "\0"))

    def next(self, key: str, timeout_seconds: float = 20.0) -> str:
        """The next value of a key; raises TimeoutError where none comes."""
        self._end.settimeout(timeout_seconds)
        while True:
            for line in self._end.recv(4096).decode().splitlines():
                if line.startswith(f"{key}="):
                    return line.partition("=")[2]

    def forget(self) -> None:
        """Drop what has come until now."""
        self._end.setblocking(False)
        try:
            while self._end.recv(4096):
                pass
        except BlockingIOError:
            return

    def close(self) -> None:
        self._end.close()


@pytest.fixture(params=["path", "abstract"])
def systemd(request, tmp_path):
    name = str(tmp_path / "notify")
    if request.param == "abstract":
        name = f"@emissions-exporter-test-{os.getpid()}"
    made = Systemd(name)
    yield made
    made.close()


@pytest.fixture
def procfs(tmp_path) -> Path:
    """What /proc says of the machine, with no process in it."""
    made = tmp_path / "proc"
    made.mkdir()
    for name in ("cpuinfo", "meminfo", "mounts", "self", "stat", "sys"):
        (made / name).symlink_to(f"/proc/{name}")
    return made


@pytest.fixture
def daemon(tmp_path, systemd, procfs):
    """A daemon that systemd watches, and that has not begun."""
    (tmp_path / "sys").mkdir()
    flags = (f"--path.sysfs={tmp_path / 'sys'}", f"--path.procfs={procfs}")
    made = Daemon(tmp_path / "daemon", *flags, "--sample.interval=0.2")
    made.prefix = ("env", f"NOTIFY_SOCKET={systemd.name}", "WATCHDOG_USEC=4000000")
    yield made
    if made.process is not None and made.process.poll() is None:
        made.kill()
