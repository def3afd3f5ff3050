"""The leaderboard of a real daemon, a real Prometheus and files, and its page in a browser."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from exporter.client.agent_client import AgentClient
from tests.real.browser import FLAGS, TEXTS, faint
from tests.real.parts import (
    COMMAND,
    LONG_SECONDS,
    REPOSITORY,
    Daemon,
    Prometheus,
    after,
    busy,
    until,
)

pytestmark = pytest.mark.beside

HOSTILE = "<img src=x onerror=alert(1)>"
RUNS = {"short": (1, 0.5), "long": (3, 0.9), HOSTILE: (2, 0.2)}
"""How many seconds each is busy, and its accuracy."""

SETTINGS = {"attribute": {"read_environments": False}, "sample": {"interval_seconds": 0.2}}
"""Nothing else that runs on this machine is to be among them."""


DRAWN = "[...document.images].filter(i => i.complete && i.naturalWidth > 0).length"


class Scene:
    """A daemon on which runs took place, the Prometheus that scraped it, and the runs' files."""

    def __init__(self, root: Path, ends: ExitStack) -> None:
        config, empty = root / "config.json", root / "sys"
        empty.mkdir()
        config.write_text(json.dumps(SETTINGS))
        self.daemon = Daemon(root / "node", f"--path.sysfs={empty}", f"--config.file={config}")
        ends.callback(self.daemon.stop)
        self.daemon.start()
        self.files = [str(root / f"{number}.json") for number in range(len(RUNS))]
        self.url = ""
        if shutil.which("prometheus"):
            prometheus = Prometheus(root / "prometheus", {"n1": self.daemon}, scrape="200ms")
            ends.callback(prometheus.stop)
            self.url = prometheus.url
        still = self.daemon.run("--run-id=still", "--", *busy(300))
        ends.callback(still.communicate)
        ends.callback(still.terminate)
        for file, (run_id, (seconds, accuracy)) in zip(self.files, RUNS.items(), strict=True):
            self._run(run_id, seconds, accuracy, file)
        if self.url:
            ended = "timestamp(emissions_run_end_time_seconds) - emissions_run_end_time_seconds > 1"
            until(lambda: len(prometheus.query(ended)) == len(RUNS), what="ends were scraped")

    def _run(self, run_id: str, seconds: float, accuracy: float, file: str) -> None:
        told = Path(f"{file}.told")
        command = after(told, busy(seconds))
        run = self.daemon.run(f"--run-id={run_id}", f"--output={file}", "--", *command)
        until(lambda: run_id in self.ledger(), what="the daemon knows the run")
        AgentClient(self.daemon.socket).log(
            run_id, None, values={"accuracy": accuracy}, count={"requests": 100}
        )
        told.touch()
        run.communicate(timeout=LONG_SECONDS)

    def ledger(self) -> dict[str, Any]:
        return {run["run_id"]: run for run in self.daemon.json("/api/v1/runs")["runs"]}

    def print(self, *arguments: str) -> str:
        """What the command prints."""
        ended = subprocess.run(
            [*COMMAND, "leaderboard", *arguments],
            cwd=REPOSITORY,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.decode()

    def board(self, *arguments: str) -> dict[str, Any]:
        """The runs, in order, by id."""
        found = json.loads(self.print("--format=json", *arguments))
        return {run["run_id"]: run for run in found["runs"]}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with ExitStack() as ends:
        yield Scene(tmp_path_factory.mktemp("leaderboard"), ends)


@pytest.fixture(params=["daemon", "files", "prometheus", "prometheus with files"])
def source(request: pytest.FixtureRequest, scene: Scene) -> list[str]:
    """The arguments that say where runs come from."""
    if request.param == "daemon":
        return [f"--socket.path={scene.daemon.socket}"]
    if request.param == "files":
        return ["--from", *scene.files]
    if not scene.url:
        pytest.skip("no prometheus on this machine: `make test` as root installs it")
    files = ["--from", *scene.files] if "files" in request.param else []
    return [f"--prometheus={scene.url}", *files]


def test_the_runs_that_ended_used_what_the_ledger_says(scene: Scene, source: list[str]) -> None:
    board, ledger = scene.board(*source), scene.ledger()
    assert set(board) - {"still"} == set(RUNS)
    for run_id in RUNS:
        assert board[run_id]["energy_joules"] == pytest.approx(ledger[run_id]["energy_joules"])
        assert board[run_id]["carbon_grams"] == pytest.approx(ledger[run_id]["carbon_grams"])
        assert board[run_id]["grams_per_units"] == pytest.approx(
            ledger[run_id]["carbon_grams"] * 100
        )


def test_they_stand_in_the_order_of_their_grams(scene: Scene, source: list[str]) -> None:
    board, ledger = scene.board(*source), scene.ledger()
    ranked = [run_id for run_id, run in board.items() if run["rank"] is not None]
    assert ranked == sorted(RUNS, key=lambda run_id: ledger[run_id]["carbon_ng"])


def test_results_are_those_that_were_logged(scene: Scene, source: list[str]) -> None:
    results = {run_id: run["result"] for run_id, run in scene.board(*source).items()}
    known = len(source) != 1 or "socket" in source[0]
    for run_id, (_, accuracy) in RUNS.items():
        assert results[run_id] == (accuracy if known else None)


def test_what_is_not_ended_has_no_rank(scene: Scene) -> None:
    for source in filter(None, (f"--socket.path={scene.daemon.socket}", scene.url and "")):
        assert scene.board(source)["still"]["rank"] is None
    if scene.url:
        assert scene.board(f"--prometheus={scene.url}")["still"]["running"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 703, 704, 1280])
def test_the_page_fits_is_readable_and_asks_nobody(
    scene: Scene, tmp_path: Path, width: int, scheme: str
) -> None:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium on this machine: `make tools` as root installs Debian's")
    file = tmp_path / "board.html"
    scene.print(f"--socket.path={scene.daemon.socket}", "--format=html", f"--output={file}")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        complaints: list[str] = []
        requested: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("request", lambda request: requested.append(request.url))
        page.goto(file.as_uri())
        texts = page.evaluate(TEXTS)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.locator("td", has_text=HOSTILE).is_visible()
        assert page.locator("img:visible").count() == 3
        assert page.evaluate(DRAWN) == 3
        browser.close()
    assert (complaints, requested) == ([], [file.as_uri()])
    assert len(texts) > 30
    assert faint(texts) == []
