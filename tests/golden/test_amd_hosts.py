"""Pages of hosts with AMD GPUs that two runs share, byte for byte.

`UPDATE_GOLDEN=1` writes the pages anew.
"""

import os
import shutil
from pathlib import Path

import pytest

from exporter.attribute.sources.usernames import UsernameCache
from exporter.config import AccountConfig, Config, ConvertConfig, SampleConfig
from exporter.daemon import Daemon
from exporter.model.readings import DeviceKind
from exporter.sample.sources.amdgpu import driver
from exporter.sample.sources.amdgpu.kfd import OccupancySampler
from exporter.sample.sources.gpu import collector
from exporter.sample.sources.gpu.gpu import Gpu
from exporter.worker import deadline, wait_until
from tests.amdgpu import hosts
from tests.amdgpu.host import counts
from tests.fakes import FakeClock
from tests.golden.test_pages import assert_parsed, stable

PAGES = Path(__file__).parent / "amd_hosts"
PROCESSES = Path(__file__).parent / "hosts" / "cgroup-v2"
NIGHTLY, TRAIN = 500, 600
"""Processes of two runs, which their environments name."""
SECONDS = 30
SOON = 60.0


class SharedMi300x:
    """600 W in SPX mode; the compute units of one process are three times those of the other."""

    def __init__(self, root):
        self.machine = hosts.mi300x(root)
        self.machine.host.compute(NIGHTLY, hosts.GPU_IDS[0], occupied=228)
        self.machine.host.compute(TRAIN, hosts.GPU_IDS[0], occupied=76)

    def second(self, _number):
        (card,) = self.machine.cards
        energy = card.fields["energy_accumulator"] + counts(600)
        card.show(energy_accumulator=energy, curr_socket_power=600, average_gfx_activity=100)


class PartitionedMi300x:
    """600 W in CPX mode; two of eight partitions are used, one of them twice as much."""

    def __init__(self, root):
        self.machine = hosts.mi300x(root, 8)
        self.machine.host.compute(NIGHTLY, hosts.GPU_IDS[0])
        self.machine.host.compute(TRAIN, hosts.GPU_IDS[3])

    def second(self, number):
        (card,) = self.machine.cards
        for partition in range(8):
            percent = {0: 40, 3: 80}.get(partition, 0)
            card.show_partition(partition, [percent], [percent * 1000 * number])
        card.show(
            energy_accumulator=card.fields["energy_accumulator"] + counts(600),
            curr_socket_power=600,
            accumulation_counter=1 + 1000 * number,
        )


class TwoDies:
    """450 W on an MI250X; each run has a die, and one die does twice as much."""

    def __init__(self, root):
        self.machine = hosts.mi250x(root)
        self.machine.host.compute(NIGHTLY, hosts.GPU_IDS[0])
        self.machine.host.compute(TRAIN, hosts.GPU_IDS[1])

    def second(self, _number):
        primary, secondary = self.machine.cards
        energy = primary.fields["energy_accumulator"] + counts(450)
        primary.show(energy_accumulator=energy, average_gfx_activity=45, average_socket_power=450)
        secondary.show(average_gfx_activity=90)


class Graphics:
    """180 W on a Radeon; the engine time of one client is twice that of the other."""

    def __init__(self, root):
        self.machine = hosts.radeon(root)
        self.second(0)

    def second(self, number):
        for pid, client, ms in ((NIGHTLY, 7, 600), (TRAIN, 8, 300)):
            busy_ns = 1 + number * ms * 1_000_000
            text = f"drm-driver:\tamdgpu\ndrm-client-id:\t{client}\ndrm-pdev:\t0000:0b:00.0\n"
            self.machine.host.client(pid, 4, f"{text}drm-engine-gfx:\t{busy_ns} ns\n")
        self.machine.cards[0].show(average_socket_power=180, average_gfx_activity=90)


class GraphicsAndCompute(SharedMi300x):
    """600 W on an MI300X; one process uses DRM, and the other one ROCm, twice as much."""

    def __init__(self, root):
        super().__init__(root)
        shutil.rmtree(self.machine.host.processes / str(NIGHTLY))
        self.machine.host.compute(TRAIN, hosts.GPU_IDS[0], occupied=152)
        self._show_client(0)

    def second(self, number):
        self._show_client(number)
        super().second(number)

    def _show_client(self, number):
        text = f"drm-driver:\tamdgpu\ndrm-client-id:\t7\ndrm-pdev:\t{hosts.MI300X_ADDRESS}\n"
        busy_ns = 1 + number * 250_000_000
        self.machine.host.client(NIGHTLY, 4, f"{text}drm-engine-compute:\t{busy_ns} ns\n")


class ProcessThatVanishes(SharedMi300x):
    """600 W; one of two equally active processes is killed after half of the time."""

    def __init__(self, root):
        super().__init__(root)
        self.machine.host.compute(NIGHTLY, hosts.GPU_IDS[0], occupied=76)

    def second(self, number):
        super().second(number)
        if number == SECONDS // 2:
            host = self.machine.host
            shutil.rmtree(host.processes / str(NIGHTLY))
            shutil.rmtree(host.procfs / str(NIGHTLY))


class HiddenProcesses(SharedMi300x):
    """600 W; the exporter is in a container with process ids of its own."""

    def __init__(self, root):
        super().__init__(root)
        own = self.machine.host.procfs / str(os.getpid())
        (own / "ns").mkdir(parents=True)
        os.symlink("pid:[4026532555]", own / "ns/pid")
        os.symlink(own.name, self.machine.host.procfs / "self")


HOSTS = {
    "mi300x-spx": SharedMi300x,
    "mi300x-cpx": PartitionedMi300x,
    "mi250x": TwoDies,
    "radeon": Graphics,
    "graphics-and-compute": GraphicsAndCompute,
    "process-vanishes": ProcessThatVanishes,
    "hidden-processes": HiddenProcesses,
}
WATTS = dict.fromkeys(HOSTS, 600) | {"mi250x": 450, "radeon": 180}
SHARES = {
    "mi300x-spx": 3.0,
    "mi300x-cpx": 0.5,
    "mi250x": 0.5,
    "radeon": 2.0,
    "graphics-and-compute": 0.5,
    "process-vanishes": 1 / 3,
}
"""Active energy of the run nightly in relation to that of the other one."""


@pytest.fixture(params=sorted(HOSTS))
def name(request):
    return request.param


def with_processes(host):
    """Add the two processes, and a cgroup file system."""
    shutil.copytree(PROCESSES / "proc", host.procfs, dirs_exist_ok=True)
    shutil.copytree(PROCESSES / "sys/fs", host.sysfs / "fs")
    mounts = host.procfs / "self/mountinfo"
    mounts.write_text(mounts.read_text().replace(" /sys/", f" {host.sysfs}/"))
    for pid, run in ((NIGHTLY, "nightly"), (TRAIN, "train")):
        (host.procfs / str(pid) / "environ").write_bytes(f"EMISSIONS_RUN_ID={run}\0".encode())


@pytest.fixture
def current(name, tmp_path, monkeypatch):
    """Return the snapshot after some seconds."""
    # What is asked for in a tick is there in that tick, however busy this machine is.
    monkeypatch.setattr(collector, "READ_TIMEOUT_SECONDS", SOON)
    monkeypatch.setattr(collector, "FIRST_READ_TIMEOUT_SECONDS", SOON)
    monkeypatch.setattr(Gpu, "activity", lambda card: card._activity_worker.result(deadline(SOON)))
    read_activity = Gpu._read_activity

    def after_the_reading(card):
        wait_until(lambda: not card._reading_worker.busy_seconds, SOON)
        return read_activity(card)

    monkeypatch.setattr(Gpu, "_read_activity", after_the_reading)
    monkeypatch.setattr(driver, "SHARED_SECONDS", 0.0)
    monkeypatch.setattr(UsernameCache, "name", lambda _, uid: str(uid))

    def sample_once(sampler, users):
        sampler._watched = frozenset(users)
        sampler._sample()

    monkeypatch.setattr(OccupancySampler, "watch", sample_once)
    scene = HOSTS[name](tmp_path / "host")
    host = scene.machine.host
    with_processes(host)
    clock = FakeClock()
    only_gpus = dict.fromkeys(("rapl", "cpu_estimate", "dram_estimate"), False)
    machine = {"sysfs": str(host.sysfs), "procfs": str(host.procfs)}
    config = Config(
        SampleConfig(collectors=only_gpus, **machine),
        convert=ConvertConfig(zone="DE", pue=1.2),
        account=AccountConfig(state_directory=str(tmp_path / "state")),
    )
    app = Daemon(config, {}, clock)
    app.pipeline.tick()
    for number in range(1, SECONDS + 1):
        clock.advance(1)
        scene.second(number)
        app.pipeline.tick()
    app.close()
    return app.publisher.current


def test_page_equals_the_golden_page(name, current):
    shown, kept = stable(current.metrics_page.text().decode()), PAGES / f"{name}.metrics"
    if os.environ.get("UPDATE_GOLDEN"):
        kept.write_text(shown)
    assert shown == kept.read_text()


def test_both_formats_have_the_same_values(current):
    assert_parsed(current.metrics_page)


def test_energy_of_the_device_is_that_of_its_runs_and_of_no_run(name, current):
    """And the two runs have it in the ratio of their activity, apart from the first seconds."""
    by_target = {}
    for row in current.snapshot.rows:
        assert row.device.kind is DeviceKind.GPU
        used = by_target.get(row.target, 0) + row.balance.total.energy_uj
        by_target[row.target] = used
    assert sum(by_target.values()) == SECONDS * WATTS[name] * 1_000_000
    used = {run.key.run_id: by_target.get(run.key, 0) for run in current.snapshot.runs}
    if name in SHARES:
        assert used["nightly"] / used["train"] == pytest.approx(SHARES[name], rel=0.35)
    else:
        assert used == {"nightly": 0, "train": 0}
