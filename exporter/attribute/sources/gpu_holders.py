"""Who holds which GPU: the run of a process, from its first context on the device to its last."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from exporter.attribute.sources.processes import ProcessTable
from exporter.attribute.sources.procfs import Process
from exporter.model.readings import Device, Occupancy, Occupant
from exporter.model.runs import RunKey
from exporter.model.workload import Holding


class _Place(NamedTuple):
    """What a run can hold once."""

    device: Device
    run: RunKey
    partition: str


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

    def look(self, occupancies: Mapping[Device, Occupancy], at_ns: int) -> tuple[Holding, ...]:
        """What is held now, and what was let go of since the last look.

        A context is there from the look at the device that shows it until the one that does not,
        or until its process is gone. Runs begin and end right after a look, so where a process
        has changed its run, that was then.
        """
        runs: dict[int, RunKey] = {}
        here: dict[_Place, int] = {}
        left: dict[_Place, int] = {}
        self.owners = {}
        for device, newest in occupancies.items():
            before = self._known.get(device)
            look = self._known[device] = before if before is not None and newest.why else newest
            is_new = before is None or before.at_ns != look.at_ns
            for occupant in look.occupants:
                was = self._runs.get(occupant.pid)
                process = self._alive(occupant, look.at_ns)
                run = self._run_of(process) if process is not None else was
                if run is not None:
                    runs[occupant.pid] = run
                owner = run or was
                if owner is not None:
                    self.owners[occupant.pid] = owner
                if was is not None and (process is None or was != run):
                    ended_ns = at_ns if process is None else self._looked_ns
                    left[_Place(device, was, occupant.partition)] = ended_ns
                if run is not None and process is not None:
                    place = _Place(device, run, occupant.partition)
                    since_ns = look.at_ns if is_new else self._looked_ns
                    here.setdefault(place, self._since_ns.get(place, since_ns))
        ended = [
            _holding(place, since_ns, max(since_ns, left.get(place, self._unseen_ns(place, at_ns))))
            for place, since_ns in self._since_ns.items()
            if place not in here
        ]
        self._runs, self._since_ns, self._looked_ns = runs, here, at_ns
        return (*ended, *(_holding(place, since_ns, None) for place, since_ns in here.items()))

    def _alive(self, occupant: Occupant, looked_ns: int) -> Process | None:
        """The process that was seen; not a later one with its pid."""
        process = self._processes.find(occupant.pid)
        if process is None or self._processes.age_seconds(process, looked_ns) < 0:
            return None
        return process

    def _unseen_ns(self, place: _Place, at_ns: int) -> int:
        look = self._known.get(place.device)
        return look.at_ns if look is not None else at_ns


def _holding(place: _Place, since_ns: int, until_ns: int | None) -> Holding:
    return Holding(place.device, place.run, place.partition, since_ns=since_ns, until_ns=until_ns)
