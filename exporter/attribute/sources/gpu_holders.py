"""Who holds which GPU: the run of a process, from its first context on the device to its last."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from exporter.attribute.sources.processes import ProcessTable
from exporter.attribute.sources.procfs import Process
from exporter.model.readings import Device, Occupancy, Occupant
from exporter.model.runs import RunKey
from exporter.model.workload import Holding

MPS_SERVER = b"nvidia-cuda-mps-server"[:15]
"""As far as the kernel keeps a name."""


class _Place(NamedTuple):
    """What a run can hold once."""

    device: Device
    run: RunKey
    partition: str
    serves: bool


class GpuHolders:
    """Follows the contexts of processes that are in runs. `run_of` names the run of a process."""

    def __init__(self, processes: ProcessTable, run_of: Callable[[Process], RunKey | None]) -> None:
        self._processes = processes
        self._run_of = run_of
        self._known: dict[Device, Occupancy] = {}
        self._since_ns: dict[_Place, int] = {}
        self._runs: dict[int, RunKey] = {}
        self._looked_ns = 0
        self.owners: dict[int, RunKey] = {}
        """The runs of the processes that had a context since the look before, by pid."""
        self.servers: frozenset[int] = frozenset()
        """The processes that had a context and work for others, by pid."""

    def look(self, occupancies: Mapping[Device, Occupancy], at_ns: int) -> tuple[Holding, ...]:
        """What is held now, and what was let go of since the last look.

        A context is there from the look at the device that shows it until the one that does not,
        or until its process is gone. Runs begin and end right after a look, so where a process
        has changed its run, that was then. What the first look at a device shows was there before:
        its energy may have been read a moment earlier.
        """
        runs: dict[int, RunKey] = {}
        here: dict[_Place, int] = {}
        left: dict[_Place, int] = {}
        servers: set[int] = set()
        self.owners = {}
        for device, newest in occupancies.items():
            before = self._known.get(device)
            look = self._known[device] = before if before is not None and newest.why else newest
            first_seen_ns = self._first_seen_ns(before, look)
            for occupant in look.occupants:
                was = self._runs.get(occupant.pid)
                process = self._alive(occupant, look.at_ns)
                run = self._run_of(process) if process is not None else was
                serves = occupant.serves or self._is_server(process)
                if serves:
                    servers.add(occupant.pid)
                if run is not None:
                    runs[occupant.pid] = run
                owner = run or was
                if owner is not None:
                    self.owners[occupant.pid] = owner
                if was is not None and (process is None or was != run):
                    ended_ns = at_ns if process is None else self._looked_ns
                    for place in _places(device, was, occupant.partition):
                        left[place] = ended_ns
                if run is not None and process is not None:
                    place = _Place(device, run, occupant.partition, serves)
                    here.setdefault(place, self._since_ns.get(place, first_seen_ns))
        ended = [
            _holding(place, since_ns, max(since_ns, left.get(place, self._unseen_ns(place, at_ns))))
            for place, since_ns in self._since_ns.items()
            if place not in here
        ]
        self._runs, self._since_ns, self._looked_ns = runs, here, at_ns
        self.servers = frozenset(servers)
        return (*ended, *(_holding(place, since_ns, None) for place, since_ns in here.items()))

    def _first_seen_ns(self, before: Occupancy | None, look: Occupancy) -> int:
        """Since when a context is there that was not known before this look."""
        if before is None:
            return min(look.at_ns, self._looked_ns or look.at_ns)
        return look.at_ns if look.at_ns != before.at_ns else self._looked_ns

    def _alive(self, occupant: Occupant, looked_ns: int) -> Process | None:
        """The process that was seen; not a later one with its pid."""
        process = self._processes.find(occupant.pid)
        if process is None or self._processes.age_seconds(process, looked_ns) < 0:
            return None
        return process

    def _is_server(self, process: Process | None) -> bool:
        """Whether it is an MPS server by its name: not every driver lists the clients."""
        if process is None:
            return False
        if process.serves is None:
            process.serves = self._processes.name(process) == MPS_SERVER
        return process.serves

    def _unseen_ns(self, place: _Place, at_ns: int) -> int:
        look = self._known.get(place.device)
        return look.at_ns if look is not None else at_ns


def _holding(place: _Place, since_ns: int, until_ns: int | None) -> Holding:
    held = Holding(place.device, place.run, place.partition, serves=place.serves)
    return held._replace(since_ns=since_ns, until_ns=until_ns)


def _places(device: Device, run: RunKey, partition: str) -> tuple[_Place, _Place]:
    """Where a process of a run may have been, whether it served there or not."""
    return _Place(device, run, partition, False), _Place(device, run, partition, True)
