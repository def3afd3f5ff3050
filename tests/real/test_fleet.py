"""One run on two nodes: its record from a real Prometheus, and from VictoriaMetrics behind it."""

import getpass
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from exporter.client.agent_client import AgentClient
from exporter.report.fleet import has_series
from exporter.report.prometheus_queries import PrometheusApi
from tests.real.parts import (
    COMMAND,
    LONG_SECONDS,
    REPOSITORY,
    Daemon,
    Prometheus,
    after,
    busy,
    free_port,
    get,
    until,
)

pytestmark = [pytest.mark.real, pytest.mark.beside]

RULES = REPOSITORY / "deploy" / "prometheus" / "rules" / "runs.yaml"
NODES = {"node-a": ("100:20", "60:10"), "node-b": ("45:5",)}
BUSY_SECONDS = 8
OFTEN_SECONDS = 0.2
SETTINGS = {
    "attribute": {"read_environments": False},
    "sample": {"interval_seconds": OFTEN_SECONDS},
}
"""Both nodes are one machine, and neither is to see the other's runs."""
TOKENS = 5


class Fleet:
    """Two nodes on which a run took place, and whoever scraped them."""

    def __init__(self, root: Path, ends: ExitStack) -> None:
        self.root = root
        self.nodes = {name: self._node(root / name, name, ends) for name in NODES}
        self.victoria = victoria(root / "victoria", ends)
        """With what the rules recorded; `scraped` has only what was scraped."""
        self.scraped = victoria(root / "scraped", ends)
        rules = root / "rules.yaml"
        rules.write_text(RULES.read_text().replace("interval: 1m", "interval: 1s"))
        drop = {"source_labels": ["__name__"], "regex": ".*:.*", "action": "drop"}
        writes = (
            {"url": f"{self.victoria}/api/v1/write"},
            {"url": f"{self.scraped}/api/v1/write", "write_relabel_configs": [drop]},
        )
        self.prometheus = Prometheus(
            root / "prometheus",
            self.nodes,
            str(rules),
            remote_write=writes if self.victoria else (),
            scrape=f"{OFTEN_SECONDS * 1000:.0f}ms",
        )
        ends.callback(self.prometheus.stop)

    def _node(self, directory: Path, name: str, ends: ExitStack) -> Daemon:
        sysfs, config = directory / "sys", directory / "config.json"
        directory.mkdir()
        config.write_text(json.dumps(SETTINGS))
        feeder = subprocess.Popen(
            [
                *(sys.executable, str(REPOSITORY / "tests" / "feeder.py"), f"--root={sysfs}"),
                *(f"--package={package}" for package in NODES[name]),
                *("--step=0.005", "--seconds=900"),
            ]
        )
        ends.callback(feeder.wait)
        ends.callback(feeder.terminate)
        until((sysfs / "truth.json").exists, what="the feeder plays")
        daemon = Daemon(directory, f"--path.sysfs={sysfs}", f"--config.file={config}")
        ends.callback(daemon.stop)
        return daemon.start()

    def report(self, url: str, *arguments: str) -> Any:
        """What the command prints; JSON."""
        command = [*COMMAND, "report", f"--prometheus={url}", "--format=json", *arguments]
        ended = subprocess.run(
            command, cwd=REPOSITORY, capture_output=True, timeout=60, check=False
        )
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    def ledgers(self, run_id: str) -> list[Any]:
        """The records of the nodes themselves."""
        return [
            run
            for daemon in self.nodes.values()
            for run in daemon.json("/api/v1/runs")["runs"]
            if run["run_id"] == run_id
        ]


def victoria(directory: Path, ends: ExitStack) -> str:
    """The address of a VictoriaMetrics; empty where this machine has none."""
    binary = shutil.which("victoria-metrics")
    if binary is None:
        return ""
    directory.mkdir()
    listen = f"127.0.0.1:{free_port()}"
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                binary,
                f"-storageDataPath={directory}/data",
                f"-httpListenAddr={listen}",
                "-search.latencyOffset=0s",
            ],
            stdout=log,
            stderr=log,
        )
    ends.callback(process.wait)
    ends.callback(process.terminate)
    until(lambda: get(f"http://{listen}/health"), what="VictoriaMetrics is ready")
    return f"http://{listen}"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A run of job j7 ended on both nodes, another of that job on one, and one is still open."""
    if shutil.which("prometheus") is None:
        pytest.skip("no prometheus on this machine: `make test` as root installs it")
    with ExitStack() as ends:
        fleet = Fleet(tmp_path_factory.mktemp("fleet"), ends)
        first, second = fleet.nodes.values()
        open_run = second.run("--run-id=open", "--", "sleep", "600")
        ends.callback(open_run.communicate)
        ends.callback(open_run.terminate)
        told = fleet.root / "told"
        wide = after(told, busy(BUSY_SECONDS))
        runs = [node.run("--run-id=wide", "--job-id=j7", "--", *wide) for node in (first, second)]
        runs.append(first.run("--run-id=narrow", "--job-id=j7", "--", *busy(3)))
        until(lambda: len(fleet.ledgers("wide")) == 2, what="both nodes know the run")
        for daemon in (first, second):
            AgentClient(daemon.socket).log("wide", None, count={"tokens": TOKENS})
        told.touch()
        for run in runs:
            run.communicate(timeout=LONG_SECONDS)
        for url in filter(None, (fleet.prometheus.url, fleet.victoria, fleet.scraped)):
            until(lambda url=url: seen(url), what=f"{url} has seen the end")
        yield fleet


def seen(url: str) -> bool:
    """Whether all that ended is there, and what it used: a scrape after the last end."""
    settled = "timestamp(emissions_run_end_time_seconds) - emissions_run_end_time_seconds > 3"
    found = PrometheusApi(url).query(settled)
    return len(found) == 3


@pytest.fixture(params=["prometheus", "victoria", "scraped"])
def url(request: pytest.FixtureRequest, fleet: Fleet) -> str:
    if request.param == "prometheus":
        return fleet.prometheus.url
    if not fleet.victoria:
        pytest.skip("no victoria-metrics on this machine; Debian has it in a package")
    return fleet.victoria if request.param == "victoria" else fleet.scraped


AMOUNTS = ("energy_uj", "held_uj", "carbon_ng")


def test_a_run_on_two_nodes_used_what_their_two_ledgers_say(fleet: Fleet, url: str) -> None:
    record, ledgers = fleet.report(url, "wide"), fleet.ledgers("wide")
    assert len(ledgers) == 2
    assert record["energy_uj"] > 0
    for amount in AMOUNTS:
        assert record[amount] == sum(ledger[amount] for ledger in ledgers)
    assert record["units"] == {"tokens": 2 * TOKENS}


def test_its_parts_are_the_devices_of_each_node_and_add_up(fleet: Fleet, url: str) -> None:
    record = fleet.report(url, "wide")
    for name, daemon in fleet.nodes.items():
        ledger = daemon.json("/api/v1/runs/wide?job_id=j7")
        for kind in ("cpu", "dram"):
            assert part_uj(record, kind, name) == part_uj(ledger, kind, name)
    assert sum(part["energy_uj"] for part in record["parts"]) == record["energy_uj"]
    assert sum(part["carbon_ng"] for part in record["parts"]) == record["carbon_ng"]


def part_uj(record: Any, kind: str, node: str) -> int:
    return sum(
        part["energy_uj"]
        for part in record["parts"]
        if part["device"] == kind and part.get("node", node) == node
    )


def test_it_began_with_the_first_and_ended_with_the_last(fleet: Fleet, url: str) -> None:
    record, ledgers = fleet.report(url, "wide"), fleet.ledgers("wide")
    assert record["started"] == pytest.approx(min(run["started"] for run in ledgers), abs=1e-3)
    assert record["ended"] == pytest.approx(max(run["ended"] for run in ledgers), abs=1e-3)
    assert record["boundary"]["nodes"] == list(NODES)
    assert (record["boundary"]["nodes_running"], record["boundary"]["nodes_lost"]) == ([], [])
    assert record["boundary"]["grids"][0]["grid_zone"] == "WORLD"
    assert record["user"] == getpass.getuser()


def test_rules_are_read_where_they_are_and_else_the_counters(fleet: Fleet, url: str) -> None:
    record = fleet.report(url, "wide")
    assert record["boundary"]["from_rules"] == (url != fleet.scraped)


def test_a_job_is_all_of_its_runs(fleet: Fleet, url: str) -> None:
    record = fleet.report(url, "--job-id=j7")
    ledgers = fleet.ledgers("wide") + fleet.ledgers("narrow")
    for amount in AMOUNTS:
        assert record[amount] == sum(ledger[amount] for ledger in ledgers)
    assert record["run_id"] == "all 2 of job j7"


def test_a_user_is_all_of_the_users_runs_and_nobody_else_is(fleet: Fleet, url: str) -> None:
    record = fleet.report(url, f"--user={getpass.getuser()}", "--job-id=j7")
    assert record["energy_uj"] == fleet.report(url, "--job-id=j7")["energy_uj"]
    assert fleet.report(url, f"--user={getpass.getuser()}")["runs"] == 3


def test_an_account_that_no_run_has_is_not_found(fleet: Fleet, url: str) -> None:
    command = [*COMMAND, "report", f"--prometheus={url}", "--account=nobody-at-all"]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert b"has no run of account nobody-at-all" in ended.stderr


def test_an_open_run_is_running(fleet: Fleet, url: str) -> None:
    record = fleet.report(url, "open")
    assert record["ended"] is None
    assert record["boundary"]["nodes_running"] == ["node-b"]


def test_a_selector_matches_what_is_there_and_nothing_else(fleet: Fleet, url: str) -> None:
    api = PrometheusApi(url)
    assert has_series(api, f'emissions_run_info{{user="{getpass.getuser()}"}}', 3600)
    assert not has_series(api, 'emissions_run_info{user="nobody-at-all"}', 3600)


def test_a_run_that_is_not_known_there_is_an_error(fleet: Fleet, url: str) -> None:
    with pytest.raises(AssertionError, match="has no run of id wade in the last 30 d"):
        fleet.report(url, "wade")


def values(url: str, query: str, at: str = "") -> dict[str, float]:
    """The result of a query, by its labels without the name."""
    asked = urlencode({"query": query, **({"time": at} if at else {})})
    found = json.loads(get(f"{url}/api/v1/query?{asked}"))["data"]["result"]
    return {
        json.dumps({k: v for k, v in row["metric"].items() if k != "__name__"}, sort_keys=True): (
            float(row["value"][1])
        )
        for row in found
    }


@pytest.mark.parametrize(
    "recorded",
    [
        "instance_run_id_job_id_device_id:emissions_run_energy_joules_total:max",
        "run_id:emissions_run_energy_joules:increase",
        "user:emissions_run_carbon_grams:increase",
    ],
)
def test_what_rules_recorded_is_the_same_in_both(fleet: Fleet, recorded: str) -> None:
    if not fleet.victoria:
        pytest.skip("no victoria-metrics on this machine; Debian has it in a package")
    over = f'max_over_time({recorded}{{run_id=~"wide|narrow|"}}[1h])'
    # At one moment: the user's run that is still open grows, and VictoriaMetrics may show what it
    # receives in steps of several samples.
    at = f"{time.time() - 2:.0f}"
    here = values(fleet.prometheus.url, over, at)
    assert here
    same = pytest.approx(here)
    until(lambda: values(fleet.victoria, over, at) == same, what="the same has arrived")


def test_rates_differ_by_less_than_two_percent(fleet: Fleet) -> None:
    if not fleet.victoria:
        pytest.skip("no victoria-metrics on this machine; Debian has it in a package")
    rate = "sum by (instance) (rate(emissions_device_energy_joules_total[20s]))"

    def agree() -> bool:
        """Each reads what lies around a sample in its own way: where scrapes are missing, apart."""
        at = f"{time.time() - 3:.0f}"  # what came last is still on its way
        here = values(fleet.prometheus.url, rate, at)
        same = pytest.approx(here, rel=0.02)
        return len(here) == len(NODES) and bool(values(fleet.victoria, rate, at) == same)

    until(agree, what="they agree of the twenty seconds before some moment")
