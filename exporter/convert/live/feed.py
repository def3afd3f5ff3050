"""A live source as a step of the chain: what it said, and when it is to be asked again."""

import json
import logging
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from exporter.backoff import Backoff
from exporter.clock import Clock
from exporter.convert.chain import ChainStep, FactorTimeline
from exporter.convert.sources.base import (
    OUTCOME_OK,
    OUTCOME_SET_ASIDE,
    OUTCOME_STALE,
    OUTCOME_STOPPED,
    FetchResult,
    LiveSource,
)
from exporter.errors import FetchError
from exporter.model.intensity import Factor, FeedState, IntensityValue
from exporter.model.workload import CollectorState


class FeedMemory(NamedTuple):
    """What outlives a restart; made of what JSON knows."""

    values: Sequence[Sequence[Any]] = ()
    forecast: Sequence[Sequence[Any]] = ()
    due: float = 0.0
    failures: int = 0
    answered: float | None = None
    publisher: str = ""
    place: str = ""
    as_of: float | None = None

    @property
    def why(self) -> str:
        """What is to be said of it until it is asked again."""
        if self.failures:
            return "it failed before the restart"
        return "it has not answered yet" if self.answered is None else ""


def parse_feed_memory(document: Mapping[str, Any]) -> FeedMemory:
    """What `Past._asdict` was made into; nothing where it is not that."""
    try:
        past = FeedMemory(**document)
        return FeedMemory(
            _parse_values(past.values),
            _parse_values(past.forecast),
            _finite(past.due),
            max(0, int(_finite(past.failures))),
            None if past.answered is None else _finite(past.answered),
            str(past.publisher),
            str(past.place),
            None if past.as_of is None else _finite(past.as_of),
        )
    except (TypeError, ValueError, OverflowError):
        return FeedMemory()


def _parse_values(values: Sequence[Sequence[Any]]) -> tuple[IntensityValue, ...]:
    told = {}
    for start, end, grams_per_kwh, estimated in values:
        value = IntensityValue(
            _finite(start), _finite(end), _finite(grams_per_kwh), bool(estimated)
        )
        told[value.start] = value
    return tuple([told[at] for at in sorted(told)])


def _finite(value: Any) -> float:
    if not math.isfinite(value):
        raise ValueError("no time and no intensity")
    return float(value)


HISTORY_SECONDS = 48 * 3600.0
"""How much of the past is kept; enough to fill in what an outage left open."""
MAX_BACKFILL_SECONDS = 24 * 3600.0
"""How far back is asked for after an outage."""
MIN_BACKOFF_SECONDS = 60.0
MAX_BACKOFF_SECONDS = 3600.0
MAX_BACKOFF_PERIODS = 8
"""After failures a source is asked at least once in so many of its periods, or in an hour."""
UNAUTHORIZED_BACKOFF_SECONDS = 900.0
"""A wrong key is mended by a person; some servers refuse good ones when they are busy, too."""
MAX_RETRY_AFTER_SECONDS = 24 * 3600.0
"""The most of a `Retry-After` that is kept to."""
JITTER_RATIO = 0.1
"""Part of a period that is left to chance, so that nodes do not ask in step."""
MIN_BACKOFF_BY_OUTCOME = {
    "unauthorized": UNAUTHORIZED_BACKOFF_SECONDS,
    "rate_limited": UNAUTHORIZED_BACKOFF_SECONDS,
}

FetchFunction = Callable[[float, float], FetchResult]
"""Asks the source: now and since when, wall clock seconds. May block. Raises FetchFailed."""


class LiveFeed:
    """A step of the chain. One thread refreshes it; any may look.

    Each value holds until the next one; the last for its own interval, or `max_age_seconds` of the
    source from its start if that is longer.
    """

    def __init__(
        self,
        name: str,
        identity: str,
        source: LiveSource,
        fetch: FetchFunction,
        now: float,
        memory: FeedMemory | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`now` is the wall clock; `chance` gives numbers from 0 to 1.

        `identity` tells it from a feed with other options, whose past is not its own.
        """
        memory = memory or FeedMemory()
        self.name = name
        self.identity = identity
        self.kind = source.kind
        self.why = memory.why
        self._source = source
        self._fetch = fetch
        self._began = now
        self._chance = chance
        self._publisher = memory.publisher or source.publisher
        self._place = memory.place or source.place
        self._as_of = memory.as_of
        self._values = tuple(IntensityValue(*value) for value in memory.values)
        self._forecast = tuple(IntensityValue(*value) for value in memory.forecast)
        self._timeline = self._factors(self._values)
        self._failures = memory.failures
        self._answered = memory.answered
        self._is_well = memory.answered is not None and not memory.failures
        longest = MAX_RETRY_AFTER_SECONDS if memory.failures else source.refresh_seconds
        self._due = min(memory.due, now + longest * (1 + JITTER_RATIO))
        self._looked = now
        self._outcomes = {OUTCOME_OK: 0}

    @property
    def was_polled(self) -> bool:
        """Whether it was needed yet."""
        return self._answered is not None or self._failures > 0

    @property
    def is_healthy(self) -> bool:
        """Whether its last answer was good."""
        return self._is_well

    def factors_between(self, t0: float, t1: float) -> Sequence[Factor]:
        """Its factors that hold somewhere in [t0, t1), wall clock seconds."""
        return self._timeline.factors_between(t0, t1)

    @property
    def recent(self) -> tuple[IntensityValue, ...]:
        """What it said of the last two days; the same object as long as nothing changed."""
        return self._values

    @property
    def forecast(self) -> tuple[IntensityValue, ...]:
        """What it last said of the time ahead, some of which may be over; the same."""
        return self._forecast

    def state(self) -> FeedState:
        """How it fares."""
        return FeedState(
            self.name,
            self._place,
            self.is_healthy,
            self.why,
            tuple(self._outcomes.items()),
            self._answered,
            self._due,
        )

    def memory(self) -> FeedMemory:
        """What it should be made with after a restart."""
        return FeedMemory(
            self._values,
            self._forecast,
            self._due,
            self._failures,
            self._answered,
            self._publisher,
            self._place,
            self._as_of,
        )

    def is_due(self, now: float) -> bool:
        """Whether it may be asked; also when the clock was set back, and the wait is no more."""
        return now >= self._due or now < self._looked - MIN_BACKOFF_SECONDS

    def refresh(self, now: float) -> None:
        """Ask it; what went wrong is in `why`, and its last values stay."""
        known_until = self._values[-1].start if self._values else self._began
        since = min(now, max(now - MAX_BACKFILL_SECONDS, known_until))
        try:
            answer = self._fetch(now, since)
        except FetchError as failure:
            if failure.outcome != OUTCOME_STOPPED:
                self._record_failure(failure, now)
            return
        self._record_answer(answer, now)

    def _record_failure(self, failure: FetchError, now: float) -> None:
        self._failures += 1
        self._is_well = False
        self._looked = now
        self._count(failure.outcome)
        period = self._source.refresh_seconds
        longest = max(period, min(MAX_BACKOFF_PERIODS * period, MAX_BACKOFF_SECONDS))
        retry = Backoff(min(period, MIN_BACKOFF_SECONDS), longest, self._failures).seconds
        wait = min(max(retry, MIN_BACKOFF_BY_OUTCOME.get(failure.outcome, 0.0)), longest)
        asked_for = min(failure.retry_after_seconds, MAX_RETRY_AFTER_SECONDS)
        # Later than asked for by chance, never earlier.
        self._due = now + max(wait, asked_for) * (1 + JITTER_RATIO * self._chance())
        self.why = str(failure)

    def _record_answer(self, answer: FetchResult, now: float) -> None:
        self._failures = 0
        self._answered = self._looked = now
        self._due = now + self._source.refresh_seconds * (1 + JITTER_RATIO * (self._chance() - 0.5))
        self._publisher = answer.publisher or self._source.publisher
        self._place = answer.place or self._source.place
        self._as_of = answer.as_of
        told = {value.start: value for value in (*self._values, *answer.values)}
        oldest = now - HISTORY_SECONDS
        self._values = tuple([told[at] for at in sorted(told) if told[at].end > oldest])
        self._timeline = self._factors(self._values)
        self._forecast = answer.forecast or self._forecast
        self._is_well = bool(self.factors_between(now, math.nextafter(now, math.inf)))
        if not self._is_well:
            self.why = "its newest value is too old; is the source late, or the clock here wrong?"
        elif answer.rejected_count:
            self.why = f"{answer.rejected_count} of its values cannot be true and were set aside"
        else:
            self.why = ""
        self._count(
            OUTCOME_STALE
            if not self._is_well
            else OUTCOME_SET_ASIDE
            if answer.rejected_count
            else OUTCOME_OK
        )

    def _count(self, outcome: str) -> None:
        # Replaced, since another thread may be looking.
        self._outcomes = {**self._outcomes, outcome: self._outcomes.get(outcome, 0) + 1}

    def _factors(self, values: Sequence[IntensityValue]) -> FactorTimeline:
        signal, basis, accounting = self.kind
        return FactorTimeline.of(
            [
                Factor(
                    zone=self._place,
                    source=self._publisher,
                    grams_per_kwh=value.grams_per_kwh,
                    pue=1.0,
                    valid_from=value.start,
                    valid_until=until,
                    as_of=value.start if self._as_of is None else self._as_of,
                    signal=signal,
                    basis=basis,
                    accounting=accounting,
                    estimated=value.estimated,
                )
                for value, until in zip(values, self._ends(values), strict=True)
            ]
        )

    def _ends(self, values: Sequence[IntensityValue]) -> Iterable[float]:
        """How long each holds: to the next, but not longer than it may."""
        longest = [max(value.end, value.start + self._source.max_age_seconds) for value in values]
        for end, (_, after) in zip(longest, pairwise(values), strict=False):
            yield min(end, after.start)
        yield from longest[-1:]


log = logging.getLogger(__name__)


class FeedPoller:
    """Asks the sources of several chains; `refresh` blocks and belongs to a worker.

    A source is asked as long as no step before it is well: the others stand by, and cost their
    servers nothing.
    """

    def __init__(self, chains: Sequence[Sequence[ChainStep]], clock: Clock) -> None:
        self._chains = chains
        self._clock = clock
        self._feeds = [step for chain in chains for step in chain if isinstance(step, LiveFeed)]
        self._update_states()

    def refresh(self) -> None:
        """Ask who is due."""
        for chain in self._chains:
            for step in chain:
                if isinstance(step, LiveFeed):
                    self._refresh(step)
                now = self._clock.wall()
                if step.factors_between(now, now + 1.0) and (
                    not isinstance(step, LiveFeed) or step.is_healthy
                ):
                    break

    def collector_states(self) -> tuple[CollectorState, ...]:
        """How those fared that were asked."""
        return self._states

    def feed_states(self) -> tuple[FeedState, ...]:
        """All of them, those that stand by included."""
        return self._feed_states

    def memory(self) -> str:
        """What `remembered` reads after a restart; the same object as long as nothing changed."""
        return self._memory

    def _refresh(self, feed: LiveFeed) -> None:
        now = self._clock.wall()
        if not feed.is_due(now):
            return
        was_well, why = feed.is_healthy, feed.why
        feed.refresh(now)
        self._update_states()
        if feed.is_healthy and not was_well:
            log.info("intensity source works", extra={"source": feed.name})
        elif feed.why and feed.why != why:
            log.warning("intensity source fails", extra={"source": feed.name, "why": feed.why})

    def _update_states(self) -> None:
        """Make what every tick shows, once for each change of it."""
        self._states = tuple(
            CollectorState(f"intensity_{feed.name}", feed.is_healthy, 0.0, feed.why)
            for feed in self._feeds
            if feed.was_polled
        )
        self._feed_states = tuple(feed.state() for feed in self._feeds)
        self._memory = json.dumps({feed.identity: feed.memory()._asdict() for feed in self._feeds})


def parse_memory(memory: str) -> Mapping[str, Any]:
    """What was known of each feed, by its identity; nothing where that cannot be read."""
    try:
        document = json.loads(memory or "{}")
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
