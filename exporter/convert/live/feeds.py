"""All live sources together: who is asked when, and what outlives a restart."""

import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from exporter.clock import Clock
from exporter.convert.chain import Step
from exporter.convert.live.feed import Feed
from exporter.model.intensity import FeedState
from exporter.model.workload import CollectorState

log = logging.getLogger(__name__)


class Feeds:
    """Asks the sources of several chains; `refresh` blocks and belongs to a worker.

    A source is asked as long as no step before it is well: the others stand by, and cost their
    servers nothing.
    """

    def __init__(self, chains: Sequence[Sequence[Step]], clock: Clock) -> None:
        self._chains = chains
        self._clock = clock
        self._feeds = [step for chain in chains for step in chain if isinstance(step, Feed)]
        self._note()

    def refresh(self) -> None:
        """Ask who is due."""
        for chain in self._chains:
            for step in chain:
                if isinstance(step, Feed):
                    self._refresh(step)
                now = self._clock.wall()
                if step.covering(now, now + 1.0) and (not isinstance(step, Feed) or step.is_well):
                    break

    def states(self) -> tuple[CollectorState, ...]:
        """How those fared that were asked."""
        return self._states

    def feeds(self) -> tuple[FeedState, ...]:
        """All of them, those that stand by included."""
        return self._feed_states

    def memory(self) -> str:
        """What `remembered` reads after a restart; the same object as long as nothing changed."""
        return self._memory

    def _refresh(self, feed: Feed) -> None:
        now = self._clock.wall()
        if not feed.is_due(now):
            return
        was_well, why = feed.is_well, feed.why
        feed.refresh(now)
        self._note()
        if feed.is_well and not was_well:
            log.info("intensity source works", extra={"source": feed.name})
        elif feed.why and feed.why != why:
            log.warning("intensity source fails", extra={"source": feed.name, "why": feed.why})

    def _note(self) -> None:
        """Make what every tick shows, once for each change of it."""
        self._states = tuple(
            CollectorState(f"intensity_{feed.name}", feed.is_well, 0.0, feed.why)
            for feed in self._feeds
            if feed.was_asked
        )
        self._feed_states = tuple(feed.state() for feed in self._feeds)
        self._memory = json.dumps({feed.identity: feed.past()._asdict() for feed in self._feeds})


def remembered(memory: str) -> Mapping[str, Any]:
    """What was known of each feed, by its identity; nothing where that cannot be read."""
    try:
        document = json.loads(memory or "{}")
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
