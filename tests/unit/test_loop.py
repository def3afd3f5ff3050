"""The whole pipeline, tick by tick, on a recorded host with a fake clock."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest

from exporter.attribute.sources.replay import ReplayWorkloadCollector
from exporter.config import AccountConfig, AttributeConfig, Config, SampleConfig
from exporter.daemon import Daemon
from exporter.errors import RequestRefused
from exporter.loop import Loop
from exporter.model.commands import CommandRequest, EndRun, StartRun, StopDaemon
from exporter.model.readings import NO_GPU_ACTIVITY
from exporter.model.record import RunRecord
from exporter.model.recorded_host import Curve
from tests.agents import start_run
from tests.fakes import FakeClock

REPLAY = str(Path(__file__).parents[2] / "exporter" / "data" / "replay" / "two-socket.json")


class Rig:
    """A daemon whose ticks are run by the test; after a kill, the next one recovers its state."""

    def __init__(self, directory: Path, clock: FakeClock, **sample: Any) -> None:
        self.clock = clock
        self.directory = directory
        self.sample = SampleConfig(**{"replay": REPLAY, **sample})
        self.start()

    def start(self) -> None:
        config = Config(
            self.sample,
            AttributeConfig(read_environments=False),
            account=AccountConfig(state_directory=str(self.directory)),
        )
        self.app = Daemon(config, {}, self.clock)
        self.app.begin()
        self.snapshot = self.app.pipeline.tick()

    def tick(self, times: int = 1) -> None:
        for _ in range(times):
            self.clock.advance(1)
            self.snapshot = self.app.pipeline.tick()

    def is_joined(self) -> bool:
        """Whether the ledger writer has returned the stored state of every run.

        A tick is made only to hear it: no time goes by because that thread is slow.
        """
        if not self.app.pipeline._ledger_results.empty():
            self.tick()
        return not self.app.pipeline._books._departures.awaiting_history

    def ask(self, command: StartRun | EndRun) -> Any:
        answers: list[object] = []
        self.app.loop.run_tick([CommandRequest(command, answers.append)])
        current = self.app.publisher.current
        assert current is not None
        self.snapshot = current.snapshot
        (answer,) = answers
        return answer

    def close(self) -> None:
        """Stop as if killed: nothing is committed, only the journal exists."""
        self.app.close()

    def totals(self) -> dict[str, int]:
        sums: dict[str, int] = {}
        for row in self.snapshot.rows:
            sums[row.device.id] = sums.get(row.device.id, 0) + row.balance.counted.energy_uj
        return sums


@pytest.fixture
def rig(tmp_path):
    made = Rig(tmp_path / "state", FakeClock())
    yield made
    made.close()


@pytest.fixture
def live(tmp_path):
    """A daemon that measures the processes of this machine."""
    empty = tmp_path / "sys"
    empty.mkdir()
    made = Rig(tmp_path / "state", FakeClock(), replay="", sysfs=str(empty))
    yield made
    made.close()


def test_the_energy_of_a_device_is_the_integral_of_its_curve(rig):
    rig.tick(600)
    document = json.loads(Path(REPLAY).read_text())
    for device in document["devices"]:
        truth = Curve(device["watts"], document["period_seconds"]).integral(0, 600)
        assert rig.totals()[device["id"]] == pytest.approx(truth * 1e6, abs=10)


def test_no_tick_has_an_imbalance(rig):
    rig.tick(60)
    assert rig.snapshot.health.imbalance_uj == 0


def test_after_a_kill_devices_are_registered_before_the_workload_is_collected(rig, monkeypatch):
    rig.tick(3)
    rig.close()
    collect, heard = ReplayWorkloadCollector.collect, []

    def listening(self, occupancies=NO_GPU_ACTIVITY, infos=()):
        heard.append({info.device.id for info in infos})
        return collect(self, occupancies, infos)

    monkeypatch.setattr(ReplayWorkloadCollector, "collect", listening)
    rig.start()
    assert heard[0] == {device["id"] for device in json.loads(Path(REPLAY).read_text())["devices"]}


def test_after_a_kill_counters_continue_and_the_downtime_is_recovered(rig):
    rig.tick(30)
    before = rig.totals()
    rig.close()
    rig.clock.advance(5)
    rig.start()
    assert all(rig.totals()[device] > before[device] for device in before)
    reasons = {row.target for row in rig.snapshot.rows if row.balance.counted.energy_uj}
    assert "restart" in reasons


def test_a_killed_daemon_without_journal_resets_its_counters(rig):
    rig.tick(3)
    rig.app.pipeline.commit()
    rig.app.writer.start()
    assert rig.app.writer.stop(60)
    total = rig.totals()
    rig.close()
    (rig.directory / "journal").unlink()
    rig.start()
    assert set(rig.totals().values()) <= {0} or all(
        rig.totals()[device] < total[device] for device in total
    )
    assert all(
        row.balance.total.energy_uj >= row.balance.counted.energy_uj for row in rig.snapshot.rows
    )


def test_the_ledger_is_written_only_after_the_first_tick_has_written_the_journal(rig):
    rig.tick(1)
    rig.app.inbox.put(CommandRequest(StopDaemon(), lambda _: None))
    journal = rig.directory / "journal"
    before = journal.read_bytes()
    found = []
    rig.app.loop.run(lambda: found.append(journal.read_bytes()))
    assert found
    assert found[0] != before


def test_start_and_end_of_a_run_return_its_record(live):
    live.tick()
    record = live.ask(start_run(os.getuid(), "me", os.getpid(), "mine"))
    assert isinstance(record, RunRecord)
    assert record.run.shown_id == "mine"
    live.clock.advance(1)
    final = live.ask(EndRun(os.getuid(), "mine"))
    assert final.run.ended is not None
    assert [run.shown_id for run in live.snapshot.runs] == ["mine"]


def test_a_run_is_published_with_zero_when_it_starts(live):
    live.tick()
    live.ask(start_run(os.getuid(), "me", os.getpid(), "mine"))
    page = live.app.publisher.current.metrics_page.text().decode()
    assert (
        'emissions_run_energy_joules_total{device="cpu",id="",job_id="",run_id="mine"} 0.0' in page
    )


def test_a_rejected_command_returns_the_error(live):
    assert isinstance(live.ask(EndRun(1, "nobody")), RequestRefused)


def test_an_ended_run_expires_without_changing_sums(live):
    live.tick()
    live.ask(start_run(os.getuid(), "me", os.getpid(), "mine"))
    live.ask(EndRun(os.getuid(), "mine"))
    live.app.writer.start()
    before = live.totals()
    live.clock.advance(live.app.config.attribute.retain_ended_seconds)
    live.tick()
    assert live.snapshot.runs == ()
    assert all(live.totals()[device] >= before[device] for device in before)


def test_the_daemon_owns_the_machine_for_the_run_of_its_own_environment(tmp_path):
    empty = tmp_path / "sys"
    empty.mkdir()
    config = Config(
        SampleConfig(sysfs=str(empty)),
        AttributeConfig(read_environments=False),
        account=AccountConfig(state_directory=str(tmp_path / "state")),
    )
    clock = FakeClock()
    app = Daemon(config, {"EMISSIONS_JOB_ID": "4711"}, clock)
    app.pipeline.tick()
    clock.advance(1)
    snapshot = app.pipeline.tick()
    app.close()
    assert [(run.shown_id, run.origin) for run in snapshot.runs] == [("4711", "machine")]
    used = {str(row.target) for row in snapshot.rows if row.balance.counted.energy_uj}
    assert used == {str(snapshot.runs[0].key)}


def test_settings_reach_the_loop(tmp_path):
    config = dataclasses.replace(
        Config(SampleConfig(replay=REPLAY, interval_seconds=2.5)),
        account=AccountConfig(state_directory=str(tmp_path)),
    )
    app = Daemon(config, {}, FakeClock())
    assert app.pipeline.tick().interval_seconds == 2.5
    app.close()


class TestIdle:
    def loop(self, rig, seconds):
        """The loop of the rig, with exit when idle."""
        return Loop(
            rig.app.pipeline,
            rig.app.pipeline._workload_collector,
            rig.clock,
            rig.app.inbox,
            1.0,
            exit_when_idle_seconds=seconds,
        )

    def test_a_daemon_runs_while_a_registered_run_is_open(self, rig, monkeypatch):
        open_one = rig.snapshot.runs[0]._replace(origin="registered")
        shown = rig.snapshot._replace(runs=(open_one,))
        monkeypatch.setattr(rig.app.pipeline, "tick", lambda: shown)
        loop = self.loop(rig, 10)
        for _ in range(30):
            rig.clock.advance(1)
            loop.run_tick([])
        assert not loop._stopping

    def test_a_daemon_exits_when_idle(self, rig, monkeypatch):
        loop = self.loop(rig, 10)
        monkeypatch.setattr(rig.app.pipeline, "tick", lambda: rig.snapshot._replace(runs=()))
        for second in range(1, 11):
            assert not loop._stopping, second
            rig.clock.advance(1)
            loop.run_tick([])
        assert loop._stopping
