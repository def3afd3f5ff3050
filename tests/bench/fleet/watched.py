"""A real Prometheus with all rules, and what it says of itself."""

import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

from tests.real.parts import COMMAND, REPOSITORY, free_port, get, until

SCRAPE_SECONDS = 15
OF_A_TARGET = 5
"""Series that Prometheus adds to each page: up, and what it says of the scrape."""
DEPLOY = REPOSITORY / "deploy" / "prometheus"


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


def asked(url: str, text: str, span: float = 0, step: float = 15) -> list[dict[str, Any]]:
    """The answer of one query, over the last `span` seconds where there is one.

    It may take minutes.
    """
    fields: dict[str, Any] = {"query": text}
    if span:
        now = time.time()
        fields |= {"start": now - span, "end": now, "step": step}
    data = urllib.parse.urlencode(fields).encode()
    how = "query_range" if span else "query"
    with urllib.request.urlopen(f"{url}/api/v1/{how}", data, timeout=150) as response:
        return list(json.loads(response.read())["data"]["result"])


def timed(url: str, text: str, span: float = 0, step: float = 15) -> tuple[float, int]:
    """Median wall time of three in seconds, and the rows of the answer."""
    times, rows = [], 0
    for _ in range(3):
        began = time.perf_counter()
        rows = len(asked(url, text, span, step))
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


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
