"""The image, built by whatever engine answers, and containers made of it."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.feeder import Package, PowercapTree
from tests.real.parts import REPOSITORY, free_port, get, until

ENGINE = os.environ.get("ENGINE", "docker")
BASE = os.environ.get("BASE", "python:3.13-slim")
HARDENED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges")
ENTRY = "/opt/emissions-exporter/bin/emissions-exporter"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.image)


def engine(*arguments: str, check: bool = True) -> str:
    """What the engine answers; with `check`, a failure fails the test."""
    done = subprocess.run([ENGINE, *arguments], capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return (done.stdout + done.stderr).strip()


def inspect(name: str) -> dict[str, Any]:
    (found,) = json.loads(engine("inspect", name))
    return dict(found)


@pytest.fixture(scope="session")
def image() -> str:
    """The name of the image, built by the plain builder on BASE; or a skip."""
    try:
        subprocess.run([ENGINE, "info"], capture_output=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        pytest.skip(f"no engine answers to `{ENGINE} info`")
    name = "emissions-exporter:test"
    command = ["make", "image", f"ENGINE={ENGINE}", f"IMAGE={name}", f"BASE={BASE}"]
    plain = {**os.environ, "DOCKER_BUILDKIT": "0"}
    built = subprocess.run(
        command, cwd=REPOSITORY, env=plain, capture_output=True, text=True, check=False
    )
    if (
        built.returncode
        and subprocess.run(
            [ENGINE, "image", "inspect", BASE], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip(f"the base {BASE} cannot be had: {built.stderr.splitlines()[-1]}")
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-2000:]
    return name


class Container:
    """A running container whose page answers at `url`, removed at the end."""

    def __init__(self, image: str, port: int, *flags: str) -> None:
        self.image, self.flags = image, (f"--publish=127.0.0.1:{port}:10680", *flags)
        self.url = f"http://127.0.0.1:{port}"
        self.id = ""

    def start(self, *command: str) -> "Container":
        self.id = engine("run", "--detach", *self.flags, self.image, *command).splitlines()[-1]
        until(self._answers, what="the container answers")
        return self

    def _answers(self) -> bytes:
        state = inspect(self.id)["State"]
        assert state["Running"], engine("logs", self.id, check=False)
        return get(self.url + "/-/ready")

    def energy_uj(self, device: str) -> int:
        """What was counted of a device, exactly."""
        devices = json.loads(get(self.url + "/api/v1/devices"))["devices"]
        return int(next(each["counted"]["energy_uj"] for each in devices if each["id"] == device))

    def remove(self) -> None:
        if self.id:
            engine("rm", "--force", self.id, check=False)
            self.id = ""


@pytest.fixture
def volumes() -> Iterator[dict[str, str]]:
    """Volumes of the engine for the totals and for the agent socket."""
    made = {kind: f"emissions-test-{kind}-{os.getpid()}" for kind in ("state", "run")}
    for name in made.values():
        engine("volume", "create", name)
    yield made
    for name in made.values():
        engine("volume", "rm", "--force", name, check=False)


@pytest.fixture
def powercap(tmp_path: Path) -> Iterator[PowercapTree]:
    """Counters of one processor, as the kernel shows them: to uid 0 alone."""
    with PowercapTree(str(tmp_path / "sys"), [Package(100, 20)]) as tree:
        for counter in (tmp_path / "sys").rglob("energy_uj"):
            counter.chmod(0o400)
        yield tree


@pytest.fixture
def make(image, volumes, tmp_path) -> Iterator[Any]:
    """Makes hardened containers, with volumes and the counters of `powercap` if they are there."""
    made: list[Container] = []

    def container(*flags: str) -> Container:
        mounts = (
            f"--volume={volumes['state']}:/var/lib/emissions-exporter",
            f"--volume={volumes['run']}:/run/emissions-exporter",
            f"--volume={tmp_path / 'sys'}:/host/sys:ro",
            "--env=EMISSIONS_EXPORTER_SAMPLE_SYSFS=/host/sys",
        )
        made.append(Container(image, free_port(), *HARDENED, *mounts, *flags))
        return made[-1]

    yield container
    for each in made:
        each.remove()
