"""What pods add: real cgroups, a kubelet and an API server that speak, and eight made-up GPUs."""

import contextlib
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from tests.bench import cost
from tests.bench.scene import PODS, SETTLE_SECONDS, compiled, running
from tests.kube.api_server import FakeApiServer, described
from tests.kube.kubelet import FakeKubelet, container, pod
from tests.nvml.fake import FakeNvml, build
from tests.real.parts import Daemon, until

COUNTS = (0, 110, 500)
GPUS = 8
NVIDIA = "nvidia.com/gpu"
SECONDS_PER_MINUTE = 60


class PodStep(NamedTuple):
    """The cost of so many pods."""

    step: cost.Step
    to_kubelet: float
    """Requests a minute."""
    to_server: float


def steps(directory: Path, ticks: int) -> Iterator[PodStep]:
    """The curve."""
    library = build(directory / "library")
    floor = compiled("floor", directory)
    for count in COUNTS:
        yield _step(directory / str(count), library, floor, count, ticks)
    for path in (PODS / "burstable", PODS):
        with contextlib.suppress(OSError):
            path.rmdir()


def _step(directory: Path, library: Path, floor: str, count: int, ticks: int) -> PodStep:
    with ExitStack() as ends:
        uids = [str(uuid.uuid4()) for _ in range(count)]
        cgroups = [PODS / "burstable" / f"pod{uid}" for uid in uids]
        for path in cgroups:
            path.mkdir(parents=True)
            ends.callback(path.rmdir)
        fake = FakeNvml(directory / "fake", _host())
        kubelet = FakeKubelet(directory / "pod-resources" / "kubelet.sock")
        kubelet.allocatable = {NVIDIA: [f"GPU-{n}::{k}" for n in range(GPUS) for k in range(4)]}
        kubelet.pods = [_pod(number) for number in range(count)]
        ends.callback(kubelet.stop)
        kubelet.start()
        api = FakeApiServer(directory / "api")
        ends.callback(api.stop)
        api.pods = [described(uid, f"pod-{n}", "ml") for n, uid in enumerate(uids)]
        (directory / "sys").mkdir()
        config = directory / "config.json"
        config.write_text('{"attribute": {"max_runs": 1000}}')
        flags = f"--path.sysfs={directory / 'sys'}", f"--config.file={config}"
        daemon = Daemon(directory / "daemon", *flags, "--log.level=error")
        environment = {
            **fake.environment(library),
            "EMISSIONS_EXPORTER_ATTRIBUTE_NODE_NAME": "node-1",
            "EMISSIONS_EXPORTER_ATTRIBUTE_KUBELET_SOCKET": str(kubelet.path),
            "EMISSIONS_EXPORTER_ATTRIBUTE_SERVICE_ACCOUNT": str(api.account),
            "KUBERNETES_SERVICE_HOST": "localhost",
            "KUBERNETES_SERVICE_PORT": api.port,
        }
        ends.enter_context(running(daemon, **environment))
        until(lambda: len(daemon.json("/api/v1/snapshot")["runs"]) >= count, 30, "pods are shown")
        until(lambda: len(daemon.devices()) >= GPUS, what="the GPUs are shown")
        time.sleep(SETTLE_SECONDS + 5)
        asked, requests, began = kubelet.asked, len(api.requests), time.monotonic()
        clocks = [str(path / "cpu.stat") for path in cgroups]
        step = cost.step(count, daemon, ticks, floor, ["/proc/stat", *clocks])
        per_minute = SECONDS_PER_MINUTE / (time.monotonic() - began)
        return PodStep(
            step,
            (kubelet.asked - asked) * per_minute,
            (len(api.requests) - requests) * per_minute,
        )


def _pod(number: int) -> bytes:
    """The first have a quarter of a GPU each."""
    gpu, replica = divmod(number, 4)
    devices = {NVIDIA: [f"GPU-{gpu}::{replica}"]} if gpu < GPUS else {}
    return pod("ml", f"pod-{number}", container("main", devices))


def _host() -> dict[str, Any]:
    gpus = [
        {
            "kind": "gpu",
            "id": f"GPU-{number}",
            "model": "made up",
            "power_limit_watts": 700,
            "watts": [[0, 100], [300, 600]],
        }
        for number in range(GPUS)
    ]
    return {"period_seconds": 600, "devices": gpus}
