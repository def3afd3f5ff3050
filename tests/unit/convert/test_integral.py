"""Carbon over time, against the integral of power and intensity."""

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter import units
from exporter.convert.chain import FactorTimeline, IntensityChain
from exporter.convert.conversion import convert_shares
from exporter.model.intensity import Accounting, Basis, Factor, Signal
from exporter.model.readings import Device, DeviceKind, Interval, Method
from exporter.model.workload import EnergyShare, SplitMethod, UnattributedReason

START = 1_700_000_000.0
MINUTE = 60
CPU = Device(DeviceKind.CPU, "package-0")
JOULES_PER_KWH = Fraction(units.JOULES_PER_KWH)


class ByMinute:
    """A source whose intensity changes with each minute."""

    name, why = "by the minute", ""
    kind = Signal.AVERAGE, Basis.LIFECYCLE, Accounting.LOCATION

    def __init__(self, grams_per_kwh):
        factors = [
            Factor("DE", "test", value, 1.0, START + at, START + at + MINUTE, START + at)
            for number, value in enumerate(grams_per_kwh)
            for at in (number * MINUTE,)
        ]
        self.factors_between = FactorTimeline.of(factors).factors_between


def grams_of(watts, grams_per_kwh, tick_seconds, pue):
    """What ticks of this length post for a load of so many watts, second by second."""
    chain = IntensityChain([ByMinute(grams_per_kwh)], pue)
    total_ng = 0
    for t0 in range(0, len(watts), tick_seconds):
        t1 = min(t0 + tick_seconds, len(watts))
        energy_uj = sum(watts[t0:t1]) * units.MICROJOULES_PER_JOULE
        ns = units.NANOSECONDS_PER_SECOND
        interval = Interval(CPU, t0 * ns, t1 * ns, energy_uj, Method.COUNTER)
        spells = chain.intervals(START + t0, START + t1)
        shares = [EnergyShare(UnattributedReason.IDLE, energy_uj, SplitMethod.REST, 0)]
        total_ng += sum(
            entry.carbon_ng for entry in convert_shares(interval, shares, spells, START)
        )
    return units.grams(total_ng)


def integral(watts, grams_per_kwh, pue):
    """The same, exactly, from each second."""
    per_second = (w * Fraction(grams_per_kwh[at // MINUTE]) for at, w in enumerate(watts))
    return float(sum(per_second) / JOULES_PER_KWH * Fraction(pue))


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.floats(0, 2000), min_size=3, max_size=10),
    st.lists(st.integers(100, 20_000), min_size=6, max_size=6),
    st.sampled_from([1, 2, 5, 12, 60]),
    st.sampled_from([1.0, 1.12, 1.58]),
)
def test_with_changing_load_and_intensity_grams_are_the_integral(levels, loads, tick, pue):
    watts = [loads[at % len(loads)] for at in range(len(levels) * MINUTE)]
    if tick > 1:  # within a tick only the mean power is known
        watts = [watts[at - at % tick] for at in range(len(watts))]
    expected = integral(watts, levels, pue)
    assert math.isclose(grams_of(watts, levels, tick, pue), expected, rel_tol=1e-9, abs_tol=1e-6)


@pytest.mark.parametrize("tick_seconds", [7, 13, 45])
def test_a_tick_over_a_change_is_cut_in_proportion_to_time(tick_seconds):
    levels, watts = [100.0, 300.0, 50.0, 700.0], [360] * 240
    expected = integral(watts, levels, 1.0)
    assert grams_of(watts, levels, tick_seconds, 1.0) == pytest.approx(expected, rel=1e-9)
