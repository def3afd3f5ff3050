"""Programs in other containers, at the agent socket that they mounted."""

import json

import pytest

from tests.deploy.image.conftest import ENTRY, HARDENED, Container, engine
from tests.real.parts import get, until


@pytest.fixture
def trainer(image, volumes):
    """A container that has nothing but the socket, and runs commands."""
    made: list[str] = []

    def start() -> str:
        mount = f"--volume={volumes['run']}:/run/emissions-exporter"
        flags = ("--detach", "--entrypoint=sleep", "--user=1234", *HARDENED, mount)
        made.append(engine("run", *flags, image, "600").splitlines()[-1])
        return made[-1]

    yield start
    for each in made:
        engine("rm", "--force", each, check=False)


def ask(container: str, method: str, path: str, body: dict[str, object]) -> tuple[int, str]:
    """Status and text of what the agent answers to a process in a container."""
    script = (
        "import http.client, socket, sys\n"
        "link = http.client.HTTPConnection('localhost')\n"
        "link.sock = socket.socket(socket.AF_UNIX)\n"
        "link.sock.connect('/run/emissions-exporter/agent.sock')\n"
        f"link.request({method!r}, {path!r}, {json.dumps(body)!r})\n"
        "answer = link.getresponse()\n"
        "print(answer.status, answer.read().decode())\n"
    )
    said = engine("exec", container, "/opt/emissions-exporter/bin/python", "-c", script)
    status, _, text = said.partition(" ")
    return int(status), text


def runs(container: Container) -> list[dict[str, object]]:
    return list(json.loads(get(container.url + "/api/v1/runs"))["runs"])


def test_a_process_in_another_container_is_a_run(make, powercap, trainer):
    container = make("--user=0", "--pid=host").start()
    said = engine("exec", trainer(), ENTRY, "run", "--run-id=inside", "--", "sleep", "2")
    assert "Run inside" in said
    assert "inside" in [run["run_id"] for run in until(lambda: runs(container))]


def test_a_run_of_another_container_can_be_neither_joined_nor_added_to_nor_ended(
    make, powercap, trainer
):
    container = make("--user=0", "--pid=host").start()
    first, second = trainer(), trainer()
    engine("exec", "--detach", first, ENTRY, "run", "--run-id=theirs", "--", "sleep", "60")
    until(lambda: "theirs" in [run["run_id"] for run in runs(container)])
    refused = {
        "/v1/runs": (409, "in use outside of this container"),
        "/v1/runs/theirs/log": (403, "not in this container"),
        "/v1/runs/theirs/end": (403, "not in this container"),
    }
    for path, (status, why) in refused.items():
        body = {"run_id": "theirs"} if path == "/v1/runs" else {}
        answer = ask(second, "POST", path, body)
        assert answer[0] == status, answer
        assert why in answer[1]
    status, text = ask(first, "POST", "/v1/runs/theirs/end", {})
    assert status < 300, text


def test_without_the_hosts_pids_a_caller_is_told_what_to_do(make, powercap, trainer):
    make("--user=0").start()
    status, text = ask(trainer(), "POST", "/v1/runs", {"run_id": "unseen"})
    assert status >= 400
    assert "hostPID" in text
    assert "EMISSIONS_RUN_ID" in text
