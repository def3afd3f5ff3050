"""The rest of a node: exact sums, no negative energy, and the lag of the meter."""

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.model.readings import CounterEvent, Interval, Method
from exporter.sample.node_meter import NODE
from exporter.sample.rest import PartEnergy, RestState, add_parts, settle

SECOND = 1_000_000_000
START = 1_000 * SECOND


def meter(t0_ns, t1_ns, energy_uj, event=None):
    return Interval(NODE, t0_ns, t1_ns, energy_uj, Method.INTEGRATED, event)


durations = st.integers(1, 3 * SECOND)
energies = st.integers(0, 10**9)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("part"), durations, energies),
        st.tuples(st.just("node"), durations, energies),
    ),
    max_size=60,
)


@given(steps, st.integers(0, 30 * SECOND))
def test_rest_and_devices_are_the_node_and_the_debt_after_every_step(steps, lag_ns):
    """Parts come in any order relative to the meter: late, early, overlapping its edges."""
    state, part_ns, node_ns = RestState(START), START, START + lag_ns
    rest_uj = node_uj = parts_uj = 0
    for what, duration_ns, energy_uj in steps:
        if what == "part":
            part = PartEnergy(part_ns, part_ns + duration_ns, energy_uj)
            part_ns += duration_ns
            parts_uj += energy_uj
            state = add_parts(state, [part])
        else:
            reading = meter(node_ns, node_ns + duration_ns, energy_uj)
            node_ns += duration_ns
            node_uj += energy_uj
            state, booked_uj = settle(state, reading, lag_ns)
            assert booked_uj is not None
            assert booked_uj >= 0
            rest_uj += booked_uj
        pending_uj = sum(part.energy_uj for part in state.pending)
        assert state.debt_uj >= 0
        assert all(part.energy_uj >= 0 for part in state.pending)
        assert rest_uj + (parts_uj - pending_uj) == node_uj + state.debt_uj
        assert all(part.t0_ns >= state.settled_ns for part in state.pending)


def square(t, low, high, period):
    return low if t % period < period / 2 else high


def truth(t):
    """Watts of the devices and of the rest at a time in seconds."""
    parts = square(t, 80, 800, 47) + square(t, 20, 350, 13)
    return parts, 200 + 40 * math.sin(t / 60)


def joules(power, t0, t1, steps=20):
    """Integral of a power by the midpoint rule."""
    dt = (t1 - t0) / steps
    return sum(power(t0 + (n + 0.5) * dt) * dt for n in range(steps))


@pytest.mark.parametrize("every", [1, 5])
@pytest.mark.parametrize("lag", [0, 5, 15, 30])
def test_rest_of_ten_minutes_is_within_one_percent(lag, every):
    """Devices report each second; the meter shows each `every` seconds what was `lag` s ago."""
    state, rest_uj = RestState(START), 0
    shown = []
    for t in itertools.count(1):
        part_uj = round(joules(lambda s: truth(s)[0], t - 1, t) * 1e6)
        state = add_parts(
            state, [PartEnergy(START + (t - 1) * SECOND, START + t * SECOND, part_uj)]
        )
        if t <= lag or (t - lag) % every:
            continue
        node_uj = round(joules(lambda s: sum(truth(s)), t - lag - every, t - lag, 100) * 1e6)
        state, booked_uj = settle(
            state, meter(START + (t - every) * SECOND, START + t * SECOND, node_uj), lag * SECOND
        )
        rest_uj += booked_uj or 0
        shown.append(rest_uj)
        if t - lag >= 600:
            break
    expected = joules(lambda s: truth(s)[1], 0, 600, 6000)
    assert rest_uj / 1e6 == pytest.approx(expected, rel=0.01)
    assert shown == sorted(shown)


@pytest.mark.parametrize("error", [-3, 3])
def test_lag_that_is_wrong_by_seconds_delays_the_rest_and_does_not_lose_it(error):
    lag, state, rest_uj = 10, RestState(START), 0
    for t in range(1, 700):
        part_uj = round(joules(lambda s: truth(s)[0], t - 1, t) * 1e6)
        state = add_parts(
            state, [PartEnergy(START + (t - 1) * SECOND, START + t * SECOND, part_uj)]
        )
        if t <= lag + max(0, error):
            continue
        node_uj = round(joules(lambda s: sum(truth(s)), t - lag - 1, t - lag) * 1e6)
        reading = meter(START + (t - 1) * SECOND, START + t * SECOND, node_uj)
        state, booked_uj = settle(state, reading, (lag + error) * SECOND)
        rest_uj += booked_uj or 0
    expected = joules(lambda s: truth(s)[1], 0, 690, 6900)
    edge = 1200 * abs(error)  # the greatest power of the devices for as long as the error
    assert abs(rest_uj / 1e6 - expected) < edge


def test_gap_of_the_meter_has_no_rest_and_leaves_no_debt():
    state = add_parts(RestState(START), [PartEnergy(START, START + 600 * SECOND, 10**9)])
    gap = meter(START, START + 400 * SECOND, 0, CounterEvent.GAP)
    state, booked_uj = settle(state, gap, 0)
    assert (booked_uj, state.debt_uj) == (None, 0)
    state, booked_uj = settle(state, meter(START + 400 * SECOND, START + 600 * SECOND, 10**9), 0)
    assert booked_uj == 10**9 - 333_333_334


def test_devices_that_use_more_than_the_meter_shows_are_a_debt_with_its_beginning():
    state = add_parts(RestState(START), [PartEnergy(START, START + SECOND, 500)])
    state, booked_uj = settle(state, meter(START, START + SECOND, 300), 0)
    assert (booked_uj, state.debt_uj, state.short_since_ns) == (0, 200, START + SECOND)
    state, booked_uj = settle(state, meter(START + SECOND, START + 2 * SECOND, 250), 0)
    assert (booked_uj, state.debt_uj, state.short_since_ns) == (50, 0, 0)


def test_meter_before_the_devices_are_known_is_not_counted():
    state = add_parts(RestState(START), [PartEnergy(START, START + SECOND, 100)])
    early = meter(START, START + SECOND, 10**6)  # of the time before START
    assert settle(state, early, 2 * SECOND) == (state, None)
    half = meter(START + SECOND, START + 3 * SECOND, 1000)
    after, booked_uj = settle(state, half, 2 * SECOND)
    assert (after.settled_ns, booked_uj) == (START + SECOND, 400)
