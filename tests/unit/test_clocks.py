"""Steps of the wall clock and suspends do not change what is counted."""

import os
import queue
import sqlite3
from contextlib import closing

import pytest

from exporter.loop import Loop
from exporter.model.commands import CommandRequest, EndRun, StopDaemon
from exporter.model.record_document import record_to_json
from exporter.worker import wait_until
from tests.agents import start_run
from tests.fakes import FakeClock
from tests.feeder import Package, PowercapTree
from tests.unit.test_loop import Rig

DAY_SECONDS, SLEEP_SECONDS = 86_400, 8 * 3_600


class SleepyClock(FakeClock):
    """Clocks of a machine that may be suspended: only CLOCK_BOOTTIME advances meanwhile."""

    slept_ns = 0

    def monotonic_ns(self) -> int:
        return self.now_ns - self.slept_ns

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)
        self.slept_ns += round(seconds * 1e9)


@pytest.fixture
def rig(tmp_path):
    made = Rig(tmp_path / "state", FakeClock())
    yield made
    made.close()


def carbon_ng(rig):
    return sum(row.balance.counted.carbon_ng for row in rig.snapshot.rows)


@pytest.mark.parametrize("step", [DAY_SECONDS, -DAY_SECONDS])
class TestAStepOfTheWallClock:
    def test_changes_no_energy(self, rig, tmp_path, step):
        undisturbed = Rig(tmp_path / "other", FakeClock())
        rig.tick(30)
        rig.clock.epoch += step
        rig.tick(30)
        undisturbed.tick(60)
        assert rig.totals() == undisturbed.totals()
        undisturbed.close()

    def test_lets_no_counter_step_back(self, rig, step):
        rig.tick(30)
        energies, carbon = rig.totals(), carbon_ng(rig)
        rig.clock.epoch += step
        rig.tick()
        assert all(rig.totals()[device] > energies[device] for device in energies)
        assert carbon_ng(rig) > carbon

    def test_does_not_stop_the_grams(self, rig, step):
        rig.tick(30)
        rig.clock.epoch += step
        before = carbon_ng(rig)
        rig.tick(30)
        assert carbon_ng(rig) - before == pytest.approx(before, rel=0.5)

    def test_is_committed_in_the_minutes_of_the_new_time(self, rig, step):
        rig.app.writer.start()
        rig.tick(3)
        assert wait_until(rig.is_joined, 60)
        rig.clock.epoch += step
        rig.tick(3)
        rig.app.pipeline.commit()
        assert rig.app.writer.stop(60)
        assert rig.app.writer.errors == 0
        with closing(sqlite3.connect(rig.directory / "ledger.sqlite")) as ledger:
            minutes = [row[0] for row in ledger.execute("SELECT DISTINCT minute FROM usage")]
            booked = ledger.execute("SELECT sum(energy_uj) FROM usage").fetchone()[0]
        assert DAY_SECONDS // 60 <= max(minutes) - min(minutes) <= DAY_SECONDS // 60 + 1
        assert booked == sum(rig.totals().values())


@pytest.fixture
def live(tmp_path):
    (tmp_path / "sys").mkdir()
    made = Rig(tmp_path / "state", FakeClock(), replay="", sysfs=str(tmp_path / "sys"))
    yield made
    made.close()


def test_a_step_back_gives_no_negative_duration(live):
    live.ask(start_run(os.getuid(), "me", os.getpid(), "mine"))
    live.clock.epoch -= DAY_SECONDS
    live.clock.advance(1)
    record = live.ask(EndRun(os.getuid(), "mine"))
    assert record_to_json(record)["duration_seconds"] >= 0


class TestASleepOfTheMachine:
    """Eight hours between two ticks, suspended except for one second."""

    @pytest.fixture
    def tree(self, tmp_path):
        with PowercapTree(str(tmp_path / "powercap"), [Package(100, 20)]) as tree:
            yield tree

    @pytest.fixture(params=["counter", "estimate"])
    def rig(self, request, tmp_path, tree):
        sysfs = tree.root if request.param == "counter" else str(tmp_path)
        made = Rig(tmp_path / "state", SleepyClock(), replay="", sysfs=sysfs)
        yield made
        made.close()

    def play(self, rig, tree, sleep_seconds):
        """Energy of the memory in a minute awake with a suspend in it."""
        before_uj = rig.totals()["package-0-dram"]
        for second in range(60):
            if second == 30:
                rig.clock.sleep(sleep_seconds)
            tree.advance(1)
            rig.tick()
        return rig.totals()["package-0-dram"] - before_uj

    def test_adds_no_energy_and_loses_none(self, rig, tree):
        awake_uj = self.play(rig, tree, 0)
        assert self.play(rig, tree, SLEEP_SECONDS) == pytest.approx(awake_uj, abs=1)

    def test_adds_no_grams(self, rig, tree):
        self.play(rig, tree, SLEEP_SECONDS)
        factor = rig.snapshot.grid.factor
        kwh = sum(rig.totals().values()) / 3.6e12
        assert carbon_ng(rig) == pytest.approx(kwh * factor.grams_per_kwh * 1e9, rel=1e-6)

    def test_leaves_no_imbalance(self, rig, tree):
        self.play(rig, tree, SLEEP_SECONDS)
        assert rig.snapshot.health.imbalance_uj == 0


class Ticks:
    """Replaces pipeline and inbox: a script defines what ticks do, then stops the loop."""

    is_over = False
    sleep_seconds = 0
    """Duration of a suspend during the next wait for the inbox."""

    def __init__(self, clock, script):
        self.clock = clock
        self.script = list(script)
        self.missed = 0
        self.at = []

    def tick(self):
        self.at.append(self.clock.now_ns / 1e9 - 1_000)
        if self.script:
            self.script.pop(0)()

    def count_missed_ticks(self, ticks):
        self.missed += ticks

    def commit(self, *, clean):
        assert clean

    def get(self, timeout):
        """Get from the inbox; advances the clock."""
        if self.script or self.is_over:
            self.clock.sleep(self.sleep_seconds)
            self.sleep_seconds = 0
            self.clock.advance(timeout)
            raise queue.Empty
        self.is_over = True
        return CommandRequest(StopDaemon(), id)


def ticked(*script, sleep_seconds=0):
    """Run a loop with one tick per second whose ticks take the times in the script."""
    clock = SleepyClock()
    ticks = Ticks(clock, [step(clock) for step in script])
    ticks.sleep_seconds = sleep_seconds
    Loop(ticks, None, clock, ticks, 1.0).run(lambda: None)
    return ticks


def takes(seconds):
    return lambda clock: lambda: clock.advance(seconds)


def sleeps(seconds):
    return lambda clock: lambda: clock.sleep(seconds)


def test_missed_ticks_are_counted_and_not_repeated():
    ticks = ticked(takes(0.1), takes(3.5), takes(0.1), takes(0))
    assert ticks.at[:4] == [0, 1, 4.5, 5]
    assert ticks.missed == 2


def test_ticks_missed_during_a_suspend_are_not_counted():
    ticks = ticked(takes(0.1), sleeps(SLEEP_SECONDS), takes(2.5), takes(0))
    assert ticks.missed == 1


def test_a_suspend_between_two_ticks_causes_one_tick():
    ticks = ticked(takes(0.1), takes(0.1), takes(0), sleep_seconds=SLEEP_SECONDS)
    assert ticks.at[:3] == [0, SLEEP_SECONDS + 1, SLEEP_SECONDS + 2]
    assert ticks.missed == 0
