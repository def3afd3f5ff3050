"""What is known of who is on a GPU, from the looks at it that still count: pure."""

from collections.abc import Sequence

from exporter.model.readings import Device, Occupancy
from exporter.units import NANOSECONDS_PER_SECOND

FRESH_NS = 30 * NANOSECONDS_PER_SECOND
"""A look older than this says nothing of processes and activity any more."""


def as_one(device: Device, looks: Sequence[Occupancy], at_ns: int) -> Occupancy:
    """The looks at one device as one, as seen from `at_ns`; oldest first.

    Activity, coverage and utilization are means over those that are fresh. The layout is that of
    the last. Where no fresh one says who is there, the answer has a reason and no activity.
    """
    if not looks:
        return Occupancy(device, 0, why="it was not looked at yet")
    last = looks[-1]
    fresh = [look for look in looks if not look.why and at_ns - look.at_ns <= FRESH_NS]
    if not fresh:
        silent = tuple(part._replace(active=None) for part in last.partitions)
        why = last.why or "the last look at it is too long ago"
        return Occupancy(device, last.at_ns, partitions=silent, slices=last.slices, why=why)
    if len(fresh) == 1:
        return fresh[0]._replace(partitions=last.partitions, slices=last.slices)
    return _mean(last, fresh)


def is_quiet(occupancy: Occupancy) -> bool:
    """Whether it is known that no process has a context on the device."""
    return not (
        occupancy.why
        or occupancy.occupants
        or occupancy.utilization
        or any(part.active for part in occupancy.partitions)
    )


def _mean(last: Occupancy, fresh: Sequence[Occupancy]) -> Occupancy:
    parts: dict[str, list[float]] = {}
    active: dict[tuple[int, str], float] = {}
    for look in fresh:
        for occupant in look.occupants:
            key = occupant.pid, occupant.partition
            active[key] = active.get(key, 0.0) + occupant.active / len(fresh)
        for part in look.partitions:
            if part.active is not None:
                parts.setdefault(part.id, []).append(part.active)
    occupants = {(seen.pid, seen.partition): seen for look in fresh for seen in look.occupants}
    used = [look.utilization for look in fresh if look.utilization is not None]
    return last._replace(
        occupants=tuple(seen._replace(active=active[key]) for key, seen in occupants.items()),
        partitions=tuple(
            part._replace(active=sum(parts[part.id]) / len(parts[part.id]))
            if part.id in parts
            else part
            for part in last.partitions
        ),
        coverage=sum(look.coverage for look in fresh) / len(fresh),
        utilization=sum(used) / len(used) if used else None,
        why="",
    )
