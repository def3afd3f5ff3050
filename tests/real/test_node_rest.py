"""Devices of a node add up to its meter after kill -9, to the joule."""

import os
import re
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.feeder import Package, PowercapTree
from tests.real.parts import Daemon, get, until

pytestmark = [pytest.mark.real, pytest.mark.beside]

STEP_SECONDS, STEPS = 0.2, 40
NODE_JOULES, CPU_JOULES, DRAM_JOULES = 40, 20, 4
"""Of one step: 200 W, 100 W and 20 W."""
SAMPLE = re.compile(
    r'^emissions_device_energy_joules_total\{device="(\w+)".*\} (\S+)$', re.MULTILINE
)


class Node:
    """Counters of RAPL and of the controller of a Cray node."""

    def __init__(self, root: Path, tree: PowercapTree) -> None:
        self._tree, self._joules = tree, 10**9
        self._directory = root / "sys/cray/pm_counters"
        self._directory.mkdir(parents=True)
        self.count(0)

    def step(self) -> None:
        """Advance all counters, at most at the speed of their powers."""
        time.sleep(STEP_SECONDS)
        self._tree.advance(STEP_SECONDS)
        self.count(NODE_JOULES)

    def count(self, joules: int) -> None:
        """Advance the counter of the controller, in one write."""
        self._joules += joules
        microseconds = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
        new = self._directory / "new"
        new.write_text(f"{self._joules} J {microseconds} us\n")
        os.replace(new, self._directory / "energy")

    def settled(self, daemon: Daemon) -> Counter[str]:
        """Return the energy counters once an interval of the meter covers those of the devices."""
        daemon.pass_ticks(5)
        before = joules(daemon)
        self.count(1)
        until(lambda: joules(daemon) != before, what="another joule")
        return joules(daemon)


def joules(daemon: Daemon) -> Counter[str]:
    """Return the energy counters of the devices by kind."""
    sums: Counter[str] = Counter()
    for kind, value in SAMPLE.findall(get(daemon.url + "/metrics").decode()):
        sums[kind] += float(value)
    return sums


def test_devices_add_up_to_the_meter_after_kill_9(tmp_path):
    with PowercapTree(tmp_path / "sys", [Package(100, 20)]) as tree:
        node = Node(tmp_path, tree)
        daemon = Daemon(
            tmp_path / "daemon", f"--path.sysfs={tmp_path}/sys", "--sample.interval=0.1"
        )
        daemon.start()
        daemon.pass_ticks(5)
        node.step()  # what the meter counted before the first tick is not in the rest
        begin = node.settled(daemon)
        for number in range(STEPS):
            if number == STEPS // 4:
                daemon.kill()
            elif number == STEPS // 2:
                daemon.start()
            node.step()
        end = node.settled(daemon)
        assert {kind: round(end[kind] - begin[kind], 6) for kind in end} == {
            "cpu": CPU_JOULES * STEPS,
            "dram": DRAM_JOULES * STEPS,
            "rest": (NODE_JOULES - CPU_JOULES - DRAM_JOULES) * STEPS + 1,
        }
        daemon.stop()
