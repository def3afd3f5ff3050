"""A daemon over made-up files of Intel GPUs whose registers go on while nothing reads them."""

import math
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.intel_cards import UNIT, CardFiles, EnergyRegister, IntelTree
from tests.real import absence
from tests.real.absence import (
    ABSENCE_SECONDS,
    TOLERANCE,
    KnownTruth,
    Story,
    boottime,
    counted_uj,
    play,
    read_at,
)
from tests.real.parts import Daemon, until

pytestmark = [pytest.mark.real, pytest.mark.beside]

UPDATE_SECONDS = 0.005
MEAN_WATTS, SWING_WATTS, PERIOD_SECONDS = 150.0, 110.0, 20.0
MAX_WATTS = 550
BEGIN_JOULES = 200_000.0
"""Of the registers; their range is 262,144 J."""
B580, MAX_1550 = "0000:03:00.0", "0000:29:00.0"
CARDS = (B580, MAX_1550)
LONG_ABSENCE_SECONDS = 1200
CLOCKS = ("boottime", "monotonic")
"""Of a time namespace; only both together are time in which the machine was awake."""
ENERGY = "hwmon/hwmon{}/energy{}_input"


def joules(name: str, seconds: float) -> float:
    """Energy of a card since a time: of a power that swings, and of a steady one."""
    if name == MAX_1550:
        return MAX_WATTS * seconds
    turn = 2 * math.pi / PERIOD_SECONDS
    return MEAN_WATTS * seconds + SWING_WATTS / turn * (1 - math.cos(turn * seconds))


class _Card(NamedTuple):
    files: CardFiles
    register: EnergyRegister
    energy: str
    """Name of the file with its counter."""


class Host:
    """Two cards, which use energy until they are stopped.

    Their kernel accumulates the registers while they are read: not while `is_read` is cleared.
    `ahead_seconds` is how much further their time is than this machine's.
    """

    def __init__(self, directory: Path) -> None:
        tree = IntelTree(directory)
        self.sysfs = tree.sysfs
        b580 = tree.card(B580, device="0xe20b")
        max_1550 = tree.card(MAX_1550, device="0x0bd5", pci_class="0x038000", minor=2)
        self._cards = {
            B580: _Card(b580, EnergyRegister(BEGIN_JOULES), ENERGY.format(6, 1)),
            MAX_1550: _Card(max_1550, EnergyRegister(BEGIN_JOULES), ENERGY.format(7, 2)),
        }
        self._shown = dict.fromkeys(CARDS, 0)
        """Energy that the registers have, in their units."""
        self._began = boottime()
        self.ahead_seconds = 0.0
        self.is_read = threading.Event()
        self.is_read.set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)
        b580.hwmon(6, "xe", energy1_label="card", energy1_input=self._read(B580))
        b580.hwmon(6, "xe", energy2_label="pkg", energy2_input=1, power1_max=190_000_000)
        max_1550.hwmon(7, "xe", energy2_label="pkg", energy2_input=self._read(MAX_1550))
        max_1550.hwmon(7, "xe", power2_rated_max=600_000_000)

    def used(self, name: str, begin: float, end: float) -> float:
        """What a card truly used between two times, in joules."""
        return joules(name, end - self._began) - joules(name, begin - self._began)

    def start(self) -> "Host":
        self._thread.start()
        return self

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._stop.wait(UPDATE_SECONDS):
            if self.is_read.is_set():
                for name, card in self._cards.items():
                    _write_in_place(card.files.path / card.energy, self._read(name))

    def _read(self, name: str) -> int:
        """What the kernel shows of a card now, in microjoules."""
        at = boottime() + self.ahead_seconds
        shown = round(joules(name, at - self._began) * UNIT)
        card = self._cards[name]
        card.register.use((shown - self._shown[name]) / UNIT)
        self._shown[name] = shown
        return card.register.read_uj()


def _write_in_place(path: Path, number: int) -> None:
    """Write a number of as many digits as before, so that a reader never sees none."""
    file = os.open(path, os.O_WRONLY)
    try:
        os.write(file, f"{number}\n".encode())
    finally:
        os.close(file)


class Node(NamedTuple):
    host: Host
    daemon: Daemon


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    directory = tmp_path_factory.mktemp("intel")
    host = Host(directory / "machine").start()
    daemon = Daemon(directory / "daemon", f"--path.sysfs={host.sysfs}")
    try:
        yield Node(host, daemon.start())
    finally:
        daemon.stop()
        host.stop()


@pytest.fixture(scope="module")
def story(node: Node) -> Story:
    def absent() -> None:
        node.host.is_read.clear()
        time.sleep(ABSENCE_SECONDS)
        node.host.is_read.set()

    return play(node.daemon, CARDS, node.host.used, absent)


@pytest.fixture(params=CARDS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class TestAbsence(KnownTruth):
    pass


def test_what_was_used_in_the_absence_is_the_restarts(story: Story, name: str) -> None:
    assert story.has_restart_energy(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can set the time of a time namespace")
@pytest.mark.usefixtures("story")
def test_wraps_that_the_kernel_lost_over_an_absence_of_20_minutes_are_counted(node: Node) -> None:
    """550 W for 20 minutes are 2.5 ranges of the register, of which the kernel shows the rest."""
    host, daemon = node
    before = daemon.json("/api/v1/snapshot")
    daemon.kill()
    host.is_read.clear()
    host.ahead_seconds = ahead = LONG_ABSENCE_SECONDS
    daemon.prefix = ("unshare", "--time", *(f"--{clock}={ahead}" for clock in CLOCKS))
    host.is_read.set()
    daemon.start()
    total_uj = counted_uj(before, MAX_1550)
    until(lambda: counted_uj(daemon.json("/api/v1/snapshot"), MAX_1550) > total_uj)
    after = absence.watch(daemon, 5)
    truth = host.used(MAX_1550, read_at(before, MAX_1550), read_at(after[-1], MAX_1550))
    assert truth > 2 * 2**18
    counted = (counted_uj(after[-1], MAX_1550) - total_uj) / 1e6
    assert counted == pytest.approx(truth, rel=TOLERANCE)
