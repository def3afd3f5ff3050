"""Files of the state directory are removed, damaged or too new: what was counted stays right."""

import contextlib
import os
import random
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.real.fed import (
    DEVICES,
    counted_uj,
    counters,
    cumulative_uj,
    fed_daemon,
    health,
    kept_uj,
    stepped_back,
)
from tests.real.parts import REPOSITORY, Daemon, until

pytestmark = pytest.mark.beside


def remove_ledger(state: Path, _: random.Random) -> None:
    (state / "ledger.sqlite").unlink()


def damage_ledger(state: Path, seeded: random.Random) -> None:
    """Junk in the middle, where tables are; the header stays."""
    with (state / "ledger.sqlite").open("r+b") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(size // 4)
        file.write(seeded.randbytes(size // 2))


def damage_header(state: Path, seeded: random.Random) -> None:
    with (state / "ledger.sqlite").open("r+b") as file:
        file.write(seeded.randbytes(100))


def damage_journal(state: Path, seeded: random.Random) -> None:
    path = state / "journal"
    path.write_bytes(seeded.randbytes(path.stat().st_size))


TICKS = 8
"""Enough of them for a commit."""
RESTORED = "totals were restored from the journal"
FAULTS = {
    (remove_ledger, Daemon.stop): ("restart the exporter", RESTORED),
    (remove_ledger, Daemon.kill): ("restart the exporter", RESTORED),
    (damage_ledger, Daemon.stop): ("", "it was renamed to"),
    (damage_ledger, Daemon.kill): ("", "it was renamed to"),
    (damage_header, Daemon.kill): ("", "it was renamed to"),
    (damage_journal, Daemon.stop): ("", "counters begin at zero"),
    (damage_journal, Daemon.kill): ("", "counters begin at zero"),
}
"""What is done to a file in use and how the daemon then ends: what it says, and the next one."""


@dataclass
class Mishap:
    """What was seen before and after a file was spoilt and the daemon began again."""

    said: tuple[str, str]
    expected: tuple[str, str]
    shown: list[dict[str, float]]
    """Pages of the first daemon, from before the mishap and from after it."""
    again: list[dict[str, float]]
    """Pages of the second, the first and the last."""
    counted: dict[str, int]
    since: dict[str, int]
    """The truth since the second daemon began."""
    cumulative: dict[str, int]
    truth: dict[str, int]
    totals: dict[str, int]


@pytest.fixture(
    scope="module",
    params=FAULTS,
    ids=lambda fault: "_then_".join(step.__name__ for step in fault),
)
def mishap(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    seeded: random.Random,
) -> Mishap:
    spoil, end = request.param
    root = tmp_path_factory.mktemp("mishap")
    state = root / "daemon" / "state"
    with fed_daemon(root, state) as (host, daemon):
        daemon.pass_ticks(TICKS)
        shown = [counters(daemon)]
        spoil(state, seeded)
        daemon.pass_ticks(TICKS)
        with contextlib.suppress(AssertionError):  # told by its own test
            until(lambda: FAULTS[request.param][0] in health(daemon)["ledger_why"])
        shown.append(counters(daemon))
        why = health(daemon)["ledger_why"]
        if spoil is damage_journal:
            # All of it is written again when a run begins, also one of another test.
            spoil(state, seeded)
        end(daemon)
        log, before = daemon.log(), host.used_uj()
        daemon.start()
        again = [counters(daemon)]
        daemon.pass_ticks(TICKS)
        host.stop()
        truth = host.used_uj()
        with contextlib.suppress(AssertionError):  # told by its own test
            until(lambda: cumulative_uj(daemon) == truth)
        again.append(counters(daemon))
        counted, cumulative = counted_uj(daemon), cumulative_uj(daemon)
    return Mishap(
        said=(why, daemon.log().removeprefix(log)),
        expected=FAULTS[request.param],
        shown=shown,
        again=again,
        counted=counted,
        since={name: truth[name] - before[name] for name in DEVICES},
        cumulative=cumulative,
        truth=truth,
        totals=kept_uj(state, "total"),
    )


def test_a_mishap_is_said_with_its_remedy(mishap: Mishap) -> None:
    for said, expected in zip(mishap.said, mishap.expected, strict=True):
        assert expected in said


def test_no_counter_steps_back_while_files_are_spoilt(mishap: Mishap) -> None:
    assert stepped_back(mishap.shown) == []
    assert stepped_back(mishap.again) == []


def test_counters_then_go_on_or_begin_at_zero(mishap: Mishap) -> None:
    begins_at_zero = all(mishap.counted[name] <= mishap.since[name] for name in DEVICES)
    assert begins_at_zero or stepped_back([mishap.shown[-1], mishap.again[0]]) == []


def test_counters_begin_at_zero_only_where_no_journal_is_left(mishap: Mishap) -> None:
    begins_at_zero = "counters begin at zero" in mishap.expected[1]
    assert bool(stepped_back([mishap.shown[-1], mishap.again[0]])) == begins_at_zero


def test_the_cumulative_gauges_are_right_after_any_mishap(mishap: Mishap) -> None:
    assert mishap.cumulative == mishap.truth


def test_the_totals_in_the_ledger_are_right_after_any_mishap(mishap: Mishap) -> None:
    assert mishap.totals == mishap.truth


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess, bool]:
    """A start on the ledger of a newer exporter, and whether its state stayed as it was."""
    root = tmp_path_factory.mktemp("newer")
    state = root / "daemon" / "state"
    with fed_daemon(root, state) as (_, daemon):
        daemon.pass_ticks(TICKS)
    with closing(sqlite3.connect(state / "ledger.sqlite")) as ledger:
        version = ledger.execute("PRAGMA user_version").fetchone()[0]
        ledger.execute(f"PRAGMA user_version = {version + 1}")
    before = contents(state)
    start = subprocess.run(
        daemon.command, cwd=REPOSITORY, capture_output=True, text=True, timeout=20, check=False
    )
    return start, contents(state) == before


def contents(state: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in state.iterdir() if path.name != "lock"}


def test_a_ledger_of_a_newer_version_is_refused_with_the_remedy(newer) -> None:
    start, _ = newer
    assert start.returncode == 1
    assert "upgrade the exporter" in start.stderr
    assert "Traceback" not in start.stderr


def test_a_ledger_of_a_newer_version_is_left_as_it_is(newer) -> None:
    _, untouched = newer
    assert untouched
