"""A daemon over made-up files of AMD GPUs whose counters go on while no daemon runs."""

import math
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.amdgpu import hosts
from tests.amdgpu.host import Card, counts
from tests.real.parts import Daemon, until

pytestmark = [pytest.mark.real, pytest.mark.beside]

SECONDS = 60.0
ABSENCE_SECONDS = 5.0
TOLERANCE = 0.001
LOOKS = 11
UPDATE_SECONDS = 0.005
MEAN_WATTS, SWING_WATTS, PERIOD_SECONDS = 400.0, 300.0, 20.0
IDLE_WATTS = 141
CARDS = {"GPU-e3aa140f9a5f9e31": "MI300X", "GPU-a1b2c3d4e5f60718": "MI210"}
Snapshot = dict[str, Any]


def swinging_joules(seconds: float) -> float:
    """Energy of a power that swings, since a time."""
    turn = 2 * math.pi / PERIOD_SECONDS
    return MEAN_WATTS * seconds + SWING_WATTS / turn * (1 - math.cos(turn * seconds))


def steady_joules(seconds: float) -> float:
    return IDLE_WATTS * seconds


def boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


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


def device(snapshot: Snapshot, name: str) -> dict[str, Any]:
    (found,) = [row for row in snapshot["devices"] if row["id"] == name]
    return found


def counted_uj(snapshot: Snapshot, name: str) -> int:
    return int(device(snapshot, name)["counted"]["energy_uj"])


def read_at(snapshot: Snapshot, name: str) -> float:
    return float(snapshot["at_ns"] / 1e9 - device(snapshot, name)["age_seconds"])


class Story(NamedTuple):
    """What was seen of a minute with a kill in its middle."""

    firmware: Firmware
    seen: list[Snapshot]
    away: tuple[float, float]
    """When the daemon was killed, and when it was begun again; CLOCK_BOOTTIME."""

    def ahead(self, name: str, snapshot: Snapshot) -> float:
        """How many joules more than the truth were counted since the first look."""
        first = self.seen[0]
        counted = counted_uj(snapshot, name) - counted_uj(first, name)
        return counted / 1e6 - self.firmware.used(
            name, read_at(first, name), read_at(snapshot, name)
        )


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    directory = tmp_path_factory.mktemp("amd")
    firmware = Firmware(directory / "machine").start()
    daemon = Daemon(directory / "daemon", f"--path.sysfs={firmware.sysfs}")
    try:
        daemon.start()
        seen: list[Snapshot] = []

        def watch(seconds: float) -> None:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                seen.append(daemon.json("/api/v1/snapshot"))
                time.sleep(0.5)

        (first, _) = CARDS
        until(lambda: counted_uj(daemon.json("/api/v1/snapshot"), first), what="energy is counted")
        watch((SECONDS - ABSENCE_SECONDS) / 2)
        daemon.kill()
        killed = boottime()
        time.sleep(ABSENCE_SECONDS)
        begun = boottime()
        daemon.start()
        before = counted_uj(seen[-1], first)
        until(
            lambda: counted_uj(daemon.json("/api/v1/snapshot"), first) > before, what="it goes on"
        )
        watch((SECONDS - ABSENCE_SECONDS) / 2)
        yield Story(firmware, seen, (killed, begun))
    finally:
        daemon.stop()
        firmware.stop()


@pytest.mark.parametrize("name", CARDS)
def test_energy_is_the_truth_within_a_thousandth_over_a_kill(story: Story, name: str) -> None:
    # The middle of some looks: one may have been held up between a reading and its time.
    begin, end = (
        statistics.median(story.ahead(name, snapshot) for snapshot in looks)
        for looks in (story.seen[:LOOKS], story.seen[-LOOKS:])
    )
    first, last = (read_at(story.seen[at], name) for at in (0, -1))
    assert last - first > SECONDS - ABSENCE_SECONDS
    assert abs(end - begin) < TOLERANCE * story.firmware.used(name, first, last)


@pytest.mark.parametrize("name", CARDS)
def test_no_total_ever_steps_back(story: Story, name: str) -> None:
    totals = [counted_uj(snapshot, name) for snapshot in story.seen]
    assert totals == sorted(totals)


def test_a_gpu_is_its_parts_exactly_at_every_moment(story: Story) -> None:
    for snapshot in story.seen:
        for name in CARDS:
            amounts = device(snapshot, name)["counted"]
            parts = amounts["attributed_uj"] + sum(amounts["unattributed_uj"].values())
            assert parts == amounts["energy_uj"]


@pytest.mark.parametrize("name", CARDS)
def test_what_was_used_in_the_absence_is_the_restarts(story: Story, name: str) -> None:
    used = device(story.seen[-1], name)["counted"]["unattributed_uj"]["restart"] / 1e6
    killed, begun = story.away
    last = max(at for each in story.seen if (at := read_at(each, name)) < killed)
    first = min(at for each in story.seen if (at := read_at(each, name)) > begun)
    held_up_seconds = 0.5  # at most, between a reading and its time
    truth = story.firmware.used
    assert truth(name, killed, begun) < used < truth(name, last - held_up_seconds, first)
