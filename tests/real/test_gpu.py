"""A daemon over a made-up NVIDIA driver whose counters go on while no daemon runs."""

import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from exporter.sample.sources.gpu.collector import READ_TIMEOUT_SECONDS
from tests.nvml.fake import FakeNvml, build
from tests.real.absence import KnownTruth, Snapshot, Story, counted_uj, device, play, read_at
from tests.real.parts import Daemon, until

pytestmark = [
    pytest.mark.real,
    pytest.mark.beside,
    pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler for the made-up driver"),
]

CURVES = (
    [[0, 80], [3, 690], [9, 650], [11, 120], [17, 700]],
    [[0, 400]],
    [[0, 75], [10, 76]],
)
GPUS = tuple(f"GPU-{number}" for number in range(len(CURVES)))
PERIOD = 20


def host() -> dict[str, Any]:
    gpus = [
        {
            "kind": "gpu",
            "id": name,
            "model": "NVIDIA H200",
            "pci_bus_id": f"00000000:{number + 1:02X}:00.0",
            "power_limit_watts": 700,
            "watts": watts,
        }
        for number, (name, watts) in enumerate(zip(GPUS, CURVES, strict=True))
    ]
    return {"period_seconds": PERIOD, "devices": gpus}


class Node(NamedTuple):
    """A daemon and the driver under it."""

    daemon: Daemon
    fake: FakeNvml

    def snapshot(self) -> Snapshot:
        return dict(self.daemon.json("/api/v1/snapshot"))

    def gpu(self, name: str) -> dict[str, Any]:
        return device(self.snapshot(), name)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("library"))


@pytest.fixture(scope="module")
def make(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Node]]:
    """Makes nodes; each has a driver and a ledger of its own."""
    nodes: list[Node] = []
    with pytest.MonkeyPatch.context() as patch:

        def make() -> Node:
            directory = tmp_path_factory.mktemp("node")
            fake = FakeNvml(directory / "fake", host())
            for name, value in fake.environment(library).items():
                patch.setenv(name, value)
            nodes.append(Node(Daemon(directory / "daemon").start(), fake))
            return nodes[-1]

        yield make
    for node in nodes:
        node.fake.heal()
        node.daemon.stop()


@pytest.fixture(scope="module")
def story(make: Callable[[], Node]) -> Story:
    node = make()
    return play(node.daemon, GPUS, node.fake.joules)


@pytest.fixture(params=GPUS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class TestAbsence(KnownTruth):
    pass


def test_what_was_used_in_the_absence_is_the_restarts(story: Story) -> None:
    assert story.has_restart_energy("GPU-1")


def child_of(node: Node, run_id: str) -> int:
    """The pid of a run's program, from its record."""

    def find() -> int | None:
        for run in node.snapshot()["runs"]:
            if run["run_id"] == run_id:
                for status in Path("/proc").glob("[0-9]*/cmdline"):
                    try:
                        words = status.read_bytes().split(b"\0")
                    except OSError:
                        continue
                    if words[:2] == [b"sleep", run_id.encode()]:
                        return int(status.parent.name)
        return None

    return until(find, what=f"the program of {run_id}") or 0


def test_two_runs_that_share_a_gpu_of_400_w_pay_400_w_together(make: Callable[[], Node]) -> None:
    node = make()
    names = ("1111.25", "1111.75")
    runs = [node.daemon.run(f"--run-id={name}", "--", "sleep", name) for name in names]
    try:
        for name, active in zip(names, (0.2, 0.6), strict=True):
            node.fake.begin_process(1, child_of(node, name), active)

        def powers() -> dict[str, float]:
            lines = node.snapshot()["lines"]
            return {
                line["party"]["run_id"]: line["power_watts"]
                for line in lines
                if line["id"] == "GPU-1"
                and "run_id" in line["party"]
                and line["split"] == "activity"
                and line["power_watts"]
            }

        shared = until(lambda: p if len(p := powers()) == len(names) else None, 30, "both pay")
        assert sum(shared.values()) == pytest.approx(400, rel=0.02)
        # by 60 to 20, as far as the driver's samples cover the time
        assert shared["1111.75"] == pytest.approx(3 * shared["1111.25"], rel=0.15)
    finally:
        for run in runs:
            run.terminate()
            run.communicate(timeout=20)


def test_on_sigusr1_the_driver_is_let_go_of(make: Callable[[], Node]) -> None:
    node = make()
    assert node.daemon.process is not None
    node.daemon.process.send_signal(signal.SIGUSR1)
    until(lambda: "GPUs can be reset" in node.daemon.log(), what="the driver is let go of")
    until(lambda: "SIGUSR1" in node.gpu("GPU-0")["why"], what="the page says so")


def test_a_replaced_driver_ends_the_daemon_with_75_and_nothing_is_lost(
    make: Callable[[], Node],
) -> None:
    node = make()
    until(lambda: counted_uj(node.snapshot(), "GPU-0"), what="energy is counted")
    before = node.snapshot()
    node.fake.fault("nvmlDeviceGetFieldValues", 18)
    assert node.daemon.process is not None
    assert node.daemon.process.wait(20) == 75
    assert re.search("this process must be restarted", node.daemon.log())
    assert "Traceback" not in node.daemon.log()
    node.fake.heal()
    node.daemon.start()
    assert counted_uj(node.snapshot(), "GPU-0") >= counted_uj(before, "GPU-0")


def test_a_driver_that_is_always_slower_than_a_tick_waits_is_read_all_the_same(
    make: Callable[[], Node],
) -> None:
    node = make()
    node.fake.fault("nvmlDeviceGetFieldValues", gpu=1, delay_ms=round(3000 * READ_TIMEOUT_SECONDS))
    begin = until(
        lambda: s if counted_uj(s := node.snapshot(), "GPU-1") else None, what="it is read"
    )
    node.daemon.pass_ticks(5)
    end = node.snapshot()
    counted = (counted_uj(end, "GPU-1") - counted_uj(begin, "GPU-1")) / 1e6
    truth = node.fake.joules("GPU-1", read_at(begin, "GPU-1"), read_at(end, "GPU-1"))
    assert counted == pytest.approx(truth, rel=0.05)
    assert device(end, "GPU-1")["up"]


def test_a_hung_gpu_holds_up_neither_ticks_nor_the_exit(make: Callable[[], Node]) -> None:
    node = make()
    node.fake.fault("nvmlDeviceGetFieldValues", gpu=0, delay_ms=-1)
    until(lambda: "has not answered" in node.gpu("GPU-0")["why"], what="the hang is seen")
    before = node.snapshot()
    until(lambda: node.snapshot()["tick"] >= before["tick"] + 3, what="ticks go on")
    after = node.snapshot()
    assert after["health"]["loop_overruns"] == before["health"]["loop_overruns"]
    assert counted_uj(after, "GPU-1") > counted_uj(before, "GPU-1")
    assert node.daemon.stop() == 0
