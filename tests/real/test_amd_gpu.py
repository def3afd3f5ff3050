"""A daemon over made-up files of AMD GPUs whose counters go on while no daemon runs."""

import math
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.amdgpu import hosts
from tests.amdgpu.host import Card, counts
from tests.real.absence import KnownTruth, Story, boottime, play
from tests.real.parts import Daemon

pytestmark = [pytest.mark.real, pytest.mark.beside]

UPDATE_SECONDS = 0.005
MEAN_WATTS, SWING_WATTS, PERIOD_SECONDS = 400.0, 300.0, 20.0
IDLE_WATTS = 141
CARDS = {"GPU-e3aa140f9a5f9e31": "MI300X", "GPU-a1b2c3d4e5f60718": "MI210"}


def swinging_joules(seconds: float) -> float:
    """Energy of a power that swings, since a time."""
    turn = 2 * math.pi / PERIOD_SECONDS
    return MEAN_WATTS * seconds + SWING_WATTS / turn * (1 - math.cos(turn * seconds))


def steady_joules(seconds: float) -> float:
    return IDLE_WATTS * seconds


class Firmware:
    """Writes the counters of two cards until it is stopped."""

    def __init__(self, directory: Path) -> None:
        machine = hosts.mi300x(directory)
        self.sysfs = machine.host.sysfs
        other = machine.host.card(
            "0000:c1:00.0",
            "0x740f",
            unique_id="a1b2c3d4e5f60718",
            drm=("card9", "renderD137"),
            pci_class=hosts.DISPLAY,
            sensors={"power1_average": IDLE_WATTS * 1_000_000, "power1_cap": 300_000_000},
        )
        self.cards = dict(zip(CARDS, (machine.cards[0], other), strict=True))
        self.joules = dict(zip(CARDS, (swinging_joules, steady_joules), strict=True))
        self._began = boottime()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self._update()

    def used(self, name: str, begin: float, end: float) -> float:
        """What a card truly used between two times, in joules."""
        joules = self.joules[name]
        return joules(end - self._began) - joules(begin - self._began)

    def start(self) -> "Firmware":
        self._thread.start()
        return self

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._stop.wait(UPDATE_SECONDS):
            self._update()

    def _update(self) -> None:
        at = boottime()
        for name, card in self.cards.items():
            self._show(card, name, at)

    def _show(self, card: Card, name: str, at: float) -> None:
        joules = self.used(name, self._began, at)
        watts = round((joules - self.used(name, self._began, at - 0.1)) / 0.1)
        power = "curr_socket_power" if card.revision == "1.7" else "average_socket_power"
        card.show(
            energy_accumulator=counts(1_000_000 + joules),
            firmware_timestamp=round((at - self._began) * 1e8),
            system_clock_counter=round(at * 1e9),
            **{power: watts},
        )


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    directory = tmp_path_factory.mktemp("amd")
    firmware = Firmware(directory / "machine").start()
    daemon = Daemon(directory / "daemon", f"--path.sysfs={firmware.sysfs}")
    try:
        yield play(daemon.start(), tuple(CARDS), firmware.used)
    finally:
        daemon.stop()
        firmware.stop()


@pytest.fixture(params=CARDS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class TestAbsence(KnownTruth):
    pass


def test_what_was_used_in_the_absence_is_the_restarts(story: Story, name: str) -> None:
    assert story.has_restart_energy(name)
