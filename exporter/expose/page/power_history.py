"""Power over time from the ledger, queried once a minute regardless of the number of readers."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import accumulate
from typing import NamedTuple, TypeAlias, TypeVar

from exporter import formatting, units
from exporter.errors import LedgerError, RequestRefused
from exporter.expose.http.bounded_executor import BoundedExecutor
from exporter.html import Markup, tag
from exporter.model.readings import Device
from exporter.model.record import RunArchive, RunRecord, UsageInterval
from exporter.model.runs import RunKey
from exporter.units import SECONDS_PER_DAY, SECONDS_PER_HOUR, SECONDS_PER_MINUTE

WIDTH, HEIGHT = 120, 24
WIDE_WIDTH, WIDE_HEIGHT = 720, 120
MAX_POINTS = 240
"""Longer series are downsampled to means."""

Watts: TypeAlias = tuple[float | None, ...]
"""Mean power of each time step, oldest first; None if unknown."""


def sparkline(watts: Watts) -> Markup:
    """Draw the last hour as a line; empty if nothing is known."""
    known = [value for value in watts if value is not None]
    if not known:
        return Markup("")
    step = WIDTH / max(1, len(watts) - 1)
    path = "".join(
        _line_path([(first + place, value) for place, value in enumerate(run)], step, max(known))
        for first, run in _known_segments(watts)
    )
    description = f"power over the last hour: maximum {formatting.watts(max(known))}"
    return _svg("chart", description, WIDTH, HEIGHT, [Markup(f'<path d="{path}"/>')])


def stacked_area(kinds: Mapping[str, Sequence[float]], description: str) -> Markup:
    """Draw a stacked area chart; the CSS class of each area is its kind.

    `description` is the accessible text of the chart.
    """
    thinned = {kind: _downsample(watts) for kind, watts in kinds.items()}
    rows = list(thinned.values())
    tops = list(accumulate(rows, lambda low, row: [a + b for a, b in zip(low, row, strict=True)]))
    maximum = max((max(top) for top in tops), default=0.0)
    areas = []
    floor = [0.0] * (len(tops[0]) if tops else 0)
    for kind, top in zip(thinned, tops, strict=True):
        edge = [*enumerate(top), *reversed(list(enumerate(floor)))]
        step = WIDE_WIDTH / max(1, len(top) - 1)
        points = " ".join(
            f"{place * step:.1f},{_height(value, maximum, WIDE_HEIGHT):.1f}"
            for place, value in edge
        )
        areas.append(tag("polygon", class_=kind, points=points))
        floor = top
    return _svg("broad", description, WIDE_WIDTH, WIDE_HEIGHT, areas)


def _svg(kind: str, description: str, width: int, height: int, shapes: Sequence[Markup]) -> Markup:
    return tag(
        "svg",
        tag("title", description),
        *shapes,
        class_=kind,
        role="img",
        aria_label=description,
        viewBox=f"0 0 {width} {height}",
        preserveAspectRatio="none",
    )


def _known_segments(watts: Watts) -> Iterator[tuple[int, list[float]]]:
    """Yield the index and the values of each segment without gaps."""
    first, segment = 0, list[float]()
    for place, value in enumerate((*watts, None)):
        if value is not None:
            first = first if segment else place
            segment.append(value)
        elif segment:
            yield first, segment
            segment = []


def _line_path(points: Sequence[tuple[int, float]], step: float, maximum: float) -> str:
    coordinates = [
        f"{place * step:.0f},{_height(value, maximum, HEIGHT):.1f}" for place, value in points
    ]
    return f"M{coordinates[0]}h.1" if len(coordinates) == 1 else "M" + "L".join(coordinates)


def _height(value: float, maximum: float, height: int) -> float:
    """Return the vertical position of a value, one pixel away from both edges."""
    return height - 1 - (value * (height - 2) / maximum if maximum else 0.0)


def _downsample(watts: Sequence[float]) -> list[float]:
    """Downsample to at most `MAX_POINTS` means of equally many neighbors; one value is doubled."""
    size = -(-len(watts) // MAX_POINTS)
    parts = [watts[place : place + size] for place in range(0, len(watts), size)] if watts else []
    means = [sum(part) / len(part) for part in parts]
    return means * 2 if len(means) == 1 else means


MINUTES = 60
COMMIT_DELAY_SECONDS = 45
"""Time after the end of a minute until the ledger is sure to contain it."""
MAX_HISTORY_SECONDS = 30 * SECONDS_PER_DAY
MAX_CACHED_RUNS = 32
QUERY_TIMEOUT_SECONDS = 5.0

K = TypeVar("K")


class PowerCharts(NamedTuple):
    """Charts of the last hour. Runs and devices without energy in this time are omitted."""

    runs: Mapping[RunKey, Markup] = {}
    devices: Mapping[Device, Markup] = {}
    node: Markup = Markup("")
    minute: int = 0
    """The minute at which the charts end, since the Unix epoch."""


NO_CHARTS = PowerCharts()


class RunPowerHistory(NamedTuple):
    """Power of a run from `since` to `until`."""

    since: float
    until: float
    kinds: Mapping[str, tuple[float, ...]]
    """Mean power of each step by device kind, oldest first; only of the run's own time."""
    mean_watts: float
    """Mean over the whole period."""


class PowerHistory:
    """Queries the archive once a minute. The page of the node does not wait for the result."""

    def __init__(self, archive: RunArchive, executor: BoundedExecutor) -> None:
        self._archive = archive
        self._executor = executor
        self._minute = 0
        self._charts = NO_CHARTS
        self._histories: dict[tuple[RunKey, int], asyncio.Future[RunPowerHistory]] = {}

    def charts(self, wall: float) -> PowerCharts:
        """Return the latest charts; starts an update if they are older than a minute."""
        minute = _last_minute(wall)
        if minute != self._minute:
            self._minute = minute
            with suppress(RequestRefused):  # the executor is full; retried in the next minute
                self._executor.submit_detached(lambda: self._update_charts(minute))
        return self._charts

    async def run_history(self, record: RunRecord, wall: float) -> RunPowerHistory | None:
        """Return the power of a run since its start, at most 30 days; None if the ledger fails."""
        minute = _last_minute(wall)
        cache_key = record.run.key, minute
        try:
            if cache_key not in self._histories:
                while len(self._histories) >= MAX_CACHED_RUNS:
                    del self._histories[next(iter(self._histories))]
                query = partial(
                    run_power_history, self._archive, record, minute * SECONDS_PER_MINUTE
                )
                self._histories[cache_key] = self._executor.submit(query)
            async with asyncio.timeout(QUERY_TIMEOUT_SECONDS):
                return await asyncio.shield(self._histories[cache_key])
        except (LedgerError, RequestRefused, TimeoutError):
            return None

    def _update_charts(self, minute: int) -> None:
        first = minute - MINUTES
        try:
            intervals = self._archive.usage(first * SECONDS_PER_MINUTE, minute * SECONDS_PER_MINUTE)
        except LedgerError:
            return  # the page reports ledger errors elsewhere
        devices = _power_by_minute(first, [(interval.device, interval) for interval in intervals])
        runs = _power_by_minute(
            first, [(interval.run, interval) for interval in intervals if interval.run is not None]
        )
        node = _power_by_minute(first, [(None, interval) for interval in intervals]).get(None, ())
        # A minute without energy of the run is 0 W, unless the node has no data for it.
        run_watts = {
            run: tuple(
                0.0 if run_value is None and node_value is not None else run_value
                for run_value, node_value in zip(watts, node, strict=True)
            )
            for run, watts in runs.items()
        }
        self._charts = PowerCharts(
            {run: sparkline(watts) for run, watts in run_watts.items()},
            {device: sparkline(watts) for device, watts in devices.items()},
            sparkline(node),
            minute,
        )


def run_power_history(archive: RunArchive, record: RunRecord, written: float) -> RunPowerHistory:
    """Return power by minute for up to a day, else by hour, as far as the ledger has it.

    `written` is the time up to which the ledger is complete, in wall clock seconds. Periods for
    which usage by minute is no longer kept are returned by hour. Raises LedgerError.
    """
    run = record.run
    until = written if run.ended is None else min(written, run.ended)
    since = max(run.started, until - MAX_HISTORY_SECONDS)
    by_hour = until - since > SECONDS_PER_DAY
    intervals, first, end, step = _query_usage(archive, run.key, since, until, by_hour=by_hour)
    if not intervals and not by_hour and written - until > SECONDS_PER_DAY:
        intervals, first, end, step = _query_usage(archive, run.key, since, until, by_hour=True)
    lengths = _step_durations(max(run.started, first * step), until, range(first, end), step)
    kinds: dict[str, list[float]] = {}
    total_joules = 0.0
    for interval in intervals:
        watts = kinds.setdefault(interval.device.kind, [0.0] * len(lengths))
        place = int(interval.at) // step - first
        if 0 <= place < len(lengths):
            joules = units.joules(interval.amount.energy_uj)
            watts[place] += joules / lengths[place]
            total_joules += joules
    power = {kind: tuple(kinds[kind]) for kind in sorted(kinds)}
    mean = total_joules / max(1.0, until - max(run.started, first * step))
    return RunPowerHistory(first * step, end * step, power, mean)


class _UsageQuery(NamedTuple):
    """Usage of a run by time step, from step `first` to before step `end`."""

    intervals: Sequence[UsageInterval]
    first: int
    end: int
    step: int


def _query_usage(
    archive: RunArchive, run: RunKey, since: float, until: float, *, by_hour: bool
) -> _UsageQuery:
    step = SECONDS_PER_HOUR if by_hour else SECONDS_PER_MINUTE
    first, end = int(since) // step, -(-int(until) // step)
    return _UsageQuery(
        archive.usage(first * step, end * step, run, by_hour=by_hour), first, end, step
    )


def _step_durations(since: float, until: float, steps: range, step: int) -> list[float]:
    """Return for how many seconds of each step the run was active.

    At least a quarter of the step, or the whole run: an interval that crosses an edge is counted on
    one side.
    """
    least = max(1.0, min(step / 4, until - since))
    return [
        max(least, min(until, (place + 1) * step) - max(since, place * step)) for place in steps
    ]


def _last_minute(wall: float) -> int:
    """Return the minute before which the ledger is complete."""
    return int(wall - COMMIT_DELAY_SECONDS) // SECONDS_PER_MINUTE


def _power_by_minute(first: int, intervals: Iterable[tuple[K, UsageInterval]]) -> dict[K, Watts]:
    power: dict[K, list[float | None]] = {}
    for key, interval in intervals:
        watts = power.setdefault(key, [None] * MINUTES)
        index = int(interval.at) // SECONDS_PER_MINUTE - first
        if 0 <= index < MINUTES:
            watts[index] = (watts[index] or 0.0) + units.joules(
                interval.amount.energy_uj
            ) / SECONDS_PER_MINUTE
    return {key: tuple(watts) for key, watts in power.items()}
