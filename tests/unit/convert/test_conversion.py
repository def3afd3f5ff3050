"""Conversion of shares to postings."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter import units
from exporter.convert.conversion import convert_shares
from exporter.model.intensity import Factor, IntensityInterval
from exporter.model.readings import Device, DeviceKind, Interval, Method
from exporter.model.runs import RunKey
from exporter.model.workload import EnergyShare, SplitMethod, UnattributedReason

CPU = Device(DeviceKind.CPU, "package-0")
SECOND_NS = units.NANOSECONDS_PER_SECOND
OFFSET = 1_700_000_000.0
FACTOR = Factor("DE", "test", 100.0, 1.5, 0.0, float("inf"), 0.0)
DEARER = FACTOR._replace(grams_per_kwh=400.0)


def interval(t0_seconds, t1_seconds, energy_uj):
    t0_ns, t1_ns = round(t0_seconds * SECOND_NS), round(t1_seconds * SECOND_NS)
    return Interval(CPU, t0_ns, t1_ns, energy_uj, Method.COUNTER)


def spell(t0_seconds, t1_seconds, factor=FACTOR):
    return IntensityInterval(OFFSET + t0_seconds, OFFSET + t1_seconds, factor)


def idle(energy_uj, held_uj=0):
    return EnergyShare(UnattributedReason.IDLE, energy_uj, SplitMethod.REST, held_uj)


def test_a_posting_carries_what_its_share_and_interval_say():
    run = RunKey(1000, "bert", "")
    share = EnergyShare(run, 3_600_000, SplitMethod.CPU_TIME, held_uj=5)
    (entry,) = convert_shares(interval(0, 1, 3_600_000), [share], [spell(0, 1)], OFFSET)
    assert entry.device == CPU
    assert (entry.target, entry.split, entry.method) == (run, SplitMethod.CPU_TIME, Method.COUNTER)
    assert (entry.energy_uj, entry.held_uj, entry.factor) == (3_600_000, 5, FACTOR)


def test_carbon_is_energy_times_intensity_times_pue():
    one_kwh = units.JOULES_PER_KWH * units.MICROJOULES_PER_JOULE
    (entry,) = convert_shares(interval(0, 1, one_kwh), [idle(one_kwh)], [spell(0, 1)], OFFSET)
    assert entry.carbon_ng == 150 * units.NANOGRAMS_PER_GRAM


def test_without_a_factor_energy_is_posted_and_carbon_does_not_increase():
    (entry,) = convert_shares(interval(0, 1, 9), [idle(9)], [spell(0, 1, None)], OFFSET)
    assert (entry.energy_uj, entry.carbon_ng, entry.factor) == (9, 0, None)


def test_an_interval_is_cut_where_the_intensity_changes():
    first, second = convert_shares(
        interval(0, 4, 14_400_000),
        [idle(14_400_000)],
        [spell(0, 1), spell(1, 4, DEARER)],
        OFFSET,
    )
    assert (first.energy_uj, first.factor) == (3_600_000, FACTOR)
    assert (second.energy_uj, second.factor) == (10_800_000, DEARER)
    assert second.carbon_ng == 12 * first.carbon_ng


def test_an_interval_without_energy_still_posts_so_that_its_lines_exist():
    (entry,) = convert_shares(interval(0, 1, 0), [idle(0)], [spell(0, 1)], OFFSET)
    assert (entry.energy_uj, entry.carbon_ng) == (0, 0)


def test_an_interval_without_length_posts():
    (entry,) = convert_shares(interval(1, 1, 7), [idle(7)], [spell(1, 1)], OFFSET)
    assert entry.energy_uj == 7


@pytest.mark.parametrize(
    ("end_seconds", "minute"),
    [(39.999999999, 28_333_333), (40, 28_333_333), (40.000000001, 28_333_334)],
)
def test_a_posting_belongs_to_the_minute_of_its_last_nanosecond(end_seconds, minute):
    # 1,700,000,000 is 20 seconds into minute 28,333,333.
    (entry,) = convert_shares(
        interval(39, end_seconds, 1), [idle(1)], [spell(39, end_seconds)], OFFSET
    )
    assert entry.minute == minute


def test_each_piece_has_the_minute_of_its_own_end():
    pieces = convert_shares(
        interval(0, 100, 100), [idle(100)], [spell(0, 40), spell(40, 100)], OFFSET
    )
    assert [piece.minute for piece in pieces] == [28_333_333, 28_333_334]


@st.composite
def cuts(draw):
    """Spells that cover 0 to 100 seconds, some without a factor."""
    inner = draw(st.lists(st.floats(0.001, 99.999), max_size=5, unique=True).map(sorted))
    return [
        spell(start, end, draw(st.sampled_from([FACTOR, DEARER, None])))
        for start, end in pairwise([0, *inner, 100])
    ]


parts = st.lists(st.integers(0, 10**13), min_size=1, max_size=8)


@given(parts, cuts())
def test_the_energy_of_the_postings_is_that_of_the_interval(energies, spells):
    posted = convert_shares(
        interval(0, 100, sum(energies)), [idle(part) for part in energies], spells, OFFSET
    )
    assert sum(entry.energy_uj for entry in posted) == sum(energies)
    assert len(posted) == len(energies) * len(spells)


@given(st.integers(0, 10**13), st.integers(0, 10**13), cuts())
def test_held_energy_is_kept_and_never_above_its_piece(energy_uj, held_uj, spells):
    held_uj = min(energy_uj, held_uj)
    posted = convert_shares(interval(0, 100, energy_uj), [idle(energy_uj, held_uj)], spells, OFFSET)
    assert sum(entry.held_uj for entry in posted) == held_uj
    assert all(0 <= entry.held_uj <= entry.energy_uj for entry in posted)
