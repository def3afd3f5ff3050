"""The attribute stage: from intervals and sightings to shares."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from exporter.attribute.floor import Floor, idle_uj, learn, learn_unoccupied, unoccupied_uj
from exporter.attribute.occupancies import FRESH_NS, as_one, is_quiet
from exporter.attribute.split import NO_MACHINE, merge, split_cpu, split_dram
from exporter.attribute.split_gpu import split_gpu
from exporter.model.readings import Device, Interval, Kind, Occupancy
from exporter.model.workload import NO_OWNERS, Machine, Share, Sighting

GONE_AT_MOST = 100
"""Runs that are gone, of which a device that cannot be read keeps what they used or held."""


class _Seen(NamedTuple):
    """What was seen since a device's last interval."""

    sighting: Sighting
    looks: tuple[Occupancy, ...]
    """At the device, oldest first; more than one only where it was not read meanwhile."""


class Attribution:
    """Splits each device's intervals by what was seen since ITS last interval.

    Keeps, per device, the sightings that no interval has used yet (a device whose counter could
    not be read is settled by all that ran meanwhile) and the idle floor. Of runs that are gone it
    keeps those that used or held most; the energy of the rest is `other`, or `unallocated`.
    """

    def __init__(self, floors: Mapping[Device, float]) -> None:
        self._floors = {device: Floor(watts) for device, watts in floors.items()}
        self._waiting: dict[Device, _Seen] = {}
        self.exporter_uj = 0
        """CPU energy of this daemon since it began; counted in whatever party it runs as."""

    def shares(
        self,
        intervals: Sequence[Interval],
        devices: Iterable[Device],
        sighting: Sighting,
        occupancies: Mapping[Device, Occupancy],
    ) -> list[tuple[Interval, list[Share]]]:
        """Each interval with its shares; `devices` are all that are known, read or not.

        `occupancies` are those that the sighting was made with: a process that is newer than it
        would be taken for one of no run.
        """
        done = []
        settled = set()
        for interval in intervals:
            seen = self._seen(interval.device, sighting, occupancies)
            self._waiting.pop(interval.device, None)
            settled.add(interval.device)
            done.append((interval, self._split(interval, seen)))
        for device in devices:
            if device not in settled:
                now = _about(device, sighting)
                self._waiting[device] = _bounded(self._seen(device, now, occupancies), now, device)
        return done

    def floors(self) -> dict[Device, float]:
        """The floors known so far, watts."""
        return {
            device: floor.watts for device, floor in self._floors.items() if floor.watts is not None
        }

    def _seen(
        self, device: Device, sighting: Sighting, occupancies: Mapping[Device, Occupancy]
    ) -> _Seen:
        """What is waiting, and what is new."""
        look = occupancies.get(device)
        looks = () if look is None else (look,)
        waiting = self._waiting.get(device)
        if waiting is None:
            return _Seen(sighting, looks)
        earlier = (
            old
            for old in waiting.looks
            if (look is None or old.at_ns != look.at_ns) and sighting.at_ns - old.at_ns <= FRESH_NS
        )
        return _Seen(merge(waiting.sighting, sighting), (*earlier, *looks))

    def _split(self, interval: Interval, seen: _Seen) -> list[Share]:
        match interval.device.kind:
            case Kind.GPU:
                return self._split_gpu(interval, seen)
            case Kind.CPU:
                return self._split_cpu(interval, seen.sighting)
            case Kind.DRAM:
                return split_dram(interval.energy_uj, seen.sighting, restart=interval.restart)

    def _split_cpu(self, interval: Interval, sighting: Sighting) -> list[Share]:
        duration_ns = interval.t1_ns - interval.t0_ns
        busy = _busy_share(sighting)
        floor = self._floors.get(interval.device, Floor())
        idle = idle_uj(floor, interval.energy_uj, duration_ns, busy)
        if not interval.restart:
            self._floors[interval.device] = learn(floor, interval.energy_uj, duration_ns, busy)
        self.exporter_uj += _own_part(interval.energy_uj - idle, sighting.machine)
        return split_cpu(interval.energy_uj, idle, sighting, restart=interval.restart)

    def _split_gpu(self, interval: Interval, seen: _Seen) -> list[Share]:
        duration_ns = interval.t1_ns - interval.t0_ns
        occupancy = as_one(interval.device, seen.looks, interval.t1_ns)
        quiet = is_quiet(occupancy) and not interval.restart
        floor = self._floors.get(interval.device, Floor())
        idle = unoccupied_uj(floor, interval.energy_uj, duration_ns, is_quiet=quiet)
        self._floors[interval.device] = learn_unoccupied(
            floor, interval.energy_uj, duration_ns, occupancy.at_ns if quiet else None
        )
        return split_gpu(interval, idle, seen.sighting, occupancy)


def _about(device: Device, sighting: Sighting) -> Sighting:
    """What has to be kept of a sighting for one device, which may be away for long."""
    if device.kind is not Kind.GPU:
        return sighting._replace(holdings=(), owners=NO_OWNERS, servers=frozenset())
    holdings = tuple(row for row in sighting.holdings if row.device == device)
    return sighting._replace(usage=(), machine=None, holdings=holdings)


def _bounded(seen: _Seen, now: Sighting, device: Device) -> _Seen:
    """What was seen, however long that takes, in a space that the present runs bound."""
    if device.kind is Kind.GPU:
        return seen._replace(sighting=_fewer_holdings(seen, now))
    return seen._replace(sighting=_fewer_usages(seen.sighting, now, device.kind))


def _fewer_holdings(seen: _Seen, now: Sighting) -> Sighting:
    """Without processes that no look shows, and the shortest of what is not held any more."""
    sighting = seen.sighting
    pids = {occupant.pid for look in seen.looks for occupant in look.occupants}
    held = set(now.holdings)
    gone = [row for row in sighting.holdings if row not in held]
    if len(gone) > GONE_AT_MOST:
        gone.sort(key=lambda row: (row.until_ns or now.at_ns) - row.since_ns, reverse=True)
    return sighting._replace(
        holdings=(*gone[:GONE_AT_MOST], *now.holdings),
        owners={pid: run for pid, run in sighting.owners.items() if pid in pids},
        servers=sighting.servers & pids,
    )


def _fewer_usages(sighting: Sighting, now: Sighting, kind: Kind) -> Sighting:
    """Without those that used least of what is gone; the machine was busy all the same."""
    machine = sighting.machine
    if machine is not None and now.machine is None:  # its clocks do not have what runs used now
        machine = machine._replace(busy_us=machine.busy_us + _used_us(now))
    present = {usage.run for usage in now.usage}
    gone = [usage for usage in sighting.usage if usage.run not in present]
    if len(gone) > GONE_AT_MOST:
        gone.sort(key=lambda u: u.memory_bytes if kind is Kind.DRAM else u.cpu_us, reverse=True)
        machine = machine or NO_MACHINE
        machine = machine._replace(busy_us=max(machine.busy_us, _used_us(sighting)))
    stay = (usage for usage in sighting.usage if usage.run in present)
    return sighting._replace(usage=(*stay, *gone[:GONE_AT_MOST]), machine=machine)


def _used_us(sighting: Sighting) -> int:
    return sum(usage.cpu_us for usage in sighting.usage)


def _busy_share(sighting: Sighting) -> float:
    """Part of the CPU time that was used; all of it where that is not known.

    What the runs used was used, though the machine's clocks, read a moment before, say less.
    """
    machine = sighting.machine
    if machine is None or machine.total_us <= 0:
        return 1.0
    return max(machine.busy_us, _used_us(sighting)) / machine.total_us


def _own_part(active_uj: int, machine: Machine | None) -> int:
    """This daemon's part of the energy above the floor, by CPU time."""
    if machine is None or not machine.exporter_us:
        return 0
    return active_uj * machine.exporter_us // max(machine.busy_us, machine.exporter_us)
