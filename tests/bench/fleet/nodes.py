"""Nodes that are made up: the page of a real daemon, under many names, with numbers that move."""

import asyncio
import json
import random
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.bench.scene import start
from tests.real.parts import Daemon, get, until

GPUS, RUNS = 8, 20
BUDGETED, COUNTING = 2, 2
"""So many runs of a node have a budget, and so many count tokens."""
USERS = 200
"""Of the whole fleet; each node has the runs of five of them."""
NODE_USERS = 5
SAMPLE = re.compile(r"^(\w+)(\{.*\})? (\S+)$")


class Line(NamedTuple):
    """One sample of the page: constant, or beginning at `value` and moving by `slope` a second."""

    text: str
    value: float
    slope: float
    """0: constant."""
    is_total: bool


def host(gpus: int, runs: int) -> dict[str, object]:
    """A host for the source `replay`: two sockets with memory; each run has a share of a GPU."""
    devices: list[dict[str, object]] = [
        {
            "kind": kind,
            "id": f"package-{number}{suffix}",
            "model": "made up",
            "vendor": "none",
            "power_cap_watts": 400,
            "wrap_uj": 262_143_328_851,
            "watts": [[0, 90], [300, 160]],
        }
        for number in (0, 1)
        for kind, suffix in (("cpu", ""), ("dram", "-dram"))
    ]
    devices += [
        {
            "kind": "gpu",
            "id": f"GPU-{number}",
            "model": "made up",
            "vendor": "nvidia",
            "power_cap_watts": 700,
            "power_limit_watts": 700,
            "watts": [[0, 300], [300, 600]],
        }
        for number in range(gpus)
    ]
    return {
        "host": "bench",
        "period_seconds": 600,
        "threads": 128,
        "memory_total_bytes": 274_877_906_944,
        "devices": devices,
        "workload": [_run(number, gpus) for number in range(runs)],
        "strangers": [],
    }


def _run(number: int, gpus: int) -> dict[str, object]:
    seat = {
        "id": f"GPU-{number % (gpus or 1)}",
        "units": 1,
        "units_of": 16,
        "pid": 5000 + number,
        "active": [[0, 0.02], [300, 0.06]],
    }
    return {
        "run_id": f"run-{number:03}",
        "job_id": f"{4700 + number}",
        "name": "train",
        "user": f"user-{number % NODE_USERS}",
        "labels": {},
        "starts": 0,
        "ends": 600,
        "cpu": [[0, 0.1], [300, 0.4]],
        "memory_bytes": 100_000_000,
        "gpus": [seat] if gpus else [],
    }


def real_pages(directory: Path, gpus: int, runs: int) -> tuple[bytes, bytes]:
    """Two pages of a daemon that plays such a host, some seconds apart."""
    directory.mkdir()
    fixture = directory / "host.json"
    fixture.write_text(json.dumps(host(gpus, runs)))
    daemon = Daemon(directory)
    process = start(
        daemon,
        EMISSIONS_EXPORTER_SAMPLE_REPLAY=str(fixture),
        EMISSIONS_EXPORTER_CONVERT_ZONE="DE",
    )
    try:
        until(lambda: len(daemon.json("/api/v1/snapshot")["runs"]) == runs, what="the runs play")
        time.sleep(5)
        before = get(f"{daemon.url}/metrics")
        time.sleep(4)
        return before, get(f"{daemon.url}/metrics")
    finally:
        process.terminate()
        process.wait(20)


def model(before: str, after: str, seconds: float = 4.0) -> Iterator[Line]:
    """The page of any node: `@N@` stands for the node, `@U0@` for a user, `@R000@` for a run.

    Pods, budgets and counted tokens, which a played host has not, come on top.
    """
    old = dict(line.rpartition(" ")[::2] for line in before.splitlines())
    for text in after.splitlines():
        found = SAMPLE.match(text)
        if text.startswith("#") or found is None:
            yield Line(text, 0.0, 0.0, is_total=False)
            continue
        name, labels, value = found[1], found[2] or "", float(found[3])
        slope = (value - float(old.get(name + labels, value))) / seconds
        is_total = name.endswith("_total") or "_cumulative_" in name
        labels = re.sub(r'run_id="run-(\d+)"', r'run_id="@R\1@"', labels)
        labels = re.sub(
            r'user="user-(\d+)",workload_namespace=""',
            r'user="@U\1@",workload_namespace="of-@U\1@"',
            labels,
        )
        yield Line(name + labels, value, slope, is_total)
        if name != "emissions_run_info":
            continue
        number = int(re.findall(r"@R(\d+)@", labels)[0])
        run = f'job_id="{4700 + number}",run_id="@R{number:03}@"'
        pod = f'workload_container="main",workload_pod="train-{number}-@N@"'
        yield Line(f"emissions_run_member_info{{{run},{pod}}}", 1.0, 0.0, is_total=False)
        if number < BUDGETED:
            yield Line(f"emissions_run_budget_grams{{{run}}}", 5000.0, 0.0, is_total=False)
        if number < COUNTING:
            units = f'emissions_run_units_total{{{run},unit="tokens"}}'
            yield Line(units, 1000.0, 900.0, is_total=True)


class Node:
    """One simulated node; its numbers are printed as the daemon prints them."""

    def __init__(self, lines: Sequence[Line], number: int, began: float, later_at: float) -> None:
        self._random = random.Random(number)
        self._began, self._later_at = began, later_at
        self._pace = self._random.uniform(0.5, 1.5)
        self._lines = [line for line in lines if line.slope]
        self._before = self._template(lines, number, "")
        # A run that comes later, whose series begin at 0.
        more = [line for line in lines if "@R000@" in line.text]
        self._later = self._template(more, number, "-later", round(later_at, 3))
        self._more = [line._replace(value=0.0) for line in more if line.slope]

    def _template(
        self, lines: Sequence[Line], number: int, suffix: str, starts: float = 0.0
    ) -> str:
        texts = []
        for line in lines:
            text = line.text.replace("%", "%%").replace("@N@", f"{number:04}{suffix}")
            text = re.sub(r"@R(\d+)@", rf"node-{number:04}-run-\1{suffix}", text)
            text = re.sub(
                r"@U(\d+)@",
                lambda found: f"user-{(number * NODE_USERS + int(found[1])) % USERS:03}",
                text,
            )
            text = re.sub(r'job_id="47(\d+)"', rf'job_id="{number}\1"', text)
            if text.startswith("#"):
                texts.append(text)
            elif text.startswith("emissions_run_start_time_seconds"):
                texts.append(f"{text} {starts or round(self._began, 3)!r}")
            else:
                texts.append(f"{text} %r" if line.slope else f"{text} {line.value!r}")
        return "\n".join(texts) + "\n"

    def page(self, now: float) -> bytes:
        """What it shows at that time."""
        text = self._before % self._values(self._lines, now - self._began)
        if now > self._later_at:
            text += self._later % self._values(self._more, now - self._later_at)
        return text.encode()

    def _values(self, lines: Sequence[Line], seconds: float) -> tuple[float, ...]:
        pace, some = self._pace * seconds, self._random.random
        return tuple(
            round(line.value + line.slope * pace, 6)
            if line.is_total
            else round(line.value * (0.9 + 0.2 * some()), 3)
            for line in lines
        )


def serve(port: int, lines: Sequence[Line], count: int, began: float, later_at: float) -> None:
    """The pages of all nodes, over as many connections as there are."""
    nodes = {
        f"/node-{number:04}": Node(lines, number, began, later_at + number % 60)
        for number in range(count)
    }

    def body(path: str) -> bytes:
        if path == "/cpu-ms":
            return str(round(time.process_time() * 1000)).encode()
        return nodes[path].page(time.time())

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                asked = await reader.readuntil(b"\r\n\r\n")
                content = body(asked.split(b" ", 2)[1].decode())
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
                    b"Content-Length: %d\r\n\r\n%b" % (len(content), content)
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def forever() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", port, backlog=1024)
        await server.serve_forever()

    asyncio.run(forever())
