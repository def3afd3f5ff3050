"""What a scheduler gave to runs, beside what their processes are seen to hold."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from exporter.model.readings import Device, Kind, Occupancy
from exporter.model.runs import RunKey
from exporter.model.workload import Holding


class Grant(NamedTuple):
    """A device, or a part of one, that a run was given whether or not it uses it."""

    run: RunKey
    gpu: str
    """UUID of a device or of a MIG instance."""
    units: int = 1
    """Replicas of it, where it is shared."""
    units_of: int = 1
    """Replicas that there are; 1: the run has it alone."""
    since_ns: int = 0
    """CLOCK_BOOTTIME."""
    slices: int = 0
    """Slices of each of `units` MIG instances of the GPU whose UUIDs are not known; 0: `gpu` is
    what was given."""
    slices_of: int = 0
    """All slices of the GPU, as far as that is known."""


class Grants:
    """Puts grants in the place of what processes hold: what is idle is held as well.

    A run inside the one that has the grant holds it as long as it has a process there. `is_in` says
    whether the first run is the second, or inside it.
    """

    def __init__(self, is_in: Callable[[RunKey, RunKey], bool]) -> None:
        self._is_in = is_in
        self._free_ns: dict[tuple[str, RunKey], int] = {}
        """Since when nothing inside a run uses what it was given."""
        self._before: tuple[Holding, ...] = ()
        """What was held at the last look, and on."""

    def merge(
        self,
        used: Sequence[Holding],
        grants: Iterable[Grant],
        occupancies: Mapping[Device, Occupancy],
        at_ns: int,
    ) -> tuple[Holding, ...]:
        """All that is held now, and what was let go of since the last look.

        `used` is what processes hold.
        """
        left = list(used)
        held = []
        known = set()
        for grant in on_instances(grants, occupancies):
            known.add((grant.gpu, grant.run))
            device, partition = place(grant.gpu, occupancies)
            inside = [
                holding
                for holding in left
                if holding.device == device
                and holding.partition in ("", partition)
                and self._is_in(holding.run, grant.run)
            ]
            for holding in inside:
                left.remove(holding)
            given = Holding(device, grant.run, partition, grant.units, grant.units_of)
            held += self._of(grant, given, inside, at_ns)
        self._free_ns = {key: ns for key, ns in self._free_ns.items() if key in known}
        rows = _without_servers((*left, *held))
        now = tuple(row for row in rows if row.until_ns is None)
        ended = () if now == self._before else tuple(self._ended(rows, at_ns))
        self._before = now
        return (*rows, *ended)

    def _ended(self, rows: Sequence[Holding], at_ns: int) -> Iterator[Holding]:
        """What was held before and is not any more: until somebody else got it, else until now."""
        here, before = set(map(_start, rows)), set(map(_start, self._before))
        for row in self._before:
            if _start(row) not in here:
                begun = (
                    new.since_ns
                    for new in rows
                    if new.device == row.device
                    and new.partition == row.partition
                    and _start(new) not in before
                )
                yield row._replace(until_ns=max(row.since_ns, min([at_ns, *begun])))

    def _of(
        self, grant: Grant, given: Holding, inside: Sequence[Holding], at_ns: int
    ) -> list[Holding]:
        """The grant as it is held: by the runs inside, else by the run that has it."""
        inner = [row for row in inside if row.run != grant.run and not row.serves]
        held = [
            given._replace(run=holding.run, since_ns=holding.since_ns, until_ns=holding.until_ns)
            for holding in inner
        ]
        # A process of the run that was there before the scheduler was heard holds it as well.
        own = (row.since_ns for row in inside if row.run == grant.run and not row.serves)
        granted_ns = min([grant.since_ns, *own])
        since_ns = self._free_ns.setdefault((grant.gpu, grant.run), granted_ns)
        if any(holding.until_ns is None for holding in inner):
            self._free_ns[grant.gpu, grant.run] = at_ns
            return held
        if inner:
            since_ns = max(holding.until_ns or 0 for holding in inner)
            self._free_ns[grant.gpu, grant.run] = since_ns
        return [*held, given._replace(since_ns=since_ns)]


def _start(row: Holding) -> tuple[Device, RunKey, str, int]:
    """What tells a holding from every other one."""
    return row.device, row.run, row.partition, row.since_ns


def _without_servers(rows: tuple[Holding, ...]) -> tuple[Holding, ...]:
    """Without what a server holds where somebody else holds something: it works for them."""
    return tuple(
        row
        for row in rows
        if not row.serves
        or not any(
            other.device == row.device
            and not other.serves
            and (other.partition == row.partition or "" in (other.partition, row.partition))
            for other in rows
        )
    )


def on_instances(grants: Iterable[Grant], occupancies: Mapping[Device, Occupancy]) -> list[Grant]:
    """Grants of MIG instances without a UUID, made grants of what they can be.

    They are instances of their size that were given to nobody else. Where there are several, each
    of the runs holds a part of each, so that it pays for as many as it was given; processes tell
    who used which. Until the driver shows any, the run holds as many slices of the GPU.
    """
    found: dict[tuple[RunKey, str], Grant] = {}
    unnamed: list[Grant] = []
    for grant in grants:
        if grant.slices:
            unnamed.append(grant)
        else:
            found[grant.run, grant.gpu] = grant
    named = {gpu for _, gpu in found}
    wanted: Counter[tuple[str, int]] = Counter()
    for grant in unnamed:
        wanted[grant.gpu, grant.slices] += grant.units
    for run, gpu, units, _, since_ns, slices, slices_of in unnamed:
        look = occupancies.get(Device(Kind.GPU, gpu))
        parts = look.partitions if look is not None else ()
        free = [part.id for part in parts if part.slices == slices and part.id not in named]
        of = max(len(free), wanted[gpu, slices])
        if not free:
            before = found.get((run, gpu), Grant(run, gpu, 0, since_ns=since_ns))
            of = max(look.slices if look is not None else 0, slices_of, before.units_of)
            units = before.units + units * slices  # noqa: PLW2901  of the GPU
            since_ns = min(before.since_ns, since_ns)  # noqa: PLW2901
        for each in free or [gpu]:
            found[run, each] = Grant(run, each, units, max(units, of), since_ns)
    return list(found.values())


def place(gpu: str, occupancies: Mapping[Device, Occupancy]) -> tuple[Device, str]:
    """The device of a UUID, and the partition where it is that of a MIG instance."""
    for device, look in occupancies.items():
        if any(part.id == gpu for part in look.partitions):
            return device, gpu
    return Device(Kind.GPU, gpu), ""
