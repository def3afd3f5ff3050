"""Intensity chain: the factor in force at any time."""

import math
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.convert.chain import IntensityChain
from exporter.model.intensity import Accounting, Basis, Factor, Signal


class Script(NamedTuple):
    """A step with given factors."""

    factors: tuple[Factor, ...] = ()
    name: str = "script"
    why: str = ""
    kind: tuple[Signal, Basis, Accounting] = (
        Signal.AVERAGE,
        Basis.LIFECYCLE,
        Accounting.LOCATION,
    )

    def factors_between(self, t0, t1):
        return [row for row in self.factors if row.valid_from < t1 and row.valid_until > t0]


def values(spells):
    return [
        (spell.t0, spell.t1, spell.factor and (spell.factor.step, spell.factor.grams_per_kwh))
        for spell in spells
    ]


def test_a_factor_that_always_holds_gives_one_spell(factor):
    chain = IntensityChain([Script((factor(100),))], pue=1.0)
    assert values(chain.intervals(10, 20)) == [(10, 20, (0, 100))]


def test_time_is_cut_where_the_factor_changes(factor):
    chain = IntensityChain([Script((factor(100, 0, 15), factor(200, 15, 30)))], pue=1.0)
    assert values(chain.intervals(10, 20)) == [(10, 15, (0, 100)), (15, 20, (0, 200))]


def test_a_gap_is_filled_by_the_next_step(factor):
    first = Script((factor(100, 0, 12), factor(200, 18, 30)))
    chain = IntensityChain([first, Script((factor(50),))], pue=1.0)
    assert values(chain.intervals(10, 20)) == [
        (10, 12, (0, 100)),
        (12, 18, (1, 50)),
        (18, 20, (0, 200)),
    ]


def test_where_the_chain_is_exhausted_there_is_no_factor(factor):
    chain = IntensityChain([Script((factor(100, 0, 15),))], pue=1.0)
    assert values(chain.intervals(10, 20)) == [(10, 15, (0, 100)), (15, 20, None)]


def test_every_factor_carries_the_pue_of_the_site(factor):
    (spell,) = IntensityChain([Script((factor(100),))], pue=1.4).intervals(0, 1)
    assert spell.factor.pue == 1.4


def test_an_empty_stretch_has_one_spell_with_what_holds_then(factor):
    chain = IntensityChain([Script((factor(100, 10, 20),))], pue=1.0)
    assert values(chain.intervals(10, 10)) == [(10, 10, (0, 100))]


bounds = st.lists(st.integers(0, 100), min_size=2, max_size=12, unique=True).map(sorted)


@st.composite
def scripts(draw):
    """A step whose factors hold in some of the gaps between random moments."""
    spans = [span for span in pairwise(draw(bounds)) if draw(st.booleans())]
    rows = [Factor("DE", "test", 1.0, 1.0, start, end, start) for start, end in spans]
    return Script(tuple(rows))


@given(st.lists(scripts(), min_size=1, max_size=3), st.integers(0, 99), st.integers(1, 100))
def test_spells_cover_the_time_in_order_with_the_first_step_that_holds(steps, t0, length):
    t1 = t0 + length
    spells = IntensityChain(steps, pue=1.0).intervals(t0, t1)
    assert (spells[0].t0, spells[-1].t1) == (t0, t1)
    assert all(spell.t0 < spell.t1 for spell in spells)
    assert all(spell.t1 == after.t0 for spell, after in pairwise(spells))
    for spell in spells:
        middle = (spell.t0 + spell.t1) / 2
        holding = [
            place
            for place, step in enumerate(steps)
            if any(row.valid_from <= middle < row.valid_until for row in step.factors)
        ]
        assert (spell.factor.step if spell.factor else None) == (holding[0] if holding else None)


@pytest.mark.parametrize(
    ("kind", "used"),
    [
        ((Signal.AVERAGE, Basis.LIFECYCLE, Accounting.LOCATION), True),
        ((Signal.AVERAGE, Basis.UNSTATED, Accounting.LOCATION), True),
        ((Signal.AVERAGE, Basis.DIRECT, Accounting.LOCATION), False),
        ((Signal.MARGINAL, Basis.LIFECYCLE, Accounting.LOCATION), False),
        ((Signal.AVERAGE, Basis.LIFECYCLE, Accounting.MARKET), False),
    ],
)
def test_a_step_replaces_only_one_of_the_same_kind(factor, kind, used):
    chain = IntensityChain([Script(), Script((factor(100),), kind=kind)], pue=1.0)
    assert (chain.factor_at(0) is not None) is used
    assert len(chain.excluded) == (0 if used else 1)


def test_any_basis_replaces_an_unstated_one(factor):
    unstated = (Signal.AVERAGE, Basis.UNSTATED, Accounting.LOCATION)
    chain = IntensityChain([Script(kind=unstated), Script((factor(100),))], pue=1.0)
    assert chain.factor_at(0).grams_per_kwh == 100


def test_a_factor_is_in_force_from_its_first_moment_until_before_its_last(factor):
    chain = IntensityChain([Script((factor(100, 10, 20),))], pue=1.0)
    now = 1_700_000_000.25
    assert chain.factor_at(10).grams_per_kwh == 100
    assert chain.factor_at(math.nextafter(20, 0)).grams_per_kwh == 100
    assert chain.factor_at(20) is None
    late = IntensityChain([Script((factor(100, now, now + 1),))], pue=1.0)
    assert late.factor_at(now).grams_per_kwh == 100


def test_the_state_has_value_basis_and_publisher(factor):
    chain = IntensityChain(
        [Script((factor(344.14, as_of=40.0),), name="yearly value of DE")], pue=1.0
    )
    state = chain.state_at(100.0)
    assert state.factor.grams_per_kwh == 344.14
    assert state.age_seconds == 60
    assert state.why == "yearly value of DE: 344.1 g/kWh (lifecycle), test"


def test_the_age_of_a_value_without_a_date_is_unknown(factor):
    assert IntensityChain([Script((factor(1),))], pue=1.0).state_at(100.0).age_seconds is None


def test_the_state_has_the_reason_of_a_fallback(factor):
    first = Script(name="file", why="cannot be read")
    state = IntensityChain([first, Script((factor(50),), name="table")], pue=1.0).state_at(0)
    assert state.factor.step == 1
    assert state.why == "table: 50 g/kWh (lifecycle), test; file has no value: cannot be read"


def test_the_state_shows_that_carbon_does_not_increase():
    state = IntensityChain([Script(name="file")], pue=1.0).state_at(0)
    assert state[:3] == (None, None, "file has no value; the carbon counter does not increase")
