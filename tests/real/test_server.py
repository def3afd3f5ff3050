"""A siege: crowds, idlers, slow readers and garbage at the HTTP port of a daemon at work."""

import asyncio
import random
import resource
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.real.parts import Daemon, until

SCRAPERS, IDLERS, READERS, VANDALS = 200, 5_000, 100, 50
PATIENCE_SECONDS = 10.0
"""Of a Prometheus that is told nothing else."""
MEMORY_MOST_KB = 64 * 1024
WATCHED_SECONDS = 6
SCRAPE = b"GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n%s\r\n"
AS_PROMETHEUS = SCRAPE % b"Accept: application/openmetrics-text\r\nAccept-Encoding: gzip\r\n"
PLAIN = SCRAPE % b""
PIPELINED = b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n" * 200
"""More than the kernel's buffers take, so that the daemon has to wait for the reader."""


class Answer(NamedTuple):
    """What came of one request."""

    status: int
    """0: the connection was cut off."""
    retry_after: bool
    seconds: float

    @property
    def in_time(self) -> bool:
        """A scrape before Prometheus gives up, or a refusal that says when to come back."""
        good = self.status == 200 or (self.status == 503 and self.retry_after)
        return good and self.seconds < PATIENCE_SECONDS


@dataclass
class Siege:
    """What was seen while it lasted, by those who only wanted to scrape, and by the others."""

    crowd: list[Answer] = field(default_factory=list)
    among_idlers: list[Answer] = field(default_factory=list)
    among_slow_readers: list[Answer] = field(default_factory=list)
    huge_heads: list[Answer] = field(default_factory=list)
    garbage: list[Answer] = field(default_factory=list)
    ticks: int = 0
    """That were published from the beginning to the end."""
    seconds: float = 0.0
    """Between the first and the last of them."""
    overruns: int = 0
    resident_kb: int = 0
    log: str = ""


async def talk(port: int, message: bytes) -> Answer:
    """Send a message, and read until the daemon ends the connection."""
    began = time.monotonic()
    received = b""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(message)
            received = await reader.read()
        finally:
            writer.close()
    except ConnectionError:
        pass
    head, _, _ = received.partition(b"\r\n\r\n")
    status = int(head.split(b" ")[1]) if head.startswith(b"HTTP/1.1 ") else 0
    return Answer(status, b"Retry-After:" in head, time.monotonic() - began)


async def all_at_once(port: int, messages: list[bytes]) -> list[Answer]:
    return await asyncio.gather(*[talk(port, message) for message in messages])


async def go_on(port: int) -> list[Answer]:
    """Scrape once a second, as a Prometheus does."""
    answers = []
    for _ in range(WATCHED_SECONDS):
        answers.append(await talk(port, AS_PROMETHEUS))
        await asyncio.sleep(1)
    return answers


async def scrape_among_idlers(port: int) -> list[Answer]:
    idlers = [await asyncio.open_connection("127.0.0.1", port) for _ in range(IDLERS)]
    answers = await go_on(port)
    for _, writer in idlers:
        writer.close()
    return answers


async def scrape_among_slow_readers(port: int) -> list[Answer]:
    """Each of the others asks for 200 pages, and then reads a byte a second."""
    loop = asyncio.get_running_loop()
    slow = [_connect_with_small_window(port) for _ in range(READERS)]
    readers = [asyncio.create_task(_read_slowly(loop, reader)) for reader in slow]
    answers = await go_on(port)
    for task in readers:
        task.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    return answers


def _connect_with_small_window(port: int) -> socket.socket:
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    reader.connect(("127.0.0.1", port))
    reader.setblocking(False)
    return reader


async def _read_slowly(loop: asyncio.AbstractEventLoop, reader: socket.socket) -> None:
    with reader:
        await loop.sock_sendall(reader, PIPELINED)
        while True:
            await loop.sock_recv(reader, 1)
            await asyncio.sleep(1)


def resident_kb(pid: int) -> int:
    (row,) = [row for row in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmRSS" in row]
    return int(row.split()[1])


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    root = tmp_path_factory.mktemp("siege")
    empty = root / "sys"
    empty.mkdir()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    daemon = Daemon(root / "daemon", f"--path.sysfs={empty}").start()
    try:
        yield daemon
    finally:
        daemon.stop()
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.fixture(scope="module")
def siege(daemon: Daemon, seeded: random.Random) -> Siege:
    return play(daemon, seeded)


def play(daemon: Daemon, seeded: random.Random) -> Siege:
    port, seen = daemon.port, Siege()
    first = daemon.json("/api/v1/snapshot")
    for _ in range(3):
        messages = [AS_PROMETHEUS, PLAIN] * (SCRAPERS // 2)
        seen.crowd += asyncio.run(all_at_once(port, messages))
    seen.among_idlers = asyncio.run(scrape_among_idlers(port))
    seen.among_slow_readers = asyncio.run(scrape_among_slow_readers(port))
    huge = b"GET /metrics HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 2**20 + b"\r\n\r\n"
    seen.huge_heads = asyncio.run(all_at_once(port, [huge] * VANDALS))
    garbage = [seeded.randbytes(4096) + b"\r\n\r\n" for _ in range(VANDALS)]
    seen.garbage = asyncio.run(all_at_once(port, garbage))
    last = until(lambda: later(daemon, first["tick"]))
    seen.ticks = last["tick"] - first["tick"]
    seen.seconds = (last["at_ns"] - first["at_ns"]) / 1e9
    seen.overruns = last["health"]["loop_overruns"]
    assert daemon.process is not None
    seen.resident_kb = resident_kb(daemon.process.pid)
    seen.log = daemon.log()
    return seen


def later(daemon: Daemon, tick: int) -> dict | None:
    snapshot = daemon.json("/api/v1/snapshot")
    return snapshot if snapshot["tick"] > tick else None


def test_each_of_200_scrapers_at_once_is_served_or_told_when_to_come_back(siege: Siege) -> None:
    assert [answer for answer in siege.crowd if not answer.in_time] == []


def test_scrapes_go_on_beside_5000_idle_connections(siege: Siege) -> None:
    assert [answer for answer in siege.among_idlers if not answer.in_time] == []


def test_scrapes_go_on_beside_slow_readers(siege: Siege) -> None:
    assert [answer for answer in siege.among_slow_readers if not answer.in_time] == []


def test_a_crowd_that_comes_while_the_daemon_cannot_look_is_held_by_the_kernel(
    daemon: Daemon,
) -> None:
    process = daemon.process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    with ExitStack() as open_ones:
        try:
            crowd = [
                open_ones.enter_context(
                    socket.create_connection(("127.0.0.1", daemon.port), PATIENCE_SECONDS / 2)
                )
                for _ in range(SCRAPERS)
            ]
        finally:
            process.send_signal(signal.SIGCONT)
        for one in crowd:
            one.settimeout(10)
            one.sendall(PLAIN)
        assert {one.recv(12) for one in crowd} == {b"HTTP/1.1 200"}


def test_a_huge_head_is_refused_or_cut_off(siege: Siege) -> None:
    assert {answer.status for answer in siege.huge_heads} <= {431, 0}


def test_garbage_is_refused_or_cut_off(siege: Siege) -> None:
    assert {answer.status for answer in siege.garbage} <= {400, 431, 0}


def test_no_tick_was_missed(siege: Siege) -> None:
    assert siege.overruns == 0
    assert siege.ticks == pytest.approx(siege.seconds, abs=1)


def test_what_it_took_is_given_back(siege: Siege) -> None:
    assert siege.resident_kb < MEMORY_MOST_KB


def test_no_request_failed_for_a_defect(siege: Siege) -> None:
    assert "Traceback" not in siege.log
    assert "raised exception" not in siege.log
