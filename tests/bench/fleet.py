"""Measures one real Prometheus that scrapes many simulated nodes; see docs/scale.md.

python -m tests.bench.fleet [--series 200000] [--minutes 12] [--write]
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.bench.pages import samples_of
from tests.bench.scene import start
from tests.real.parts import COMMAND, REPOSITORY, Daemon, free_port, get, until

GPUS, RUNS = 8, 20
BUDGETED, COUNTING = 2, 2
"""So many runs of a node have a budget, and so many count tokens."""
USERS = 200
"""Of the whole fleet; each node has the runs of five of them."""
NODE_USERS = 5
SHAPES = ((0, 1), (1, 1), (8, 1), (8, RUNS), (8, 100))
"""GPUs and runs of the pages whose series are counted."""
SCRAPE_SECONDS = 15
OF_A_TARGET = 5
"""Series that Prometheus adds to each page: up, and what it says of the scrape."""
DEPLOY = REPOSITORY / "deploy" / "prometheus"
PAGE = REPOSITORY / "docs" / "scale.md"
BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"
SAMPLE = re.compile(r"^(\w+)(\{.*\})? (\S+)$")
RAW = "emissions_run_energy_joules_total"
FINE = "instance_run_id_job_id_device_id:emissions_run_energy_joules:increase"
OWNED = "instance_run_id_job_id_user_workload_namespace_account:emissions_run_info:max"
RUN_POWER = "max by (instance, run_id, job_id, device, id) (emissions_run_power_watts)"
RAW_INFO = "max by (instance, run_id, job_id, user) (emissions_run_info)"
BY_USER = (
    "sum by (user) (sum by (instance, run_id, job_id) ({energy}[10m])) "
    "* on (instance, run_id, job_id) group_left (user) {info})"
)
QUERIES = (
    ("power by run, raw", f"sum by (run_id) ({RUN_POWER})"),
    ("power by run, recorded", "run_id:emissions_run_power_watts:sum"),
    ("by user, 10 minutes, raw", BY_USER.format(energy=f"increase({RAW}", info=RAW_INFO)),
    (
        "by user, 10 minutes, recorded by run",
        BY_USER.format(energy=f"sum_over_time({FINE}", info=OWNED),
    ),
    (
        "by user, 10 minutes, recorded by user",
        "sum by (user) (sum_over_time(user:emissions_run_energy_joules:increase[10m]))",
    ),
)
BACKFILLED = (
    (
        "by user, a day, recorded by user",
        "sum by (user) (sum_over_time(bench:emissions_run_energy_joules:increase[1d] offset 2h))",
    ),
    (
        "10 minutes back, as the rules look, one counter of all runs",
        "count(last_over_time(bench:emissions_run_energy_joules_total:max[10m] offset 2h))",
    ),
    (
        "an hour back, as the rules look, one counter of all runs",
        "count(last_over_time(bench:emissions_run_energy_joules_total:max[1h] offset 2h))",
    ),
)
"""Over what was recorded before the measurement began: filled in, one sample a minute."""
WINDOWS = tuple(
    (f"one raw counter of all runs, {seconds} s back", f"count(last_over_time({RAW}[{seconds}s]))")
    for seconds in (15, 180, 600)
)
"""What a longer look back costs."""


class Line(NamedTuple):
    """One sample of the page: constant, or beginning at `value` and moving by `slope` a second."""

    text: str
    value: float
    slope: float
    """0: constant."""
    is_total: bool


class Measured(NamedTuple):
    """What one size of fleet cost."""

    nodes: int
    per_node: int
    shapes: dict[str, int]
    seconds: float
    numbers: dict[str, float]
    groups: dict[str, tuple[float, float, float]]
    """Of each group of rules: last and longest evaluation in seconds, and samples."""
    rules: list[tuple[float, str]]
    queries: list[tuple[str, float, int]]


def main() -> int:
    """Measure; 1 if an evaluation was missed or a node not seen."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--series", type=int, default=200_000, help="of all nodes together")
    parser.add_argument("--minutes", type=float, default=12.0, help="warm-up included, 8 at least")
    parser.add_argument("--write", action="store_true", help="write the tables of docs/scale.md")
    given = parser.parse_args()
    if shutil.which("prometheus") is None or shutil.which("promtool") is None:
        say("no prometheus and promtool; make tools")
        return 2
    build = REPOSITORY / "build"
    build.mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="fleet-", dir=build))
    try:
        measured = measure(directory, given.series, given.minutes * 60)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    text = table(measured)
    print(text)  # noqa: T201  a program prints
    if given.write:
        before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
        after = rest.split(END)[1]
        PAGE.write_text(f"{before}{BEGIN}{text}{END}{after}", encoding="utf-8")
    numbers = measured.numbers
    return int(numbers["missed"] > 0 or numbers["up"] < measured.nodes)


def measure(directory: Path, series: int, seconds: float) -> Measured:
    """All of it."""
    say("pages")
    shapes, lines = {}, []
    for gpus, runs in SHAPES:
        before, after = real_pages(directory / f"{gpus}-{runs}", gpus, runs)
        shapes[f"GPUs: {gpus}, runs: {runs}"] = samples_of(after)
        if (gpus, runs) == (GPUS, RUNS):
            lines = list(model(before.decode(), after.decode()))
    per_node = sum(not line.text.startswith("#") for line in lines)
    nodes = round(series / per_node)
    port = free_port()
    began = time.time()
    server = multiprocessing.Process(
        target=serve, args=(port, lines, nodes, began, began + 0.66 * seconds), daemon=True
    )
    server.start()
    until(lambda: get(f"http://127.0.0.1:{port}/node-0000"), what="the nodes answer")
    prometheus = start_prometheus(directory, port, nodes)
    url = prometheus.url
    try:
        say(f"{nodes} nodes of {per_node} series; warm-up")
        time.sleep(max(0.0, began + 0.5 * seconds - time.time()))
        say("measuring")
        first, first_at = self_metrics(url), time.monotonic()
        disk = size(directory / "data" / "wal")
        time.sleep(max(0.0, began + 0.65 * seconds - time.time()))
        steady = self_metrics(url)
        last_at = time.monotonic()
        wal = size(directory / "data" / "wal") - disk
        groups = evaluations(url)
        longest: dict[str, float] = {}
        # From here on every node has one run more.
        while time.time() < began + seconds:
            for group, values in evaluations(url).items():
                longest[group] = max(longest.get(group, 0.0), values[0])
            time.sleep(5)
        churned = self_metrics(url)
        by_group = {
            group: (duration, max(longest.get(group, 0.0), duration), count)
            for group, (duration, count) in groups.items()
        }
        rules = rule_times(url)
        queries = [(what, *timed(url, text)) for what, text in (*WINDOWS, *QUERIES)]
        say("a snapshot, and a day of recorded series")
        block = snapshot(url, directory)
        queries += backfilled(prometheus, directory, nodes)
        cpu = int(get(f"http://127.0.0.1:{port}/cpu-ms")) / 1000 / (time.time() - began)
    finally:
        prometheus.stop()
        server.terminate()
        server.join()
    span = last_at - first_at
    appended = "prometheus_tsdb_head_samples_appended_total"
    samples = steady[appended] - first[appended]
    numbers = {
        "up": block["up"],
        "head": steady["prometheus_tsdb_head_series"],
        "samples": samples / span,
        "scrape": block["scrape"],
        "scrape_max": block["scrape_max"],
        "rss": steady["process_resident_memory_bytes"],
        "rss_end": churned["process_resident_memory_bytes"],
        "heap": steady["go_memstats_heap_inuse_bytes"],
        "cpu": (steady["process_cpu_seconds_total"] - first["process_cpu_seconds_total"]) / span,
        "server_cpu": cpu,
        "missed": sum(
            value
            for name, value in churned.items()
            if name.startswith("prometheus_rule_group_iterations_missed_total")
        ),
        "failed": sum(
            value
            for name, value in churned.items()
            if name.startswith("prometheus_rule_evaluation_failures_total")
        ),
        "wal": wal / samples,
        "recorded": steady["prometheus_tsdb_head_series"] - nodes * (per_node + OF_A_TARGET),
        "churn": (churned["prometheus_tsdb_head_series"] - steady["prometheus_tsdb_head_series"])
        / nodes,
        "chunks": block["chunks"] / block["samples"],
        "index": block["index"] / block["series"],
    }
    return Measured(nodes, per_node, shapes, span, numbers, by_group, rules, queries)


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


class Fleet(NamedTuple):
    """A Prometheus of this bench."""

    url: str
    process: "subprocess.Popen[bytes]"

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)


def start_prometheus(directory: Path, port: int, nodes: int) -> Fleet:
    """One with the rules and alerts of `deploy`, and the rules of the example of budgets."""
    rules = directory / "rules"
    rules.mkdir()
    for path in (*DEPLOY.glob("rules/*.yaml"), *DEPLOY.glob("alerts/*.yaml")):
        shutil.copy(path, rules / f"{path.parent.name}-{path.name}")
    command = [*COMMAND, "rules", "--budgets", str(DEPLOY / "budgets.example.yaml")]
    with (rules / "budgets-of-owners.yaml").open("wb") as file:
        subprocess.run(command, stdout=file, cwd=REPOSITORY, check=True)
    targets = [
        {
            "targets": [f"127.0.0.1:{port}"],
            "labels": {
                "instance": f"node-{number:04}",
                "__metrics_path__": f"/node-{number:04}",
            },
        }
        for number in range(nodes)
    ]
    config = {
        "global": {"scrape_interval": f"{SCRAPE_SECONDS}s", "evaluation_interval": "1m"},
        "rule_files": [f"{rules}/*.yaml"],
        "scrape_configs": [{"job_name": "emissions-exporter", "static_configs": targets}],
    }
    (directory / "prometheus.yml").write_text(json.dumps(config))
    url = f"http://127.0.0.1:{free_port()}"
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={directory}/prometheus.yml",
                f"--storage.tsdb.path={directory}/data",
                f"--web.listen-address={url.removeprefix('http://')}",
                "--web.enable-admin-api",
            ],
            stderr=log,
            stdout=log,
        )
    until(lambda: get(url + "/-/ready"), 60, "prometheus is ready")
    return Fleet(url, process)


def self_metrics(url: str) -> dict[str, float]:
    """What Prometheus says of itself; a name alone is the sum over its labels."""
    found: dict[str, float] = {}
    for line in get(url + "/metrics").decode().splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[name] = float(value)
            if "{" in name:
                stem = name.partition("{")[0]
                found[stem] = found.get(stem, 0.0) + float(value)
    return found


def evaluations(url: str) -> dict[str, tuple[float, float]]:
    """Seconds of the last evaluation of each group, and the samples that it gave."""
    seconds, samples = {}, {}
    for name, value in self_metrics(url).items():
        found = re.search(r'rule_group="[^"]*;([^"]+)"', name)
        if found and name.startswith("prometheus_rule_group_last_duration_seconds"):
            seconds[found[1]] = value
        if found and name.startswith("prometheus_rule_group_last_evaluation_samples"):
            samples[found[1]] = value
    return {group: (seconds[group], samples.get(group, 0.0)) for group in seconds}


def rule_times(url: str) -> list[tuple[float, str]]:
    """Seconds of the last evaluation of the ten slowest rules."""
    answer = json.loads(get(f"{url}/api/v1/rules"))
    found = [
        (float(rule["evaluationTime"]), str(rule["name"]))
        for group in answer["data"]["groups"]
        for rule in group["rules"]
    ]
    return sorted(found, reverse=True)[:10]


def asked(url: str, text: str) -> list[dict[str, Any]]:
    """The answer of one query; it may take minutes."""
    data = urllib.parse.urlencode({"query": text}).encode()
    with urllib.request.urlopen(f"{url}/api/v1/query", data, timeout=150) as response:
        return list(json.loads(response.read())["data"]["result"])


def timed(url: str, text: str) -> tuple[float, int]:
    """Median wall time of three in seconds, and the rows of the answer."""
    times, rows = [], 0
    for _ in range(3):
        began = time.perf_counter()
        rows = len(asked(url, text))
        times.append(time.perf_counter() - began)
    return sorted(times)[1], rows


def snapshot(url: str, directory: Path) -> dict[str, float]:
    """The head as a block on disk, and what only a query tells."""

    def value(text: str) -> float:
        return float(asked(url, text)[0]["value"][1])

    found = {
        "up": value("sum(up)"),
        "scrape": value("avg(scrape_duration_seconds)"),
        "scrape_max": value("max(scrape_duration_seconds)"),
    }
    request = urllib.request.Request(f"{url}/api/v1/admin/tsdb/snapshot", method="POST")
    with urllib.request.urlopen(request, timeout=300) as response:
        name = json.loads(response.read())["data"]["name"]
    found.update(dict.fromkeys(("chunks", "index", "samples", "series"), 0.0))
    for block in (directory / "data" / "snapshots" / name).iterdir():
        stats = json.loads((block / "meta.json").read_text())["stats"]
        found["chunks"] += size(block / "chunks")
        found["index"] += size(block / "index")
        found["samples"] += stats["numSamples"]
        found["series"] += stats["numSeries"]
    return found


def backfilled(prometheus: Fleet, directory: Path, nodes: int) -> list[tuple[str, float, int]]:
    """Queries over a day of what the rules record by user, and an hour by run."""
    end = int(time.time()) // 60 * 60 - 7200
    text = directory / "day.om"
    with text.open("w") as file:
        file.write("# TYPE bench:emissions_run_energy_joules:increase gauge\n")
        for user in range(USERS):
            name = f'bench:emissions_run_energy_joules:increase{{user="user-{user:03}"}}'
            file.writelines(
                f"{name} {30_000 + 17 * (minute % 97)}.5 {end - 60 * minute}\n"
                for minute in range(1440, -1, -1)
            )
        file.write("# TYPE bench:emissions_run_energy_joules_total:max gauge\n")
        for number in range(nodes * RUNS * 3):
            node, run = divmod(number, RUNS * 3)
            name = (
                "bench:emissions_run_energy_joules_total:max"
                f'{{instance="node-{node:04}",run_id="run-{run // 3}",device="{run % 3}"}}'
            )
            file.writelines(
                f"{name} {number + 1.2345 * (60 - minute):.4f} {end - 60 * minute}\n"
                for minute in range(60, -1, -1)
            )
        file.write("# EOF\n")
    command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", text, directory / "data"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    text.unlink()
    # Blocks that came while it ran are found at its next start.
    prometheus.stop()
    with (directory / "log").open("ab") as log:
        again = subprocess.Popen(prometheus.process.args, stderr=log, stdout=log)
    try:
        until(lambda: get(f"{prometheus.url}/-/ready"), 180, "prometheus has read its WAL")
        return [(what, *timed(prometheus.url, text)) for what, text in BACKFILLED]
    finally:
        again.terminate()
        again.wait(60)


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())


def table(measured: Measured) -> str:
    """The part of docs/scale.md that is measured."""
    numbers, nodes = measured.numbers, measured.nodes
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    kernel = ".".join(platform.release().split("-")[0].split(".")[:2])
    recorded, head, samples = numbers["recorded"], numbers["head"], numbers["samples"]
    groups = sorted(measured.groups.items(), key=lambda item: -item[1][1])
    tables = [
        [
            _row("a page", "series"),
            *(_row(shape, f"{count:,}") for shape, count in measured.shapes.items()),
            _row(
                f"{GPUS} GPUs, {RUNS} runs in pods, {BUDGETED} of them with a budget and "
                f"{COUNTING} that count tokens: the model of a node",
                f"{measured.per_node:,}",
            ),
        ],
        [
            _row("one Prometheus", "measured"),
            _row("nodes", f"{nodes:,}, of which {numbers['up']:,.0f} up"),
            _row("series scraped", f"{nodes * measured.per_node:,}"),
            _row("series recorded", f"{recorded:,.0f} ({recorded / nodes:.0f} a node)"),
            _row("series in the head", f"{head:,.0f} ({head / nodes:,.0f} a node)"),
            _row("samples a second", f"{samples:,.0f} ({samples / nodes:.1f} a node)"),
            _row(
                "a scrape, mean and longest",
                f"{numbers['scrape'] * 1000:.0f} and {numbers['scrape_max'] * 1000:.0f} ms",
            ),
            _row("CPU, rules included", f"{numbers['cpu']:.2f} s a second"),
            _row(
                "memory, resident",
                f"{numbers['rss'] / 1e6:,.0f} MB ({numbers['rss'] / head / 1000:.1f} kB a series)",
            ),
            _row("memory, resident, at the end", f"{numbers['rss_end'] / 1e6:,.0f} MB"),
            _row("heap of Go in use", f"{numbers['heap'] / 1e6:,.0f} MB"),
            _row(
                "rule evaluations missed and failed",
                f"{numbers['missed']:.0f} and {numbers['failed']:.0f}",
            ),
            _row("WAL", f"{numbers['wal']:.1f} bytes a sample"),
            _row("block, chunks", f"{numbers['chunks']:.2f} bytes a sample"),
            _row("block, index", f"{numbers['index']:.0f} bytes a series"),
            _row("a further run adds", f"{numbers['churn']:.0f} series, recorded ones included"),
        ],
        [
            _row("group of rules", "evaluation, s", "longest, s", "samples"),
            *(
                _row(group, f"{last:.3f}", f"{longest:.3f}", f"{count:,.0f}")
                for group, (last, longest, count) in groups
            ),
        ],
        [
            _row("slowest rules", "s"),
            *(_row(f"`{name}`", f"{seconds:.3f}") for seconds, name in measured.rules),
        ],
        [
            _row("query", "wall, s", "rows"),
            *(
                _row(what, f"{seconds:.3f}", f"{count:,}")
                for what, seconds, count in measured.queries
            ),
        ],
    ]
    intro = (
        f"Measured on {os.cpu_count()} hardware threads and {memory:.0f} GiB, Linux {kernel}, "
        f"Prometheus {version()},\nscraping every {SCRAPE_SECONDS} s. "
        f"The simulated nodes ran beside it, with {numbers['server_cpu']:.2f} s of CPU a second.\n"
    )
    return "\n".join([intro, *(_table(rows) for rows in tables)])


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _table(rows: Sequence[str]) -> str:
    """The first row is its head."""
    columns = rows[0].count("|") - 1
    return "\n".join([rows[0], "|---" * columns + "|", *rows[1:], ""])


def version() -> str:
    """That of Prometheus."""
    done = subprocess.run(["prometheus", "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"version (\S+?)[+ ]", done.stdout + done.stderr)
    return found[1] if found else "of unknown version"


def say(what: str) -> None:
    """Tell what is being measured."""
    print(f"fleet: {what}", file=sys.stderr, flush=True)  # noqa: T201  a program prints


if __name__ == "__main__":
    sys.exit(main())
