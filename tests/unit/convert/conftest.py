"""What the tests of this stage share."""

import math

import pytest

from exporter.model.intensity import Basis, Factor


class StillClock:
    """A clock that stands at a given moment."""

    def __init__(self, wall=1_700_000_000.0):
        self.now = wall

    def boottime_ns(self):
        return 0

    def monotonic_ns(self):
        return 0

    def wall(self):
        return self.now


@pytest.fixture
def clock():
    return StillClock()


@pytest.fixture
def factor():
    """Makes factors; only what a test is about need be said."""

    def make(grams_per_kwh=100.0, valid_from=0.0, valid_until=math.inf, **rest):
        fields = {"zone": "DE", "source": "test", "pue": 1.0, "as_of": valid_from} | rest
        return Factor(
            grams_per_kwh=grams_per_kwh,
            valid_from=valid_from,
            valid_until=valid_until,
            basis=fields.pop("basis", Basis.LIFECYCLE),
            **fields,
        )

    return make
