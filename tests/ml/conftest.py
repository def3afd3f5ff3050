"""A daemon whose package draws 100 W, always, for tests beside the real library of a tool."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.real.fed import daemon_of_100_watts
from tests.real.parts import REPOSITORY, Daemon


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Only `make test-ml` has the libraries that these tests import."""
    return config.option.markexpr != "ml" or None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.ml)


@pytest.fixture(scope="session")
def made_up_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with daemon_of_100_watts(tmp_path_factory.mktemp("ml")) as made:
        yield made


@pytest.fixture
def daemon(made_up_daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> Daemon:
    """Found by every tracker of the test."""
    monkeypatch.setenv("EMISSIONS_EXPORTER_EXPOSE_SOCKET", made_up_daemon.socket)
    return made_up_daemon


@pytest.fixture
def example(daemon: Daemon, tmp_path: Path) -> Callable[..., str]:
    """Runs one of `examples/` in an empty directory; what it printed."""

    def run(path: str, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, str(REPOSITORY / "examples" / path)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
