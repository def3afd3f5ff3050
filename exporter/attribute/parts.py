"""The parts that a GPU is handed out in, with who holds and who uses each: pure."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from exporter.model.readings import Occupancy, Occupant
from exporter.model.runs import RunKey
from exporter.model.workload import Holding, Party, Reason


class Part(NamedTuple):
    """A partition, the slices that are in none, or a whole device that has no partitions."""

    size: float
    """Of the device, 0 to 1; the parts of a device sum to 1."""
    holders: Mapping[RunKey, int]
    """Replicas that each run holds."""
    replicas: int
    """All that there are, held or free; 0: not known."""
    occupants: tuple[Occupant, ...]
    active: float | None
    """Mean activity of its multiprocessors, 0 to 1; None: not known."""
    is_busy: bool
    """Whether something may have run on it."""

    @property
    def is_exclusive(self) -> bool:
        """Whether one run is known to hold all of it, whatever process is seen there."""
        return len(self.holders) == 1 and 0 < self.replicas <= sum(self.holders.values())

    def floor(self) -> dict[Party, float]:
        """Who pays for it while it idles: by replicas held. Sums to 1."""
        held = sum(self.holders.values())
        replicas = max(self.replicas, held)
        weights: dict[Party, float] = {run: units / replicas for run, units in self.holders.items()}
        if replicas > held or not held:
            weights[Reason.UNALLOCATED] = (replicas - held) / replicas if held else 1.0
        return weights

    def present(self, owners: Mapping[int, RunKey]) -> "Part":
        """The part without occupants of runs that hold nothing of it, as those that have ended."""
        if not self.occupants:
            return self
        occupants = tuple(
            occupant
            for occupant in self.occupants
            if occupant.serves or owners.get(occupant.pid) in (None, *self.holders)
        )
        return self._replace(occupants=occupants, is_busy=bool(occupants))


def parts_of(holdings: Sequence[Holding], occupancy: Occupancy) -> list[Part]:
    """The parts of a device. Who holds all of it holds those that nobody else holds."""
    sizes = {part.id: part.slices for part in occupancy.partitions if part.slices > 0}
    if not sizes and not occupancy.slices:
        # A layout that nobody has told: all that is held is taken to be of one size.
        sizes = {row.partition: 1.0 for row in holdings if row.partition}
        if not sizes:
            part = _part(1.0, holdings, occupancy.occupants, occupancy.utilization, occupancy)
            return [part._replace(active=None)]
    active = {part.id: part.active for part in occupancy.partitions}
    whole = [row for row in holdings if not row.partition]
    sliced = sum(sizes.values())
    slices = max(float(occupancy.slices), sliced)
    parts = [
        _part(
            size / slices,
            [row for row in holdings if row.partition == name] or whole,
            tuple(seen for seen in occupancy.occupants if seen.partition == name),
            active.get(name),
            occupancy,
        )
        for name, size in sizes.items()
    ]
    if slices > sliced:
        parts.append(_part((slices - sliced) / slices, whole, (), None, occupancy))
    return parts


def _part(
    size: float,
    holdings: Sequence[Holding],
    occupants: tuple[Occupant, ...],
    active: float | None,
    occupancy: Occupancy,
) -> Part:
    holders: dict[RunKey, int] = {}
    for row in holdings:
        holders[row.run] = holders.get(row.run, 0) + row.units
    replicas = max((row.units_of for row in holdings), default=0)
    is_busy = bool(holders) if occupancy.why else bool(occupants or active)
    return Part(size, holders, replicas, occupants, active, is_busy)
