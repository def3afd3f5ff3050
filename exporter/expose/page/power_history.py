"""Power of the past from the ledger, asked for once a minute however many people look."""

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
"""More than this many are drawn as means of several."""

Watts: TypeAlias = tuple[float | None, ...]
"""One mean power for each step of time, the oldest first; None: not known."""


def sparkline(watts: Watts) -> Markup:
    """The last hour as a line; nothing where nothing is known."""
    known = [value for value in watts if value is not None]
    if not known:
        return Markup("")
    step = WIDTH / max(1, len(watts) - 1)
    drawn = "".join(
        _line_path([(first + place, value) for place, value in enumerate(run)], step, max(known))
        for first, run in _known_segments(watts)
    )
    said = f"power over the last hour: at most {formatting.watts(max(known))}"
    return _svg("chart", said, WIDTH, HEIGHT, [Markup(f'<path d="{drawn}"/>')])


def stacked_area(kinds: Mapping[str, Sequence[float]], said: str) -> Markup:
    """Areas on top of each other, each of a class named for its kind; `said` is what is seen."""
    thinned = {kind: _downsample(watts) for kind, watts in kinds.items()}
    rows = list(thinned.values())
    tops = list(accumulate(rows, lambda low, row: [a + b for a, b in zip(low, row, strict=True)]))
    most = max((max(top) for top in tops), default=0.0)
    areas = []
    floor = [0.0] * (len(tops[0]) if tops else 0)
    for kind, top in zip(thinned, tops, strict=True):
        edge = [*enumerate(top), *reversed(list(enumerate(floor)))]
        step = WIDE_WIDTH / max(1, len(top) - 1)
        spelled = " ".join(
            f"{place * step:.1f},{_height(value, most, WIDE_HEIGHT):.1f}" for place, value in edge
        )
        areas.append(tag("polygon", class_=kind, points=spelled))
        floor = top
    return _svg("broad", said, WIDE_WIDTH, WIDE_HEIGHT, areas)


def _svg(kind: str, said: str, width: int, height: int, shapes: Sequence[Markup]) -> Markup:
    return tag(
        "svg",
        tag("title", said),
        *shapes,
        class_=kind,
        role="img",
        aria_label=said,
        viewBox=f"0 0 {width} {height}",
        preserveAspectRatio="none",
    )


def _known_segments(watts: Watts) -> Iterator[tuple[int, list[float]]]:
    """What is known without a gap, and where it begins."""
    first, found = 0, list[float]()
    for place, value in enumerate((*watts, None)):
        if value is not None:
            first = first if found else place
            found.append(value)
        elif found:
            yield first, found
            found = []


def _line_path(points: Sequence[tuple[int, float]], step: float, most: float) -> str:
    spelled = [f"{place * step:.0f},{_height(value, most, HEIGHT):.1f}" for place, value in points]
    return f"M{spelled[0]}h.1" if len(spelled) == 1 else "M" + "L".join(spelled)


def _height(value: float, most: float, height: int) -> float:
    """How far down a value is drawn, a pixel away from both edges."""
    return height - 1 - (value * (height - 2) / most if most else 0.0)


def _downsample(watts: Sequence[float]) -> list[float]:
    """Means of equally many neighbours, at most `MOST_POINTS` of them; one becomes two."""
    size = -(-len(watts) // MAX_POINTS)
    parts = [watts[place : place + size] for place in range(0, len(watts), size)] if watts else []
    means = [sum(part) / len(part) for part in parts]
    return means * 2 if len(means) == 1 else means


MINUTES = 60
COMMIT_DELAY_SECONDS = 45
"""Until then a minute that is over may not be in the ledger yet."""
MAX_HISTORY_SECONDS = 30 * SECONDS_PER_DAY
MAX_CACHED_RUNS = 32
QUERY_TIMEOUT_SECONDS = 5.0

K = TypeVar("K")


class PowerCharts(NamedTuple):
    """What the last hour looks like. Who used nothing in all of it is left out."""

    runs: Mapping[RunKey, Markup] = {}
    devices: Mapping[Device, Markup] = {}
    node: Markup = Markup("")
    minute: int = 0
    """The one that they end with, since the epoch."""


NO_CHARTS = PowerCharts()


class RunPowerHistory(NamedTuple):
    """What a run drew over time, from `since` to `until`."""

    since: float
    until: float
    kinds: Mapping[str, tuple[float, ...]]
    """Mean power of each step by kind of device, the oldest first; only of the run's own time."""
    mean_watts: float
    """Over all of that time."""


class PowerHistory:
    """Asks the archive once a minute. The page of the node waits for no answer."""

    def __init__(self, archive: RunArchive, questions: BoundedExecutor) -> None:
        self._archive = archive
        self._questions = questions
        self._minute = 0
        self._charts = NO_CHARTS
        self._pasts: dict[tuple[RunKey, int], asyncio.Future[RunPowerHistory]] = {}

    def charts(self, wall: float) -> PowerCharts:
        """The last that is known; asks for more if that is old."""
        minute = _last_minute(wall)
        if minute != self._minute:
            self._minute = minute
            with suppress(RequestRefused):  # too many others ask; a chart can wait a minute
                self._questions.submit_detached(lambda: self._update_charts(minute))
        return self._charts

    async def run_history(self, record: RunRecord, wall: float) -> RunPowerHistory | None:
        """What a run drew from its start on, thirty days at most; None: the ledger cannot say."""
        minute = _last_minute(wall)
        known = record.run.key, minute
        try:
            if known not in self._pasts:
                while len(self._pasts) >= MAX_CACHED_RUNS:
                    del self._pasts[next(iter(self._pasts))]
                look = partial(
                    run_power_history, self._archive, record, minute * SECONDS_PER_MINUTE
                )
                self._pasts[known] = self._questions.submit(look)
            async with asyncio.timeout(QUERY_TIMEOUT_SECONDS):
                return await asyncio.shield(self._pasts[known])
        except (LedgerError, RequestRefused, TimeoutError):
            return None

    def _update_charts(self, minute: int) -> None:
        first = minute - MINUTES
        try:
            spells = self._archive.usage(first * SECONDS_PER_MINUTE, minute * SECONDS_PER_MINUTE)
        except LedgerError:
            return  # the page says elsewhere what ails the ledger
        devices = _power_by_minute(first, [(spell.device, spell) for spell in spells])
        runs = _power_by_minute(
            first, [(spell.run, spell) for spell in spells if spell.run is not None]
        )
        node = _power_by_minute(first, [(None, spell) for spell in spells]).get(None, ())
        # A run without energy used none, unless nobody was there to see it.
        seen = {
            run: tuple(
                0.0 if mine is None and all_ is not None else mine
                for mine, all_ in zip(watts, node, strict=True)
            )
            for run, watts in runs.items()
        }
        self._charts = PowerCharts(
            {run: sparkline(watts) for run, watts in seen.items()},
            {device: sparkline(watts) for device, watts in devices.items()},
            sparkline(node),
            minute,
        )


def run_power_history(archive: RunArchive, record: RunRecord, written: float) -> RunPowerHistory:
    """Power of a run by the minute for a day, else by the hour, as far as the ledger has it.

    `written` is until when, wall clock seconds. What is too old to be known by the minute is told
    by the hour. Raises LedgerError.
    """
    run = record.run
    until = written if run.ended is None else min(written, run.ended)
    since = max(run.started, until - MAX_HISTORY_SECONDS)
    by_hour = until - since > SECONDS_PER_DAY
    spells, first, end, step = _query_usage(archive, run.key, since, until, by_hour=by_hour)
    if not spells and not by_hour and written - until > SECONDS_PER_DAY:
        spells, first, end, step = _query_usage(archive, run.key, since, until, by_hour=True)
    lengths = _step_durations(max(run.started, first * step), until, range(first, end), step)
    kinds: dict[str, list[float]] = {}
    total_joules = 0.0
    for spell in spells:
        watts = kinds.setdefault(spell.device.kind, [0.0] * len(lengths))
        place = int(spell.at) // step - first
        if 0 <= place < len(lengths):
            joules = units.joules(spell.amount.energy_uj)
            watts[place] += joules / lengths[place]
            total_joules += joules
    drawn = {kind: tuple(kinds[kind]) for kind in sorted(kinds)}
    mean = total_joules / max(1.0, until - max(run.started, first * step))
    return RunPowerHistory(first * step, end * step, drawn, mean)


class _UsageQuery(NamedTuple):
    """What a run used in steps of time, from the step `first` to that before `end`."""

    spells: Sequence[UsageInterval]
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
    """For how much of each step a run was there.

    No less than a quarter, or all of the run: an interval that crosses an edge counts on one side.
    """
    least = max(1.0, min(step / 4, until - since))
    return [
        max(least, min(until, (place + 1) * step) - max(since, place * step)) for place in steps
    ]


def _last_minute(wall: float) -> int:
    """The minute before which the ledger has everything."""
    return int(wall - COMMIT_DELAY_SECONDS) // SECONDS_PER_MINUTE


def _power_by_minute(first: int, spells: Iterable[tuple[K, UsageInterval]]) -> dict[K, Watts]:
    found: dict[K, list[float | None]] = {}
    for key, spell in spells:
        watts = found.setdefault(key, [None] * MINUTES)
        index = int(spell.at) // SECONDS_PER_MINUTE - first
        if 0 <= index < MINUTES:
            watts[index] = (watts[index] or 0.0) + units.joules(
                spell.amount.energy_uj
            ) / SECONDS_PER_MINUTE
    return {key: tuple(watts) for key, watts in found.items()}
