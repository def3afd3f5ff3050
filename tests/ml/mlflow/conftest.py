"""A tracking server of MLflow, and what it was told."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.parts import free_port, get, until

START_SECONDS = 120.0


class Server:
    """`mlflow server` on a database of its own; it comes back where it was."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Server":
        command = [
            *(sys.executable, "-m", "mlflow", "server", "--workers=1"),
            *(f"--backend-store-uri=sqlite:///{self.directory}/mlflow.db", "--host=127.0.0.1"),
            *(f"--artifacts-destination={self.directory}/artifacts", f"--port={self.port}"),
        ]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.directory, stdout=log, stderr=log, start_new_session=True
            )
        until(lambda: get(f"{self.uri}/health"), START_SECONDS, "the tracking server answers")
        return self

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait(START_SECONDS)

    @property
    def is_stopped(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def signal(self, number: int) -> None:
        """To all its processes: SIGSTOP, and nobody answers; SIGCONT, and all is as it was."""
        assert self.process is not None
        os.killpg(self.process.pid, number)

    def client(self) -> Any:
        import mlflow

        return mlflow.MlflowClient(tracking_uri=self.uri)

    def metrics(self, run_id: str) -> dict[str, float]:
        """The last value of each."""
        return dict(self.client().get_run(run_id).data.metrics)

    def tags(self, run_id: str) -> dict[str, str]:
        return dict(self.client().get_run(run_id).data.tags)


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("mlflow")).start()
    yield server
    server.stop()


@pytest.fixture
def server(running: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The server, which is MLflow's own in this test; in an empty directory."""
    import mlflow

    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri(running.uri)
    yield running
    if running.is_stopped:  # a test failed in between
        running.start()
    running.signal(signal.SIGCONT)
    while mlflow.active_run():
        mlflow.end_run()
