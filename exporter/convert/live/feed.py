"""Live feed: a live source as a step of the chain, with its values, polling times and backoff."""

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
    """State of a feed that is kept over restarts, as JSON values; times are in Unix seconds."""

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
        """Error text until the next request."""
        if self.failures:
            return "the last request before the restart failed"
        return "no response yet" if self.answered is None else ""


def parse_feed_memory(document: Mapping[str, Any]) -> FeedMemory:
    """Parse the JSON form of `FeedMemory._asdict`; an invalid one gives an empty memory."""
    try:
        memory = FeedMemory(**document)
        return FeedMemory(
            _parse_values(memory.values),
            _parse_values(memory.forecast),
            _finite(memory.due),
            max(0, int(_finite(memory.failures))),
            None if memory.answered is None else _finite(memory.answered),
            str(memory.publisher),
            str(memory.place),
            None if memory.as_of is None else _finite(memory.as_of),
        )
    except (TypeError, ValueError, OverflowError):
        return FeedMemory()


def _parse_values(values: Sequence[Sequence[Any]]) -> tuple[IntensityValue, ...]:
    by_start = {}
    for start, end, grams_per_kwh, estimated in values:
        value = IntensityValue(
            _finite(start), _finite(end), _finite(grams_per_kwh), bool(estimated)
        )
        by_start[value.start] = value
    return tuple([by_start[start] for start in sorted(by_start)])


def _finite(value: Any) -> float:
    if not math.isfinite(value):
        raise ValueError("expected a finite number")
    return float(value)


HISTORY_SECONDS = 48 * 3600.0
"""How long values are kept; enough for the backfill after an outage."""
MAX_BACKFILL_SECONDS = 24 * 3600.0
"""How far back values are requested after an outage."""
MIN_BACKOFF_SECONDS = 60.0
MAX_BACKOFF_SECONDS = 3600.0
MAX_BACKOFF_PERIODS = 8
"""Longest backoff in refresh periods, at most MAX_BACKOFF_SECONDS."""
UNAUTHORIZED_BACKOFF_SECONDS = 900.0
"""Shortest backoff after a rejected key, which a person has to replace; some servers also reject
valid keys when they are busy."""
MAX_RETRY_AFTER_SECONDS = 24 * 3600.0
"""Longest `Retry-After` that is respected."""
JITTER_RATIO = 0.1
"""Random part of a period, so that nodes do not send requests at the same time."""
MIN_BACKOFF_BY_OUTCOME = {
    "unauthorized": UNAUTHORIZED_BACKOFF_SECONDS,
    "rate_limited": UNAUTHORIZED_BACKOFF_SECONDS,
}

FetchFunction = Callable[[float, float], FetchResult]
"""Fetches values; arguments `now` and `since` in Unix seconds. May block. Raises FetchError."""


class LiveFeed:
    """A live source as a step of the chain. One thread refreshes it; any thread may read it.

    Each value is in force until the next one; the last one for its own interval, or for
    `max_age_seconds` of the source from its start if that is longer.
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
        """Create a feed; `now` is in Unix seconds, `chance` returns numbers from 0 to 1.

        `identity` distinguishes it from a feed with other options, which has another memory.
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
        self._is_healthy = memory.answered is not None and not memory.failures
        longest = MAX_RETRY_AFTER_SECONDS if memory.failures else source.refresh_seconds
        self._due = min(memory.due, now + longest * (1 + JITTER_RATIO))
        self._polled_at = now
        self._outcomes = {OUTCOME_OK: 0}

    @property
    def was_polled(self) -> bool:
        """Whether a request was ever made."""
        return self._answered is not None or self._failures > 0

    @property
    def is_healthy(self) -> bool:
        """Whether the last response was valid."""
        return self._is_healthy

    def factors_between(self, t0: float, t1: float) -> Sequence[Factor]:
        """Return the factors in force at any time in [t0, t1), Unix seconds."""
        return self._timeline.factors_between(t0, t1)

    @property
    def recent(self) -> tuple[IntensityValue, ...]:
        """Values of the last two days; the same object while nothing has changed."""
        return self._values

    @property
    def forecast(self) -> tuple[IntensityValue, ...]:
        """The last forecast, part of which may be over; the same object while unchanged."""
        return self._forecast

    def state(self) -> FeedState:
        """Return the state for metrics and pages."""
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
        """Return the argument `memory` for a feed after a restart."""
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
        """Return whether a request is due; also if the clock was set back since the last one."""
        return now >= self._due or now < self._polled_at - MIN_BACKOFF_SECONDS

    def refresh(self, now: float) -> None:
        """Poll the source. An error is in `why`, and the last values are kept."""
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
        self._is_healthy = False
        self._polled_at = now
        self._count(failure.outcome)
        period = self._source.refresh_seconds
        longest = max(period, min(MAX_BACKOFF_PERIODS * period, MAX_BACKOFF_SECONDS))
        retry = Backoff(min(period, MIN_BACKOFF_SECONDS), longest, self._failures).seconds
        wait = min(max(retry, MIN_BACKOFF_BY_OUTCOME.get(failure.outcome, 0.0)), longest)
        retry_after = min(failure.retry_after_seconds, MAX_RETRY_AFTER_SECONDS)
        # Jitter makes the retry later than `Retry-After`, never earlier.
        self._due = now + max(wait, retry_after) * (1 + JITTER_RATIO * self._chance())
        self.why = str(failure)

    def _record_answer(self, answer: FetchResult, now: float) -> None:
        self._failures = 0
        self._answered = self._polled_at = now
        self._due = now + self._source.refresh_seconds * (1 + JITTER_RATIO * (self._chance() - 0.5))
        self._publisher = answer.publisher or self._source.publisher
        self._place = answer.place or self._source.place
        self._as_of = answer.as_of
        by_start = {value.start: value for value in (*self._values, *answer.values)}
        oldest = now - HISTORY_SECONDS
        self._values = tuple([by_start[at] for at in sorted(by_start) if by_start[at].end > oldest])
        self._timeline = self._factors(self._values)
        self._forecast = answer.forecast or self._forecast
        self._is_healthy = bool(self.factors_between(now, math.nextafter(now, math.inf)))
        if not self._is_healthy:
            self.why = "the newest value is too old; check the source and the clock of this machine"
        elif answer.rejected_count:
            self.why = f"{answer.rejected_count} implausible values were rejected"
        else:
            self.why = ""
        self._count(
            OUTCOME_STALE
            if not self._is_healthy
            else OUTCOME_SET_ASIDE
            if answer.rejected_count
            else OUTCOME_OK
        )

    def _count(self, outcome: str) -> None:
        # Replaced, not changed in place: another thread may be reading it.
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
        """Yield the end of each value: the start of the next one, or its longest validity."""
        longest = [max(value.end, value.start + self._source.max_age_seconds) for value in values]
        for end, (_, after) in zip(longest, pairwise(values), strict=False):
            yield min(end, after.start)
        yield from longest[-1:]


log = logging.getLogger(__name__)


class FeedPoller:
    """Polls the live sources of several chains; `refresh` blocks and is called by a worker.

    A source is polled only while no step before it is healthy. The others are idle and send no
    requests.
    """

    def __init__(self, chains: Sequence[Sequence[ChainStep]], clock: Clock) -> None:
        self._chains = chains
        self._clock = clock
        self._feeds = [step for chain in chains for step in chain if isinstance(step, LiveFeed)]
        self._update_states()

    def refresh(self) -> None:
        """Poll the feeds that are needed and due."""
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
        """Return the state of each feed that was polled."""
        return self._states

    def feed_states(self) -> tuple[FeedState, ...]:
        """Return the state of all feeds, including idle ones."""
        return self._feed_states

    def memory(self) -> str:
        """Return JSON for `parse_memory` after a restart; the same object while unchanged."""
        return self._memory

    def _refresh(self, feed: LiveFeed) -> None:
        now = self._clock.wall()
        if not feed.is_due(now):
            return
        was_healthy, why = feed.is_healthy, feed.why
        feed.refresh(now)
        self._update_states()
        if feed.is_healthy and not was_healthy:
            log.info("intensity source recovered", extra={"source": feed.name})
        elif feed.why and feed.why != why:
            log.warning("intensity source failed", extra={"source": feed.name, "error": feed.why})

    def _update_states(self) -> None:
        """Update the states that every tick publishes, once per change."""
        self._states = tuple(
            CollectorState(f"intensity_{feed.name}", feed.is_healthy, 0.0, feed.why)
            for feed in self._feeds
            if feed.was_polled
        )
        self._feed_states = tuple(feed.state() for feed in self._feeds)
        self._memory = json.dumps({feed.identity: feed.memory()._asdict() for feed in self._feeds})


def parse_memory(memory: str) -> Mapping[str, Any]:
    """Return the memory of each feed by its identity; empty if it cannot be parsed."""
    try:
        document = json.loads(memory or "{}")
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
