"""A Kubernetes node: simulated cgroups, a kubelet with gRPC and an API server with HTTP."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from exporter.attribute.sources.kube import pod_runs
from exporter.attribute.sources.kube.api_server import ApiServerClient
from exporter.attribute.sources.kube.pod_metadata import PodLogDirectories
from exporter.attribute.sources.kube.pod_resources import KubeletClient
from exporter.attribute.sources.kube.pod_watch import PodWatch
from exporter.worker import Worker, wait_until
from tests.fakes import FakeClock
from tests.kube.api_server import FakeApiServer
from tests.kube.kubelet import FakeKubelet

SOON = 60.0


class ByHand:
    """Replaces a worker: works on request of a test, in its thread."""

    def __init__(self, _name: str, work: Any, _period: float) -> None:
        self.work = work

    def start(self) -> None:
        pass

    def stop(self, _timeout_seconds: float) -> bool:
        return True


@pytest.fixture(autouse=True)
def _no_pods_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The machine that runs the tests may be a node."""
    monkeypatch.setattr(
        pod_runs, "PodLogDirectories", lambda procfs: PodLogDirectories(procfs, str(tmp_path))
    )


@pytest.fixture
def fake_kubelet(tmp_path: Path) -> Iterator[FakeKubelet]:
    made = FakeKubelet(tmp_path / "pod-resources" / "kubelet.sock").start()
    yield made
    made.go.set()
    made.stop()


@pytest.fixture
def kubelet(fake_kubelet: FakeKubelet, clock: FakeClock) -> Iterator[KubeletClient]:
    made = KubeletClient(str(fake_kubelet.path), clock, ByHand)  # type: ignore[arg-type]
    yield made
    made.stop(1)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[FakeApiServer]:
    made = FakeApiServer(tmp_path / "api")
    yield made
    made.stop()


def server_of(api: FakeApiServer) -> ApiServerClient:
    return ApiServerClient("localhost", api.port, str(api.account))


class Watching:
    """A watch in its own thread, with functions to wait for its state."""

    def __init__(self, api: FakeApiServer, clock: FakeClock, labels: tuple[str, ...]) -> None:
        self.api = api
        self.watch = PodWatch(
            server_of(api), "node-1", clock, labels, lambda name, work, _: Worker(name, work, 0.01)
        )
        self._is_started = False

    def _start(self) -> None:
        """Start on the first wait; before that a test can set the state of the server."""
        if not self._is_started:
            self._is_started = True
            self.watch.start()

    def until(self, condition: Any) -> Any:
        self._start()
        assert wait_until(lambda: condition(self.watch.latest), SOON), self.watch.latest
        return self.watch.latest

    def until_following(self, watches: int = 1) -> None:
        """Wait until so many watches were started; the last one then receives events."""
        self._start()
        assert wait_until(lambda: self.api.watches >= watches, SOON)


@pytest.fixture
def watching(api: FakeApiServer, clock: FakeClock) -> Iterator[Watching]:
    made = Watching(api, clock, ("team",))
    yield made
    assert made.watch.stop(SOON)
