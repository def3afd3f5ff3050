"""Another user of the machine attacks the agent socket of a daemon that measures a run of ours."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from exporter.client.agent_client import AgentClient
from tests.real.parts import LONG_SECONDS, REPOSITORY, Daemon, get, let_others_in
from tests.real.test_server import MEMORY_MOST_KB, resident_kb
from tests.real.test_unprivileged import NOBODY

MAX_RUNS, IDLERS, FLOODERS, ASKED = 40, 1_000, 32, 25
HEAD = """
import http.client, json, socket, sys
import time
from concurrent.futures import ThreadPoolExecutor

class Connection(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(sys.argv[1])

def ask(method, path, body=None):
    connection = Connection("localhost")
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    except (OSError, http.client.HTTPException) as error:
        return 0, {"error": str(error)}
    finally:
        connection.close()

def tell(value):
    print(json.dumps(value), flush=True)
"""


class Neighbor:
    """A user without rights, who runs programs beside a daemon of root."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self._python = python_for_others()

    def begin(self, program: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [self._python, "-c", HEAD + program, self.daemon.socket],
            cwd="/",
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, program: str) -> Any:
        """Return what a program told."""
        out, _ = self.begin(program).communicate(timeout=LONG_SECONDS)
        return json.loads(out)


def python_for_others() -> str:
    """Return an interpreter that other users may run, or skip."""
    for path in (sys.executable, "/usr/bin/python3"):
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            subprocess.run([path, "-c", ""], cwd="/", user=NOBODY, group=NOBODY, check=True)
            return path
    pytest.skip("other users may run no Python of this machine")


@pytest.fixture(scope="module")
def neighbor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neighbor]:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    root = tmp_path_factory.mktemp("neighbors")
    let_others_in(root)
    (root / "sys").mkdir()
    settings = {"attribute": {"max_runs": MAX_RUNS, "read_environments": False}}
    (root / "config.json").write_text(json.dumps(settings))
    daemon = Daemon(root / "n", f"--path.sysfs={root}/sys", f"--config.file={root}/config.json")
    daemon.start()
    AgentClient(daemon.socket).start(run_id="ours", name="ours")
    try:
        yield Neighbor(daemon)
    finally:
        daemon.stop()


def ours(neighbor: Neighbor) -> dict[str, Any]:
    return AgentClient(neighbor.daemon.socket).run("ours")


def test_a_neighbor_can_neither_end_nor_update_a_run_of_ours(neighbor: Neighbor) -> None:
    told = neighbor.run(
        """
bodies = {"end": {}, "log": {"values": {"loss": 1}, "count": {"tokens": 9}}}
tell([ask("POST", f"/v1/runs/ours/{verb}", body)[0] for verb, body in bodies.items()])
"""
    )
    assert set(told) <= {403, 404}
    record = ours(neighbor)
    assert (record["ended"], record["logged"], record["units"]) == (None, {}, {})


def test_the_same_id_is_another_run_of_the_neighbor(neighbor: Neighbor) -> None:
    status, record = neighbor.run('tell(ask("POST", "/v1/runs", {"run_id": "ours"}))')
    assert (status, record["run_id"], record["uid"]) == (201, f"ours@{NOBODY}", NOBODY)
    assert ours(neighbor)["uid"] == 0


def test_a_flood_of_queries_leaves_room_for_ours(neighbor: Neighbor) -> None:
    flood = neighbor.begin(
        f"""
def flood(number):
    while not ended:
        statuses.add(ask("GET", f"/v1/runs?limit=1000&by=user" if number % 2 else "/v1/runs/no")[0])

ended, statuses = [], set()
with ThreadPoolExecutor({FLOODERS}) as crowd:
    floods = [crowd.submit(flood, number) for number in range({FLOODERS})]
    while 503 not in statuses: time.sleep(0.01)
    print("flooded", flush=True)
    sys.stdin.readline()
    ended.append(True)
tell(sorted(statuses))
"""
    )
    assert flood.stdout is not None
    assert flood.stdout.readline() == "flooded\n"
    agent = AgentClient(neighbor.daemon.socket)
    for _ in range(ASKED):  # a refusal raises
        assert ours(neighbor)["run_id"] == "ours"
        assert "ours" in {run["run_id"] for run in agent.runs()}
        assert get(f"{neighbor.daemon.url}/metrics")
    out, _ = flood.communicate("\n", timeout=LONG_SECONDS)
    assert set(json.loads(out)) <= {200, 404, 503}


def test_idle_connections_leave_room_for_ours(neighbor: Neighbor) -> None:
    idlers = neighbor.begin(
        f"""
import resource
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
held = []
for _ in range({IDLERS}):
    held.append(socket.socket(socket.AF_UNIX))
    held[-1].connect(sys.argv[1])
print("idle", flush=True)
sys.stdin.readline()
"""
    )
    assert idlers.stdout is not None
    assert idlers.stdout.readline() == "idle\n"
    for _ in range(ASKED):
        assert ours(neighbor)["run_id"] == "ours"
        assert get(f"{neighbor.daemon.url}/metrics")
    idlers.communicate("\n", timeout=LONG_SECONDS)


def test_a_neighbor_that_begins_too_many_runs_leaves_room_for_ours(neighbor: Neighbor) -> None:
    told = neighbor.run(
        f"""
ids = []
for number in range({2 * MAX_RUNS}):
    status, record = ask("POST", "/v1/runs", {{"run_id": f"many-{{number}}"}})
    ids.append(record.get("run_id", status))
    time.sleep(0.03)  # at most 50 requests a second
tell(ids)
"""
    )
    assert "other" in told
    record = AgentClient(neighbor.daemon.socket).start(run_id="later")
    assert record["run_id"] == "later"


def test_a_program_whose_directories_are_read_only_is_measured(neighbor: Neighbor) -> None:
    neighbor.daemon.pass_ticks(2)  # until runs of other tests have ended with their processes
    told = neighbor.run(
        f"""
import logging, os
sys.path.insert(0, {str(REPOSITORY)!r})
os.environ.update(HOME="/", EMISSIONS_EXPORTER_EXPOSE_SOCKET=sys.argv[1])
from exporter.client import track
said = []
handler = logging.Handler()
handler.emit = lambda record: said.append(record.getMessage())
logging.getLogger("emissions").addHandler(handler)
with track("read-only", interval_seconds=0.1, codecarbon_csv="emissions.csv") as run:
    run.count(steps=1)
    for _ in range(3): run.refresh()
tell({{"record": run.record, "said": [text for text in said if "not written" in text]}})
"""
    )
    assert told["record"]["units"] == {"steps": 1}
    assert told["record"]["end_reason"] == "ended"
    assert any("receipt in /emissions not written" in text for text in told["said"])
    assert len(told["said"]) == len(set(told["said"]))


def test_the_daemon_is_as_before_after_all_of_it(neighbor: Neighbor) -> None:
    process = neighbor.daemon.process
    assert process is not None
    assert process.poll() is None
    assert resident_kb(process.pid) < MEMORY_MOST_KB
    assert "Traceback" not in neighbor.daemon.log()
    assert neighbor.daemon.json("/api/v1/snapshot")["health"]["imbalance_uj"] == 0
