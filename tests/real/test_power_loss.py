"""After a power cut, or a kill, at any system call: nothing is doubled, and sums are exact."""

import json
import random
import shutil
from pathlib import Path

import pytest

from exporter.account.journal import Journal
from exporter.account.recovery import recover
from tests.real import accounting, storage
from tests.unit.account.making import WALL, books, opened, query

pytestmark = [pytest.mark.real, pytest.mark.beside]
WAYS = 3
"""Power cuts at each system call."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("power") / "state"


@pytest.fixture(scope="module")
def calls(place):
    if shutil.which("strace") is None:
        pytest.skip("strace is missing: .ci/setup tools")
    place.mkdir()
    return storage.record("tests.real.accounting", place)


def said(calls, name):
    """What the program had said of that name, the oldest first; 0 before."""
    facts = [json.loads(call.data) for call in calls if call.verb == "say"]
    return [0, *(fact[name] for fact in facts if name in fact)]


def recovered(directory: Path, boot: str):
    """Totals and counters of the device after a start on these files, in microjoules."""
    ledger, journal = opened(directory), Journal(f"{directory}/journal")
    try:
        restored = recover(ledger, journal, boot, WALL)
        ledger.start()
        if restored.batch is not None:
            ledger.commit(restored.batch)
        rows = books(restored.restored).rows()
        total = sum(row.balance.total.energy_uj for row in rows)
        written = query(ledger, "SELECT coalesce(sum(energy_uj), 0) FROM total")[0][0]
        by_minute = query(ledger, "SELECT coalesce(sum(energy_uj), 0) FROM usage")[0][0]
        assert by_minute == written
        return total, sum(row.balance.counted.energy_uj for row in rows)
    finally:
        journal.close()
        ledger.close()


def test_a_power_cut_leaves_the_last_commit_or_a_later_one_and_counters_begin_at_zero(
    calls, place, tmp_path
):
    rng = random.Random(7)
    handed = set(said(calls, "handed"))
    found = set()
    for count in range(len(calls) + 1):
        done = calls[:count]
        disk = storage.Disk(done)
        for way in range(WAYS):
            files = disk.survivors(rng if way else None)
            total, counted = recovered(storage.lay_out(files, place, tmp_path / "d"), "boot-2")
            assert counted == 0
            assert total in handed
            assert said(done, "committed")[-1] <= total <= said(done, "handed")[-1]
            found.add(total)
    assert found == handed


def test_a_kill_at_any_write_continues_with_what_was_published_or_the_next(calls, place, tmp_path):
    for count in range(len(calls) + 1):
        done = calls[:count]
        for tail in ([], [_half(calls[count])] if count < len(calls) else []):
            files = storage.files([*done, *tail])
            total, counted = recovered(
                storage.lay_out(files, place, tmp_path / "d"), accounting.BOOT
            )
            assert counted in (said(done, "published")[-1], said(done, "posted")[-1])
            assert total == counted


def _half(call: storage.Call) -> storage.Call:
    return call._replace(data=call.data[: len(call.data) // 2]) if call.verb == "write" else call
