"""Power of the past from the ledger, asked for once a minute however many people look."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple, TypeVar

from exporter import units
from exporter.errors import LedgerError, Refused
from exporter.expose.http.desk import Desk
from exporter.expose.page.charts import Watts, chart
from exporter.markup import Markup
from exporter.model.readings import Device
from exporter.model.record import Archive, RunRecord, Spell
from exporter.model.runs import RunKey
from exporter.units import SECONDS_PER_DAY, SECONDS_PER_HOUR, SECONDS_PER_MINUTE

MINUTES = 60
LATE_SECONDS = 45
"""Until then a minute that is over may not be in the ledger yet."""
LONGEST_SECONDS = 30 * SECONDS_PER_DAY
RUNS_KEPT = 32
PATIENCE_SECONDS = 5.0

K = TypeVar("K")


class Charts(NamedTuple):
    """What the last hour looks like. Who used nothing in all of it is left out."""

    runs: Mapping[RunKey, Markup] = {}
    devices: Mapping[Device, Markup] = {}
    node: Markup = Markup("")
    minute: int = 0
    """The one that they end with, since the epoch."""


NO_CHARTS = Charts()


class Past(NamedTuple):
    """What a run drew over time, from `since` to `until`."""

    since: float
    until: float
    kinds: Mapping[str, tuple[float, ...]]
    """Mean power of each step by kind of device, the oldest first; only of the run's own time."""
    mean_watts: float
    """Over all of that time."""


class Historian:
    """Asks the archive once a minute. The page of the node waits for no answer."""

    def __init__(self, archive: Archive, questions: Desk) -> None:
        self._archive = archive
        self._questions = questions
        self._minute = 0
        self._charts = NO_CHARTS
        self._pasts: dict[tuple[RunKey, int], asyncio.Future[Past]] = {}

    def charts(self, wall: float) -> Charts:
        """The last that is known; asks for more if that is old."""
        minute = _last_minute(wall)
        if minute != self._minute:
            self._minute = minute
            with suppress(Refused):  # too many others ask; a chart can wait a minute
                self._questions.leave(lambda: self._look(minute))
        return self._charts

    async def past(self, record: RunRecord, wall: float) -> Past | None:
        """What a run drew from its start on, thirty days at most; None: the ledger cannot say."""
        minute = _last_minute(wall)
        known = record.run.key, minute
        try:
            if known not in self._pasts:
                while len(self._pasts) >= RUNS_KEPT:
                    del self._pasts[next(iter(self._pasts))]
                look = partial(past_of, self._archive, record, minute * SECONDS_PER_MINUTE)
                self._pasts[known] = self._questions.begin(look)
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await asyncio.shield(self._pasts[known])
        except (LedgerError, Refused, TimeoutError):
            return None

    def _look(self, minute: int) -> None:
        first = minute - MINUTES
        try:
            spells = self._archive.usage(first * SECONDS_PER_MINUTE, minute * SECONDS_PER_MINUTE)
        except LedgerError:
            return  # the page says elsewhere what ails the ledger
        devices = _watts(first, [(spell.device, spell) for spell in spells])
        runs = _watts(first, [(spell.run, spell) for spell in spells if spell.run is not None])
        node = _watts(first, [(None, spell) for spell in spells]).get(None, ())
        # A run without energy used none, unless nobody was there to see it.
        seen = {
            run: tuple(
                0.0 if mine is None and all_ is not None else mine
                for mine, all_ in zip(watts, node, strict=True)
            )
            for run, watts in runs.items()
        }
        self._charts = Charts(
            {run: chart(watts) for run, watts in seen.items()},
            {device: chart(watts) for device, watts in devices.items()},
            chart(node),
            minute,
        )


def past_of(archive: Archive, record: RunRecord, written: float) -> Past:
    """Power of a run by the minute for a day, else by the hour, as far as the ledger has it.

    `written` is until when, wall clock seconds. What is too old to be known by the minute is told
    by the hour. Raises LedgerError.
    """
    run = record.run
    until = written if run.ended is None else min(written, run.ended)
    since = max(run.started, until - LONGEST_SECONDS)
    by_hour = until - since > SECONDS_PER_DAY
    spells, first, end, step = _asked(archive, run.key, since, until, by_hour=by_hour)
    if not spells and not by_hour and written - until > SECONDS_PER_DAY:
        spells, first, end, step = _asked(archive, run.key, since, until, by_hour=True)
    lengths = _lengths(max(run.started, first * step), until, range(first, end), step)
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
    return Past(first * step, end * step, drawn, mean)


class _Asked(NamedTuple):
    """What a run used in steps of time, from the step `first` to that before `end`."""

    spells: Sequence[Spell]
    first: int
    end: int
    step: int


def _asked(archive: Archive, run: RunKey, since: float, until: float, *, by_hour: bool) -> _Asked:
    step = SECONDS_PER_HOUR if by_hour else SECONDS_PER_MINUTE
    first, end = int(since) // step, -(-int(until) // step)
    return _Asked(archive.usage(first * step, end * step, run, by_hour=by_hour), first, end, step)


def _lengths(since: float, until: float, steps: range, step: int) -> list[float]:
    """For how much of each step a run was there.

    No less than a quarter, or all of the run: an interval that crosses an edge counts on one side.
    """
    least = max(1.0, min(step / 4, until - since))
    return [
        max(least, min(until, (place + 1) * step) - max(since, place * step)) for place in steps
    ]


def _last_minute(wall: float) -> int:
    """The minute before which the ledger has everything."""
    return int(wall - LATE_SECONDS) // SECONDS_PER_MINUTE


def _watts(first: int, spells: Iterable[tuple[K, Spell]]) -> dict[K, Watts]:
    found: dict[K, list[float | None]] = {}
    for key, spell in spells:
        watts = found.setdefault(key, [None] * MINUTES)
        index = int(spell.at) // SECONDS_PER_MINUTE - first
        if 0 <= index < MINUTES:
            watts[index] = (watts[index] or 0.0) + units.joules(
                spell.amount.energy_uj
            ) / SECONDS_PER_MINUTE
    return {key: tuple(watts) for key, watts in found.items()}
