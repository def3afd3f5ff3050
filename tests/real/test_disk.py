"""A disk that fills up and is freed again: nothing is lost."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.real.fed import counted_uj, counters, fed_daemon, health, kept_uj, stepped_back
from tests.real.parts import until

pytestmark = pytest.mark.beside

DISK = "size=8m"


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
    totals: dict[str, int]
    usage: dict[str, int]
    log: str


@pytest.fixture(scope="module")
def story(disk: Path, tmp_path_factory: pytest.TempPathFactory) -> Story:
    pages = []
    with fed_daemon(tmp_path_factory.mktemp("host"), disk) as (host, daemon):
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
            until(lambda: counted_uj(daemon) == host.used_uj())
        counted = counted_uj(daemon)
        pages.append(counters(daemon))
    totals, usage = kept_uj(disk, "total"), kept_uj(disk, "usage")
    return Story(full, freed, pages, counted, host.used_uj(), totals, usage, daemon.log())


def test_a_full_disk_is_counted_and_said(story: Story) -> None:
    assert story.full["ledger_errors"] >= 2
    assert "full" in story.full["ledger_why"]
    assert "free space" in story.log


def test_a_disk_that_is_freed_is_written_again(story: Story) -> None:
    assert story.freed["commit_age_seconds"] < 5.0
    assert "ledger works again" in story.log


def test_no_counter_steps_back_over_a_full_disk_and_a_death_on_it(story: Story) -> None:
    assert stepped_back(story.pages) == []


def test_no_energy_is_lost_by_a_full_disk(story: Story) -> None:
    assert story.counted == story.truth


def test_all_that_was_kept_in_memory_is_in_the_ledger(story: Story) -> None:
    assert (story.totals, story.usage) == (story.truth, story.truth)
