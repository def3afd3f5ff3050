"""Fixtures of the live sources."""

from typing import NamedTuple

import pytest

from exporter.convert.live.feed import LiveFeed
from exporter.convert.sources.base import FetchResult
from exporter.errors import FetchError
from exporter.model.intensity import Accounting, Basis, IntensityValue, Signal

NOW = 1_735_733_400.0
"""2025-01-01 12:10 UTC."""


class Source(NamedTuple):
    """What a feed asks of its source, apart from values."""

    publisher: str = "somebody"
    place: str = "DE"
    country: str = ""
    kind: tuple[Signal, Basis, Accounting] = (
        Signal.AVERAGE,
        Basis.LIFECYCLE,
        Accounting.LOCATION,
    )
    refresh_seconds: float = 900.0
    max_age_seconds: float = 7200.0


class Fed:
    """A feed, and what its source says when it is asked."""

    def __init__(self, name="first", past=None, chance=0.5, now=NOW, **source):
        self.says = self.good(now)
        self.asked = []
        self.feed = LiveFeed(name, name, Source(**source), self._fetch, now, past, lambda: chance)

    @staticmethod
    def good(start, grams_per_kwh=100.0, **more):
        return FetchResult((IntensityValue(start, start + 3600, grams_per_kwh),), **more)

    def fail(self, outcome="server_error", retry_after_seconds=0.0):
        self.says = FetchError(outcome, f"it said {outcome}", retry_after_seconds)

    def refresh(self, now=NOW):
        """How long it waits from then on."""
        self.feed.refresh(now)
        return self.feed.state().due - now

    def _fetch(self, now, since):
        self.asked.append((now, since))
        if isinstance(self.says, FetchResult):
            return self.says
        raise self.says


@pytest.fixture
def fed():
    return Fed
