"""Thousands of runs: the cap applies, nothing is lost, and page and books stay bounded."""

import os

import pytest

from exporter.errors import RequestRefused
from exporter.model.commands import CommandRequest, EndRun
from tests.agents import start_run
from tests.fakes import FakeClock
from tests.unit.test_loop import Rig

MANY, SHOWN, BATCHES = 10_000, 180, 10
"""One user may have nine tenths of the 200 runs that are shown."""


@pytest.fixture
def rig(tmp_path):
    """A daemon that measures the processes of this machine."""
    empty = tmp_path / "sys"
    empty.mkdir()
    made = Rig(tmp_path / "state", FakeClock(), replay="", sysfs=str(empty))
    yield made
    made.close()


def ask_all(rig, commands):
    """Results of commands that are executed between two ticks."""
    answers = []
    rig.app.loop.run_tick([CommandRequest(command, answers.append) for command in commands])
    rig.snapshot = rig.app.publisher.current.snapshot
    return answers


def start(run_id):
    return start_run(os.getuid(), "me", os.getpid(), run_id)


def end(run_id):
    return EndRun(os.getuid(), run_id, pid=os.getpid())


def page(rig):
    return rig.app.publisher.current.metrics_page.text()


def run_rows(rig):
    return sum(row.target == run.key for row in rig.snapshot.rows for run in rig.snapshot.runs)


def test_runs_beyond_the_cap_are_counted_as_other(rig):
    rig.tick()
    answers = ask_all(rig, [start(f"run-{number}") for number in range(MANY)])
    assert not any(isinstance(answer, RequestRefused) for answer in answers)
    assert [answer.run.shown_id for answer in answers[SHOWN:]] == ["other"] * (MANY - SHOWN)
    assert rig.snapshot.health.series_dropped == MANY - SHOWN
    assert len(rig.snapshot.runs) == SHOWN + 1
    rig.tick()
    assert rig.snapshot.health.imbalance_uj == 0


def test_departed_runs_leave_only_their_sums(rig):
    rig.app.writer.start()
    rig.tick()
    sizes, before = [], rig.totals()
    for batch in range(BATCHES):
        names = [f"run-{batch}-{number}" for number in range(SHOWN)]
        ask_all(rig, [start(name) for name in names])
        rig.tick()
        ask_all(rig, [end(name) for name in reversed(names)])
        sizes.append((len(rig.snapshot.runs), len(page(rig)) // 1024))
        rig.clock.advance(rig.app.config.attribute.retain_ended_seconds)
        rig.tick()
        assert all(rig.totals()[device] >= before[device] for device in before)
        before = rig.totals()
    assert rig.snapshot.runs == ()
    assert run_rows(rig) == 0
    assert rig.snapshot.health.series_dropped == 0
    assert sizes[-1] == pytest.approx(sizes[1], rel=0.05)
