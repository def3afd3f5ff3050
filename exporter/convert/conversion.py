"""Conversion of an interval's energy shares to postings with carbon. Pure."""

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
    intensities: Sequence[IntensityInterval],
    wall_offset_seconds: float,
) -> tuple[Posting, ...]:
    """Return one posting per share and intensity interval; their energies sum to the shares'.

    `intensities` cover the interval in Unix time, which is the interval's clock plus
    `wall_offset_seconds`. A share is split over them in proportion to time. A posting belongs to
    the minute of its last nanosecond.
    """
    end_ns = interval.t1_ns + round(wall_offset_seconds * NANOSECONDS_PER_SECOND)
    if len(intensities) == 1:
        return tuple(_postings_for_factor(interval, shares, intensities[0].factor, end_ns))
    durations = [each.t1 - each.t0 for each in intensities]
    ends_ns = [round(each.t1 * NANOSECONDS_PER_SECOND) for each in intensities[:-1]]
    split = [_split_share(share, durations) for share in shares]
    postings: list[Posting] = []
    for index, (intensity, until_ns) in enumerate(
        zip(intensities, [*ends_ns, end_ns], strict=True)
    ):
        pieces = [share_pieces[index] for share_pieces in split]
        postings += _postings_for_factor(interval, pieces, intensity.factor, until_ns)
    return tuple(postings)


def _postings_for_factor(
    interval: Interval, shares: Sequence[EnergyShare], factor: Factor | None, end_ns: int
) -> list[Posting]:
    """Return the postings of shares under one factor, which end at `end_ns` in Unix time."""
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
    """Split a share in proportion to durations; no piece has more held energy than energy."""
    energies_uj = apportion(share.energy_uj, durations)
    held_uj = apportion(share.held_uj, energies_uj) if share.held_uj else [0] * len(durations)
    return [
        EnergyShare(share.target, energy, share.split, held)
        for energy, held in zip(energies_uj, held_uj, strict=True)
    ]
