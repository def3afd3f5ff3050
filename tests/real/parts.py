"""The real parts of a scene: a daemon, a Prometheus, and a way to wait for what they show."""

import contextlib
import itertools
import json
import os
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
COMMAND = [sys.executable, "-m", "exporter"]
REPOSITORY = Path(__file__).resolve().parents[2]
POLL_SECONDS = 0.05
LONG_SECONDS = 60.0
"""Longer than anything that works takes on a machine that is slow and busy."""
PORTS = range(20_000, 32_000)
"""Below those that the kernel gives to whoever asks for any, so that nobody is given one of them
between its choice and its use, or while its daemon restarts."""
_ports = itertools.islice(itertools.cycle(PORTS), os.getpid() * 97 % len(PORTS), None)


def until(look: Callable[[], T], timeout_seconds: float = LONG_SECONDS, what: str = "") -> T:
    """The first true answer of `look`; an assertion fails if there is none in time."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            answer = look()
        except OSError:  # not listening yet, or not there yet
            answer = None
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not within {timeout_seconds} s: {what or look}"
        time.sleep(POLL_SECONDS)


def free_port() -> int:
    """One that nobody listens on; no other process of pytest-xdist is given the same one."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    while True:
        port = next(_ports)
        if port % workers != worker:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def let_others_in(directory: Path) -> None:
    """Let other users enter a directory of pytest and those around it, which it closes to them."""
    for each in (directory, *directory.parents):
        mode = stat.S_IMODE(each.stat().st_mode)
        if not mode & stat.S_IXOTH:
            each.chmod(mode | 0o055)


def get(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return bytes(response.read())
    except urllib.error.HTTPError as error:
        error.add_note(error.read().decode(errors="replace"))
        raise


@contextlib.contextmanager
def ended_on_failure(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Kill what was started if it does not become what it was started for."""
    try:
        yield
    except BaseException:
        process.kill()
        process.wait()
        raise


class Daemon:
    """One `serve` with a state directory and a socket of its own."""

    def __init__(self, directory: Path, *flags: str) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.socket = str(directory / "agent.sock")
        self.flags = flags
        self.prefix: tuple[str, ...] = ()
        """What starts it with other rights."""
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def command(self) -> list[str]:
        return [
            *self.prefix,
            *COMMAND,
            "serve",
            f"--web.listen-address=127.0.0.1:{self.port}",
            f"--socket.path={self.socket}",
            f"--path.state={self.directory / 'state'}",
            *self.flags,
        ]

    def start(self) -> "Daemon":
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(self.command, stderr=log, cwd=REPOSITORY)
        with ended_on_failure(self.process):
            until(lambda: self._ended() or self.is_ready(), what="the daemon is ready")
            assert self.process.poll() is None, self.log()
        return self

    def is_ready(self) -> bool:
        return bool(get(self.url + "/-/ready"))

    def kill(self) -> None:
        """As kill -9 does."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """In good order; the exit code."""
        return self._end(signal.SIGTERM) if not self._ended() else -1

    def _ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def _end(self, number: int) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(LONG_SECONDS)

    def json(self, path: str) -> Any:
        return json.loads(get(self.url + path))

    def pass_ticks(self, count: int) -> None:
        """Wait for so many more of them."""
        last = self.json("/api/v1/snapshot")["tick"] + count
        until(lambda: self.json("/api/v1/snapshot")["tick"] >= last, what=f"{count} ticks")

    def log(self) -> str:
        path = self.directory / "log"
        return path.read_text() if path.exists() else ""

    def devices(self) -> dict[str, dict[str, Any]]:
        return {device["id"]: device for device in self.json("/api/v1/devices")["devices"]}

    def run(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """A command as a run of this daemon."""
        return subprocess.Popen(
            [*COMMAND, "run", f"--socket.path={self.socket}", *arguments],
            cwd=REPOSITORY,
            stderr=subprocess.PIPE,
        )


class Prometheus:
    """A real one that scrapes daemons every `scrape`; `rules` is a pattern of rule files.

    `alertmanager` is where alerts go, `remote_write` the entries of its configuration, `more`
    further scrape configurations.
    """

    def __init__(
        self,
        directory: Path,
        daemons: dict[str, Daemon],
        rules: str = "",
        alertmanager: str = "",
        remote_write: tuple[dict[str, Any], ...] = (),
        scrape: str = "1s",
        more: tuple[dict[str, Any], ...] = (),
    ) -> None:
        binary = shutil.which("prometheus")
        assert binary is not None
        directory.mkdir(parents=True)
        self.url = f"http://127.0.0.1:{free_port()}"
        targets = [
            {"targets": [f"127.0.0.1:{daemon.port}"], "labels": {"instance": name}}
            for name, daemon in daemons.items()
        ]
        config = {
            "global": {"scrape_interval": scrape},
            "rule_files": [rules] if rules else [],
            "scrape_configs": [
                {"job_name": "emissions-exporter", "static_configs": targets},
                *more,
            ],
            "alerting": {
                "alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]
                if alertmanager
                else []
            },
        }
        config["remote_write"] = list(remote_write)
        (directory / "prometheus.yml").write_text(json.dumps(config))
        with (directory / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    binary,
                    f"--config.file={directory}/prometheus.yml",
                    f"--storage.tsdb.path={directory}/data",
                    f"--web.listen-address={self.url.removeprefix('http://')}",
                    # What is sent while it reads its settings again is lost until the next time.
                    "--rules.alert.resend-delay=2s",
                ],
                stderr=log,
                stdout=log,
            )
        with ended_on_failure(self.process):
            until(lambda: get(self.url + "/-/ready"), what="prometheus is ready")

    def query(self, text: str) -> list[dict[str, Any]]:
        query = urllib.parse.urlencode({"query": text})
        answer = json.loads(get(f"{self.url}/api/v1/query?{query}"))
        return list(answer["data"]["result"])

    def rules(self) -> list[dict[str, Any]]:
        """Every rule that was loaded, with its health."""
        answer = json.loads(get(f"{self.url}/api/v1/rules"))
        return [rule for group in answer["data"]["groups"] for rule in group["rules"]]

    def value(self, text: str) -> float:
        """The only value that a query gives."""
        (row,) = self.query(text)
        return float(row["value"][1])

    def reload(self) -> None:
        """Read its rules again."""
        self.process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(LONG_SECONDS)


TEMPLATES = Path("/usr/share/prometheus/alertmanager/default.tmpl")
"""Where Debian's alertmanager looks for them, and nowhere else."""


def can_alert() -> bool:
    """Whether there is an alertmanager that can start."""
    binary = shutil.which("prometheus-alertmanager")
    unpacked = binary is not None and Path(binary).is_relative_to(REPOSITORY)
    return binary is not None and (TEMPLATES.exists() or not unpacked)


class Alertmanager:
    """A real one that hands every alert to a webhook, without waiting."""

    def __init__(self, directory: Path, webhook: str) -> None:
        binary = shutil.which("prometheus-alertmanager")
        assert binary is not None
        directory.mkdir(parents=True)
        self.address = f"127.0.0.1:{free_port()}"
        config = {
            "route": {
                "receiver": "webhook",
                "group_by": ["..."],
                "group_wait": "1s",
                "group_interval": "1s",
            },
            "receivers": [{"name": "webhook", "webhook_configs": [{"url": webhook}]}],
        }
        (directory / "config.yml").write_text(json.dumps(config))
        with (directory / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    binary,
                    f"--config.file={directory}/config.yml",
                    f"--storage.path={directory}/data",
                    f"--web.listen-address={self.address}",
                    "--cluster.listen-address=",
                ],
                stderr=log,
                stdout=log,
            )
        with ended_on_failure(self.process):
            until(lambda: get(f"http://{self.address}/-/ready"), what="alertmanager is ready")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(LONG_SECONDS)


def busy(seconds: float) -> list[str]:
    """A command that keeps one thread busy."""
    code = f"import time\nend = time.monotonic() + {seconds}\nwhile time.monotonic() < end: pass"
    return [sys.executable, "-c", code]


SPIN = "import time\nwhile time.process_time() < {}: pass"
METER = """
import resource, subprocess, sys
subprocess.run(sys.argv[2:], check=True)
used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(sum(each.ru_utime + each.ru_stime for each in used), file=open(sys.argv[1], "w"))
"""


def spin(cpu_seconds: float) -> list[str]:
    """A command that uses so much CPU time, however long it has to wait for it."""
    return [sys.executable, "-S", "-c", SPIN.format(cpu_seconds)]


def again(times: int, command: list[str]) -> list[str]:
    """A shell that has one short-lived child after the other."""
    return ["sh", "-c", f"for _ in $(seq {times}); do {shlex.join(command)}; done"]


def after(file: Path, command: list[str]) -> list[str]:
    """A shell that begins a command as soon as a file is there."""
    return ["sh", "-c", f"until [ -e {file} ]; do sleep 0.05; done; exec {shlex.join(command)}"]


def metered(output: Path, command: list[str]) -> list[str]:
    """A command that also writes the CPU seconds that it and its children used."""
    return [sys.executable, "-S", "-c", METER, str(output), *command]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, **more}
