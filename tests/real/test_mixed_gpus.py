"""A daemon on a host with GPUs of two vendors, of which one driver is broken."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.amdgpu import hosts
from tests.amdgpu.host import Card, counts
from tests.nvml.fake import FakeNvml, build
from tests.real.absence import Snapshot, counted_uj, device
from tests.real.parts import Daemon, get, until

pytestmark = [
    pytest.mark.real,
    pytest.mark.beside,
    pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler for the made-up driver"),
    pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool"),
]

NVIDIA, AMD = "GPU-0", f"GPU-{hosts.MI300X_ID}"
TICKS, JOULES_PER_TICK = 10, 300
UNKNOWN_ERROR = 999
NVIDIA_HOST = {
    "period_seconds": 20,
    "devices": [
        {
            "kind": "gpu",
            "id": NVIDIA,
            "model": "NVIDIA H200",
            "pci_bus_id": "00000000:01:00.0",
            "power_limit_watts": 700,
            "watts": [[0, 400]],
        }
    ],
}


class Node(NamedTuple):
    """A daemon, the driver of NVIDIA under it, and the files of AMD's."""

    daemon: Daemon
    nvidia: FakeNvml
    amd: Card

    def snapshot(self) -> Snapshot:
        return dict(self.daemon.json("/api/v1/snapshot"))

    def use(self, ticks: int) -> None:
        """Let AMD's card use energy during so many ticks, all of which is then counted."""
        for _ in range(ticks):
            joules = counts(JOULES_PER_TICK)
            self.amd.show(energy_accumulator=self.amd.fields["energy_accumulator"] + joules)
            self.daemon.pass_ticks(1)
        self.daemon.pass_ticks(2)

    def page(self) -> str:
        return get(f"{self.daemon.url}/metrics").decode()


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    """Both cards have been read."""
    machine = hosts.mi300x(tmp_path / "machine")
    fake = FakeNvml(tmp_path / "fake", NVIDIA_HOST)
    for name, value in fake.environment(build(tmp_path / "library")).items():
        monkeypatch.setenv(name, value)
    daemon = Daemon(tmp_path / "daemon", f"--path.sysfs={machine.host.sysfs}")
    made = Node(daemon.start(), fake, machine.cards[0])
    try:
        until(lambda: counted_uj(made.snapshot(), NVIDIA), what="NVIDIA's energy is counted")
        made.use(2)
        yield made
    finally:
        fake.heal()
        daemon.stop()


def fail(node: Node) -> None:
    node.nvidia.fault("handle", UNKNOWN_ERROR)


def hang(node: Node) -> None:
    node.nvidia.fault("nvmlDeviceGetFieldValues", delay_ms=-1)


def lose(node: Node) -> None:
    node.nvidia.mark_lost(0)


@pytest.mark.parametrize("breakage", [fail, hang, lose])
def test_energy_of_amd_is_exact_while_the_driver_of_nvidia_is_broken(
    node: Node, breakage: Callable[[Node], None]
) -> None:
    breakage(node)
    until(lambda: not device(node.snapshot(), NVIDIA)["up"], what="the failure is seen")
    before = node.snapshot()
    node.use(TICKS)
    after = node.snapshot()
    assert counted_uj(after, AMD) - counted_uj(before, AMD) == TICKS * JOULES_PER_TICK * 1_000_000
    assert counted_uj(after, NVIDIA) == counted_uj(before, NVIDIA)
    assert after["health"]["loop_overruns"] == before["health"]["loop_overruns"]
    assert_page_of_two_vendors(node.page(), nvidia=0, amd=1)


def test_energy_of_nvidia_increases_while_the_card_of_amd_is_gone(node: Node) -> None:
    node.amd.path.rename(node.amd.path.parents[3] / "gone")
    until(lambda: not device(node.snapshot(), AMD)["up"], what="the failure is seen")
    before = node.snapshot()
    node.daemon.pass_ticks(TICKS)
    after = node.snapshot()
    assert counted_uj(after, AMD) == counted_uj(before, AMD)
    used = (counted_uj(after, NVIDIA) - counted_uj(before, NVIDIA)) / 1e6
    assert used == pytest.approx(400 * (after["at_ns"] - before["at_ns"]) / 1e9, rel=0.1)
    assert_page_of_two_vendors(node.page(), nvidia=1, amd=0)


def assert_page_of_two_vendors(page: str, *, nvidia: int, amd: int) -> None:
    for gpu, is_up in ((NVIDIA, nvidia), (AMD, amd)):
        assert f'emissions_device_up{{device="gpu",id="{gpu}"}} {is_up}.0\n' in page
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=page, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
