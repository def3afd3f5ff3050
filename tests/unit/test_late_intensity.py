"""Backfill: no carbon intensity is available for a while, and arrives later."""

import math

import pytest

import exporter.wiring
from exporter.convert.chain import IntensityChain
from exporter.model.intensity import Accounting, Basis, Factor, Signal
from tests.fakes import FakeClock
from tests.unit.test_loop import Rig

EXACT = Factor("DE", "late", 10_800.0, 1.0, 0.0, math.inf, 0.0)
"""Three nanograms for each microjoule, so that nothing is rounded."""


class Late:
    """An intensity source whose factors are set by the test."""

    name, why = "late", ""
    kind = (Signal.AVERAGE, Basis.LIFECYCLE, Accounting.LOCATION)

    def __init__(self):
        self.factors = []

    def factors_between(self, t0, t1):
        return [f for f in self.factors if f.valid_from < t1 and f.valid_until > t0]


class LateRig(Rig):
    """A daemon whose ledger writer runs synchronously after each tick."""

    is_writing = True

    def tick(self, times=1):
        for _ in range(times):
            super().tick()
            if self.is_writing:
                self.app.writer._work()

    def sums(self):
        """Microjoules and nanograms of the counters."""
        counted = [row.balance.counted for row in self.snapshot.rows]
        return sum(each.energy_uj for each in counted), sum(each.carbon_ng for each in counted)


@pytest.fixture
def source():
    return Late()


@pytest.fixture
def rig(tmp_path, source, monkeypatch):
    opened = exporter.wiring.open_intensity_provider

    def with_source(**settings):
        return opened(**settings)._replace(chain=IntensityChain([source], 1.0))

    monkeypatch.setattr(exporter.wiring, "open_intensity_provider", with_source)
    made = LateRig(tmp_path / "state", FakeClock())
    yield made
    made.close()


def test_carbon_without_intensity_is_backfilled_once(rig, source):
    rig.tick(150)
    energy_uj, carbon_ng = rig.sums()
    assert energy_uj > 0
    assert carbon_ng == 0
    source.factors = [EXACT]
    rig.tick(150)
    for _ in range(10):
        energy_uj, carbon_ng = rig.sums()
        assert carbon_ng == 3 * energy_uj
        rig.tick(20)


def test_counters_never_decrease_during_a_backfill(rig, source):
    before = rig.sums()
    for second in range(400):
        if second == 200:
            source.factors = [EXACT]
        rig.tick()
        assert all(new >= old for new, old in zip(rig.sums(), before, strict=True))
        before = rig.sums()


def test_only_energy_covered_by_a_factor_is_backfilled(rig, source):
    rig.tick(600)
    minute = int(rig.clock.wall()) // 60
    from_, until = (minute - 6) * 60.0, (minute - 3) * 60.0
    source.factors = [EXACT._replace(valid_from=from_, valid_until=until)]
    rig.tick(60)
    spells = rig.app.archive.usage(0, rig.clock.wall())
    assert {spell.at for spell in spells if spell.amount.carbon_ng} == {
        from_,
        from_ + 60,
        from_ + 120,
    }
    backfill_id = [spell.amount for spell in spells if spell.amount.carbon_ng]
    assert rig.sums()[1] == sum(each.carbon_ng for each in backfill_id)
    assert rig.sums()[1] == 3 * sum(each.energy_uj for each in backfill_id)


def test_runs_and_records_get_backfilled_carbon(rig, source):
    rig.tick(120)
    source.factors = [EXACT]
    rig.tick(150)
    (record, *_) = rig.app.archive.runs(1)
    assert [use.factor for use in record.factors] == [EXACT]
    (uses,) = {
        key: uses for key, uses in rig.snapshot.factor_uses.items() if key == record.run.key
    }.values()
    assert [use.factor for use in uses] == [EXACT]
    assert all(use.carbon_ng == 3 * use.energy_uj for use in uses)


@pytest.mark.parametrize("is_written", [True, False])
def test_a_kill_before_the_factor_arrives_changes_nothing(rig, source, is_written):
    rig.is_writing = is_written
    rig.tick(150)
    rig.close()
    rig.start()
    rig.is_writing = True
    rig.tick(30)
    assert rig.sums()[1] == 0
    source.factors = [EXACT]
    rig.tick(150)
    energy_uj, carbon_ng = rig.sums()
    assert carbon_ng == 3 * energy_uj


def test_a_kill_between_backfill_and_result_changes_nothing(rig, source):
    rig.tick(150)
    source.factors = [EXACT]
    while rig.app.pipeline._ledger_results.empty():
        rig.tick()
    before = rig.sums()
    rig.close()
    rig.start()
    assert all(new >= old for new, old in zip(rig.sums(), before, strict=True))
    rig.tick(150)
    energy_uj, carbon_ng = rig.sums()
    assert carbon_ng == 3 * energy_uj


def test_a_full_disk_only_delays_the_backfill(rig, source):
    rig.tick(60)
    rig.is_writing = False
    rig.tick(100)
    source.factors = [EXACT]
    rig.tick(100)
    rig.is_writing = True
    rig.tick(150)
    energy_uj, carbon_ng = rig.sums()
    assert carbon_ng == 3 * energy_uj


def test_the_chain_is_not_queried_while_nothing_is_unconverted(rig, source, monkeypatch):
    source.factors = [EXACT]
    rig.tick(120)
    monkeypatch.setattr(rig.app.writer, "backfill", lambda *_: pytest.fail("nothing is missing"))
    rig.tick(60)
