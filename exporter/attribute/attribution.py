"""The attribute stage: from intervals and sightings to shares."""

from collections.abc import Iterable, Mapping, Sequence

from exporter.attribute.floor import Floor, idle_uj, learn
from exporter.attribute.split import merge, split_cpu, split_dram
from exporter.model.readings import Device, Interval, Kind
from exporter.model.workload import Machine, Share, Sighting


class Attribution:
    """Splits each device's intervals by what was seen since ITS last interval.

    Keeps, per device, the sightings that no interval has used yet (a device whose counter could
    not be read is settled by all that ran meanwhile) and the idle floor.
    """

    def __init__(self, floors: Mapping[Device, float]) -> None:
        self._floors = {device: Floor(watts) for device, watts in floors.items()}
        self._waiting: dict[Device, Sighting] = {}
        self.exporter_uj = 0
        """CPU energy of this daemon since it began; counted in whatever party it runs as."""

    def shares(
        self, intervals: Sequence[Interval], devices: Iterable[Device], sighting: Sighting
    ) -> list[tuple[Interval, list[Share]]]:
        """Each interval with its shares; `devices` are all that are known, read or not."""
        done = []
        settled = set()
        for interval in intervals:
            seen = sighting
            if interval.device not in settled and interval.device in self._waiting:
                seen = merge(self._waiting.pop(interval.device), sighting)
            settled.add(interval.device)
            done.append((interval, self._split(interval, seen)))
        for device in devices:
            if device not in settled:
                waiting = self._waiting.get(device)
                self._waiting[device] = merge(waiting, sighting) if waiting else sighting
        return done

    def floors(self) -> dict[Device, float]:
        """The floors known so far, watts."""
        return {
            device: floor.watts for device, floor in self._floors.items() if floor.watts is not None
        }

    def _split(self, interval: Interval, sighting: Sighting) -> list[Share]:
        if interval.device.kind is not Kind.CPU:
            return split_dram(interval.energy_uj, sighting, restart=interval.restart)
        duration_ns = interval.t1_ns - interval.t0_ns
        busy = _busy_share(sighting.machine)
        floor = self._floors.get(interval.device, Floor())
        idle = idle_uj(floor, interval.energy_uj, duration_ns, busy)
        if not interval.restart:
            self._floors[interval.device] = learn(floor, interval.energy_uj, duration_ns, busy)
        self.exporter_uj += _own_part(interval.energy_uj - idle, sighting.machine)
        return split_cpu(interval.energy_uj, idle, sighting, restart=interval.restart)


def _busy_share(machine: Machine | None) -> float:
    """Part of the CPU time that was used; all of it where that is not known."""
    if machine is None or machine.total_us <= 0:
        return 1.0
    return machine.busy_us / machine.total_us


def _own_part(active_uj: int, machine: Machine | None) -> int:
    """This daemon's part of the energy above the floor, by CPU time."""
    if machine is None or not machine.exporter_us:
        return 0
    return active_uj * machine.exporter_us // max(machine.busy_us, machine.exporter_us)
