"""The last hour as small lines."""

import asyncio

from exporter.errors import LedgerError
from exporter.expose.charts import MINUTES, Charts, Historian, chart
from exporter.expose.desk import Desk
from exporter.model.books import Amount
from exporter.model.readings import Device, Kind
from exporter.model.record import Spell
from exporter.model.runs import RunKey

CPU = Device(Kind.CPU, "package-0")
RUN = RunKey(1, "bert", "")
NOW = 1_000 * 60.0 + 50


class Archive:
    def __init__(self, spells=()):
        self.spells = spells
        self.asked = []
        self.error = None

    def usage(self, since, until):
        self.asked.append((since, until))
        if self.error:
            raise self.error
        return self.spells


def spell(minute, joules, run=RUN):
    return Spell(minute * 60.0, CPU, run, Amount(joules * 1_000_000, 0, 0))


def looked(archive, *walls):
    """What is drawn at each of these times, once all answers are there."""

    async def look():
        desk = Desk("questions", threads=1, most=4)
        historian = Historian(archive, desk)
        drawn = []
        for wall in walls:
            historian.charts(wall)
            await asyncio.gather(*desk._open)
            drawn.append(historian.charts(wall))
        desk.close()
        return drawn

    return asyncio.run(look())


def test_power_is_the_mean_of_each_minute_by_run_and_by_device():
    (charts,) = looked(Archive([spell(998, 6_000), spell(999, 1_200), spell(999, 60, None)]), NOW)
    assert charts.runs[RUN][-2:] == (100.0, 20.0)
    assert charts.devices[CPU][-2:] == (100.0, 21.0)
    assert len(charts.runs[RUN]) == MINUTES


def test_the_archive_is_asked_once_a_minute_and_not_for_what_it_may_not_have_yet():
    archive = Archive()
    looked(archive, NOW, NOW + 5, NOW + 54)
    assert archive.asked == [(940 * 60, 1_000 * 60)]
    archive.asked.clear()
    looked(archive, NOW, NOW + 60)
    assert [until for _, until in archive.asked] == [1_000 * 60, 1_001 * 60]


def test_a_ledger_that_cannot_be_read_leaves_what_was_known():
    archive = Archive([spell(999, 60)])
    archive.error = LedgerError("gone")
    assert looked(archive, NOW) == [Charts()]


def test_nothing_is_drawn_of_what_is_not_known():
    assert chart(None) == ""
    assert chart(()) == ""


def test_a_line_stands_on_zero_and_reaches_the_top_at_its_most():
    drawn = chart((0.0, 50.0, 100.0))
    assert 'points="0,23.0 60,12.0 120,1.0"' in drawn
    assert "last hour, at most 100 W" in drawn


def test_an_hour_without_power_is_a_line_on_zero():
    assert 'points="0,23.0 120,23.0"' in chart((0.0, 0.0))
