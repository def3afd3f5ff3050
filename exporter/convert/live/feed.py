"""A live source as a step of the chain: what it said, and when it is to be asked again."""

import math
import random
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from exporter.convert.live.past import Past
from exporter.convert.live.source import FEWER, GOOD, STALE, STOPPED, Answer, LiveSource
from exporter.convert.timeline import Timeline
from exporter.errors import FetchFailed
from exporter.model.intensity import Factor, FeedState, Value

KEPT_SECONDS = 48 * 3600.0
"""How much of the past is kept; enough to fill in what an outage left open."""
ASKED_SECONDS = 24 * 3600.0
"""How far back is asked for after an outage."""
FIRST_RETRY_SECONDS = 60.0
LONGEST_RETRY_SECONDS = 3600.0
PATIENCE = 8
"""After failures a source is asked at least once in so many of its periods, or in an hour."""
FORBIDDEN_SECONDS = 900.0
"""A wrong key is mended by a person; some servers refuse good ones when they are busy, too."""
LONGEST_WAIT_SECONDS = 24 * 3600.0
"""The most of a `Retry-After` that is kept to."""
JITTER = 0.1
"""Part of a period that is left to chance, so that nodes do not ask in step."""
PATIENT = {"unauthorized": FORBIDDEN_SECONDS, "rate_limited": FORBIDDEN_SECONDS}

Fetch = Callable[[float, float], Answer]
"""Asks the source: now and since when, wall clock seconds. May block. Raises FetchFailed."""


class Feed:
    """A step of the chain. One thread refreshes it; any may look.

    Each value holds until the next one; the last for its own interval, or `max_age_seconds` of the
    source from its start if that is longer.
    """

    def __init__(
        self,
        name: str,
        identity: str,
        source: LiveSource,
        fetch: Fetch,
        now: float,
        past: Past | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`now` is the wall clock; `chance` gives numbers from 0 to 1.

        `identity` tells it from a feed with other options, whose past is not its own.
        """
        past = past or Past()
        self.name = name
        self.identity = identity
        self.kind = source.kind
        self.why = past.why
        self._source = source
        self._fetch = fetch
        self._began = now
        self._chance = chance
        self._publisher = past.publisher or source.publisher
        self._place = past.place or source.place
        self._as_of = past.as_of
        self._values = tuple(Value(*value) for value in past.values)
        self._forecast = tuple(Value(*value) for value in past.forecast)
        self._timeline = self._factors(self._values)
        self._failures = past.failures
        self._answered = past.answered
        self._is_well = past.answered is not None and not past.failures
        longest = LONGEST_WAIT_SECONDS if past.failures else source.refresh_seconds
        self._due = min(past.due, now + longest * (1 + JITTER))
        self._looked = now
        self._outcomes = {GOOD: 0}

    @property
    def was_asked(self) -> bool:
        """Whether it was needed yet."""
        return self._answered is not None or self._failures > 0

    @property
    def is_well(self) -> bool:
        """Whether its last answer was good."""
        return self._is_well

    def covering(self, t0: float, t1: float) -> Sequence[Factor]:
        """Its factors that hold somewhere in [t0, t1), wall clock seconds."""
        return self._timeline.covering(t0, t1)

    @property
    def recent(self) -> tuple[Value, ...]:
        """What it said of the last two days; the same object as long as nothing changed."""
        return self._values

    @property
    def forecast(self) -> tuple[Value, ...]:
        """What it last said of the time ahead, some of which may be over; the same."""
        return self._forecast

    def state(self) -> FeedState:
        """How it fares."""
        return FeedState(
            self.name,
            self._place,
            self.is_well,
            self.why,
            tuple(self._outcomes.items()),
            self._answered,
            self._due,
        )

    def past(self) -> Past:
        """What it should be made with after a restart."""
        return Past(
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
        return now >= self._due or now < self._looked - FIRST_RETRY_SECONDS

    def refresh(self, now: float) -> None:
        """Ask it; what went wrong is in `why`, and its last values stay."""
        known_until = self._values[-1].start if self._values else self._began
        since = min(now, max(now - ASKED_SECONDS, known_until))
        try:
            answer = self._fetch(now, since)
        except FetchFailed as failure:
            if failure.outcome != STOPPED:
                self._note(failure, now)
            return
        self._learn(answer, now)

    def _note(self, failure: FetchFailed, now: float) -> None:
        self._failures += 1
        self._is_well = False
        self._looked = now
        self._count(failure.outcome)
        period = self._source.refresh_seconds
        retry = min(period, FIRST_RETRY_SECONDS) * 2.0 ** min(self._failures - 1, 10)
        longest = max(period, min(PATIENCE * period, LONGEST_RETRY_SECONDS))
        wait = min(max(retry, PATIENT.get(failure.outcome, 0.0)), longest)
        asked_for = min(failure.retry_after_seconds, LONGEST_WAIT_SECONDS)
        # Later than asked for by chance, never earlier.
        self._due = now + max(wait, asked_for) * (1 + JITTER * self._chance())
        self.why = str(failure)

    def _learn(self, answer: Answer, now: float) -> None:
        self._failures = 0
        self._answered = self._looked = now
        self._due = now + self._source.refresh_seconds * (1 + JITTER * (self._chance() - 0.5))
        self._publisher = answer.publisher or self._source.publisher
        self._place = answer.place or self._source.place
        self._as_of = answer.as_of
        told = {value.start: value for value in (*self._values, *answer.values)}
        oldest = now - KEPT_SECONDS
        self._values = tuple([told[at] for at in sorted(told) if told[at].end > oldest])
        self._timeline = self._factors(self._values)
        self._forecast = answer.forecast or self._forecast
        self._is_well = bool(self.covering(now, math.nextafter(now, math.inf)))
        if not self._is_well:
            self.why = "its newest value is too old; is the source late, or the clock here wrong?"
        elif answer.set_aside:
            self.why = f"{answer.set_aside} of its values cannot be true and were set aside"
        else:
            self.why = ""
        self._count(STALE if not self._is_well else FEWER if answer.set_aside else GOOD)

    def _count(self, outcome: str) -> None:
        # Replaced, since another thread may be looking.
        self._outcomes = {**self._outcomes, outcome: self._outcomes.get(outcome, 0) + 1}

    def _factors(self, values: Sequence[Value]) -> Timeline:
        signal, basis, accounting = self.kind
        return Timeline.of(
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

    def _ends(self, values: Sequence[Value]) -> Iterable[float]:
        """How long each holds: to the next, but not longer than it may."""
        longest = [max(value.end, value.start + self._source.max_age_seconds) for value in values]
        for end, (_, after) in zip(longest, pairwise(values), strict=False):
            yield min(end, after.start)
        yield from longest[-1:]
