"""Cgroups of pods as the kernel makes them, where kubelet and runtime use different drivers."""

import contextlib
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from exporter.attribute.sources.cgroups import V2, CgroupMeter, cgroup_mounts
from exporter.attribute.sources.kube.pod_cgroups import PodCgroups
from tests.real.parts import COMMAND, REPOSITORY, Daemon, busy, until

pytestmark = [pytest.mark.real, pytest.mark.beside]
SPIN = "import time\nwhile time.process_time() < 0.2: pass"


@pytest.fixture(params=[V2, "cpuacct"], ids=["v2", "v1"])
def node(request):
    """A directory of its own at the top of a hierarchy, with what is made in it taken away."""
    point = cgroup_mounts("/proc").get(request.param)
    if point is None or not os.access(point, os.W_OK):
        pytest.skip("no cgroups of this version that may be written to")
    made = Path(point) / f"emissions-test-{uuid.uuid4()}"
    made.mkdir()
    yield made
    for directory, _, _ in os.walk(made, topdown=False):
        until(lambda directory=directory: removed(directory), what="its processes have left")


def removed(directory):
    with contextlib.suppress(OSError):
        os.rmdir(directory)
    return not os.path.exists(directory)


def spin(cgroup):
    """Use 0.2 s of CPU time in a cgroup, and more to start."""
    script = f'echo $$ > {cgroup}/cgroup.procs; exec "$@"'
    subprocess.run(["sh", "-c", script, "sh", sys.executable, "-c", SPIN], check=True)


def test_a_pod_whose_own_cgroup_is_empty_has_the_clock_of_its_containers(node):
    uid = str(uuid.uuid4())
    name = f"kubepods-burstable-pod{uid.replace('-', '_')}.slice"
    own = node / "kubepods.slice" / "kubepods-burstable.slice" / name
    one, two = (
        node / "system.slice" / "containerd.service" / f"{name}:cri-containerd:{digit * 64}"
        for digit in "12"
    )
    for each in (own, one, two):
        each.mkdir(parents=True)
    kubepods = PodCgroups("/proc")
    pod = kubepods.collect()[uid]
    meter = CgroupMeter(pod.mounted, pod.at)
    spin(one)
    spin(two)
    used_us = meter.advance_us()
    assert 400_000 <= used_us < 4_000_000
    # The kernel's own sum, over all that is in this directory.
    above = CgroupMeter(pod.mounted, {key: str(node)[len(pod.mounted[key]) :] for key in pod.at})
    assert meter.cpu_us() == pytest.approx(above.cpu_us(), rel=0.01)
    until(lambda: removed(one), what="the first container is gone")
    pod = kubepods.collect()[uid]
    meter.follow(pod.mounted, pod.at)
    assert meter.cpu_us() >= used_us
    # A cgroup that is removed and made again is another one at the same path.
    until(lambda: removed(two), what="the second container is gone")
    two.mkdir()
    meter.advance_us()
    spin(two)
    assert 200_000 <= meter.advance_us() < 2_000_000


def test_a_start_without_the_journal_charges_no_run_for_what_others_used(node, tmp_path):
    """A run that sleeps goes on while no daemon runs and another program keeps a thread busy."""
    daemon = Daemon(tmp_path)
    daemon.start()
    run = ["run", f"--socket.path={daemon.socket}", "--run-id=light", "--scope=cgroup"]
    script = f'echo $$ > {node}/cgroup.procs; exec "$@"'
    light = ["sh", "-c", "while :; do sleep 0.01; done"]
    process = subprocess.Popen(
        ["sh", "-c", script, "sh", *COMMAND, *run, "--", *light],
        cwd=REPOSITORY,
        start_new_session=True,
    )

    def energy_uj():
        return daemon.json("/api/v1/runs/light")["energy_uj"]

    try:
        until(lambda: daemon.json("/api/v1/runs")["runs"], what="the run has begun")
        daemon.pass_ticks(2)
        before_uj = energy_uj()
        daemon.stop()
        (tmp_path / "state" / "journal").unlink()
        subprocess.run(busy(4), check=True)
        daemon.start()
        daemon.pass_ticks(2)
        lines = daemon.json("/api/v1/snapshot")["lines"]
        of_restart = [line for line in lines if line["party"] == {"reason": "restart"}]
        restart_uj = sum(line["cumulative"]["energy_uj"] for line in of_restart)
        assert restart_uj > 2_000_000
        assert energy_uj() - before_uj < restart_uj / 2
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        daemon.stop()
