"""Shares of an interval as postings with grams, cut where the intensity changes. Pure."""

from collections.abc import Sequence

from exporter.model.apportion import apportion
from exporter.model.intensity import Factor, IntensityInterval
from exporter.model.ledger import Posting
from exporter.model.readings import Interval
from exporter.model.workload import EnergyShare
from exporter.units import NANOSECONDS_PER_SECOND, SECONDS_PER_MINUTE, carbon_ng

NANOSECONDS_PER_MINUTE = SECONDS_PER_MINUTE * NANOSECONDS_PER_SECOND


def convert_shares(
    interval: Interval,
    shares: Sequence[EnergyShare],
    spells: Sequence[IntensityInterval],
    wall_offset_seconds: float,
) -> tuple[Posting, ...]:
    """One posting per share and spell; their energy sums to that of the shares, exactly.

    `spells` cover the interval in wall clock time, which is its own clock plus
    `wall_offset_seconds`. A share is cut over them in proportion to time. A posting belongs to the
    minute of its last nanosecond.
    """
    end_ns = interval.t1_ns + round(wall_offset_seconds * NANOSECONDS_PER_SECOND)
    if len(spells) == 1:
        return tuple(_postings_for_factor(interval, shares, spells[0].factor, end_ns))
    durations = [spell.t1 - spell.t0 for spell in spells]
    ends_ns = [round(spell.t1 * NANOSECONDS_PER_SECOND) for spell in spells[:-1]]
    cut = [_split_share(share, durations) for share in shares]
    posted: list[Posting] = []
    for place, (spell, until_ns) in enumerate(zip(spells, [*ends_ns, end_ns], strict=True)):
        pieces = [share_pieces[place] for share_pieces in cut]
        posted += _postings_for_factor(interval, pieces, spell.factor, until_ns)
    return tuple(posted)


def _postings_for_factor(
    interval: Interval, shares: Sequence[EnergyShare], factor: Factor | None, end_ns: int
) -> list[Posting]:
    """Postings of what was used under one factor until `end_ns`, wall clock."""
    minute = (end_ns - 1) // NANOSECONDS_PER_MINUTE
    device, method = interval.device, interval.method
    grams_per_kwh, pue = (factor.grams_per_kwh, factor.pue) if factor else (0.0, 1.0)
    return [
        Posting(
            minute,
            device,
            target,
            method,
            split,
            factor,
            energy_uj,
            held_uj,
            carbon_ng(energy_uj, grams_per_kwh, pue),
        )
        for target, energy_uj, split, held_uj in shares
    ]


def _split_share(share: EnergyShare, durations: Sequence[float]) -> list[EnergyShare]:
    """The share over stretches of time. No piece holds more idle energy than it has energy."""
    energies_uj = apportion(share.energy_uj, durations)
    held_uj = apportion(share.held_uj, energies_uj) if share.held_uj else [0] * len(durations)
    return [
        EnergyShare(share.target, energy, share.split, held)
        for energy, held in zip(energies_uj, held_uj, strict=True)
    ]
