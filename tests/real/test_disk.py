"""A disk that fills up and is freed again, and ten deaths with a run open: nothing is lost."""

import contextlib
import json
import os
import random
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from exporter.expose.catalogue import catalogue
from tests.feeder import Package, PowercapTree
from tests.real.parts import Daemon, busy, get, until

DURABLE = {family.name for family in catalogue() if family.durable}
DEVICES = ("package-0", "package-0-dram")
DISK = "size=8m"
KILLS = 10


class Host:
    """A made-up host whose counters run until `stop`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tree = PowercapTree(str(root), [Package(100, 20)])
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._play)

    def play(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.ident:
            self._thread.join()

    def used_uj(self) -> dict[str, int]:
        """The truth, from the first reading until now."""
        return {name: self.tree.zones[name].used_uj(self.tree.elapsed_ns) for name in DEVICES}

    def _play(self) -> None:
        began = time.monotonic_ns()
        while not self._stopping.wait(0.005):
            self.tree.write_at(time.monotonic_ns() - began)


@contextlib.contextmanager
def scene(root: Path, state: Path) -> Iterator[tuple[Host, Daemon]]:
    """A daemon with a run open, that reads often and commits each second."""
    config = root / "config.json"
    settings = {"sample": {"interval_seconds": 0.2}, "account": {"commit_seconds": 1}}
    config.write_text(json.dumps(settings))
    with ExitStack() as ends:
        host = Host(root / "sys")
        ends.enter_context(host.tree)
        ends.callback(host.stop)
        daemon = Daemon(
            state.parent, f"--path.sysfs={host.root}", f"--config.file={config}"
        ).start()
        ends.callback(daemon.stop)
        until(lambda: len(daemon.devices()) == len(DEVICES), what="the counters were read")
        host.play()
        run = daemon.run("--run-id=long", "--", *busy(120))
        ends.callback(run.communicate)
        ends.callback(run.terminate)
        until(lambda: any('run_id="long"' in series for series in counters(daemon)))
        yield host, daemon


def counters(daemon: Daemon) -> dict[str, float]:
    """What the page shows of everything that must never step back."""
    lines = get(daemon.url + "/metrics").decode().splitlines()
    series = [line.rpartition(" ") for line in lines if line.split("{")[0] in DURABLE]
    return {name: float(value) for name, _, value in series}


def stepped_back(pages: list[dict[str, float]]) -> list[str]:
    """The series that went, or fell, from one page to the next."""
    return [
        f"{name}: {before[name]} -> {after.get(name)}"
        for before, after in pairwise(pages)
        for name in before
        if not after.get(name, -1.0) >= before[name]
    ]


def counted_uj(daemon: Daemon) -> dict[str, int]:
    return {name: daemon.devices()[name]["counted"]["energy_uj"] for name in DEVICES}


def health(daemon: Daemon) -> dict[str, Any]:
    found: dict[str, Any] = daemon.json("/api/v1/snapshot")["health"]
    return found


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A state directory on a small disk of its own."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    state = tmp_path_factory.mktemp("disk") / "daemon" / "state"
    state.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", DISK, "tmpfs", str(state)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
    yield state
    subprocess.run(["umount", str(state)], check=True)


def fill(path: Path) -> None:
    """Take all room that is left."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"\0" * 4096):
            pass


@dataclass
class Story:
    """What was seen while the disk was full, was full at a start, and was freed."""

    full: dict[str, Any]
    freed: dict[str, Any]
    pages: list[dict[str, float]]
    counted: dict[str, int]
    truth: dict[str, int]
    totals: int
    usage: int
    log: str


@pytest.fixture(scope="module")
def story(disk: Path, tmp_path_factory: pytest.TempPathFactory) -> Story:
    pages = []
    with scene(tmp_path_factory.mktemp("host"), disk) as (host, daemon):
        until(lambda: health(daemon)["commit_age_seconds"] < 1.0)
        fill(disk / "filler")
        until(lambda: health(daemon)["ledger_errors"] >= 2, what="the disk is full")
        full = health(daemon)
        pages.append(counters(daemon))
        daemon.kill()
        daemon.start()
        pages.append(counters(daemon))
        until(lambda: health(daemon)["ledger_errors"] >= 2, what="the disk is still full")
        pages.append(counters(daemon))
        (disk / "filler").unlink()
        until(lambda: not health(daemon)["ledger_why"], what="the disk works again")
        freed = health(daemon)
        pages.append(counters(daemon))
        host.stop()
        with contextlib.suppress(AssertionError):  # told by its own test
            until(lambda: counted_uj(daemon) == host.used_uj(), 3)
        counted = counted_uj(daemon)
        pages.append(counters(daemon))
    with closing(sqlite3.connect(disk / "ledger.sqlite")) as ledger:
        totals, usage = (
            ledger.execute(f"SELECT sum(energy_uj) FROM {table}").fetchone()[0]
            for table in ("total", "usage")
        )
    return Story(full, freed, pages, counted, host.used_uj(), totals, usage, daemon.log())


def test_a_full_disk_is_counted_and_said(story: Story) -> None:
    assert story.full["ledger_errors"] >= 2
    assert "full" in story.full["ledger_why"]
    assert "free space" in story.log


def test_a_disk_that_is_freed_is_written_again(story: Story) -> None:
    assert story.freed["commit_age_seconds"] < 5.0
    assert "the ledger works again" in story.log


def test_no_counter_steps_back_over_a_full_disk_and_a_death_on_it(story: Story) -> None:
    assert stepped_back(story.pages) == []


def test_no_energy_is_lost_by_a_full_disk(story: Story) -> None:
    assert story.counted == story.truth


def test_all_that_was_kept_in_memory_is_in_the_ledger(story: Story) -> None:
    assert (story.totals, story.usage) == (sum(story.truth.values()),) * 2


def test_deaths_at_any_moment_lose_nothing(tmp_path: Path) -> None:
    moments = random.Random()
    with scene(tmp_path, tmp_path / "daemon" / "state") as (host, daemon):
        pages = [counters(daemon)]
        for _ in range(KILLS):
            time.sleep(moments.uniform(0.0, 1.0))
            pages.append(counters(daemon))
            daemon.kill()
            daemon.start()
            pages.append(counters(daemon))
        host.stop()
        until(lambda: counted_uj(daemon) == host.used_uj(), what="every microjoule is counted")
        pages.append(counters(daemon))
        assert stepped_back(pages) == []
        for name, device in daemon.devices().items():
            amounts = device["counted"]
            parts_uj = amounts["attributed_uj"] + sum(amounts["unattributed_uj"].values())
            assert parts_uj == host.used_uj()[name]
