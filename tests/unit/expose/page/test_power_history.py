"""Power history from the ledger."""

import asyncio

import pytest

from exporter.errors import LedgerError
from exporter.expose.http.bounded_executor import BoundedExecutor
from exporter.expose.page.power_history import (
    MAX_CACHED_RUNS,
    MINUTES,
    NO_CHARTS,
    PowerHistory,
    run_power_history,
    sparkline,
)
from exporter.model.ledger import Amount
from exporter.model.readings import Device, DeviceKind
from exporter.model.record import UsageInterval
from exporter.model.runs import RunKey

CPU = Device(DeviceKind.CPU, "package-0")
GPU = Device(DeviceKind.GPU, "GPU-0")
RUN = RunKey(1, "bert", "")
NOW = 1_000 * 60.0 + 50
NONE = (None,) * (MINUTES - 2)


class Archive:
    def __init__(self, spells=()):
        self.intervals = spells
        self.asked = []
        self.error = None

    def usage(self, since, until, run=None, *, by_hour=False):
        self.asked.append((since, until))
        self.by_hour = by_hour
        if self.error:
            raise self.error
        return self.intervals


def spell(minute, joules, run=RUN, device=CPU):
    return UsageInterval(minute * 60.0, device, run, Amount(joules * 1_000_000, 0, 0))


def in_event_loop(talk):
    async def conversation():
        executor = BoundedExecutor("questions", threads=1, most=4)
        try:
            return await talk(executor)
        finally:
            executor.close()

    return asyncio.run(conversation())


def looked(archive, *walls):
    """Return the charts at each of these times, after all queries completed."""

    async def look(executor):
        history = PowerHistory(archive, executor)
        drawn = []
        for wall in walls:
            history.charts(wall)
            await asyncio.gather(*executor._open)
            drawn.append(history.charts(wall))
        return drawn

    return in_event_loop(look)


def test_power_is_the_mean_of_each_minute_by_run_by_device_and_of_all():
    (charts,) = looked(Archive([spell(998, 6_000), spell(999, 1_200), spell(999, 60, None)]), NOW)
    assert charts.runs[RUN] == sparkline((*NONE, 100.0, 20.0))
    assert charts.devices[CPU] == charts.node == sparkline((*NONE, 100.0, 21.0))


def test_a_minute_without_usage_is_zero_and_a_minute_without_data_is_unknown():
    (charts,) = looked(Archive([spell(998, 60, None), spell(999, 60)]), NOW)
    assert charts.runs[RUN] == sparkline((*NONE, 0.0, 1.0))


def test_the_archive_is_queried_once_a_minute_and_only_for_complete_minutes():
    archive = Archive()
    looked(archive, NOW, NOW + 5, NOW + 54)
    assert archive.asked == [(940 * 60, 1_000 * 60)]
    archive.asked.clear()
    looked(archive, NOW, NOW + 60)
    assert [until for _, until in archive.asked] == [1_000 * 60, 1_001 * 60]


def test_the_last_charts_are_kept_if_the_ledger_cannot_be_read():
    archive = Archive([spell(999, 60)])
    archive.error = LedgerError("gone")
    assert looked(archive, NOW) == [NO_CHARTS]


def record(made, started, ended=None):
    return made.record_of(made.snapshot(), made.run(RUN, started=started, ended=ended))


def test_the_history_of_a_run_is_from_its_start_to_the_last_complete_minute_by_kind(made):
    archive = Archive([spell(998, 600), spell(999, 60), spell(999, 120, device=GPU)])
    past = run_power_history(archive, record(made, 998 * 60 + 20), 1_000 * 60)
    assert past == (998 * 60, 1_000 * 60, {"cpu": (15.0, 1.0), "gpu": (0.0, 2.0)}, 7.8)


def test_power_of_a_partial_minute_is_the_mean_of_that_part(made):
    archive = Archive([spell(998, 2_000), spell(999, 4_000)])
    past = run_power_history(archive, record(made, 998 * 60 + 40, ended=999 * 60 + 40), 1_000 * 60)
    assert past.kinds == {"cpu": (100.0, 100.0)}
    assert past.mean_watts == 100.0


def test_a_tick_that_counts_on_one_side_of_an_edge_is_no_peak(made):
    archive = Archive([spell(998, 5_900), spell(999, 100)])
    past = run_power_history(archive, record(made, 998 * 60, ended=999 * 60 + 0.01), 1_000 * 60)
    assert max(past.kinds["cpu"]) < 100.0


def test_a_new_run_is_not_shown_by_the_hour(made):
    archive = Archive()
    assert run_power_history(archive, record(made, 999 * 60), 1_000 * 60).kinds == {}
    assert not archive.by_hour


def test_the_history_of_an_old_short_run_is_by_the_hour(made):
    class Old(Archive):
        def usage(self, *asked, by_hour=False):
            found = super().usage(*asked, by_hour=by_hour)
            return found if by_hour else ()

    archive = Old([spell(0, 60_000)])
    past = run_power_history(archive, record(made, 600, ended=1_200), 100 * 86_400)
    assert past == (0, 3_600, {"cpu": (100.0,)}, 100.0)


def test_the_history_of_a_run_ends_with_the_run(made):
    archive = Archive([spell(900, 60)])
    run_power_history(archive, record(made, 900 * 60, ended=910 * 60 + 1), 1_000 * 60)
    assert archive.asked == [(900 * 60, 911 * 60)]


def test_the_history_of_a_long_run_is_by_the_hour_and_at_most_thirty_days(made):
    archive = Archive()
    past = run_power_history(archive, record(made, 0.0), 100 * 86_400)
    assert archive.by_hour
    assert past.until - past.since == 30 * 86_400


def test_a_run_that_just_started_has_no_history(made):
    assert run_power_history(Archive(), record(made, NOW), 1_000 * 60).kinds == {}


def test_the_history_of_a_run_is_queried_once_a_minute_for_all_readers(made):
    archive = Archive([spell(999, 60)])

    async def look(executor):
        history = PowerHistory(archive, executor)
        one = record(made, 990 * 60)
        return [await history.run_history(one, NOW + wait) for wait in (0, 1, 2, 60)]

    stored_runs = in_event_loop(look)
    assert stored_runs[0] is stored_runs[1] is stored_runs[2]
    assert len(archive.asked) == 2


def test_the_number_of_cached_histories_is_limited(made):
    async def look(executor):
        history = PowerHistory(Archive(), executor)
        for name in range(MAX_CACHED_RUNS + 5):
            run = made.run(RunKey(1, str(name), ""))
            await history.run_history(made.record_of(made.snapshot(), run), made.WALL)
        return len(history._histories)

    assert in_event_loop(look) == MAX_CACHED_RUNS


@pytest.mark.parametrize("error", [LedgerError("the disk is gone"), TimeoutError()])
def test_there_is_no_history_if_the_ledger_does_not_respond(made, error):
    archive = Archive()
    archive.error = error

    async def look(executor):
        return await PowerHistory(archive, executor).run_history(record(made, 990 * 60), NOW)

    assert in_event_loop(look) is None
