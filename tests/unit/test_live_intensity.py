"""A daemon whose live sources fail one after the other and recover, with a fake clock."""

import pytest

from exporter.config import AccountConfig, AttributeConfig, Config, ConvertConfig
from exporter.daemon import Daemon
from tests.fakes import FakeClock
from tests.grid.prometheus import Series
from tests.grid.server import GridServer
from tests.unit.test_late_intensity import LateRig

pytestmark = [pytest.mark.real, pytest.mark.beside]  # it asks by real child processes

MINUTE = 60
FIRST, SECOND = 10_800.0 / 100, 10_800.0 / 50
"""Grams per kWh: 0.03 and 0.06 nanograms for each microjoule."""


class LiveRig(LateRig):
    """Two sources of the same kind; their worker runs synchronously before each minute."""

    def __init__(self, directory, clock, urls):
        options = {
            "query": "intensity",
            "basis": "lifecycle",
            "refresh_seconds": 50,  # so that each is due in each minute, whatever chance adds
            "max_age_seconds": 5 * MINUTE,
        }
        sources = tuple({"prometheus": {"url": url, **options}} for url in urls)
        self.convert = ConvertConfig(zone="DE", sources=sources)
        super().__init__(directory, clock)

    def start(self):
        config = Config(
            self.sample,
            AttributeConfig(read_environments=False),
            self.convert,
            AccountConfig(state_directory=str(self.directory)),
        )
        self.app = Daemon(config, {}, self.clock)
        self.app.begin()
        self.refresh()
        self.snapshot = self.app.pipeline.tick()

    def refresh(self):
        for worker in self.app._workers:
            if worker._thread.name == "intensity":
                worker._work()

    def minutes(self, count):
        for _ in range(count):
            self.tick(MINUTE // 10)
            self.refresh()

    def tick(self, times=1):
        for _ in range(times):
            self.clock.advance(9)  # and one more in the tick itself
            super().tick()

    def intensity(self):
        factor = self.snapshot.grid.factor
        return factor and factor.grams_per_kwh


@pytest.fixture
def sources():
    made = Series(FIRST), Series(SECOND)
    servers = [GridServer(each) for each in made]
    for each, server in zip(made, servers, strict=True):
        each.url, each.asked = server.url, server.asked
    yield made
    for server in servers:
        server.stop()


@pytest.fixture
def rig(tmp_path, sources):
    made = LiveRig(tmp_path / "state", FakeClock(), [each.url for each in sources])
    yield made
    made.close()


def by_minute(rig):
    """Grams per kWh of the energy of each minute, from the ledger."""
    found = {}
    for spell in rig.app.archive.usage(0, rig.clock.wall()):
        energy_uj, carbon_ng = found.get(spell.at, (0, 0))
        amount = spell.amount
        found[spell.at] = energy_uj + amount.energy_uj, carbon_ng + amount.carbon_ng
    return [ng / uj * 3600 for _, (uj, ng) in sorted(found.items()) if uj]


def test_sources_fall_back_in_order_and_gaps_are_backfilled(rig, sources):
    first, second = sources
    rig.minutes(3)
    assert rig.intensity() == FIRST
    assert not second.asked
    first.status = 500
    rig.minutes(8)
    assert (rig.intensity(), rig.snapshot.grid.factor.step) == (SECOND, 1)
    second.status = 500
    rig.minutes(8)
    assert rig.intensity() is None
    counted = rig.sums()
    rig.minutes(3)
    assert rig.sums()[0] > counted[0]
    assert rig.sums()[1] == counted[1]
    assert "carbon counter does not increase" in rig.snapshot.grid.why
    first.status = 200
    rig.minutes(15)
    assert (rig.intensity(), rig.snapshot.grid.factor.step) == (FIRST, 0)
    assert set(map(round, by_minute(rig)[1:-2])) == {round(FIRST), round(SECOND)}


def test_after_a_restart_values_stay_valid_and_no_source_is_polled_early(rig, sources):
    first, _ = sources
    rig.minutes(3)
    rig.tick(4)  # until what the sources said is committed
    asked = len(first.asked)
    rig.close()
    rig.clock.advance(5)
    rig.start()
    assert rig.intensity() == FIRST
    assert len(first.asked) == asked


def test_after_a_restart_the_backoff_of_a_failing_source_continues(rig, sources):
    first, second = sources
    first.status, second.status = 429, 429
    first.headers = second.headers = {"Retry-After": "7200"}
    rig.minutes(8)
    asked = len(first.asked)
    rig.close()
    rig.start()
    rig.minutes(5)
    assert len(first.asked) == asked
